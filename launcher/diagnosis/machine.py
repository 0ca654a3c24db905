"""Processor, memory, limits and clock: whether a run has what it needs of the machine itself."""

from launcher.diagnosis.facts import Answer, Cpu, Disk, Limits, Memory
from launcher.diagnosis.lines import Line, failed, ok, size, warning

#: Instruction sets that decide the speed of matrix products, as /proc/cpuinfo names them, the oldest first.
_SETS = {"avx2": "AVX2", "avx512f": "AVX-512", "avx512_bf16": "AVX-512 bf16", "amx_bf16": "AMX bf16"}

#: RAM per byte of float32 weights that training all of a model takes: weights, gradients and two moments of
#: Adam, each as large (16 bytes per parameter).
_STATES = 4

#: What torch and the trainer take before a model is loaded: 0.51 GB were measured with the cpu target's lock
#: (maximum resident set after importing torch, transformers, datasets, FlagEmbedding); data comes on top.
_BASE = 1_000_000_000

#: The kernel's defaults: INR_OPEN_CUR (include/uapi/linux/fs.h), MLOCK_LIMIT since 5.16
#: (include/uapi/linux/resource.h), _STK_LIM (the same). Less was taken away by somebody.
_NOFILE, _MEMLOCK, _STACK = 1024, 8 << 20, 8 << 20

#: This project's first release, in seconds of the epoch: a clock before it was never set (2026-01-01).
_BIRTH = 1_767_225_600

#: Seconds. HTTP dates are whole seconds, and an answer takes some; a day is beyond any certificate's slack.
_SKEW, _HOPELESS = 30, 86_400


def cpu(facts: Cpu, *, trains: bool) -> Line:
    """The processor.

    Args:
        facts: of it.
        trains: the target has no GPU, so that this is what trains.
    """
    sets = [name for flag, name in _SETS.items() if flag in facts.flags]
    cores = f"{facts.cores} core{'s' if facts.cores != 1 else ''}"
    if facts.quota is not None and facts.quota < facts.cores:
        cores += f" with a quota of {facts.quota:g}"
    found = f"{facts.name or 'unknown processor'}, {cores}, {', '.join(sets) or 'no AVX2'}"
    if not facts.flags or not trains:
        return ok("cpu", found)
    if "avx2" not in facts.flags:
        return warning("cpu", found, means="torch's matrix products fall to SSE, several times slower")
    if facts.quota is not None and facts.quota < facts.cores:
        means = "as many threads as cores are started, and the quota stops them all together"
        return warning("cpu", found, means=means, fix=f"export OMP_NUM_THREADS={max(1, int(facts.quota))}")
    if not facts.flags & {"avx512_bf16", "amx_bf16"}:
        found += "; bf16 is computed through float32, so it saves memory and no time"
    return ok("cpu", found)


def memory(facts: Memory, *, weights: int, trains: bool) -> Line:
    """RAM.

    Args:
        facts: of it.
        weights: bytes of the model's files; 0: unknown.
        trains: the model's states are in RAM, and not in a GPU's memory.
    """
    found = f"{size(facts.available)} available of {size(facts.total)}"
    if facts.limit is not None:
        found += f", the cgroup allows {size(facts.limit)}"
    needed = _BASE + weights * (_STATES if trains else 1)
    if facts.available < needed:
        what = "training all of the model" if trains and weights else "loading it" if weights else "torch"
        means = f"{what} takes about {size(needed)} and more: the kernel may end the run (exit code 79)"
        return warning("memory", found, means=means)
    return ok("memory", found)


def shm(facts: Disk | None, *, wanted: int, container: bool, ram: Memory | None) -> Line:
    """Shared memory.

    Args:
        facts: of /dev/shm; None: there is none.
        wanted: bytes that a container of the target gets, and so what a run without one should have.
        container: the run takes place in one, which has a /dev/shm of its own.
        ram: None: unknown.
    """
    if container:
        found = f"a container gets {size(wanted)}"
        if ram and wanted > (ram.limit or ram.total):
            means = "it may fill all of the RAM"
            return warning("shm", found, means=means, fix="--shm-size 2g, or LAUNCH_SHM_SIZE=2g")
        return ok("shm", found)
    if facts is None:
        return failed("shm", "there is no /dev/shm", fix="sudo mount -t tmpfs tmpfs /dev/shm")
    if not facts.writable:
        return failed("shm", "no permission to write to /dev/shm", fix="sudo chmod 1777 /dev/shm")
    found = f"{size(facts.free)} free of {size(facts.total)}"
    # Half of the RAM is the kernel's default, and as much as a small machine can give.
    if facts.free < min(wanted, ram.total // 4 if ram else wanted):
        return warning("shm", found, size=f"{max(1, wanted >> 30)}g")
    return ok("shm", found)


def limits(facts: Limits, *, container: bool) -> tuple[Line, ...]:
    """Limits of processes; those of a container are the engine's, whatever this process has."""
    rows = (
        ("limits.nofile", facts.nofile, _NOFILE, "files", False),
        ("limits.memlock", facts.memlock, _MEMLOCK, "", True),
        ("limits.stack", facts.stack, _STACK, "", True),
    )
    lines = []
    for name, have, least, unit, in_bytes in rows:
        shown = "unlimited" if have is None else size(have) if in_bytes else f"{have} {unit}"
        if container:
            lines.append(ok(name, f"{shown} here; a container gets the engine's"))
        elif have is not None and have < least:
            lines.append(warning(name, shown))
        else:
            lines.append(ok(name, shown))
    return tuple(lines)


def clock(now: float, answers: tuple[Answer, ...]) -> Line:
    """The clock.

    Args:
        now: seconds of the epoch.
        answers: of servers, which say what time they have; none: only whether it is set at all.
    """
    if now < _BIRTH:
        return failed("clock", "it was never set: it is before 2026")
    said = [(abs(answer.ahead), answer) for answer in answers if answer.ahead is not None]
    if not said:
        return ok("clock", "it is set; no server was there to compare it with")
    # The least difference: one server with a wrong clock of its own is no reason to doubt this one.
    skew, nearest = min(said, key=lambda each: each[0])
    way = "ahead of" if (nearest.ahead or 0) > 0 else "behind"
    found = f"{skew:.0f} s {way} {nearest.host}"
    if skew >= _HOPELESS:
        return failed("clock", found)
    return warning("clock", found) if skew > _SKEW else ok("clock", f"within {_SKEW} s of {nearest.host}")
