"""What the checks share. They run INSIDE an image, with what the image has and the standard library.

Each prints one JSON line {"check", "status", "detail"} and exits 0, or 1 when it failed:
``ok``, ``failed``, ``needs-gpu`` (not decided: the device is not there) or ``left-out`` (not in this image).
The environment says what is checked: TARGET; LOCKS, the paths of the layers' lock files, by colons; DRIVERS,
that of the drivers' lock, or nothing; WITHOUT, the optional packages that this image lacks; CUDA and
ARCHITECTURES, what the manifest says of torch.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

# Checks are named after libraries: what they share is found after site-packages, and they themselves are not.
_HERE = Path(__file__).resolve().parent
sys.path[:] = [*(entry for entry in sys.path if Path(entry or ".").resolve() != _HERE), str(_HERE / "shared")]


class Failed(Exception):  # noqa: N818 - a verdict
    """The check found something wrong."""


class NeedsGpu(Exception):  # noqa: N818 - a verdict
    """What is checked shows itself only with a device, and there is none."""


class LeftOut(Exception):  # noqa: N818 - a verdict
    """The image has no such part, and is not meant to."""


def main(check: Callable[[], str]) -> None:
    """Run a check function, which returns its detail or raises one of the verdicts above."""
    name = Path(sys.argv[0]).stem
    status, detail = "ok", ""
    try:
        detail = check()
    except NeedsGpu as verdict:
        status, detail = "needs-gpu", str(verdict)
    except LeftOut as verdict:
        status, detail = "left-out", str(verdict)
    except Failed as verdict:
        status, detail = "failed", str(verdict)
    except Exception as error:  # noqa: BLE001 - whatever a library raises is this check's finding
        status, detail = "failed", f"{type(error).__name__}: {error}"
    print(json.dumps({"check": name, "status": status, "detail": detail}), flush=True)
    # Some libraries' threads and destructors crash at exit without a device; the verdict is already out.
    os._exit(1 if status == "failed" else 0)


def canonical(name: str) -> str:
    """A distribution's name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def locked(paths: str = "LOCKS") -> dict[str, str]:
    """Name -> version of everything that the locks name and this image is meant to have.

    Args:
        paths: the variable that holds them.
    """
    found: dict[str, str] = {}
    for path in filter(None, os.environ.get(paths, "").split(":")):
        text = Path(path).read_text(encoding="utf-8")
        found |= {canonical(n): v for n, v in re.findall(r"^([A-Za-z0-9._-]+)==(\S+)", text, re.M)}
    return {name: version for name, version in found.items() if name not in left_out()}


def left_out() -> list[str]:
    """The optional packages that this image was built without."""
    return os.environ.get("WITHOUT", "").split()


def require(name: str) -> str:
    """The version of a distribution that this target locks; left out where it does not."""
    if canonical(name) in left_out():
        raise LeftOut(f"this image is partial: it was built without {name}")
    if canonical(name) not in locked():
        raise LeftOut(f"{name} is not part of this target")
    return metadata.version(name)


def said(*command: str) -> str:
    """What a program prints, its warnings included; the check fails when the program does."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        tail = " | ".join((done.stderr or done.stdout).strip().splitlines()[-4:])
        raise Failed(f"{' '.join(command)} exited with code {done.returncode}: {tail}")
    return done.stdout + done.stderr


def device() -> str | None:
    """``cuda`` or ``xpu`` when torch sees such a device here, else None."""
    if "torch" in left_out():
        return None
    import torch

    if torch.cuda.is_available():
        return "cuda"
    if hasattr(torch, "xpu") and torch.xpu.is_available():
        return "xpu"
    return None


def need_device() -> str:
    """The device that torch sees; the check stays undecided without one."""
    found = device()
    if found is None:
        raise NeedsGpu(f"needs {a_gpu()}")
    return found


def a_gpu() -> str:
    """What the target's devices are called."""
    return "an Intel GPU" if os.environ["TARGET"] == "xpu" else "an NVIDIA GPU"
