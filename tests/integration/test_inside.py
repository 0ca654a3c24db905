"""Tests that need the locked libraries, run by the embedded environment's own Python."""

import os
import sysconfig
from pathlib import Path

import pytest

from launcher import process

RECIPES = Path(__file__).resolve().parents[2] / "recipes"
TESTS = Path(__file__).resolve().parents[1]

#: pytest comes from the launcher's environment, behind everything that the tested environment has itself.
RUN = """
import sys
sys.path.append(sys.argv[1])
import pytest
sys.exit(pytest.main([*sys.argv[2:], "-v", "-ra", "-p", "no:cacheprovider", "-c", "/dev/null"]))
"""


@pytest.mark.environment
@pytest.mark.parametrize("folder", ["runtime", "tools", "documents"])
def test_with_the_locked_libraries(environment: Path, tmp_path: Path, folder: str) -> None:
    packages = sysconfig.get_path("purelib")
    variables = {
        "PATH": f"{environment / 'bin'}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "PYTHONPATH": f"{RECIPES}:{RECIPES / 'tools'}",
        "HF_HUB_OFFLINE": "1",
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "OMP_WAIT_POLICY": "PASSIVE",
    }
    command = [str(environment / "bin" / "python"), "-c", RUN, packages, str(TESTS / folder)]
    child = process.Child([*command, f"--basetemp={tmp_path / 'tests'}"], env=variables)
    lines = list(child.lines())
    print("\n".join(lines[-200:]))
    assert child.wait() == 0
    assert any(" passed" in line for line in lines)
