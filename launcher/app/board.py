"""What the board shows: a list of runs by a glance at each, and one run's curves as they grow.

A list is asked for every two seconds, of folders that may hold years of runs. So nothing is read twice that
has not changed, and of a run's metrics only the beginning and the end: its steps and its last loss are there.
"""

import datetime
import threading
import time
import zlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from launcher import metrics, paths, runs
from launcher.app import report as reports
from launcher.app.standings import Standings
from launcher.comparison import State
from launcher.errors import LaunchError
from launcher.metrics import Event
from launcher.report import Story, standing
from launcher.report.curves import Curve
from launcher.report.page import MARKS, columns, series, smooth_too, tiles
from launcher.runs import Record
from launcher.texts import duration

#: Seconds between two looks, and how many times longer than it took to answer one: the board has at most a
#: tenth of a processor, since the training that it shows needs them.
EVERY, _SHARE = 2.0, 10

#: Runs whose events are kept in memory.
_WATCHED = 8

#: How many logged steps a client is sent again: ranks report the same step one after another.
_AGAIN = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Glance:
    """What the list says of a run.

    Attributes:
        step, max_steps: done, and meant to be done; 0: nobody knows.
        loss: the last one that was logged.
        started: UTC, ISO 8601; empty when nobody knows.
        seconds: wall time of a run that has ended.
    """

    id: str
    recipe: str
    state: State
    said: str
    step: int = 0
    max_steps: int = 0
    loss: float | None = None
    started: str = ""
    seconds: float | None = None


@dataclass(slots=True)
class _Watched:
    """The events of a run that somebody looks at; read on, never again."""

    reader: metrics.Reader
    counted: int = -1
    curves: Mapping[str, Curve] = field(default_factory=dict)


