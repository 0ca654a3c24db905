"""launcher.host: machines are trees of files."""

import os
from pathlib import Path

import pytest

from launcher import host


def gpu(root: Path, node: str, vendor: str, device: str) -> None:
    folder = root / "sys/class/drm" / node / "device"
    folder.mkdir(parents=True)
    (folder / "vendor").write_text(f"{vendor}\n")
    (folder / "device").write_text(f"{device}\n")
    (root / "dev/dri").mkdir(parents=True, exist_ok=True)
    (root / "dev/dri" / node).write_text("")


def test_nothing(tmp_path: Path) -> None:
    found = host.facts(tmp_path)
    assert (found.nvidia, found.intel, found.render_groups) == (0, 0, ())
    assert found.best_target() == ("cpu", "no NVIDIA or discrete Intel GPU was found")
    assert found.cpus == len(os.sched_getaffinity(0))
    assert found.memory > 1 << 20
    assert [found.accelerators(kind) for kind in ("none", "nvidia", "intel")] == [1, 0, 0]


def test_nvidia_goes_before_intel(tmp_path: Path) -> None:
    for address in ("0000:01:00.0", "0000:02:00.0"):
        (tmp_path / "proc/driver/nvidia/gpus" / address).mkdir(parents=True)
    gpu(tmp_path, "renderD128", "0x8086", "0x56a0")
    found = host.facts(tmp_path)
    assert (found.nvidia, found.intel) == (2, 1)
    assert found.best_target()[0] == "cuda"


@pytest.mark.parametrize(
    ("device", "name"),
    [("0x0bd5", "Max 1550"), ("0x56a0", "Arc A770"), ("0x56c0", "Flex 170"), ("0xe20b", "Arc B580")],
)
def test_discrete_intel(tmp_path: Path, device: str, name: str) -> None:
    gpu(tmp_path, "renderD128", "0x8086", device)
    found = host.facts(tmp_path)
    assert found.intel == found.accelerators("intel") == 1, name
    assert found.best_target()[0] == "xpu"
    assert found.render_groups == ((tmp_path / "dev/dri/renderD128").stat().st_gid,)


@pytest.mark.parametrize(
    ("vendor", "device"),
    [("0x8086", "0x9a49"), ("0x8086", "0x46a6"), ("0x1002", "0x56a0"), ("0x10de", "0x2684")],
)
def test_integrated_and_foreign_graphics_are_no_target(tmp_path: Path, vendor: str, device: str) -> None:
    gpu(tmp_path, "renderD128", vendor, device)
    found = host.facts(tmp_path)
    assert found.intel == 0
    assert found.best_target()[0] == "cpu"
    assert len(found.render_groups) == 1


def test_cards_are_counted_by_their_render_nodes(tmp_path: Path) -> None:
    gpu(tmp_path, "renderD128", "0x8086", "0x56a0")
    gpu(tmp_path, "renderD129", "0x8086", "0x9a49")
    gpu(tmp_path, "renderD130", "0x8086", "0xe20b")
    (tmp_path / "sys/class/drm/card0/device").mkdir(parents=True)
    (tmp_path / "sys/class/drm/renderD131").mkdir()  # a device without facts
    assert host.facts(tmp_path).intel == 2


def test_this_machine() -> None:
    assert host.facts().kernel
