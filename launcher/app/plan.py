"""From what was asked to a plan: recipe, target, engine, data, model, machine."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import launcher
from launcher import data, host, manifest, paths, recipe, replay
from launcher import plan as plans
from launcher.app import (
    accelerators,
    adapters,
    batches,
    files,
    groups,
    models,
    overrides,
    place,
    sameness,
    wishes,
)
from launcher.app.crews import crew
from launcher.app.rules import rules_of
from launcher.app.wishes import Asked
from launcher.data import DataFile, documents
from launcher.data.profile import Profile, profile
from launcher.engines.base import Engine
from launcher.engines.docker import DockerEngine
from launcher.engines.kubernetes import KubernetesEngine
from launcher.errors import ChangedError, UsageError
from launcher.host import Host
from launcher.manifest import Target
from launcher.plan import Access, Hosts, Kubernetes, RunPlan, Slurm
from launcher.progress import Progress, Silent
from launcher.recipe import Recipe
from launcher.recipe.refusals import raw_values, refuse
from launcher.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What the command line asked for; None and empty mean: by settings, or by itself.

    Attributes:
        parameters: of the recipe, as text.
        arguments: raw trainer arguments.
        env: variables that are recorded; ``secrets`` are not, only their names.
        said: where those come from.
        preflight: False: rows are not judged, and nobody asks whether memory and machine are enough.
        language: of the texts that a recipe has in both.
        nodes: machines, each with ``nproc`` processes.
        site: what starts it on other machines; None: it runs on this one.
    """

    recipe: str
    target: str | None = None
    engine: str | None = None
    data: tuple[Path, ...] = ()
    model: str | None = None
    output: Path | None = None
    nproc: int | None = None
    gpus: str | None = None
    memory: str = ""
    shm_size: str = ""
    network: Literal["none", "bridge"] = "none"
    parameters: Mapping[str, str] = field(default_factory=dict)
    arguments: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict)
    said: tuple[str, ...] = ()
    preflight: bool = True
    language: str = "en"
    nodes: int = 1
    site: Slurm | Kubernetes | Hosts | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """A plan and the engine to run it on.

    Attributes:
        notes: what the user should know before the start.
        profile: of the rows; None where they were not looked at.
    """

    plan: RunPlan
    engine: Engine[Any]
    host: Host
    secrets: Mapping[str, str]
    notes: tuple[str, ...]
    profile: Profile | None = None


def make(request: Request, chosen: Settings, *, dry_run: bool, progress: Progress) -> Planned:
    """Plan a run. A dry run starts, fetches and refuses nothing that only a real start needs."""
    found = recipe.load(recipe.find(request.recipe, paths.recipes()))
    machine = host.facts()
    notes = list(request.said)
    asked = Asked(
        gpus=request.gpus,
        visible=request.env.get(plans.VISIBLE),
        mask=request.env.get(plans.MASK),
        nproc=request.nproc,
    )
    target, why = pick_target(request.target, asked, chosen, found, machine)
    if why:
        notes.append(f"target {target.name}: {why}")
    if request.site is None:
        machine = accelerators.look(machine, target)
    values = found.values(target.name, request.parameters)
    overrides.refuse(request, found)
    refuse(found, target.name, dict(values), request.arguments, language=request.language)
    rows: list[Mapping[str, Any]] = []
    named_files = files.named(found, dict(values))
    checked = _check_data(request, found, dict(values), rows, dry_run=dry_run, notes=notes, progress=progress)
    if request.site is None:
        gpus, nproc = accelerators.choose(asked, chosen.gpus, target, machine, dry_run=dry_run, notes=notes)
        accelerators.judge(gpus, target, machine, dry_run=dry_run, notes=notes)
    else:
        gpus, nproc = accelerators.on_site(asked, target)
    overridden, processes = {**dict(values), **raw_values(request.arguments)}, request.nodes * nproc
    groups.refuse(overridden, processes)
    if request.preflight:
        batches.refuse_unused(request.data, checked, overridden, processes)
    first = models.first(request.model, found, dry_run=dry_run, notes=notes)
    named = adapters.with_base(
        found,
        first,
        models.named(found, dict(values), dry_run=dry_run, notes=notes),
        dry_run=dry_run,
        notes=notes,
    )
    if request.site is not None:
        where = place.on_site(
            request.site,
            chosen,
            target,
            nodes=request.nodes,
            dry_run=dry_run,
            notes=notes,
            progress=progress,
        )
    else:
        where = place.choose(request.engine, chosen, target, dry_run=dry_run, notes=notes, progress=progress)
        gpus = accelerators.settle(
            gpus,
            target,
            machine,
            container=isinstance(where.engine, DockerEngine),
            without=where.lock.left_out,
            dry_run=dry_run,
            notes=notes,
        )
    uid, gid = caller(where.engine)
    plan = plans.make(
        launcher=launcher.version(),
        recipe=found,
        recipes=paths.recipes(),
        runtime_sha256=recipe.runtime_sha256(paths.recipes()),
        target=target,
        engine=where.engine.name,
        image=where.image,
        lock_digest=where.lock.digest,
        without=where.lock.left_out,
        nproc=nproc,
        inputs=tuple(path.absolute() for path in request.data),
        data=tuple(replace(file, path=file.path.absolute()) for file in checked),
        model=first,
        output=request.output.absolute() if request.output else None,
        parameters=values,
        models=named,
        files=named_files,
        arguments=request.arguments,
        env=_recorded(request, found, target, machine, nproc),
        secrets=tuple(request.secrets),
        uid=uid,
        gid=gid,
        access=access(request, chosen, target, machine, gpus, notes),
        preflight=request.preflight,
        nodes=request.nodes,
        site=where.site,
    )
    return Planned(
        plan=plan,
        engine=where.engine,
        host=machine,
        secrets=request.secrets,
        notes=tuple(notes),
        profile=profile(rows) if rows and not dry_run else None,
    )


