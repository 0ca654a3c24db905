"""Use cases: runs side by side, and runs as one page."""

import datetime
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import launcher
from launcher import comparison, metrics, paths, report, runs
from launcher.app import runs as states
from launcher.comparison import Comparison, State
from launcher.errors import OutputError, RecordError, UsageError
from launcher.metrics import Event
from launcher.report import Evaluation, Story
from launcher.runs import Record

#: The recipe whose records say what a model is worth, and the file that it writes.
_EVALUATE, _MEASURED = "evaluate", "metrics.json"

#: The end of a log that a page holds: lines, and the bytes in which they are looked for.
_LINES, _BYTES = 80, 256 << 10


def gather(names: Sequence[str]) -> list[Story]:
    """The stories of runs, in the order in which they were named.

    Args:
        names: as ``runs.find`` takes them.

    Raises:
        RecordError: a record is damaged, or of another version.
        UsageError: there is no such run, or one is named twice.
    """
    folders = [runs.find(name) for name in names]
    twice = sorted({folder.name for folder in folders if folders.count(folder) > 1})
    if twice:
        raise UsageError(f"named twice: {', '.join(twice)}", hint="launch runs list   shows the ids")
    return [story(read(folder)) for folder in folders]


def compare(names: Sequence[str]) -> tuple[Comparison, list[Story]]:
    """Runs side by side; see :func:`gather` for what is raised."""
    stories = gather(names)
    return comparison.compare([each.run for each in stories]), stories


def story(
    record: Record,
    *,
    events: Sequence[Event] | None = None,
    evaluations: bool = True,
    stands: tuple[State, str] | None = None,
) -> Story:
    """Everything that a record holds of a run.

    Args:
        record: the run's.
        events: its metrics, where somebody has read them already.
        evaluations: look for what the model was worth, in the records beside it.
        stands: how it stands, where somebody knows; None: the engine of a run without a result is asked.
    """
    return report.tell(
        id=record.id,
        started=begun(record.id),
        folder=str(record.folder),
        plan=record.plan,
        result=record.result,
        stands=noted(record.folder, stands or standing(record.folder, record.result)),
        events=metrics.read(record.metrics) if events is None else events,
        attempts=list(_attempts(record)),
        evaluations=list(_evaluations(record)) if evaluations else (),
        command=_text(record.folder / "command"),
        log=tail(record.log),
    )


def read(folder: Path) -> Record:
    """A record as it stands: of a run that has ended unobserved the end is written first.

    Raises:
        RecordError: damaged, or of another version.
    """
    return states.look(folder).record or runs.load(folder)


def standing(folder: Path, result: Mapping[str, Any] | None) -> tuple[State, str]:
    """How a run stands, and what is to be said of it; one that has ended unobserved is concluded.

    Args:
        folder: its record.
        result: its result.json; None: its engine is asked.
    """
    if result is not None:
        return report.standing(result)
    seen = states.look(folder)
    if seen.record is not None and seen.record.result is not None:
        return report.standing(seen.record.result)
    alone = "its launcher is gone; launch runs attach follows it"
    site = seen.record is not None and seen.record.plan.elsewhere  # it needs none
    why = f"{seen.state}: {seen.why}" if seen.state is states.State.PENDING else seen.why
    return "open", why or (str(seen.state) if seen.followed or site else alone)


def noted(folder: Path, stands: tuple[State, str]) -> tuple[State, str]:
    """The same, and that the metrics are not shown, if a recipe has put a link in their place."""
    state, said = stands
    return state, "; ".join(filter(None, (said, *map(_link, metrics.files(folder)))))


def begun(name: str) -> str:
    """When a run began, by its id: UTC, ISO 8601; empty where a folder was named otherwise."""
    try:
        found = datetime.datetime.strptime(name[:15], "%Y%m%d-%H%M%S")
    except ValueError:
        return ""
    return found.replace(tzinfo=datetime.UTC).isoformat(timespec="seconds")


def place_of(output: Path, *, force: bool) -> Path:
    """Where a page goes.

    Raises:
        OutputError: something is there, and nobody said that it may be replaced; or no file can be there.
    """
    path = output.absolute()
    if path.is_dir():
        raise OutputError(f"{path} is a folder", hint="name a file: -o report.html")
    if path.exists() and not force:
        raise OutputError(f"{path} exists", hint="give another -o, or --force to replace it")
    return path


def write(stories: Sequence[Story], path: Path) -> int:
    """Write the page in one piece.

    Returns:
        Its size in bytes.
    """
    written = f"Written by launch {launcher.version()} at {runs.now()}"
    html = report.render(stories, written=written).encode("utf-8", "replace")
    paths.write_atomic(path, html)
    return len(html)


def tail(log: Path) -> str:
    """The last lines of a log, whatever bytes it holds; a progress bar's line is what it showed last.

    A recipe can write to its record: no link there is followed, or a page could show any file of the user.
    """
    try:
        with paths.open_plain(log) as stream:
            size = stream.seek(0, os.SEEK_END)
            stream.seek(max(0, size - _BYTES))
            text = stream.read().decode("utf-8", "replace")
    except OSError:
        return _link(log)
    lines = text.split("\n")[1 if size > _BYTES else 0 :]
    shown = [line.rstrip("\r").rpartition("\r")[2] for line in lines]
    return "\n".join(shown[-_LINES - 1 :] if shown and not shown[-1] else shown[-_LINES:]).rstrip("\n")


def _attempts(record: Record) -> Iterator[dict[str, Any]]:
    for each in record.attempts:
        yield {key: value for key, value in asdict(each).items() if value not in (None, "")}


def _evaluations(record: Record) -> Iterator[Evaluation]:
    """What runs of ``evaluate`` beside this one say of its result, and of the model that it began with."""
    start = None if record.plan.model is None else record.plan.model.path.resolve()
    result = record.output.resolve()
    before: dict[tuple[str, ...], Mapping[str, Any]] = {}
    after: dict[tuple[str, ...], tuple[Record, Mapping[str, Any]]] = {}
    for each in _measurements(record.folder.parent):
        found = _json(each.output / _MEASURED)
        measured = each.plan.model.path.resolve() if each.plan.model else None
        if not found or measured is None:
            continue
        if measured == start:
            before[_on(each)] = found
        elif measured == result:
            after[_on(each)] = each, found  # of several on the same data the last one
    for on, (measurement, measured_then) in after.items():
        names = ", ".join(file.path.name for file in measurement.plan.data)
        yield report.evaluation(measurement.id, names, measured_then, before.get(on))


def _measurements(folder: Path) -> Iterator[Record]:
    for each in runs.everything(folder):
        # An id holds the recipe's name: the records of other recipes are not even opened.
        if f"-{_EVALUATE}-" in each.name:
            try:
                record = runs.load(each)
            except RecordError:  # somebody else's damage is not this run's
                continue
            if record.plan.recipe == _EVALUATE and (record.result or {}).get("exit_code") == 0:
                yield record


def _on(record: Record) -> tuple[str, ...]:
    """What a model was measured on: the data, and which part of it."""
    part = dict(record.plan.parameters).get("split", "")
    return (*(file.sha256 for file in record.plan.data), part)


def _json(file: Path) -> dict[str, Any] | None:
    try:
        with paths.open_plain(file) as stream:
            found = json.loads(stream.read())
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _text(file: Path) -> str:
    try:
        with paths.open_plain(file) as stream:
            return stream.read().decode("utf-8", "replace")
    except OSError:
        return _link(file)


def _link(file: Path) -> str:
    """What is said in place of what a link leads to; empty: it is none."""
    return f"{file.name} is a link, not shown" if file.is_symlink() else ""
