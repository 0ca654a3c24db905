"""A sweep: all variants planned and judged first, run one after the other, continued where it stopped."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from launcher import paths, runs, settings
from launcher import plan as plans
from launcher.app import execute, preflight
from launcher.app import plan as planning
from launcher.app import runs as seen
from launcher.app.execute import Begun
from launcher.app.plan import Request
from launcher.app.runs import Seen, State
from launcher.errors import EngineGoneError, LaunchError, ProblemsError, RecordError, UsageError
from launcher.progress import Progress
from launcher.runs import Lock
from launcher.sweep import Variant

SCHEMA = 1

FILE = "sweep.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A variant in the record of a sweep.

    Attributes:
        name, label, values: see :class:`launcher.sweep.Variant`.
        plan: its file, in the sweep's folder; empty: it was refused.
        refused: why it does not run.
        exit_code: of the refusal; 0: it was not refused.
        run: the id of its newest run; empty: none yet.
    """

    name: str
    label: str
    values: dict[str, str]
    plan: str = ""
    refused: str = ""
    exit_code: int = 0
    run: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """The record of a sweep: ``runs/<id>/sweep.json``; its runs lie beside it, each with its own record."""

    schema: int = SCHEMA
    recipe: str
    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A variant before the start; ``request`` made ``planned``, or was refused with ``error``."""

    variant: Variant
    planned: planning.Planned | None
    error: LaunchError | None = None


def judge(
    variants: Sequence[Variant], request: Callable[[Variant], Request], progress: Progress
) -> Iterator[Judged]:
    """Plan each variant as a run of its own, with all that is looked at before a start."""
    for variant in variants:
        try:
            planned = planning.make(request(variant), settings.load(), dry_run=False, progress=progress)
            said = preflight.ready(planned, dry_run=False)
        except LaunchError as error:
            yield Judged(variant=variant, planned=None, error=error)
        else:
            yield Judged(variant=variant, planned=replace(planned, notes=(*planned.notes, *said)))


def reason(error: LaunchError) -> str:
    """An error in one line."""
    problems = error.problems if isinstance(error, ProblemsError) else ()
    return ": ".join(filter(None, (error.message, "; ".join(problems))))


def create(recipe: str, judged: Sequence[Judged]) -> Path:
    """Write the record of a sweep that is about to begin.

    Raises:
        LaunchError: every variant is refused; the first one's error.
    """
    errors = [each.error for each in judged if each.error is not None]
    if len(errors) == len(judged):
        raise errors[0]
    folder = paths.runs() / runs.new_id(f"sweep-{recipe}")
    folder.mkdir(parents=True)
    entries = []
    for number, each in enumerate(judged, start=1):
        plan = f"plans/{number}.json" if each.planned is not None else ""
        if each.planned is not None:
            paths.write_atomic(folder / plan, plans.to_json(each.planned.plan))
        variant = each.variant
        entry = Entry(name=variant.name, label=variant.label, values=dict(variant.values), plan=plan)
        if each.error is not None:
            entry = replace(entry, refused=reason(each.error), exit_code=each.error.exit_code)
        entries.append(entry)
    save(folder, Sweep(recipe=recipe, entries=tuple(entries)))
    return folder


def save(folder: Path, sweep: Sweep) -> None:
    """Write sweep.json."""
    paths.write_atomic(folder / FILE, json.dumps(asdict(sweep), indent=2, ensure_ascii=False) + "\n")


def find(name: str) -> Path:
    """The folder of a sweep, by its path or id.

    Raises:
        UsageError: there is none.
    """
    for folder in (Path(name), paths.runs() / name):
        if (folder / FILE).is_file():
            return folder.absolute()
    raise UsageError(f"there is no sweep {name!r}", why=f"neither that folder nor {paths.runs() / name}")


def load(folder: Path) -> Sweep:
    """Read a sweep's record.

    Raises:
        RecordError: damaged, or of another version.
    """
    try:
        raw = json.loads((folder / FILE).read_bytes())
        if raw["schema"] != SCHEMA:
            raise RecordError(
                f"{folder / FILE} has the version {raw['schema']}, this launcher reads {SCHEMA}"
            )
        return Sweep(recipe=raw["recipe"], entries=tuple(Entry(**entry) for entry in raw["entries"]))
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        raise RecordError(f"{folder / FILE} cannot be read") from None


def state(folder: Path, entry: Entry) -> Seen | None:
    """What became of a variant's newest run; None: it has none."""
    run = folder.parent / entry.run
    return seen.look(run) if entry.run and (run / "plan.json").is_file() else None


