"""How a run ended: ``result.json``."""

import json
import shutil
from dataclasses import asdict, dataclass, field
from typing import Any

from launcher import finite, paths
from launcher.plan import Folders
from launcher.runs import folder

SCHEMA = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """How a run ended.

    Attributes:
        stage: where it ended: ``start``, ``train`` (the recipe itself), ``verify`` or ``done``.
        exit_code: what the launcher exits with: the recipe's own code, or one of the error tree's.
        recipe_exit: the recipe's own exit code; None when it never started.
        image, image_digest: reference and digest of the image that ran; None for the venv engine.
        profile: lengths and scripts of a sample of the rows, see :class:`launcher.data.profile.Profile`.
        model: the hub's revision, or the sha256 of a folder's weights.
        models: the same of each parameter that names a model.
        started, ended: UTC, ISO 8601; ``seconds`` is the wall time of all starts.
        steps: optimiser steps that were done; None for recipes that do not train.
        outputs: sha256 of each file of a good result that a repetition must bring again, see
            :mod:`launcher.runs.outputs`.
        runtime: what ran beside the trainer: its patches, those that are off, its options.
        buckets: the batch size of every length, of runs that group rows by length.
        summary: what the training came to, see :class:`launcher.metrics.Summary`; None without a training.
        failure: which rank failed first, and how, see :class:`launcher.metrics.Failure`; None when none said.
        attempts: every start, see :class:`launcher.runs.Attempt`.
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
    profile: dict[str, Any] | None = None
    model: dict[str, str]
    models: dict[str, dict[str, str]]
    started: str
    ended: str
    seconds: float
    world_size: int | None
    steps: int | None
    final: dict[str, float] = field(default_factory=dict)
    outputs: dict[str, str] = field(default_factory=dict)
    runtime: dict[str, Any] | None = None
    buckets: list[Any] | None = None
    summary: dict[str, Any] | None = None
    failure: dict[str, Any] | None = None
    attempts: list[dict[str, Any]] = field(default_factory=list)
    versions: dict[str, str]
    host: dict[str, Any]


def finish(place: Folders, result: Result) -> None:
    """Write the result, and drop the run's caches and what was kept free for it."""
    make_room(place)
    text = json.dumps(finite.plain(asdict(result)), indent=2, ensure_ascii=False, allow_nan=False)
    paths.write_atomic(place.run / "result.json", text + "\n")
    shutil.rmtree(place.run / "scratch", ignore_errors=True)


def make_room(place: Folders) -> None:
    """Give free what was kept for the end of the run."""
    (place.run / folder.RESERVE).unlink(missing_ok=True)


def sweep(place: Folders) -> None:
    """Remove what killed launchers did not finish writing; for who holds the run, before it writes."""
    for inside in (place.run, place.run / "attempts"):
        for half in inside.glob(".*.json.*"):
            half.unlink(missing_ok=True)


def check(found: dict[str, Any]) -> None:
    """Raise TypeError for what no launcher has written, as far as a verdict is read from it.

    A result without its exit code would otherwise pass for a good one.
    """
    if type(found.get("exit_code")) is not int or not isinstance(found.get("error", ""), str):
        raise TypeError("exit_code or error")
    if not isinstance(found.get("seconds", 0.0), int | float):
        raise TypeError("seconds")
