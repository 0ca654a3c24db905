"""Which accelerators a run gets, how many processes, and whether the target's wheels run on them."""

import os
from collections.abc import Collection, Sequence
from dataclasses import replace

from launcher import cuda, intel
from launcher.app import wishes
from launcher.app.wishes import Asked
from launcher.cuda import Gpu, Nvidia
from launcher.errors import DeviceError, UnfitDeviceError, UsageError
from launcher.host import Host, nvidia
from launcher.intel import Intel
from launcher.manifest import Target
from launcher.plan import VISIBLE, RunPlan
from launcher.settings import Setting


def look(machine: Host, target: Target) -> Host:
    """The machine with what a run on the target needs to know of its GPUs."""
    kind = target.devices.kind
    if kind == "nvidia":
        return replace(machine, cards=nvidia.facts())
    return machine if kind == "intel" else replace(machine, cards=None)


def _cards(machine: Host) -> Nvidia | None:
    """NVIDIA's driver and GPUs; None: nobody asked for them."""
    return machine.cards if isinstance(machine.cards, Nvidia) else None


def _visible(machine: Host) -> tuple[Gpu, ...] | None:
    """NVIDIA's GPUs that this process may use; None: unknown."""
    cards = _cards(machine)
    return cards.gpus if cards else None


def choose(
    asked: Asked,
    setting: Setting[str],
    target: Target,
    machine: Host,
    *,
    dry_run: bool,
    notes: list[str],
) -> tuple[str, int]:
    """The GPUs of a new run, as :class:`launcher.plan.Access` has them, and its processes on this machine.

    Args:
        asked: by the command line.
        setting: ``auto``, ``all`` or a list.
        target: of the run.
        machine: as :func:`look` gives it.
        dry_run: having no device is a note.
        notes: receives what the user should know.

    Raises:
        UsageError: no list of GPUs, GPUs that this machine does not have, more processes than devices.
        DeviceError: there is no device.
    """
    kind = target.devices.kind
    if kind == "nvidia":
        text, count, missing = _of_nvidia(*wishes.wanted(asked, setting), target, machine, notes)
    elif kind == "intel":
        text, count, missing = _of_intel(asked, setting, target, machine, notes)
    elif asked.gpus not in (None, "auto"):
        raise UsageError(f"--gpus {asked.gpus}, but {target.name} uses no GPUs", hint="--target cuda or xpu")
    else:
        text, count, missing = "", 1, None
    if missing is not None:
        if not dry_run:
            raise missing
        notes.append(f"{missing.message}: planned for {_processes(asked.nproc or max(1, count))}")
    if asked.nproc is not None and kind != "none" and 0 < count < asked.nproc:
        raise UsageError(f"--nproc {asked.nproc}, but there are {count} devices")
    return text, asked.nproc or max(1, count)


def on_site(asked: Asked, target: Target) -> tuple[str, int]:
    """The same for nodes of a site: its engine gives as many devices of each node as there are processes.

    Raises:
        UsageError: devices are named one by one, which is the scheduler's to do.
    """
    if asked.gpus not in (None, "auto", "all"):
        raise UsageError(
            f"--gpus {asked.gpus}: devices of other machines are not chosen here",
            why="a scheduler gives them, and hosts over ssh give all that they have",
            hint="--nproc N, or slots=N in a hostfile, takes N on each node",
        )
    return "all" if target.devices.kind == "nvidia" else "", asked.nproc or 1


def _of_nvidia(
    origin: str, names: tuple[str, ...] | None, target: Target, machine: Host, notes: list[str]
) -> tuple[str, int, DeviceError | None]:
    """The GPUs as text, their number, and why a start is refused; see :func:`_wanted` for the first two."""
    if not machine.nvidia:
        return ",".join(names or ["all"]), len(names or ()), _absent(target)
    if names == ():
        message = f"{origin} hides every GPU from the target {target.name}"
        return "", 0, DeviceError(message, hint="--gpus all, --target cpu, or unset it")
    visible = _visible(machine)
    if visible == ():
        message = f"this process may use none of the {machine.nvidia} NVIDIA GPUs of this machine"
        why = "a batch system gave it none, or /dev/nvidia* belong to others"
        return "", 0, DeviceError(message, why=why, hint="ls -l /dev/nvidia*; --target cpu")
    # A batch job that was given some GPUs numbers them by itself, and the engine is outside of it.
    by_uuid = visible is not None and len(visible) < machine.nvidia
    if names is None and not by_uuid:
        return "all", machine.nvidia, None
    if names is None:
        names = tuple(gpu.uuid for gpu in visible or ())
    names = _existing(origin, names, machine, by_uuid=by_uuid)
    if origin.endswith(VISIBLE) and _ordered_otherwise(visible or ()):
        notes.append(f"{VISIBLE}: numbers are nvidia-smi's here, while CUDA counts the fastest GPU first")
    return ",".join(names), len(names), None


