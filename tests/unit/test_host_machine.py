"""launcher.host: processor, memory, limits and disks of machines that are trees of files."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.host import cgroup, cpu, limits, memory

GIB = 1 << 30

#: Beginnings of /proc/cpuinfo: a server with AMX, a desktop of AMD, an old notebook, an Arm board.
XEON = "model name\t: Intel(R) Xeon(R) Platinum 8480+\nflags\t\t: fpu avx avx2 avx512f avx512_bf16 amx_bf16\n"
RYZEN = "processor\t: 0\nmodel name\t: AMD Ryzen 7 5800X\nflags\t\t: fpu sse2 avx avx2\n"
OLD = "model name\t: Intel(R) Core(TM)2 Duo\nflags\t\t: fpu sse2 ssse3\n"
ARM = "processor\t: 0\nBogoMIPS\t: 108.00\nFeatures\t: fp asimd\n"


def write(root: Path, path: str, text: str) -> None:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


# ------------------------------------------------------------------------------------------- processor
@pytest.mark.parametrize(
    ("text", "name", "flag", "absent"),
    [
        (XEON, "Intel(R) Xeon(R) Platinum 8480+", "amx_bf16", "sse9"),
        (RYZEN, "AMD Ryzen 7 5800X", "avx2", "avx512f"),
        (OLD, "Intel(R) Core(TM)2 Duo", "ssse3", "avx2"),
    ],
)
def test_processors(tmp_path: Path, text: str, name: str, flag: str, absent: str) -> None:
    write(tmp_path, "proc/cpuinfo", text + "\nprocessor\t: 1\nmodel name\t: another\nflags\t: x\n")
    found = cpu.facts(tmp_path)
    assert found.name == name
    assert flag in found.flags
    assert absent not in found.flags
    assert found.cores >= 1
    assert found.quota is None


@pytest.mark.parametrize("text", [ARM, "", "nonsense"])
def test_unknown_processors(tmp_path: Path, text: str) -> None:
    write(tmp_path, "proc/cpuinfo", text)
    assert cpu.facts(tmp_path).flags == frozenset()
    assert cpu.facts(tmp_path / "nothing").name == ""


def test_a_quota_of_version_2(tmp_path: Path) -> None:
    write(tmp_path, "proc/self/cgroup", "0::/user.slice/run.scope\n")
    write(tmp_path, "sys/fs/cgroup/user.slice/run.scope/cpu.max", "max 100000\n")
    assert cpu.facts(tmp_path).quota is None
    write(tmp_path, "sys/fs/cgroup/user.slice/cpu.max", "250000 100000\n")
    assert cpu.facts(tmp_path).quota == 2.5


def test_a_quota_of_version_1(tmp_path: Path) -> None:
    write(tmp_path, "proc/self/cgroup", "3:cpu,cpuacct:/docker/abc\n0::/\n")
    group = "sys/fs/cgroup/cpu,cpuacct/docker/abc"
    write(tmp_path, f"{group}/cpu.cfs_period_us", "100000\n")
    write(tmp_path, f"{group}/cpu.cfs_quota_us", "-1\n")
    assert cpu.facts(tmp_path).quota is None
    write(tmp_path, f"{group}/cpu.cfs_quota_us", "150000\n")
    assert cpu.facts(tmp_path).quota == 1.5


# ---------------------------------------------------------------------------------------------- memory
def meminfo(root: Path, total: int = 16 * GIB, available: int = 12 * GIB) -> None:
    write(
        root,
        "proc/meminfo",
        f"MemTotal: {total >> 10} kB\nMemAvailable:  {available >> 10} kB\nSwapTotal: 0\n",
    )


def test_memory_without_a_limit(tmp_path: Path) -> None:
    meminfo(tmp_path)
    found = memory.facts(tmp_path)
    assert (found.total, found.available, found.limit) == (16 * GIB, 12 * GIB, None)


def test_limits_of_version_2_hold_from_the_group_up(tmp_path: Path) -> None:
    meminfo(tmp_path)
    write(tmp_path, "proc/self/cgroup", "0::/a/b\n")
    write(tmp_path, "sys/fs/cgroup/a/b/memory.max", "max\n")
    write(tmp_path, "sys/fs/cgroup/a/memory.max", f"{4 * GIB}\n")
    write(tmp_path, "sys/fs/cgroup/a/memory.current", f"{3 * GIB}\n")
    write(tmp_path, "sys/fs/cgroup/a/memory.stat", f"anon {GIB}\ninactive_file {2 * GIB}\n")
    found = memory.facts(tmp_path)
    assert (found.limit, found.available) == (4 * GIB, 3 * GIB)


def test_limits_of_version_1(tmp_path: Path) -> None:
    meminfo(tmp_path)
    write(tmp_path, "proc/self/cgroup", "4:memory:/docker/abc\n1:name=systemd:/\n")
    folder = "sys/fs/cgroup/memory"  # in a container the group's own path is not to be seen
    write(tmp_path, f"{folder}/memory.limit_in_bytes", "9223372036854771712\n")
    assert memory.facts(tmp_path).limit is None
    write(tmp_path, f"{folder}/memory.limit_in_bytes", f"{2 * GIB}\n")
    write(tmp_path, f"{folder}/memory.usage_in_bytes", f"{GIB}\n")
    found = memory.facts(tmp_path)
    assert (found.limit, found.available) == (2 * GIB, GIB)


def test_a_hybrid_machine_has_version_2_elsewhere(tmp_path: Path) -> None:
    meminfo(tmp_path)
    write(tmp_path, "proc/self/cgroup", "4:cpu:/x\n0::/x\n")
    write(tmp_path, "sys/fs/cgroup/unified/x/memory.max", f"{GIB}\n")
    assert memory.facts(tmp_path).limit == GIB


def test_memory_that_nobody_tells(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="meminfo"):
        memory.facts(tmp_path)


@given(text=st.text(max_size=60))
def test_any_cgroup_file_is_read(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    root = tmp_path_factory.mktemp("tree")
    meminfo(root)
    for path in ("proc/self/cgroup", "sys/fs/cgroup/memory.max", "proc/cpuinfo", "sys/fs/cgroup/cpu.max"):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text, encoding="utf-8")
    assert memory.facts(root).available <= 12 * GIB
    assert cpu.facts(root).cores >= 1
    assert cgroup.number(text) is None or cgroup.number(text) == int(text)


# --------------------------------------------------------------------------------------- disks, limits
def test_a_folder_that_is_still_to_come(tmp_path: Path) -> None:
    found = memory.disk(tmp_path / "not" / "yet")
    assert found.writable
    assert 0 < found.free <= found.total
    assert found.path == tmp_path / "not" / "yet"


def test_shared_memory(tmp_path: Path) -> None:
    assert memory.shared(tmp_path) is None
    (tmp_path / "dev/shm").mkdir(parents=True)
    found = memory.shared(tmp_path)
    assert found is not None
    assert found.total > 0


def test_limits_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    def limit(which: int) -> tuple[int, int]:
        known = {limits.resource.RLIMIT_NOFILE: 512, limits.resource.RLIMIT_STACK: 8 << 20}
        return known.get(which, limits.resource.RLIM_INFINITY), limits.resource.RLIM_INFINITY

    monkeypatch.setattr(limits.resource, "getrlimit", limit)
    found = limits.facts()
    assert (found.nofile, found.memlock, found.stack) == (512, None, 8 << 20)
