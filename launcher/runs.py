"""Run records: ``runs/<id>/`` holds what is needed to understand a run and to repeat it.

* ``plan.json``: the whole plan (secrets by name only), written before the start;
* ``command``: the engine's request as a line to paste;
* ``log.txt``: the recipe's output; ``metrics.jsonl``: what the trainer reported (see recipes/runtime);
* ``result.json``: how it ended, written last, in one piece;
* ``output/``: the result, unless ``--output`` names another folder.
"""

import datetime
import json
import os
import re
import secrets
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from launcher import paths
from launcher import plan as plans
from launcher.errors import OutputError
from launcher.plan import Folders, RunPlan

SCHEMA = 1

#: Names the run in its output folder. Made exclusively, so that two launchers never share one: between a
#: start and the first file of a trainer lie many seconds in which the folder looks unused.
CLAIM = ".launch-run"


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """How a run ended.

    Attributes:
        stage: where it ended: ``start``, ``train`` (the recipe itself), ``verify`` or ``done``.
        exit_code: what the launcher exits with: the recipe's own code, or one of the error tree's.
        recipe_exit: the recipe's own exit code; None when it never started.
        image, image_digest: reference and digest of the image that ran; None for the venv engine.
        model: the hub's revision, or the sha256 of a folder's weights.
        models: the same of each parameter that names a model.
        started, ended: UTC, ISO 8601; ``seconds`` is the wall time between them.
        steps: optimiser steps that were done; None for recipes that do not train.
        runtime: what ran beside the trainer: its patches, those that are off, its options.
        buckets: the batch size of every length, of runs that group rows by length.
        versions: of the launcher, Python, the engine.
        host: facts of the machine.
    """

    schema: int = SCHEMA
    run: str
    recipe: str
    target: str
    engine: str
    stage: str
    exit_code: int
    recipe_exit: int | None
    error: str = ""
    image: str | None
    image_digest: str | None
    lock_digest: str
    data: list[dict[str, Any]]
    model: dict[str, str]
    models: dict[str, dict[str, str]]
    started: str
    ended: str
    seconds: float
    world_size: int | None
    steps: int | None
    final: dict[str, float] = field(default_factory=dict)
    runtime: dict[str, Any] | None = None
    buckets: list[Any] | None = None
    versions: dict[str, str]
    host: dict[str, Any]


def new_id(recipe: str) -> str:
    """A run's id: when, what, and four random hex digits, so that two launchers never share one.

    It is part of the container's name, for which the engine takes these characters only.
    """
    now = datetime.datetime.now(datetime.UTC)
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", recipe)
    return f"{now:%Y%m%d-%H%M%S}-{name}-{secrets.token_hex(2)}"


def now() -> str:
    """UTC, ISO 8601, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def folders(run_id: str, plan: RunPlan, parent: Path | None = None) -> Folders:
    """The folders of a run; nothing is made."""
    run = (parent or paths.runs()) / run_id
    return Folders(run=run, output=plan.output or run / "output", home=paths.cache() / "home" / plan.target)


def prepare(plan: RunPlan, run_id: str, command: str, place: Folders) -> None:
    """Make the folders and write what is known before the start.

    Raises:
        OutputError: the output folder holds something already.
    """
    refuse_used_output(place.output)
    try:
        place.run.mkdir(parents=True)
        for folder in (place.output, place.home, place.run / "scratch"):
            folder.mkdir(parents=True, exist_ok=True)
        with (place.output / CLAIM).open("x", encoding="utf-8") as claim:
            claim.write(run_id + "\n")
    except FileExistsError as error:
        raise OutputError(
            f"{error.filename} exists", why="another launcher was faster", hint="give another --output"
        ) from None
    except OSError as error:
        raise OutputError(
            f"{error.filename} cannot be made",
            why=error.strerror or "",
            hint="give --output, LAUNCH_RUNS_DIR or LAUNCH_CACHE_DIR a folder that you may write to",
        ) from None
    paths.write_atomic(place.run / "plan.json", plans.to_json(plan))
    paths.write_atomic(place.run / "command", command + "\n")
    own(place, plan.uid, plan.gid)


def unclaim(place: Folders) -> None:
    """Give the output folder of a run that never started free again."""
    (place.output / CLAIM).unlink(missing_ok=True)


def refuse_used_output(output: Path) -> None:
    """Nothing is ever overwritten.

    Raises:
        OutputError: the folder holds something already, or is a file.
    """
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise OutputError(
            f"{output} is not empty",
            why="an earlier run, or other files, would mix with this one's",
            hint="give another --output, or leave it out: each run then gets a folder of its own",
        )


def own(place: Folders, uid: int, gid: int) -> None:
    """Give the run's folders to the user that the run has; only root can and needs to."""
    if os.getuid() == 0 and uid != 0:
        for folder in (place.run, place.output, place.home, place.run / "scratch"):
            os.chown(folder, uid, gid)