def _of_intel(
    asked: Asked, setting: Setting[str], target: Target, machine: Host, notes: list[str]
) -> tuple[str, int, DeviceError | None]:
    """The GPUs as Level Zero takes them (empty: all), their number, and why a start is refused.

    All are not named one by one: torch leaves a processor's own GPU out where there are cards (a guess), and
    a list that counts such a one wrongly would hide the card.
    """
    origin, text = wishes.mask(asked, setting)
    try:
        names = () if text in ("auto", "all") else intel.names(text)
    except ValueError as error:
        raise UsageError(f"{origin}: {error}", hint="auto, all, or a list such as 0,1") from None
    if not machine.intel:
        return ",".join(names), len(names), _absent(target)
    if not names:
        return "", machine.intel, None
    cards = machine.cards if isinstance(machine.cards, Intel) else None
    absent = _beyond(names, machine)
    if absent:
        raise _no_such(origin, absent, cards.gpus if cards else (), machine.intel)
    if cards and cards.others:
        notes.append(
            f"{origin}: this machine has another GPU of Intel beside its cards, which Level Zero may count "
            "too: sycl-ls with the same list shows what it means"
        )
    return ",".join(names), len(names), None


def _beyond(names: Sequence[str], machine: Host) -> list[str]:
    """Those of Level Zero's names that are of no GPU; Intel's others are counted, as it may count them."""
    others = machine.cards.others if isinstance(machine.cards, Intel) else 0
    return [each for each in names if intel.number(each) >= machine.intel + others]


def _ordered_otherwise(gpus: Sequence[Gpu]) -> bool:
    """Whether CUDA, left alone, may number these GPUs in another order than nvidia-smi.

    Source: CUDA C++ Programming Guide, "CUDA Environment Variables", CUDA_DEVICE_ORDER.
    """
    return len({gpu.name for gpu in gpus}) > 1 and os.environ.get("CUDA_DEVICE_ORDER") != "PCI_BUS_ID"


def _existing(origin: str, names: tuple[str, ...], machine: Host, *, by_uuid: bool) -> tuple[str, ...]:
    """The names in full, all of them of GPUs that are there; uuids are believed when nobody can be asked.

    Raises:
        UsageError: some are not there, or one GPU has two names.
    """
    visible = _visible(machine)
    if visible is None:
        absent = [name for name in names if name.isdecimal() and int(name) >= machine.nvidia]
        full = list(names)
    else:
        found = {name: cuda.find(name, visible) for name in names}
        absent = [name for name, each in found.items() if each is None]
        full = [
            each[1].uuid if by_uuid and each[0].isdecimal() else each[0] for each in found.values() if each
        ]
        if len({each[1].uuid for each in found.values() if each}) < len(full):
            raise UsageError(f"{origin}: a GPU is named twice, by its number and by its uuid")
    if absent:
        raise _no_such(origin, absent, visible or (), machine.nvidia)
    return tuple(full)


def _no_such(origin: str, absent: Sequence[str], known: Sequence[object], count: int) -> UsageError:
    """The error for GPUs that are not there: what is there by name, or as far as it is counted."""
    there = [str(gpu) for gpu in known] or [f"0 to {count - 1}"]
    return UsageError(
        f"{origin}: no GPU {', '.join(absent)} on this machine", hint=f"there is: {', '.join(there)}"
    )


def judge(gpus: str, target: Target, machine: Host, *, dry_run: bool, notes: list[str]) -> None:
    """Compare driver and GPUs with what the target needs; all problems at once.

    Args:
        gpus: as :func:`choose` gives them.
        target: of the run.
        machine: as :func:`look` gives it.
        dry_run: problems are notes.
        notes: receives what the user should know.

    Raises:
        UnfitDeviceError: nothing would run, or not as planned.
    """
    if target.devices.kind == "intel":
        found = intel.judge(used_of_intel(gpus, machine), kernel=machine.kernel)
        notes += found.notes
        _refuse(found.problems, target, dry_run=dry_run, notes=notes)
        return
    cards = _cards(machine)
    if not gpus or cards is None or not machine.nvidia:
        return
    if cards.unknown:
        notes.append(f"the GPUs were not checked: {cards.unknown}")
    used = gpus_of(gpus, machine)
    verdict = cuda.judge(cards, used, toolkit=target.devices.cuda, architectures=target.devices.architectures)
    problems = list(verdict.problems)
    if len(used) > 1:
        problems += [
            f"{gpu}: it is divided into MIG instances, and works beside no other; leave it out with --gpus"
            for gpu in used
            if gpu.instances
        ]
    notes += verdict.notes
    _refuse(problems, target, dry_run=dry_run, notes=notes)


def _refuse(problems: Sequence[str], target: Target, *, dry_run: bool, notes: list[str]) -> None:
    if problems and not dry_run:
        raise UnfitDeviceError(f"the target {target.name} cannot run here", list(problems))
    notes += problems


