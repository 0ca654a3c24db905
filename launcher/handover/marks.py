"""The places of a request as variables that people can change.

A request is rendered with marks where such a place begins; whoever writes a file of it says what a mark looks
like there. A mark is a name between two zero bytes, which no path, variable or argument can hold.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from launcher.engines.container import ContainerRequest
from launcher.engines.venv import ProcessRequest
from launcher.plan import Folders, RunPlan, Start

_MARK = re.compile("\0([A-Z0-9_]+)\0")


@dataclass(frozen=True, slots=True, kw_only=True)
class Variable:
    """A place, or something else that is not the same everywhere.

    Attributes:
        name: of the variable.
        value: its default, which may hold marks; empty: whoever starts the run must say it.
        about: what it is.
    """

    name: str
    value: str
    about: str


def mark(name: str) -> str:
    """The mark of a variable."""
    return f"\0{name}\0"


#: The run in which all marks are: its name is one.
START = Start(run=mark("RUN_ID"))


def split(text: str) -> list[str]:
    """Text and variables' names in turn, beginning with text."""
    return _MARK.split(text)


def filled(text: str, plain: Callable[[str], str], variable: Callable[[str], str]) -> str:
    """A text in the words of some file: what is between the marks, and what the marks become."""
    parts = split(text)
    return "".join(variable(part) if number % 2 else plain(part) for number, part in enumerate(parts))


def places(plan: RunPlan, place: Folders, environment: Path | None) -> tuple[Variable, ...]:
    """The variables of what a plan names on this machine.

    Args:
        place: of :data:`START`.
        environment: that it runs in; None: a container.
    """
    runs = place.run.parent
    output = f"{mark('RUNS')}/{mark('RUN_ID')}/output" if plan.output is None else str(plan.output)
    found = [
        Variable(name="RUNS", value=str(runs), about="folder of records"),
        Variable(name="OUTPUT", value=output, about="the result; new or empty"),
        Variable(name="RUN_HOME", value=str(place.home), about="home folder of runs, kept for caches"),
        Variable(
            name="LAUNCHER", value=str(plan.recipes.parent), about="the launcher's recipes/ and ds_configs/"
        ),
    ]
    if plan.recipe_path.parent != plan.recipes:
        found.append(Variable(name="RECIPE", value=str(plan.recipe_path), about="the recipe"))
    for number, path in enumerate(plan.inputs):
        found.append(Variable(name=f"DATA_{number}", value=_seen(path, environment), about="data"))
    if plan.model is not None:
        found.append(Variable(name="MODEL", value=str(plan.model.root), about=f"model {plan.model.name}"))
    for name, model in plan.models:
        found.append(
            Variable(name=f"MODEL_{name.upper()}", value=str(model.root), about=f"model {model.name}")
        )
    for name, file in plan.files:
        about = f"--{name.replace('_', '-')}"
        found.append(Variable(name=f"FILE_{name.upper()}", value=_seen(file.path, environment), about=about))
    if environment is not None:
        found.append(Variable(name="ENVIRONMENT", value=str(environment), about="folder of the environment"))
    return tuple(found)


def _seen(path: Path, environment: Path | None) -> str:
    """As a container has it mounted, or as a process finds it."""
    return str(path if environment is not None else path.resolve())


#: What several machines are told by whoever starts the run on each of them.
_NODE = {
    "LAUNCH_NODE_RANK": "NODE_RANK",
    "LAUNCH_RENDEZVOUS": "RENDEZVOUS",
    "LAUNCH_NODE_ADDRESS": "NODE_ADDRESS",
}


def nodes() -> tuple[Variable, ...]:
    """The variables of a run on several machines."""
    return (
        Variable(name="NODE_RANK", value="", about="number of this machine, from 0"),
        Variable(name="RENDEZVOUS", value="", about="HOST:PORT of machine 0, reachable from all; PORT+1 too"),
    )


def container(
    request: ContainerRequest, plan: RunPlan, variables: Sequence[Variable], place: Folders
) -> ContainerRequest:
    """A container's request, of :data:`START`, with marks where its places are."""
    paths = _paths(variables, place)
    return replace(
        request,
        image=mark("IMAGE"),
        user=mark("RUN_AS"),
        mounts=tuple(replace(each, source=Path(_marked(str(each.source), paths))) for each in request.mounts),
        environment=tuple(sorted({**dict(request.environment), **_more(plan)}.items())),
        # The launcher looks after containers of this label, and would take this one for a leftover.
        labels=tuple(pair for pair in request.labels if pair[0] != "launch.run"),
        # The machines talk to each other on ports that nobody knows before.
        network="host" if plan.nodes > 1 else request.network,
        secrets=request.secrets
        and replace(
            request.secrets,
            path=Path(mark("SECRETS")),
            entry=Path(_marked(str(request.secrets.entry), paths)),
        ),
    )


def process(
    request: ProcessRequest, plan: RunPlan, variables: Sequence[Variable], place: Folders
) -> ProcessRequest:
    """A process's request, of :data:`START`, with marks where its places are."""
    paths = _paths(variables, place)
    found = {name: _marked(value, paths) for name, value in request.environment}
    found["PATH"] = f"{mark('ENVIRONMENT')}/bin:{mark('PATH')}"
    return replace(
        request,
        command=tuple(_marked(word, paths) for word in request.command),
        environment=tuple(sorted({**found, **_more(plan)}.items())),
        folder=Path(mark("OUTPUT")),
        secrets=request.secrets
        and replace(
            request.secrets,
            path=Path(mark("SECRETS")),
            seen=mark("SECRETS"),
            entry_seen=_marked(request.secrets.entry_seen, paths),
            python=_marked(request.secrets.python, paths),
        ),
    )


def _more(plan: RunPlan) -> dict[str, str]:
    """What the launcher would have said at the start."""
    asked = {"LAUNCH_RESTARTS": mark("RESTARTS")}
    return asked | {name: mark(of) for name, of in _NODE.items()} if plan.nodes > 1 else asked


def _paths(variables: Sequence[Variable], place: Folders) -> dict[str, str]:
    """Path -> the marks that take its place."""
    found = {each.value: mark(each.name) for each in variables if Path(each.value).is_absolute()}
    return found | {str(place.output): mark("OUTPUT")}


def _marked(text: str, paths: Mapping[str, str]) -> str:
    """A path, or a list of them between colons, with marks; the longest that fits counts."""
    whole = "|".join(re.escape(path) for path in sorted(paths, key=len, reverse=True))
    return re.sub(rf"(?:(?<=^)|(?<=:))(?:{whole})(?=$|[/:])", lambda found: paths[found[0]], text)