def read(
    text: str, source: str, secrets: Mapping[str, str], *, output: Path | None = None, progress: Progress
) -> Planned:
    """A plan that was written before, on this machine, for a new run.

    Args:
        output: where this time's result goes; None: into the run's own folder, never where the first one is.

    Raises:
        RecordError: not a plan, or (ChangedError) recipe, lock or data are not what they were.
        DeviceError: the machine is not what it was.
    """
    found = again(plans.from_json(text, source=source), source, secrets, progress=progress)
    uid, gid = caller(found.engine)
    plan = plans.with_output(found.plan, output.absolute() if output else None)
    return replace(found, plan=replace(plan, uid=uid, gid=gid))  # whoever repeats a plan owns the result


def again(plan: RunPlan, source: str, secrets: Mapping[str, str], *, progress: Progress) -> Planned:
    """A plan as it is, if what it names is what it was.

    Raises:
        ChangedError: recipe, lock, model or data are not what they were.
        UsageError: see :func:`launcher.app.overrides.check_secrets`.
        DeviceError: the machine is not what it was.
    """
    found = replay.compare(sameness.of_plan(plan))
    overrides.check_secrets(plan, secrets)
    if found.differences:
        raise ChangedError(
            f"{source} cannot be repeated: {', '.join(found.kinds())}",
            [f"{difference.kind}: {difference}" for difference in found.differences],
            why="the same plan must be the same run",
            hint="plan a new run; launch runs replay RUN --allow KIND repeats one with what is here",
        )
    target, notes = manifest.shipped().target(plan.target), list[str]()
    machine = host.facts()
    if not plan.elsewhere:
        machine = accelerators.look(machine, target)
        accelerators.check_again(plan, target, machine, notes=notes)
    engine = place.of(plan, progress)
    return Planned(plan=plan, engine=engine, host=machine, secrets=secrets, notes=tuple(notes))


def caller(engine: Engine[Any]) -> tuple[int, int]:
    """The user and group that a run has: in a container under sudo, those of the user behind it.

    Without capabilities root cannot even read what belongs to others.
    """
    behind = [os.environ.get(name, "") for name in ("SUDO_UID", "SUDO_GID")]
    contained = isinstance(engine, DockerEngine | KubernetesEngine)
    if contained and os.getuid() == 0 and all(text.isdigit() for text in behind):
        return int(behind[0]), int(behind[1])
    return os.getuid(), os.getgid()