def missing(folder: Path, sweep: Sweep) -> list[int]:
    """The positions of the variants that have a plan, and no run that is done or going on."""
    found = []
    for position, entry in enumerate(sweep.entries):
        last = state(folder, entry) if entry.plan else None
        over = last is None or last.state.over
        if entry.plan and over and (last is None or last.state is not State.DONE):
            found.append(position)
    return found


#: States of a run that has its end before it.
_GOING = (State.STARTING, State.PENDING, State.RUNNING)


def refuse_company(folder: Path, sweep: Sweep) -> None:
    """Another training beside one that goes on would share its device.

    Raises:
        UsageError: a variant still runs, e.g. because its launcher was killed or lost its engine.
    """
    last = (state(folder, entry) for entry in sweep.entries)
    going = [found for found in last if found and found.state in _GOING]
    if going:
        run = going[0].folder.name
        raise UsageError(
            f"{run} of this sweep is {going[0].state}",
            why="the next variant would share its device",
            hint=f"launch runs attach {run} waits for it; launch runs stop {run} ends it",
        )


def begin(
    folder: Path, sweep: Sweep, position: int, secrets: Mapping[str, str], progress: Progress
) -> tuple[Sweep, Begun]:
    """Begin the run of a variant from its plan, and put it on the sweep's record first.

    Raises:
        LaunchError: what the plan names has changed since, or the engine refuses it.
    """
    entry = sweep.entries[position]
    file = folder / entry.plan
    plan = plans.from_json(file.read_text(encoding="utf-8"), source=str(file))
    planned = planning.again(plan, f"{sweep.recipe} {entry.name}", secrets, progress=progress)
    run = runs.new_id("-".join(filter(None, (sweep.recipe, entry.label))))
    entries = list(sweep.entries)
    entries[position] = replace(entry, run=run)
    sweep = replace(sweep, entries=tuple(entries))
    save(folder, sweep)
    return sweep, execute.begin(planned, run=run, parent=folder.parent)


def lock(folder: Path) -> Lock:
    """Held by the launcher that works on a sweep.

    Raises:
        UsageError: another one does.
    """
    return Lock.take(folder)


def table(folder: Path, sweep: Sweep) -> list[dict[str, Any]]:
    """What came of each variant, as data."""
    return [_line(entry, state(folder, entry)) for entry in sweep.entries]


def exit_code(lines: Sequence[Mapping[str, Any]], refused: Mapping[int, int]) -> int:
    """That of the first variant that did not end well; 0: all did.

    Args:
        lines: of :func:`table`.
        refused: by position, the codes of those that did not begin now, or whose end nobody saw.
    """
    codes = (
        0 if line["state"] == State.DONE else refused.get(position) or line["exit_code"] or _unsaid(line)
        for position, line in enumerate(lines)
    )
    return next(filter(None, codes), 0)


def _unsaid(line: Mapping[str, Any]) -> int:
    """The code of a variant that has none of its own: it was not run, or its end is not known."""
    if line["state"] == "refused":  # by a launcher that did not record the code
        return UsageError.exit_code
    return RecordError.exit_code if line["state"] == State.UNREADABLE else EngineGoneError.exit_code


def _line(entry: Entry, last: Seen | None) -> dict[str, Any]:
    result = (last.record.result or {}) if last is not None and last.record is not None else {}
    final = result.get("final", {})
    return {
        "name": entry.name,
        "values": entry.values,
        "run": entry.run,
        "state": "refused" if entry.refused else str(last.state) if last is not None else "missing",
        "why": entry.refused or (last.why if last is not None else ""),
        "exit_code": entry.exit_code or result.get("exit_code"),
        "steps": result.get("steps"),
        "loss": final.get("loss"),
        "train_loss": final.get("train_loss"),
        "seconds": result.get("seconds"),
    }
