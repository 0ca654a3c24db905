"""The ladder of acceptance, climbed through the launcher's own run path."""

import json
import shutil
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from launcher import acceptance, metrics, paths, runs
from launcher.acceptance import Check, Curve, Known, Pairs, Report, Speed, judging, texts
from launcher.app import execute, machine
from launcher.app import plan as planning
from launcher.app.execute import Ended
from launcher.app.plan import Planned, Request
from launcher.errors import LaunchError, ProblemsError, RecipeFailedError, RefusedError
from launcher.plan import RunPlan
from launcher.progress import Progress, RunView
from launcher.settings import Settings
from launcher.texts import STOPPED_BY

#: Gives the view in which one training is watched.
Watch = Callable[[RunPlan], AbstractContextManager[RunView]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the command line asked for.

    Attributes:
        engine: ``docker`` or ``venv``; None: by the settings.
        model: folder or id of the reranker whose speed is measured; None: a random one of ``size``.
        size: one of ``acceptance.SIZES``; None: large with a GPU, tiny without.
        steps: that are measured; None: 20 with a GPU, 5 without.
        only: names of ``acceptance.STEPS``; empty: all.
    """

    target: str
    engine: str | None = None
    model: str | None = None
    size: str | None = None
    steps: int | None = None
    only: tuple[str, ...] = ()


class Stopped(Exception):  # noqa: N818 - not an error: the user's own wish
    """A signal ended a training; the ladder ends with it."""


@dataclass(slots=True, kw_only=True)
class Ladder:
    """The steps, each a method of its name, and what they have found so far."""

    asked: Asked
    chosen: Settings
    work: Path
    planned: Planned
    record: judging.Record
    size: str
    steps: int
    progress: Callable[[], AbstractContextManager[Progress]]
    watch: Watch
    device: str
    notes: list[str]
    complete: bool = True
    created: str = field(default_factory=runs.now)
    found_facts: dict[str, Any] | None = None
    found_checks: list[Check] = field(default_factory=list)
    found_curves: list[Curve] = field(default_factory=list)
    found_speed: list[Speed] = field(default_factory=list)
    shape: dict[str, Any] = field(default_factory=dict)
    _models: dict[tuple[str, str], Path] = field(default_factory=dict)
    _clock: float = field(default_factory=time.monotonic)

    @property
    def wanted(self) -> tuple[str, ...]:
        """The steps in their own order."""
        return tuple(step for step in acceptance.STEPS if not self.asked.only or step in self.asked.only)

    def report(self) -> Report:
        """What was found."""
        return Report(
            created=self.created,
            target=self.planned.plan.target,
            engine=self.planned.plan.engine,
            complete=self.complete,
            steps=self.wanted,
            size=self.size,
            model=self.shape,
            facts=self.found_facts,
            checks=tuple(self.found_checks),
            curves=tuple(self.found_curves),
            speed=tuple(self.found_speed),
            known=self._known(),
            notes=tuple(dict.fromkeys(self.notes)),
            seconds=round(time.monotonic() - self._clock, 1),
        )

    def _known(self) -> tuple[Known, ...]:
        return self.record.reported() if "speed" in self.wanted else ()

    def facts(self) -> None:
        """Machine, engine, target."""
        self.found_facts = machine.facts(self.planned)

    def checks(self) -> None:
        """The image's own checks, or as many of them as an environment can answer."""
        with self.progress() as drawn:
            for check in machine.checks(self.planned.plan, self.chosen, drawn):
                self.found_checks.append(check)

    def curves(self) -> None:
        """Short trainings of the recipes in each precision."""
        data = self.work / "data" / "short.jsonl"
        for recipe, kind in acceptance.CURVES:
            tiny = self._tiny(kind, "tiny")
            for precision in acceptance.PRECISIONS:
                self.found_curves.append(self._curve(recipe, precision, data, tiny))

    def _curve(self, recipe: str, precision: str, data: Path, tiny: Path | LaunchError) -> Curve:
        recorded = self.record.curves[recipe].losses
        failed = Curve(recipe=recipe, precision=precision, status="failed", recorded=recorded)
        if isinstance(tiny, LaunchError):
            return replace(failed, detail=f"no tiny model: {said(tiny)}")
        try:
            ended = self._train(
                recipe,
                data,
                tiny,
                f"{recipe}-{precision}",
                {**dict(acceptance.CURVE_PARAMETERS), "precision": precision},
            )
        except LaunchError as error:
            return replace(failed, detail=said(error))
        return judging.curve(
            self.record,
            recipe,
            precision,
            _events(ended),
            device=self.device,
            weights_sha256=ended.result.model.get("weights_sha256", ""),
            seconds=ended.result.seconds,
        )

    def speed(self) -> None:
        """The reranker at full length, in each precision, with and without Unsloth."""
        data = self.work / "data" / "long.jsonl"
        count = acceptance.WARM_UP + self.steps
        paths.write_atomic(data, texts.long(count * acceptance.BATCH_SIZE))
        start = self.asked.model or self._tiny("reranker", self.size)
        if not isinstance(start, LaunchError):
            self.shape = machine.shape(start)
        for precision in reversed(acceptance.PRECISIONS):
            for unsloth in (False, True):
                self.found_speed.append(self._speed(precision, unsloth, data, start, count))

    def _speed(
        self, precision: str, unsloth: bool, data: Path, start: Path | str | LaunchError, count: int
    ) -> Speed:
        failed = Speed(precision=precision, unsloth=unsloth, status="failed")
        if isinstance(start, LaunchError):
            return replace(failed, detail=f"no model: {said(start)}")
        parameters = {
            **dict(acceptance.SPEED_PARAMETERS),
            "precision": precision,
            "max_steps": str(count),
            "unsloth": "on" if unsloth else "off",
        }
        name = f"speed-{precision}{'-unsloth' if unsloth else ''}"
        try:
            ended = self._train(acceptance.SPEED_RECIPE, data, start, name, parameters)
        except RefusedError as error:
            detail = f"not in this target: {'; '.join(error.problems)}"
            return replace(failed, status="left-out", detail=detail)
        except LaunchError as error:
            return replace(failed, detail=said(error))
        known = replace(failed, seconds=ended.result.seconds, parameters=_parameters(ended))
        return judging.speed(known, _events(ended), device=self.device)

    def _tiny(self, kind: str, size: str) -> Path | LaunchError:
        """A model with random weights, made once; or why there is none: what needs one then says so."""
        if (kind, size) not in self._models:
            data = self.work / "data" / "short.jsonl"
            parameters = {**dict(acceptance.SIZES[size]), "kind": kind}
            try:
                ended = self._train("tiny-xlmr", data, None, f"model-{kind}-{size}", parameters, keep=True)
            except LaunchError as error:
                return error
            self._models[kind, size] = ended.place.output
        return self._models[kind, size]

    def _train(
        self,
        recipe: str,
        data: Path,
        start: Path | str | None,
        name: str,
        parameters: dict[str, str],
        *,
        keep: bool = False,
    ) -> Ended:
        """One recipe as ``launch run`` would run it, in one process; its result is dropped unless kept.

        Raises:
            LaunchError: it could not be planned or started, or failed.
        """
        request = Request(
            recipe=recipe,
            target=self.planned.plan.target,
            engine=self.planned.plan.engine,
            data=(data,),
            model=str(start) if start else None,
            output=self.work / name,
            nproc=1,
            parameters=parameters,
            arguments=acceptance.ARGUMENTS if start else (),
        )
        with self.progress() as drawn:
            planned = planning.make(request, self.chosen, dry_run=False, progress=drawn)
        self.notes += planned.notes
        begun = execute.begin(planned, parent=self.work / "runs")
        with self.watch(planned.plan) as view:
            ended = execute.execute(begun, view, grace=self.chosen.stop_grace.value)
        if ended.result.error.startswith(STOPPED_BY):
            raise Stopped
        if not keep:  # a large model each
            shutil.rmtree(ended.place.output, ignore_errors=True)
        if ended.error is not None:
            raise ended.error
        if ended.result.exit_code:
            raise RecipeFailedError(
                f"{recipe} ended with exit code {ended.result.exit_code}",
                exit_code=ended.result.exit_code,
                why="\n".join(ended.tail),
            )
        return ended


def _events(ended: Ended) -> list[dict[str, Any]]:
    return metrics.read(ended.place.run / "metrics.jsonl")


def _parameters(ended: Ended) -> Pairs:
    plan = json.loads((ended.place.run / "plan.json").read_text(encoding="utf-8"))
    return tuple((name, value) for name, value in plan["parameters"])


def said(error: Exception) -> str:
    """An error as a report has it."""
    if not isinstance(error, LaunchError):
        return f"{type(error).__name__}: {error}"
    problems = [f"- {problem}" for problem in error.problems] if isinstance(error, ProblemsError) else []
    return "\n".join(part for part in (error.message, *problems, error.why) if part)