def finish(place: Folders, result: Result) -> None:
    """Write the result, and drop the run's caches."""
    text = json.dumps(asdict(result), indent=2, ensure_ascii=False)
    paths.write_atomic(place.run / "result.json", text + "\n")
    shutil.rmtree(place.run / "scratch", ignore_errors=True)


class MetricsReader:
    """Reads ``metrics.jsonl`` while it grows; complete lines only."""

    def __init__(self, place: Folders) -> None:
        self._file = place.run / "metrics.jsonl"
        self._offset = 0
        self.events: list[dict[str, Any]] = []

    def new(self) -> list[dict[str, Any]]:
        """The events since the last call; an unreadable line is left out."""
        if not self._file.is_file():
            return []
        with self._file.open("rb") as stream:
            stream.seek(self._offset)
            block = stream.read()
        complete = block[: block.rfind(b"\n") + 1]
        self._offset += len(complete)
        fresh = [event for line in complete.splitlines() if (event := _event(line)) is not None]
        self.events += fresh
        return fresh


def _event(line: bytes) -> dict[str, Any] | None:
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) else None


def world_problem(events: list[dict[str, Any]], planned: int) -> str:
    """What is wrong with the world that the trainer saw; empty when it is the planned one.

    Every rank writes a ``begin`` event with the world size it saw, and an ``end`` event with its steps.
    """
    begun = [event for event in events if event.get("event") == "begin"]
    seen = sorted({int(event.get("world_size", 0)) for event in begun})
    ranks = sorted(int(event.get("rank", 0)) for event in begun)
    if not begun:
        return "the trainer never began: no process reported a start of training"
    if seen != [planned]:
        return f"the trainer saw world size {', '.join(map(str, seen))}; {planned} was planned"
    if ranks != list(range(planned)):
        return f"ranks {ranks} trained; 0 to {planned - 1} were planned"
    if not steps(events):
        return "the trainer ended without a single optimiser step: nothing was trained"
    return ""


def steps(events: list[dict[str, Any]]) -> int:
    """Optimiser steps that were done when the training ended."""
    return max((int(event.get("step", 0)) for event in events if event.get("event") == "end"), default=0)


#: What every event has, beside its own keys.
_ENVELOPE = frozenset(("schema", "event", "rank", "time"))


def runtime(events: list[dict[str, Any]]) -> dict[str, Any] | None:
    """What the ``runtime`` event says ran beside the trainer; None without one."""
    said = _last(events, "runtime")
    return None if said is None else {key: value for key, value in said.items() if key not in _ENVELOPE}


def buckets(events: list[dict[str, Any]]) -> list[Any] | None:
    """The ``buckets`` event's table; None for rows that are not grouped by length."""
    table = (_last(events, "buckets") or {}).get("buckets")
    return table if isinstance(table, list) else None


def _last(events: list[dict[str, Any]], kind: str) -> dict[str, Any] | None:
    return next((event for event in reversed(events) if event.get("event") == kind), None)


def final_numbers(events: list[dict[str, Any]]) -> dict[str, float]:
    """The last loss that was logged, and what the trainer summed up at its end (``train_loss``, …)."""
    numbers: dict[str, float] = {}
    for event in events:
        if event.get("event") == "step":
            numbers |= {
                key: value for key, value in event.items() if key == "loss" or key.startswith("train_")
            }
    return numbers
