"""GPUs of NVIDIA and Intel: driver, kernels, health, access; by the rules that a start goes by, too."""

from collections.abc import Sequence

from launcher import cuda, intel
from launcher.cuda import Nvidia
from launcher.diagnosis.facts import EngineFacts, GpuHealth
from launcher.diagnosis.lines import Line, failed, ok, size, skipped, warning
from launcher.intel import Intel
from launcher.manifest import Target

NVIDIA = ("nvidia.driver", "nvidia.runtime", "nvidia.capability", "nvidia.ecc", "nvidia.memory")
INTEL = ("intel.cards", "intel.driver", "intel.kernel", "intel.bar", "intel.nodes")

#: Of a GPU's memory, that others may hold before it is worth a word: a desktop takes a few hundred MB.
_HELD = 0.1


def nvidia_driver(cards: Nvidia, target: Target) -> Line:
    """The driver, against the target's CUDA."""
    if cards.unknown and not cards.driver:
        return _unasked("nvidia.driver", cards.unknown)
    verdict = cuda.judge_driver(cards, target.devices.cuda)
    if verdict.problems:
        return failed("nvidia.driver", "; ".join(verdict.problems))
    found = f"driver {cards.driver or 'unknown'}"
    return warning("nvidia.driver", "; ".join(verdict.notes)) if verdict.notes else ok("nvidia.driver", found)


def _unasked(name: str, why: str) -> Line:
    return warning(name, why, means="this was not checked", fix="nvidia-smi says more")


def nvidia_runtime(facts: EngineFacts | None, *, container: bool) -> Line:
    """Whether containers can have GPUs."""
    if facts is None or not container:
        return skipped("nvidia.runtime", "runs take place without a container")
    if not facts.gives_gpus and facts.podman:
        fix = "install nvidia-container-toolkit; sudo nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml"
        return failed("nvidia.runtime", "there is no CDI specification of NVIDIA's", fix=fix)
    if not facts.gives_gpus:
        return failed("nvidia.runtime", "nothing says that this engine can give NVIDIA GPUs to containers")
    return ok("nvidia.runtime", "the engine can give GPUs to containers")


def nvidia_capability(
    cards: Nvidia, gpus: Sequence[cuda.Gpu], target: Target, minimum: Sequence[tuple[str, str]]
) -> Line:
    """The GPUs of a run, against torch's wheels and what packages ask for.

    Args:
        cards: the machine's.
        gpus: those that a run would get.
        target: of the run.
        minimum: packages with the least compute capability that each has kernels for.
    """
    if cards.gpus is None:
        return _unasked("nvidia.capability", cards.unknown or "the GPUs could not be asked")
    devices = target.devices
    verdict = cuda.judge_gpus(cards, gpus, devices.cuda, devices.architectures)
    if verdict.problems:
        return failed("nvidia.capability", "; ".join(verdict.problems))
    notes = [*verdict.notes, *cuda.without_kernels(gpus, minimum)]
    if notes:
        return warning("nvidia.capability", "; ".join(notes))
    return ok("nvidia.capability", "; ".join(map(str, gpus)) or "no GPU")


def nvidia_ecc(health: Sequence[GpuHealth]) -> Line:
    """Errors of the GPUs' memory."""
    wrong = [f"{each.gpu}: {each.uncorrected} uncorrected" for each in health if each.uncorrected]
    if wrong:
        return warning("nvidia.ecc", "; ".join(wrong))
    return ok("nvidia.ecc", "; ".join(f"{each.gpu}: ECC {_ecc(each)}" for each in health) or "unknown")


def _ecc(health: GpuHealth) -> str:
    if health.ecc and health.uncorrected is None:
        return "on, its errors are not counted here"
    return {True: "on, no uncorrected error", False: "off", None: "not there"}[health.ecc]


def nvidia_memory(health: Sequence[GpuHealth]) -> Line:
    """Memory that others hold."""
    shown = [
        f"{each.gpu}: {size(each.used)} of {size(each.total)} in use, {each.programs} programs"
        for each in health
        if each.total
    ]
    if any(each.total and each.used > _HELD * each.total for each in health):
        return warning("nvidia.memory", "; ".join(shown))
    return ok("nvidia.memory", "; ".join(shown) or "the GPUs have no memory of their own")


def intel_lines(
    cards: Intel,
    gpus: Sequence[intel.Gpu],
    counted: Sequence[intel.Gpu],
    *,
    kernel: str,
    container: bool,
) -> tuple[Line, ...]:
    """Intel's cards.

    Args:
        cards: the machine's.
        gpus: those that a run would get.
        counted: those, and what Level Zero counts before them.
        kernel: its release.
        container: runs take place in one.
    """
    names = "; ".join(map(str, gpus)) + (f"; {cards.others} other GPU of Intel" if cards.others else "")
    several = "collective communication through xccl was not tried here"
    drivers = intel.judge_drivers(gpus)
    kernels, bars = intel.judge_kernel(gpus, kernel=kernel), intel.judge_bars(gpus)
    hidden = intel.reach(cards, counted, container=container)
    return (
        warning("intel.cards", names, means=several) if len(gpus) > 1 else ok("intel.cards", names),
        failed("intel.driver", "; ".join(drivers))
        if drivers
        else ok("intel.driver", ", ".join(sorted({each.driver or "unknown" for each in gpus}))),
        warning("intel.kernel", "; ".join(kernels)) if kernels else ok("intel.kernel", f"Linux {kernel}"),
        warning("intel.bar", "; ".join(bars)) if bars else ok("intel.bar", _bars(gpus)),
        failed("intel.nodes", "; ".join(hidden), fix=_node_fix(gpus, hidden))
        if hidden
        else ok(
            "intel.nodes", "a container gets the nodes' groups" if container else "this user may open them"
        ),
    )


def _bars(gpus: Sequence[intel.Gpu]) -> str:
    return "; ".join(f"GPU {each.index}: {size(each.bar) if each.bar else 'unknown'}" for each in gpus)


def _node_fix(gpus: Sequence[intel.Gpu], hidden: Sequence[str]) -> str:
    """The command for nodes of a named group; else what the rule itself says."""
    groups = sorted({each.group for each in gpus if not each.usable and each.group and each.gid})
    if groups and all("usermod" in each for each in hidden):
        return f"sudo usermod -aG {','.join(groups)} $USER, then log in again"
    return hidden[0].rsplit(": ", 1)[-1]