def reread(run: Path, secrets: Mapping[str, str]) -> Planned:
    """The plan of a run whose record was begun by another process; it was checked there, just now."""
    plan = plans.from_json((run / "plan.json").read_text(encoding="utf-8"), source=str(run / "plan.json"))
    machine = host.facts()
    if not plan.elsewhere:
        machine = accelerators.look(machine, manifest.shipped().target(plan.target))
    return Planned(plan=plan, engine=place.of(plan, Silent()), host=machine, secrets=secrets, notes=())


def known(plan: RunPlan) -> Planned:
    """The plan of a run that was started before, to look at it and to conclude it; nothing is made for it."""
    return Planned(plan=plan, engine=place.known(plan), host=host.facts(), secrets={}, notes=())


def pick_target(
    wanted: str | None, asked: Asked, chosen: Settings, found: Recipe | None, machine: Host
) -> tuple[Target, str]:
    """The target of a run, and why it was picked; empty: it was asked for by name.

    Args:
        wanted: by the command line; None: by the settings.
        asked: of accelerators, which may hide some.
        chosen: the user's settings.
        found: what shall run on it; None: anything.
        machine: this one.

    Raises:
        UsageError: there is no such target.
    """
    known = manifest.shipped()
    name, why = wanted or chosen.target.value, ""
    if name == "auto":
        name, why = machine.best_target(hidden=wishes.hidden(asked, chosen.gpus, machine))
        if found and name not in found.targets and "cpu" in found.targets:
            name, why = "cpu", f"{found.name} does not run on {name}"
    return known.target(name), why


def _check_data(
    request: Request,
    found: Recipe,
    values: Mapping[str, str],
    rows: list[Mapping[str, Any]],
    *,
    dry_run: bool,
    notes: list[str],
    progress: Progress,
) -> tuple[DataFile, ...]:
    if found.data is None:
        if request.data:
            raise UsageError(f"{found.name} takes no --data")
        return ()
    if not request.data:
        if not dry_run:
            raise UsageError(f"{found.name} needs --data PATH", why=found.data.help.en)
        notes.append(f"no --data given; {found.name} needs {found.data.help.en}")
        return ()
    if found.data.format == documents.DOCUMENTS:
        return documents.find(request.data, progress=progress)
    rules = rules_of(found.data.format, values, launch=found.launch)
    if not request.preflight:
        return data.identify(request.data, rules, progress=progress)
    with crew(None, data.size(request.data)) as work:
        shown = progress if work is not map else Silent()  # a second needs no bar
        return data.check(request.data, rules, notes=notes, kept=rows, work=work, progress=shown)


#: A size as Docker reads it, and as the settings' schema has it.
_SIZE = re.compile(r"[0-9]+[kmgKMG]?")


#: Threads of each process; the recipes' shell has the same default for those who run it by itself.
_THREADS = "OMP_NUM_THREADS"

#: Matrix libraries may otherwise take fewer threads than they are given, by the machine's cores.
_DYNAMIC = "MKL_DYNAMIC"


def _recorded(
    request: Request, found: Recipe, target: Target, machine: Host, nproc: int
) -> tuple[tuple[str, str], ...]:
    """The variables of ``--env``; of a training on a CPU also the threads.

    Sums that are shared out among another number of threads are other sums: it belongs to the plan, so that a
    repetition on another machine takes the same one.
    """
    given = {name: value for name, value in request.env.items() if name not in plans.CHOICES}
    if request.site is not None:  # a node's cores are known there
        return tuple(given.items())
    if found.launch != "torchrun" or target.devices.kind != "none" or _THREADS in request.secrets:
        return tuple(given.items())
    threads = max(1, machine.cpus // nproc)
    return tuple(({_THREADS: str(threads), _DYNAMIC: "FALSE"} | given).items())


def access(
    request: Request, chosen: Settings, target: Target, machine: Host, gpus: str, notes: list[str]
) -> Access:
    for option, size in (("--memory", request.memory), ("--shm-size", request.shm_size)):
        if size and not _SIZE.fullmatch(size):
            raise UsageError(f"{option} takes a size such as 16g, not {size!r}")
    devices = target.devices
    groups = machine.render_groups if devices.device_groups and request.site is None else ()
    if devices.device_groups and not groups:
        notes.append("no render node in /dev/dri here: on the machine of the run, its group id is added")
    return Access(
        gpus=gpus,
        devices=devices.paths,
        groups=groups,
        shm_size=request.shm_size or chosen.shm_size.value or devices.shm_size,
        memory=request.memory,
        network=request.network,
    )
