"""A run that is planned as for a dry run, as files: for those who submit it without the launcher."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from shutil import rmtree

from launcher import handover, paths, runs
from launcher import plan as plans
from launcher.app.plan import Planned
from launcher.engines.container import ContainerRequest
from launcher.engines.docker import DockerEngine
from launcher.engines.venv import ProcessRequest, VenvEngine
from launcher.errors import LaunchError, ModelNotFoundError, OutputError, UsageError
from launcher.handover import Variable, marks
from launcher.plan import Folders, RunPlan, Start

#: What a request can become, and the engine that each is for; None: any of this machine.
KINDS: Mapping[str, str | None] = {
    "slurm": "slurm",
    "kubernetes": "kubernetes",
    "compose": "docker",
    "script": None,
}


def engine_for(kind: str, wanted: str | None) -> str | None:
    """The engine to plan for.

    Args:
        wanted: by ``--engine``; None: not given.

    Raises:
        UsageError: files of this kind are not for the engine that was asked for.
    """
    needed = KINDS[kind]
    foreign = wanted in ("slurm", "kubernetes") if needed is None else wanted not in (None, "auto", needed)
    if foreign:
        raise UsageError(
            f"--to {kind} does not go with --engine {wanted}",
            why=f"such files are for {needed or 'a container or the environment of one machine'}",
            hint=f"leave out --engine, or take --to {wanted if wanted in KINDS else 'script'}",
        )
    return needed or wanted


def files(planned: Planned, kind: str) -> Mapping[str, str]:
    """Name and text of every file.

    Args:
        planned: of a dry run, for :func:`engine_for` the kind.
        kind: one of :data:`KINDS`.

    Raises:
        UsageError: this machine's engine is not the one that such files are for.
        ModelNotFoundError: a model is not here, and so its revision is not known.
    """
    plan, variables = planned.plan, tuple[Variable, ...]()
    _refuse_absent(plan)
    if plan.elsewhere:
        start = Start(run=runs.new_id(plan.recipe))
        place = runs.folders(start.run, plan)
        made = dict(planned.engine.render(plan, place, start).files())
    else:
        place = runs.folders(marks.START.run, plan)
        made, variables = _of_this_machine(planned, kind, place)
    page = handover.guide.readme(kind, plan, tuple(made), variables, place, digest=_digest(planned))
    return {handover.guide.NAME: page, "plan.json": plans.to_json(plan), **made}


def _refuse_absent(plan: RunPlan) -> None:
    for model in (plan.model, *(each for _, each in plan.models)):
        if model is not None and not model.path.exists():
            raise ModelNotFoundError(
                f"{model.name} is not in the cache",
                why="the files name the revision of their model, and nothing is downloaded for them",
                hint=f"hf download {model.name}, or give a folder",
            )


def _of_this_machine(
    planned: Planned, kind: str, place: Folders
) -> tuple[dict[str, str], tuple[Variable, ...]]:
    """A container's or process's files, whose places are variables."""
    plan, engine = planned.plan, planned.engine
    request = engine.render(plan, place, marks.START)
    environment = engine.environment if isinstance(engine, VenvEngine) else None
    variables = marks.places(plan, place, environment)
    if plan.nodes > 1:
        variables = (*marks.nodes(), *variables)
    if isinstance(request, ProcessRequest):
        marked = marks.process(request, plan, variables, place)
        return dict(handover.script.files(marked, plan, variables)), variables
    assert isinstance(request, ContainerRequest)  # noqa: S101 - this machine's engines have these two
    if kind == "compose" and request.program != "docker":
        raise UsageError(
            f"--to compose is for Docker, and {request.program} answers at its address",
            why="user namespaces and GPUs are said otherwise there",
            hint="--to script --engine podman",
        )
    variables = (*variables, Variable(name="IMAGE", value=request.image, about="the image"))
    contained = marks.container(request, plan, variables, place)
    write = handover.compose if kind == "compose" else handover.script
    return dict(write.files(contained, plan, variables)), variables


def _digest(planned: Planned) -> str | None:
    """Of the image, if an engine here has it."""
    if not isinstance(planned.engine, DockerEngine):
        return None
    try:
        return planned.engine.describe(planned.plan).image_digest
    except LaunchError:
        return None


def write(folder: Path, content: Mapping[str, str]) -> None:
    """Make the folder with all files at once, or not at all.

    Raises:
        OutputError: it holds something already, or cannot be made.
    """
    place = folder.resolve()
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=place.parent, prefix=f".{place.name}."))
    except OSError as error:
        raise _not_written(folder, error) from None
    try:
        for name, text in content.items():
            program = text.startswith("#!")
            paths.write_atomic(temporary / name, text, mode=0o755 if program else 0o644)
        temporary.chmod(0o755)
        temporary.rename(place)  # takes the place of an empty folder, and of nothing else
        paths.sync_folder(place.parent)
    except OSError as error:
        rmtree(temporary, ignore_errors=True)
        raise _not_written(folder, error) from None


def _not_written(folder: Path, error: OSError) -> OutputError:
    there = folder.exists() and (not folder.is_dir() or any(folder.iterdir()))
    return OutputError(
        f"{folder} holds something already" if there else f"{folder} cannot be written",
        why="nothing is ever overwritten" if there else str(error.strerror or error),
        hint="name a new or empty folder",
    )
