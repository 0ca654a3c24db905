"""Probes: one real step of full length through the launcher's own way to run, kept for later estimates."""

import json
import tempfile
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from launcher import metrics, paths
from launcher.app import execute
from launcher.app import plan as planning
from launcher.errors import OutOfMemoryError, RecipeFailedError, UsageError
from launcher.fit import Probe, Setup, parts
from launcher.fit.advice import Question
from launcher.fit.probes import split
from launcher.fit.step import LANGUAGE
from launcher.plan import Folders, RunPlan
from launcher.progress import Progress, RunView
from launcher.settings import Settings

#: Gives the view in which the probe is watched.
Watch = Callable[[RunPlan], AbstractContextManager[RunView]]

SCHEMA = 1

#: Two optimiser steps: the first one makes Adam's states, so only the second has everything.
_STEPS = 2


def load(key: str) -> tuple[Probe, ...]:
    """The probes that are kept under a key; what cannot be read counts as nothing."""
    # Imported here: without probes an estimate needs no validation.
    try:
        text = _file(key).read_text(encoding="utf-8")
    except OSError:
        return ()
    from pydantic import TypeAdapter, ValidationError

    try:
        raw = json.loads(text)
        if not isinstance(raw, dict) or raw.get("schema") != SCHEMA:
            return ()
        return TypeAdapter(tuple[Probe, ...]).validate_python(raw.get("probes"))
    except (ValueError, ValidationError, RecursionError):
        return ()


def keep(key: str, probe: Probe) -> None:
    """Add a probe; one of the same step is replaced."""
    others = [old for old in load(key) if old.setup != probe.setup]
    text = json.dumps({"schema": SCHEMA, "probes": [asdict(one) for one in (*others, probe)]}, indent=2)
    paths.write_atomic(_file(key), text + "\n")


def _file(key: str) -> Path:
    return paths.cache() / "fit" / f"{key}.json"


def run(
    request: planning.Request,
    question: Question,
    chosen: Settings,
    *,
    progress: Progress,
    watch: Watch,
) -> Probe:
    """Run one step at full length, and see what it takes.

    Args:
        request: recipe, target, engine, model, processes and parameters; its data and output are made here.

    Raises:
        OutOfMemoryError: the step does not fit.
        RecipeFailedError: it failed for another reason.
        LaunchError: it could not be planned or started.
    """
    if question.longest is not None:
        question = replace(question, longest=None)
    step = question.setup()
    if step.kind in LANGUAGE and step.kind != "sft":
        raise UsageError(
            f"--probe: a step of {request.recipe} cannot be made as long as it may become",
            why="how long a model's answers are is up to the model",
            hint="leave --probe out: the estimate takes the longest answers",
        )
    with tempfile.TemporaryDirectory(prefix="launch-probe-", dir=_scratch()) as temporary:
        folder = Path(temporary)
        rows = folder / "data" / "probe.jsonl"
        paths.write_atomic(rows, "".join(json.dumps(row) + "\n" for row in _rows(step)))
        asked = replace(
            request,
            data=(rows,),
            output=folder / "output",
            parameters=_parameters(request.parameters, question, step),
        )
        planned = planning.make(asked, chosen, dry_run=False, progress=progress)
        plan = replace(planned.plan, env=tuple(sorted((*planned.plan.env, ("LAUNCH_PROBE", "1")))))
        begun = execute.begin(replace(planned, plan=plan), parent=folder / "runs")
        with watch(plan) as view:
            ended = execute.execute(begun, view, grace=chosen.stop_grace.value)
        _raise(ended)
        figures = _figures(begun.place)
    return _probe(question, step, figures)


def _scratch() -> Path:
    """Below the cache: the data of a container must be on a disk that its engine sees."""
    folder = paths.cache() / "fit"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _raise(ended: execute.Ended) -> None:
    """Say why a probe has no figures; its record is a temporary one, so the end of its log is in the
    message."""
    if isinstance(ended.error, OutOfMemoryError):
        raise OutOfMemoryError(
            "the probe ran out of memory: a step of this size does not fit",
            why=ended.error.why,
            hint="launch fit without --probe lists what would help",
        )
    if ended.error is not None:
        raise ended.error
    if ended.result.exit_code:
        raise RecipeFailedError(
            "the probe failed", exit_code=ended.result.exit_code, why="\n".join(list(ended.tail)[-8:])
        )


def _figures(place: Folders) -> tuple[float, float]:
    """Before and peak of the rank that took the most."""
    events = [
        event
        for event in metrics.read(place.run / "metrics.jsonl")
        if event.get("event") == "memory"
        and all(isinstance(event.get(key), int | float) for key in ("before", "peak"))
    ]
    if not events:
        raise UsageError(
            "the probe measured nothing",
            why="the recipe does not start its trainer through the runtime (python -m runtime)",
        )
    most = max(events, key=lambda event: event["peak"])
    return float(most["before"]), float(most["peak"])


def _probe(question: Question, step: Setup, figures: tuple[float, float]) -> Probe:
    """Put figures beside the estimate of the same step. On a GPU torch counts its own memory alone: the
    process's context is no part of either."""
    loaded, stepped = split(parts.peak(question.shape, step, context=step.device == "cpu"))
    before, peak = figures
    return Probe(
        setup=step,
        before=before,
        peak=peak,
        loaded=loaded,
        stepped=stepped,
        when=datetime.now(UTC).date().isoformat(),
    )


def _parameters(given: Mapping[str, str], question: Question, step: Setup) -> dict[str, str]:
    """The recipe's own, for two steps that save nothing, with batches of the size that is judged."""
    wanted = {
        "max_steps": str(_STEPS),
        "save_steps": "1000000",
        "logging_steps": "1",
        "length_bucketing": "false",
        "bucket_batch_sizes": "",
        "small_threshold": "0",
        "drop_threshold": "0",
        "per_device_train_batch_size": str(step.batch),
    }
    return {**given, **{name: value for name, value in wanted.items() if name in question.values}}


def _rows(step: Setup) -> list[dict[str, Any]]:
    """Rows whose texts have at least as many tokens as are asked for, enough for the steps of all processes.

    A word is at least one token, and what is too much is cut off. The last passage of each is half as long,
    so that a batch has padding, as real ones have.
    """

    def text(tokens: int, seed: int) -> str:
        return " ".join(str((seed + 7 * number) % 1000) for number in range(tokens))

    count = step.batch * step.world * step.accumulation * (_STEPS + 1)
    if step.kind == "sft":
        asked, answer = {"role": "user", "content": "0"}, {"role": "assistant"}
        texts = [text(step.passage_length, number) for number in range(count)]
        return [{"messages": [asked, {**answer, "content": one}]} for one in texts]
    made: list[dict[str, Any]] = []
    for number in range(count):
        negatives = [text(step.passage_length, number + other) for other in range(1, max(2, step.group))]
        negatives[-1] = text(max(1, step.passage_length // 2), number)
        made.append(
            {
                "query": text(max(1, step.query_length), number),
                "pos": [text(step.passage_length, number)],
                "neg": negatives,
                "pos_scores": [1.0],
                "neg_scores": [0.0] * len(negatives),
            }
        )
    return made