class Board:
    """Reads the records of a folder for one server; safe to be asked by several threads.

    Args:
        folder: where records lie; None: the working folder's ``runs``.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or paths.runs()
        self._lock = threading.Lock()
        self._standings = Standings()
        self._seen: dict[Path, tuple[tuple[int, ...], Glance]] = {}
        self._watched: OrderedDict[str, _Watched] = OrderedDict()

    def runs(self) -> list[Glance]:
        """All runs, the newest first."""
        with self._lock:
            folders = runs.everything(self.folder)
            self._seen = {each: self._seen[each] for each in folders if each in self._seen}
            return [self._glance(each) for each in reversed(folders)]

    def find(self, name: str) -> Path | None:
        """The record of exactly this id: what is asked for is looked up, never put together to a path."""
        return next((each for each in runs.everything(self.folder) if each.name == name), None)

    def story(self, folder: Path) -> Story:
        """See :func:`launcher.app.report.story`; its events are read once for the page and its curves."""
        with self._lock:
            record, events = runs.load(folder), self._watch(folder).reader.events
            return reports.story(record, events=events, stands=self._stands(record))

    def since(self, folder: Path, cursor: str) -> dict[str, Any]:
        """What is new of a run.

        Args:
            folder: its record.
            cursor: of an earlier answer; empty: everything.
        """
        with self._lock:
            started = time.perf_counter()
            watched = self._watch(folder)
            events = watched.reader.events
            record = runs.load(folder)
            stands = self._stands(record)
            now = _cursor(folder, events, stands)
            if cursor and cursor == now:
                return {"cursor": now, "same": True}
            told = reports.story(record, events=events, evaluations=False, stands=stands)
            if watched.counted != len(events):
                watched.counted, watched.curves = len(events), smooth_too(told.curves)
            start = _start(cursor, now, watched.curves)
            drawn = series(told.curves) if start is None else _from(watched.curves, start)
            return {
                "cursor": now,
                "state": told.state,
                "mark": MARKS[told.state],
                "said": told.said,
                "tiles": tiles(told),
                "log": told.log,
                "short": _percent(told),
                "from": start,
                "series": drawn,
                "wait": max(EVERY, _SHARE * (time.perf_counter() - started)),
            }

    def _watch(self, folder: Path) -> _Watched:
        found = self._watched.pop(folder.name, None) or _Watched(metrics.Reader(folder / "metrics.jsonl"))
        self._watched[folder.name] = found
        if len(self._watched) > _WATCHED:
            self._watched.popitem(last=False)
        found.reader.new()
        return found

    def _stands(self, record: Record) -> tuple[State, str]:
        return self._standings.of(record.folder) if record.result is None else standing(record.result)

    def _glance(self, folder: Path) -> Glance:
        stamp = tuple(_stamp(folder / name) for name in ("plan.json", "result.json", "metrics.jsonl"))
        known = self._seen.get(folder)
        if known is None or known[0] != stamp:
            known = self._seen[folder] = (stamp, glance(folder))
        found = known[1]
        if found.state != "open":
            return found
        # It may have ended without a word.
        state, said = reports.noted(folder, self._standings.of(folder))
        return replace(found, state=state, said=said)


def glance(folder: Path) -> Glance:
    """What a record says of a run, without reading all of its metrics; a damaged one is said to be one.

    How a run without a result stands only its engine knows, which is not asked here.
    """
    try:
        return _read(folder)
    except LaunchError as error:
        why = error.message
    except Exception as error:  # noqa: BLE001 - whatever stands in one record, the others are shown
        why = f"{type(error).__name__}: {error}"
    return Glance(id=folder.name, recipe="?", state="failed", said=f"its record cannot be read: {why}")


def _read(folder: Path) -> Glance:
    """Raise for a result that no launcher has written."""
    record = runs.load(folder)
    last, result = metrics.latest(record.metrics), record.result or {}
    started = str(result.get("started") or reports.begun(record.id))
    if started and datetime.datetime.fromisoformat(started).tzinfo is None:
        raise ValueError("its start is a time without a zone")
    seconds = metrics.finite(result, "seconds")
    if seconds is None and "seconds" in result:
        raise ValueError("its wall time is no number")
    state, said = reports.noted(folder, standing(record.result))
    return Glance(
        id=record.id,
        recipe=record.plan.recipe,
        state=state,
        said=said,
        step=metrics.whole(last, "step") or 0,
        max_steps=metrics.whole(last, "max_steps") or 0,
        loss=metrics.number(last, "loss"),
        started=started,
        seconds=seconds,
    )


def as_data(found: Sequence[Glance]) -> dict[str, Any]:
    """The list for the page."""
    now = datetime.datetime.now(datetime.UTC)
    return {"schema": 1, "runs": [_row(each, now) for each in found]}


def _row(run: Glance, now: datetime.datetime) -> dict[str, Any]:
    done = f"{run.step:,} of {run.max_steps:,}" if run.max_steps else f"{run.step:,}" if run.step else ""
    seconds = run.seconds
    if seconds is None and run.started:
        seconds = max(0.0, (now - datetime.datetime.fromisoformat(run.started)).total_seconds())
    return {
        "id": run.id,
        "recipe": run.recipe,
        "state": run.state,
        "mark": MARKS[run.state],
        "said": run.said,
        "progress": done,
        "share": min(100.0, 100 * run.step / run.max_steps) if run.max_steps else None,
        "loss": "" if run.loss is None else f"{run.loss:.4g}",
        "started": run.started[:16].replace("T", " "),
        "took": "" if seconds is None else duration(round(seconds)),
    }


def _cursor(folder: Path, events: Sequence[Event], stands: tuple[State, str]) -> str:
    """Where a client stands: another attempt, more events, a longer log, a result or state make another."""
    attempt = max(metrics.attempts(events), default=1)
    step = max((metrics.whole(event, "step") or 0 for event in events), default=0)
    said = zlib.crc32(" ".join(stands).encode("utf-8", "replace"))
    rest = (len(events), _stamp(folder / "log.txt"), _stamp(folder / "result.json"), said)
    return ".".join(map(str, (attempt, step, *rest)))


def _start(before: str, now: str, curves: Mapping[str, Curve]) -> int | None:
    """The step from which a client is sent points again; None: all, thinned."""
    parts = before.split(".")
    if len(parts) != 6 or not all(part.isdecimal() for part in parts) or parts[0] != now.split(".")[0]:
        return None
    known = sorted({step for curve in curves.values() for step, _ in curve if step <= int(parts[1])})
    return known[-_AGAIN] if len(known) >= _AGAIN else None


def _from(curves: Mapping[str, Curve], start: int) -> dict[str, list[list[float | None]]]:
    return {name: columns(point for point in curve if point[0] >= start) for name, curve in curves.items()}


def _percent(story: Story) -> str:
    steps = story.figures.get("steps", 0)
    return f"{100 * steps / story.max_steps:.0f} %" if story.max_steps else ""


def _stamp(file: Path) -> int:
    """Changes whenever the file does; 0: it is not there."""
    try:
        found = file.lstat()
    except OSError:
        return 0
    return found.st_mtime_ns + found.st_size
