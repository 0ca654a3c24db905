"""The memory in the ``end`` event: of the process on a CPU, of torch's allocator on a GPU."""

from types import SimpleNamespace

import pytest
import torch
from runtime import metrics


def test_on_a_cpu_the_peak_stays_after_the_memory_is_given_back() -> None:
    before = metrics.peak_memory(torch.device("cpu"))["peak_memory_bytes"]
    block = torch.ones(before // 4 + (256 << 20))  # 4 bytes each: more than ever
    del block
    after = metrics.peak_memory(torch.device("cpu"))
    assert after["peak_memory_bytes"] >= before + (512 << 20)
    assert list(after) == ["peak_memory_bytes"]


@pytest.mark.parametrize("kind", ["cuda", "xpu"])
def test_on_a_gpu_its_allocator_is_asked(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = SimpleNamespace(
        max_memory_allocated=lambda device: 10 + device.index,
        max_memory_reserved=lambda device: 20 + device.index,
    )
    monkeypatch.setattr(torch, kind, asked)
    found = metrics.peak_memory(torch.device(kind, 1))
    assert found == {"peak_memory_bytes": 11, "peak_reserved_bytes": 21}
