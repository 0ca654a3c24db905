"""How much memory a training step takes: measured by one forward and backward pass, on any device."""

import contextlib
import ctypes
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import psutil
import torch

_GIB = 1 << 30


class Memory(Protocol):
    """One kind of device."""

    def free(self) -> int:
        """Bytes that this process may still take."""

    def reset(self) -> None:
        """Forget the peak so far."""

    def peak(self) -> int:
        """Bytes that were taken at most since the reset, beside what was taken before."""


class Accelerator:
    """CUDA and XPU, whose allocators count for themselves."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._module: Any = getattr(torch, device.type)
        self._before = 0

    def free(self) -> int:
        """What the driver has free, and what the allocator holds without using it."""
        with contextlib.suppress(RuntimeError, AttributeError):
            held = self._module.memory_reserved(self._device) - self._module.memory_allocated(self._device)
            return int(self._module.mem_get_info(self._device)[0]) + held
        # Some Intel drivers cannot tell: then all that this process has not taken counts as free.
        total = self._module.get_device_properties(self._device).total_memory
        return int(total - self._module.memory_allocated(self._device))

    def reset(self) -> None:
        """Start counting."""
        self._module.empty_cache()
        self._module.reset_peak_memory_stats(self._device)
        self._before = self._module.memory_allocated(self._device)

    def peak(self) -> int:
        """Reserved rather than allocated bytes would count other shapes' blocks too."""
        self._module.synchronize(self._device)
        return int(self._module.max_memory_allocated(self._device) - self._before)


class Ram:
    """The process's resident memory; the kernel keeps its peak."""

    def __init__(self, processes: int) -> None:
        self._processes = processes
        self._before = 0

    def free(self) -> int:
        """This process's share of what the machine, or the container's limit, has left."""
        return min([psutil.virtual_memory().available, *_cgroup_left()]) // self._processes

    def reset(self) -> None:
        """Start counting.

        What the allocator kept of the step before would be used again unseen: it is given back first, and the
        first measurement's start counts for all.
        """
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).malloc_trim(0)  # glibc
        forget_resident_peak()
        self._before = self._before or psutil.Process().memory_info().rss

    @property
    def before(self) -> int:
        """Bytes at the first reset."""
        return self._before

    def peak(self) -> int:
        """``VmHWM``: the peak of the resident set."""
        return max(0, resident_peak() - self._before)


def resident() -> tuple[int, int]:
    """Bytes of the resident set now, and at most since the last reset; 0: the kernel does not say."""
    found = {"VmRSS": 0, "VmHWM": 0}
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        name, _, rest = line.partition(":")
        if name in found:
            found[name] = int(rest.split()[0]) * 1024
    return found["VmRSS"], max(found.values())


def resident_peak() -> int:
    """Bytes of the resident set at most, since the last reset; 0: the kernel does not say."""
    return resident()[1]


def forget_resident_peak() -> None:
    """The peak counts from now on: writing 5 resets it (proc(5), clear_refs), where that is allowed."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def of(device: torch.device) -> Memory:
    """The memory of a device."""
    if device.type == "cpu":
        return Ram(int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
    return Accelerator(device)


def _cgroup_left() -> Iterator[int]:
    """What the container's memory limit leaves, if it has one (cgroup v2)."""
    folder = Path("/sys/fs/cgroup")
    with contextlib.suppress(OSError, ValueError):
        limit = int((folder / "memory.max").read_text(encoding="ascii"))
        yield limit - int((folder / "memory.current").read_text(encoding="ascii"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """One batch: queries × their length, and queries × group size passages × their length, in tokens."""

    batch_size: int
    group_size: int
    query_length: int
    passage_length: int

    @property
    def tokens(self) -> int:
        """Padded tokens that the encoder sees."""
        return self.batch_size * (self.query_length + self.group_size * self.passage_length)

    @property
    def pairs(self) -> int:
        """Pairs of query and passage tokens that ColBERT's score compares."""
        return self.batch_size**2 * self.group_size * self.query_length * self.passage_length


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """A step's memory as a formula: ``fixed + per_token · tokens + per_pair · pairs``, in bytes.

    Activations grow with the padded tokens, the late interaction with the square of the batch size.
    """

    fixed: float
    per_token: float
    per_pair: float

    def of(self, shape: Shape) -> float:
        """Bytes of one step."""
        return self.fixed + self.per_token * shape.tokens + self.per_pair * shape.pairs


def fit(small: tuple[Shape, int], large: tuple[Shape, int], *, per_pair: float) -> Cost:
    """The formula through two measured steps.

    Args:
        small, large: two shapes of different size and the bytes that each took.
        per_pair: bytes that a pair of tokens takes, 0 without ColBERT.
    """
    (one, taken), (two, more) = small, large
    grown = (more - per_pair * two.pairs) - (taken - per_pair * one.pairs)
    per_token = max(grown / (two.tokens - one.tokens), 1.0)
    fixed = max(taken - per_pair * one.pairs - per_token * one.tokens, 0.0)
    return Cost(fixed=fixed, per_token=per_token, per_pair=per_pair)


def largest(cost: Cost, shape: Shape, budget: float, limit: int) -> int:
    """The largest batch size, from 1 to ``limit``, whose step fits into ``budget`` bytes by the formula."""
    low, high = 1, limit
    while low < high:
        middle = (low + high + 1) // 2
        fits = cost.of(replace(shape, batch_size=middle)) <= budget
        low, high = (middle, high) if fits else (low, middle - 1)
    return low


def gib(count: float) -> float:
    """Bytes in GiB, for people."""
    return round(count / _GIB, 2)
