"""launcher.host.nvidia: errors and memory of GPUs as NVML tells them now."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from launcher.diagnosis.facts import GpuHealth
from launcher.host import nvidia
from tests.unit.test_host import FakeNvml, NvmlError, driver


class Counting(FakeNvml):
    """NVML of cards that count errors; what a card's facts lack, it does not support."""

    NVML_MEMORY_ERROR_TYPE_UNCORRECTED = 1
    NVML_VOLATILE_ECC = 0

    def nvmlDeviceGetMemoryInfo(self, handle: Any) -> Any:  # noqa: N802
        return self._told(handle.get("info", SimpleNamespace(total=80, used=3)))

    def nvmlDeviceGetEccMode(self, handle: Any) -> Any:  # noqa: N802
        return self._told(handle.get("ecc", self.NVMLError_NotSupported("no ECC")))

    def nvmlDeviceGetTotalEccErrors(self, handle: Any, kind: int, since: int) -> Any:  # noqa: N802
        assert (kind, since) == (1, 0)
        return self._told(handle.get("errors", self.NVMLError_NotSupported("no ECC")))

    def nvmlDeviceGetComputeRunningProcesses(self, handle: Any) -> Any:  # noqa: N802
        return self._told(handle.get("programs", []))


def health(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *gpus: Any) -> tuple[GpuHealth, ...]:
    fake = Counting(*gpus)
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    try:
        return nvidia.health(driver(tmp_path, len(gpus)))
    finally:
        assert fake.open == 0


def test_what_cards_tell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = health(
        tmp_path,
        monkeypatch,
        {"ecc": (1, 1), "errors": 2, "programs": ["a", "b"]},
        {"programs": NvmlError("no permission")},
        {"info": FakeNvml.NVMLError_NotSupported("shared"), "ecc": (0, 1)},
        FakeNvml.NVMLError_NoPermission("another job's"),
    )
    assert [(each.gpu, each.used, each.total) for each in found] == [
        ("GPU 0 (NVIDIA H200)", 3, 80),
        ("GPU 1 (NVIDIA H200)", 3, 80),
        ("GPU 2 (NVIDIA H200)", 0, 0),
    ]
    assert [(each.ecc, each.uncorrected, each.programs) for each in found] == [
        (True, 2, 2),
        (None, None, 0),
        (False, None, 0),
    ]


def test_a_driver_that_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", Counting(fails="Driver/library version mismatch"))
    with pytest.raises(OSError, match="mismatch"):
        nvidia.health(driver(tmp_path))
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert nvidia.health(tmp_path / "without") == ()
