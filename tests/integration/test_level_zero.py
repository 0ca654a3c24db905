"""Level Zero as the checks ask it: a loader made here has its functions and its structures, but no card."""

import json
import os
import shutil
import sys
from pathlib import Path

import pytest

from launcher import process

# As ze_api.h has them: results are 32 bits, a device's type is the third field of its properties.
SOURCE = """
#include <stdint.h>
#include <stdlib.h>
static int number(const char *name) {
  const char *text = getenv(name);
  return text ? (int)strtoll(text, 0, 0) : 0;
}
int zeInit(uint32_t flags) { return number("INIT"); }
int zeDriverGet(uint32_t *count, void **out) {
  if (!out) { *count = number("DRIVERS"); return 0; }
  for (uint32_t i = 0; i < *count; i++) out[i] = (void *)(uintptr_t)(0x100000000ull + i);
  return 0;
}
int zeDeviceGet(void *driver, uint32_t *count, void **out) {
  if ((uintptr_t)driver >> 32 != 1) return 1;  /* a handle that was cut to 32 bits */
  if (!out) { *count = number("DEVICES"); return 0; }
  for (uint32_t i = 0; i < *count; i++) out[i] = (void *)(uintptr_t)(0x200000000ull + i);
  return 0;
}
typedef struct { int stype; void *next; int type; } properties;
int zeDeviceGetProperties(void *device, properties *out) {
  if (out->stype != 3 || (uintptr_t)device >> 32 != 2) return 1;
  out->type = (uintptr_t)device & 1 ? 2 : 1;  /* every second one is a CPU */
  return 0;
}
"""


@pytest.fixture(scope="module")
def loader(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a libze_loader.so.1."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler")
    folder = tmp_path_factory.mktemp("level-zero")
    (folder / "loader.c").write_text(SOURCE)
    process.run(
        [compiler, "-shared", "-fPIC", str(folder / "loader.c"), "-o", str(folder / "libze_loader.so.1")]
    )
    return folder


@pytest.mark.parametrize(
    ("said", "found", "why"),
    [
        ({"DRIVERS": "2", "DEVICES": "3"}, 4, ""),
        ({"DRIVERS": "1", "DEVICES": "0"}, 0, "its drivers have no GPU"),
        ({"DRIVERS": "0"}, 0, "its drivers have no GPU"),
        ({"INIT": "0x78000001"}, 0, "zeInit finds no driver with a device"),
        ({"INIT": "0x70000001"}, 0, "zeInit says 0x70000001"),
    ],
)
def test_what_it_sees(loader: Path, checkout: Path, said: dict[str, str], found: int, why: str) -> None:
    shared = checkout / "images" / "checks" / "shared"
    code = (
        f"import json, sys; sys.path.append({str(shared)!r}); import _level_zero;"
        "print(json.dumps(_level_zero.gpus()))"
    )
    done = process.run([sys.executable, "-c", code], env={"LD_LIBRARY_PATH": str(loader), **said})
    assert json.loads(done.stdout) == [found, why]


@pytest.mark.parametrize(
    ("devices", "said"), [("2", "Level Zero sees 1, and torch none"), ("0", "older than the card")]
)
def test_a_card_that_torch_does_not_see(loader: Path, checkout: Path, devices: str, said: str) -> None:
    """The check `device` tells a lost card from one that only SYCL loses."""
    checks = checkout / "images" / "checks"
    code = (
        f"import sys, runpy; sys.path.insert(0, {str(checks)!r});"
        "import _common; _common.main = lambda check: None;"
        f"print(runpy.run_path({str(checks / 'device.py')!r})['unseen'](False))"
    )
    environment = {"LD_LIBRARY_PATH": str(loader), "DRIVERS": "1", "DEVICES": devices, "TARGET": "xpu"}
    done = process.run([sys.executable, "-c", code], env={**os.environ, **environment})
    assert said in done.stdout
