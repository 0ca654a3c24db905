"""launcher.host: machines are trees of files."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from launcher import host
from launcher.cuda import Gpu, Nvidia
from launcher.host import intel, nvidia, system
from launcher.intel import Intel


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
    assert found.best_target(hidden="X") == (
        "xpu",
        "X hides every NVIDIA GPU; 1 Intel GPU(s) in /sys/class/drm",
    )


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


# ------------------------------------------------------------------------------------ Intel's own tree
#: The resource file of a card with a BAR of 16 MiB, a large one of the given end, and those of its virtual
#: functions, which are larger still.
RESOURCE = """0x00000000a0000000 0x00000000a0ffffff 0x0000000000140204
0x0000000000000000 0x0000000000000000 0x0000000000000000
0x0000006000000000 {last:#018x} 0x000000000014220c
0x0000000000000000 0x0000000000000000 0x0000000000000000
0x0000000000000000 0x0000000000000000 0x0000000000000000
0x0000000000000000 0x0000000000000000 0x0000000000000000
0x00000000a1000000 0x00000000a11fffff 0x0000000000046200
0x0000000000000000 0x0000000000000000 0x0000000000000000
0x0000007000000000 0x0000009fffffffff 0x000000000014220c
"""

#: Where the PCI device of a card at 0000:03:00.0 is.
SLOT = "sys/devices/pci0000:00/0000:00:01.0/0000:03:00.0"


def pci(root: Path, node: int, device: str, address: str, driver: str = "xe", bar: int = 32 << 30) -> None:
    """A GPU of Intel as sysfs has it: links to the PCI device, and from there to its driver."""
    name = f"renderD{node}"
    place = (root / SLOT).parent / address
    (place / "drm" / name).mkdir(parents=True)
    (place / "vendor").write_text("0x8086\n")
    (place / "device").write_text(f"0x{device}\n")
    (place / "resource").write_text(RESOURCE.format(last=0x6000000000 + bar - 1))
    module = root / "sys/bus/pci/drivers" / driver
    module.mkdir(parents=True, exist_ok=True)
    (place / "driver").symlink_to(module)
    (place / "drm" / name / "device").symlink_to("../../")
    (root / "sys/class/drm").mkdir(parents=True, exist_ok=True)
    (root / "sys/class/drm" / name).symlink_to(place / "drm" / name)
    links = root / "dev/dri/by-path"
    links.mkdir(parents=True, exist_ok=True)
    (root / "dev/dri" / name).write_text("")
    (root / "dev/dri" / name).chmod(0o660)
    (links / f"pci-{address}-render").symlink_to(f"../{name}")


def test_one_b60(tmp_path: Path) -> None:
    pci(tmp_path, 128, "e211", "0000:03:00.0")
    found = host.facts(tmp_path)
    assert isinstance(found.cards, Intel)
    (card,) = found.cards.gpus
    assert (found.intel, found.cards.others, found.cards.by_path) == (1, 0, True)
    assert (card.index, card.name, card.device, card.address) == (0, "Arc Pro B60", "e211", "0000:03:00.0")
    assert (card.driver, card.bar, card.node) == ("xe", 32 << 30, "/dev/dri/renderD128")
    owner = (tmp_path / "dev/dri/renderD128").stat().st_gid
    assert (card.gid, card.mode, card.usable) == (owner, "0660", True)


def test_cards_are_in_the_order_of_the_bus(tmp_path: Path) -> None:
    pci(tmp_path, 128, "e211", "0000:0a:00.0")
    pci(tmp_path, 129, "e211", "0000:03:00.0")
    cards = intel.facts(tmp_path).gpus
    assert [(card.index, card.node) for card in cards] == [
        (0, "/dev/dri/renderD129"),
        (1, "/dev/dri/renderD128"),
    ]


def test_a770_with_a_small_bar_beside_an_integrated_gpu(tmp_path: Path) -> None:
    pci(tmp_path, 128, "a780", "0000:00:02.0", "i915", 256 << 20)
    pci(tmp_path, 129, "56a0", "0000:03:00.0", "i915", 256 << 20)
    found = intel.facts(tmp_path)
    assert host.facts(tmp_path).intel == 1
    assert [(card.name, card.driver, card.bar) for card in found.gpus] == [("Arc A770", "i915", 256 << 20)]
    assert (found.gpus[0].index, found.others) == (0, 1)


def test_max(tmp_path: Path) -> None:
    pci(tmp_path, 128, "0bd5", "0000:3a:00.0", "i915", 128 << 30)
    assert intel.facts(tmp_path).gpus[0].name == "Data Center GPU Max 1550"


def test_an_integrated_gpu_alone_is_no_card(tmp_path: Path) -> None:
    pci(tmp_path, 128, "a780", "0000:00:02.0", "i915")
    assert (host.facts(tmp_path).intel, host.facts(tmp_path).cards) == (0, None)
    assert intel.facts(tmp_path).others == 1


@pytest.mark.parametrize("lost", ["resource", "driver", "device", "vendor"])
def test_a_broken_tree(tmp_path: Path, lost: str) -> None:
    pci(tmp_path, 128, "e211", "0000:03:00.0")
    (tmp_path / SLOT / lost).unlink()
    found = intel.facts(tmp_path)
    if lost in ("device", "vendor"):
        assert (found.gpus, found.others) == ((), 1 if lost == "device" else 0)
    else:
        (card,) = found.gpus
        assert (card.driver == "", card.bar == 0) == (lost == "driver", lost == "resource")


@pytest.mark.parametrize("content", [b"", b"0x0 0x1\n", b"a b c\n", b"\xff", b"0x10 0x0 0x14220c\n"])
def test_a_resource_file_that_says_nothing(tmp_path: Path, content: bytes) -> None:
    pci(tmp_path, 128, "e211", "0000:03:00.0")
    (tmp_path / SLOT / "resource").write_bytes(content)
    assert intel.facts(tmp_path).gpus[0].bar == 0


def test_no_node_and_no_links(tmp_path: Path) -> None:
    gpu(tmp_path, "renderD128", "0x8086", "0xe211")  # a folder where sysfs has a link: no address either
    (tmp_path / "dev/dri/renderD128").unlink()
    found = intel.facts(tmp_path)
    (card,) = found.gpus
    assert (card.gid, card.group, card.mode, card.usable) == (None, "", "", False)
    assert (card.address, card.driver, found.by_path) == ("", "", False)


def test_a_group_without_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(gid: int) -> None:
        raise KeyError(gid)

    pci(tmp_path, 128, "e211", "0000:03:00.0")
    monkeypatch.setattr(intel.grp, "getgrgid", nobody)
    assert intel.facts(tmp_path).gpus[0].group == ""


# ------------------------------------------------------------------------------------------------ NVML
VERSION = """NVRM version: NVIDIA UNIX {}  Kernel Module  {}  Release Build  (dvs-builder)  Sun Jan 12
GCC version:  gcc version 12.2.0 (Debian 12.2.0-14)
"""


def driver(root: Path, gpus: int = 1, version: str = VERSION.format("x86_64", "535.104.05")) -> Path:
    """A tree where the Linux driver shows itself."""
    for number in range(gpus):
        (root / f"proc/driver/nvidia/gpus/0000:0{number}:00.0").mkdir(parents=True)
    (root / "proc/driver/nvidia").mkdir(parents=True, exist_ok=True)
    (root / "proc/driver/nvidia/version").write_text(version)
    return root


class NvmlError(Exception):
    """As pynvml.NVMLError."""


class FakeNvml(ModuleType):
    """pynvml with made-up GPUs: a handle is the GPU's own facts, or the error that it answers with."""

    NVMLError = NvmlError
    NVMLError_NoPermission = type("NoPermission", (NvmlError,), {})
    NVMLError_NotSupported = type("NotSupported", (NvmlError,), {})
    NVMLError_NotFound = type("NotFound", (NvmlError,), {})
    NVMLError_FunctionNotFound = type("FunctionNotFound", (NvmlError,), {})

    def __init__(
        self, *gpus: dict[str, Any] | NvmlError, fails: str = "", version: str = "570.86.15"
    ) -> None:
        super().__init__("pynvml")
        self._gpus, self._fails, self._version = gpus, fails, version
        self.open = 0

    def nvmlInit(self) -> None:  # noqa: N802 - pynvml's own names, here and below
        if self._fails:
            raise NvmlError(self._fails)
        self.open += 1

    def nvmlShutdown(self) -> None:  # noqa: N802
        self.open -= 1

    def nvmlSystemGetDriverVersion(self) -> str:  # noqa: N802
        return self._version

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return len(self._gpus)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> Any:  # noqa: N802
        return self._told(self._gpus[index])

    def nvmlDeviceGetMemoryInfo(self, handle: Any) -> Any:  # noqa: N802
        return SimpleNamespace(total=self._told(handle.get("memory", 80 << 30)))

    def nvmlDeviceGetCudaComputeCapability(self, handle: Any) -> Any:  # noqa: N802
        return self._told(handle.get("capability", (9, 0)))

    def nvmlDeviceGetName(self, handle: Any) -> str:  # noqa: N802
        return "NVIDIA H200"

    def nvmlDeviceGetUUID(self, handle: Any) -> Any:  # noqa: N802
        return handle["uuid"] if isinstance(handle, dict) else handle

    def nvmlDeviceGetMigMode(self, handle: Any) -> Any:  # noqa: N802
        return self._told(handle.get("mig", self.NVMLError_NotSupported("no MIG")))

    def nvmlDeviceGetMaxMigDeviceCount(self, handle: Any) -> int:  # noqa: N802
        return len(handle["places"])

    def nvmlDeviceGetMigDeviceHandleByIndex(self, handle: Any, place: int) -> Any:  # noqa: N802
        return self._told(handle["places"][place])

    def _told(self, answer: Any) -> Any:
        if isinstance(answer, NvmlError):
            raise answer
        return answer


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> Callable[[FakeNvml], FakeNvml]:
    """``nvml(fake)`` puts a made-up NVML into place."""

    def put(fake: FakeNvml) -> FakeNvml:
        monkeypatch.setitem(sys.modules, "pynvml", fake)
        return fake

    return put


Put = Callable[[FakeNvml], FakeNvml]


def test_driver_and_gpus(tmp_path: Path, nvml: Put) -> None:
    fake = nvml(FakeNvml({"uuid": "GPU-a"}, {"uuid": "GPU-b", "capability": (8, 6), "memory": 24 << 30}))
    assert nvidia.facts(driver(tmp_path, 2)) == Nvidia(
        driver="570.86.15",
        gpus=(
            Gpu(index=0, name="NVIDIA H200", uuid="GPU-a", memory=80 << 30, capability=(9, 0)),
            Gpu(index=1, name="NVIDIA H200", uuid="GPU-b", memory=24 << 30, capability=(8, 6)),
        ),
    )
    assert fake.open == 0
    assert str(nvidia.facts(tmp_path).gpus[1]) == "GPU 1 (NVIDIA H200, compute capability 8.6)"  # type: ignore[index]


def test_instances_memory_and_gpus_of_others(tmp_path: Path, nvml: Put) -> None:
    mine = {
        "uuid": "GPU-b",
        "memory": FakeNvml.NVMLError_NotSupported("shared"),
        "mig": (1, 1),
        "places": ["MIG-1", FakeNvml.NVMLError_NotFound("free"), "MIG-2"],
    }
    nvml(FakeNvml(FakeNvml.NVMLError_NoPermission("another job's"), mine, {"uuid": "GPU-c", "mig": (0, 1)}))
    found = nvidia.facts(driver(tmp_path, 3)).gpus or ()
    assert [(gpu.index, gpu.memory, gpu.instances) for gpu in found] == [
        (1, 0, ("MIG-1", "MIG-2")),
        (2, 80 << 30, ()),
    ]


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        (VERSION.format("x86_64", "535.104.05"), "535.104.05"),
        ("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.86.15  Release Build\n", "570.86.15"),
        ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54  Tue\n", "550.54"),
        ("something else", ""),
        ("", ""),
    ],
)
def test_without_nvml_the_kernel_tells_the_version(
    tmp_path: Path, nvml: Put, version: str, expected: str
) -> None:
    nvml(FakeNvml(fails="NVML Shared Library Not Found"))
    assert nvidia.facts(driver(tmp_path, version=version)) == Nvidia(
        driver=expected, unknown="NVML: NVML Shared Library Not Found"
    )