def gpus_of(gpus: str, machine: Host) -> tuple[Gpu, ...]:
    """The GPUs of a choice, as far as they are known."""
    there = _visible(machine) or ()
    if gpus == "all":
        return there
    return tuple(found[1] for name in gpus.split(",") if (found := cuda.find(name, there)))


def used_of_intel(gpus: str, machine: Host) -> tuple[intel.Gpu, ...]:
    """The cards of a choice, as far as they are known; all, when it may not be the launcher that counts."""
    cards = machine.cards
    if not isinstance(cards, Intel):
        return ()
    if not gpus or cards.others:
        return cards.gpus
    numbers = [intel.number(each) for each in intel.names(gpus)]
    return tuple(gpu for gpu in cards.gpus if gpu.index in numbers)


def settle(
    gpus: str,
    target: Target,
    machine: Host,
    *,
    container: bool,
    without: Collection[str],
    dry_run: bool,
    notes: list[str],
) -> str:
    """The choice of GPUs as the place of the run can keep to it, once that is known.

    Intel's GPUs are reached through nodes that not every user may open.

    Containers in WSL get all GPUs or none: its driver cannot pass single ones on. A process without a
    container keeps to a choice, because CUDA's own variable makes it.

    Source: CUDA on WSL User Guide, "Known Limitations for Linux CUDA Applications".

    Args:
        gpus: as :func:`choose` gives them.
        target: of the run.
        machine: as :func:`look` gives it.
        container: the run takes place in one.
        without: packages that it has not, although the target's locks name them.
        dry_run: problems are notes.
        notes: receives what the user should know.

    Raises:
        DeviceError: the container would get other GPUs than these.
        UnfitDeviceError: the run would not reach them.
    """
    if target.devices.kind == "intel":
        if isinstance(machine.cards, Intel):
            hidden_from = intel.reach(machine.cards, counted_of_intel(gpus, machine), container=container)
            _refuse(hidden_from, target, dry_run=dry_run, notes=notes)
        return gpus
    used, cards = gpus_of(gpus, machine), _cards(machine)
    minimum = [each for each in target.devices.minimum if each[0] not in without]
    notes += cuda.without_kernels(used, minimum)
    windows = machine.nvidia > 0 and cards is not None and cards.windows
    if gpus in ("", "all") or not container or not windows:
        return gpus
    if len(used) == machine.nvidia and not any("MIG-" in name for name in gpus.split(",")):
        return "all"
    message = f"a container in WSL gets all {machine.nvidia} GPUs, not only {gpus}"
    if not dry_run:
        raise DeviceError(
            message,
            why="the driver of WSL does not pass single GPUs on to containers",
            hint="--gpus all, or without a container: --engine venv",
        )
    notes.append(message)
    return gpus


def counted_of_intel(gpus: str, machine: Host) -> tuple[intel.Gpu, ...]:
    """The cards of a choice and those before them: one that cannot be opened is not counted (a guess)."""
    used = used_of_intel(gpus, machine)
    last = max((gpu.index for gpu in used), default=-1)
    cards = machine.cards
    return tuple(gpu for gpu in (cards.gpus if isinstance(cards, Intel) else ()) if gpu.index <= last)


def check_again(plan: RunPlan, target: Target, machine: Host, *, notes: list[str]) -> None:
    """Whether a plan that was made before still has its devices; see :func:`judge`.

    Raises:
        DeviceError: devices of the plan are not there.
    """
    kind, gpus = target.devices.kind, plan.access.gpus
    visible = _visible(machine)
    present = machine.accelerators(kind) if visible is None else len(visible)
    if kind != "none" and present < plan.nproc:
        raise DeviceError(
            f"the plan is for {_processes(plan.nproc)}, and devices of this machine are {present}",
            why="a plan belongs to its machine",
            hint="plan a new run",
        )
    absent = [name for name in gpus.split(",") if visible is not None and not cuda.find(name, visible)]
    if kind == "intel" and gpus:
        try:
            absent = _beyond(intel.names(gpus), machine)
        except ValueError:  # the plan was written by hand
            absent = [gpus]
    if gpus not in ("", "all") and absent:
        raise DeviceError(f"the plan's GPU {', '.join(absent)} is not on this machine", hint="plan a new run")
    if kind == "nvidia" and not gpus:
        raise DeviceError(
            "the plan has no GPU",
            why="they were hidden when it was made, by a dry run",
            hint="plan a new run",
        )
    judge(gpus, target, machine, dry_run=False, notes=notes)
    container = plan.container
    settle(gpus, target, machine, container=container, without=plan.without, dry_run=False, notes=notes)


def _absent(target: Target) -> DeviceError:
    return DeviceError(
        f"the target {target.name} needs an accelerator that this machine does not show",
        why="no card, or its kernel driver is not loaded",
        hint="--target cpu, or --target auto",
    )


def _processes(count: int) -> str:
    return "one process" if count == 1 else f"{count} processes"
