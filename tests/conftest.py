"""What all tests share: golden files, where the checkout is, how long hypothesis searches."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parent.parent

# The default run is short and the same every time; HYPOTHESIS_PROFILE=search looks for new examples.
settings.register_profile("fast", max_examples=25, deadline=None, derandomize=True)
settings.register_profile("search", max_examples=2000, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fast"))


def pytest_addoption(parser: pytest.Parser) -> None:
    """``pytest --update-golden`` writes what it would otherwise compare."""
    parser.addoption(
        "--update-golden", action="store_true", help="write tests/golden/ instead of comparing with it"
    )


@pytest.fixture(scope="session")
def checkout() -> Path:
    """The repository's root."""
    return ROOT


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """``golden(name, text)``: the text is exactly that of ``tests/golden/<name>``."""
    update = request.config.getoption("--update-golden")

    def compare(name: str, text: str) -> None:
        file = ROOT / "tests" / "golden" / name
        if update:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
            return
        assert file.is_file(), f"{file} is missing; pytest --update-golden writes it"
        assert text == file.read_text(encoding="utf-8"), f"{name} differs; if it should: --update-golden"

    return compare