def test_a_gpu_that_answers_with_an_error(tmp_path: Path, nvml: Put) -> None:
    fake = nvml(FakeNvml({"uuid": "GPU-a"}, NvmlError("GPU is lost")))
    found = nvidia.facts(driver(tmp_path, 2))
    assert (found.driver, found.gpus, found.unknown) == ("570.86.15", None, "NVML: GPU is lost")
    assert fake.open == 0


def test_nvml_is_asked_only_where_a_driver_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)  # an import would raise
    assert not nvidia.may_be_there(tmp_path)
    assert nvidia.facts(tmp_path).gpus is None
    assert host.facts(tmp_path).nvidia == 0
    assert host.facts(driver(tmp_path, 2)).nvidia == 2  # counting does not need it


def test_wsl_has_gpus_without_proc(tmp_path: Path, nvml: Put) -> None:
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/dxg").write_text("")
    nvml(FakeNvml({"uuid": "GPU-a"}, version="566.36"))
    found = nvidia.facts(tmp_path)
    assert (found.driver, found.windows, len(found.gpus or ())) == ("566.36", True, 1)
    assert host.facts(tmp_path).best_target()[0] == "cuda"
    nvml(FakeNvml(fails="NVML Shared Library Not Found"))  # Windows, with the GPU of another vendor
    assert host.facts(tmp_path).nvidia == 0


def test_system_and_processor(tmp_path: Path) -> None:
    unknown = system.facts(tmp_path)
    assert (unknown.os, unknown.cpu) == ("", "")
    for name, text in {
        "etc/os-release": 'NAME="Ubuntu"\nPRETTY_NAME="Ubuntu 24.04.1 LTS"\n',
        "proc/cpuinfo": "processor\t: 0\nmodel name\t: A CPU @ 2 GHz\nmodel name\t: Another\n",
    }.items():
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(text)
    found = system.facts(tmp_path)
    assert (found.os, found.cpu) == ("Ubuntu 24.04.1 LTS", "A CPU @ 2 GHz")
