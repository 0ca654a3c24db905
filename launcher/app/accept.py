"""Acceptance: the ladder of :mod:`launcher.acceptance`, climbed through the launcher's own run path."""

import datetime
import json
import shutil
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from launcher import acceptance, manifest, model, paths, runs
from launcher.acceptance import Check, Curve, Known, Pairs, Report, Speed, judging, private, texts
from launcher.app import execute, machine
from launcher.app import plan as planning
from launcher.app.execute import Ended
from launcher.app.plan import Planned, Request
from launcher.errors import (
    CheckError,
    LaunchError,
    OutputError,
    ProblemsError,
    RecipeFailedError,
    RefusedError,
    UsageError,
)
from launcher.plan import RunPlan
from launcher.progress import Progress, RunView
from launcher.settings import Settings

#: Gives the view in which one training is watched.
Watch = Callable[[RunPlan], AbstractContextManager[RunView]]

#: Where the recorded curves are.
_RECORD = "acceptance.toml"


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


class _Stopped(Exception):  # noqa: N818 - not an error: the user's own wish
    """A signal ended a training; the ladder ends with it."""


def place_of(target: str, output: Path | None) -> Path:
    """Where the report goes.

    Raises:
        OutputError: something is there already.
    """
    now = datetime.datetime.now(datetime.UTC)
    path = (output or Path(f"accept-{target}-{now:%Y%m%d-%H%M%S}.md")).absolute()
    if path.exists():
        raise OutputError(f"{path} exists", hint="give another -o: nothing is overwritten")
    return path


def run(
    asked: Asked,
    chosen: Settings,
    *,
    progress: Callable[[], AbstractContextManager[Progress]],
    watch: Watch,
) -> Report:
    """Climb the ladder; what fails does not stop it, and neither does an interruption lose what was done.

    Raises:
        LaunchError: nothing can be run here: no device, no engine, no image, no such model.
        UsageError: an unknown step.
    """
    unknown = sorted(set(asked.only) - set(acceptance.STEPS))
    if unknown:
        raise UsageError(
            f"there is no step {', '.join(unknown)}", hint=f"steps: {', '.join(acceptance.STEPS)}"
        )
    work = paths.cache() / "accept" / runs.new_id("accept")
    try:
        ladder = _prepared(asked, chosen, work, progress=progress, watch=watch)
        for step in ladder.wanted:
            try:
                getattr(ladder, step)()
            except (KeyboardInterrupt, _Stopped):
                ladder.complete = False
                break
            except (LaunchError, OSError, ValueError) as error:
                ladder.found_checks.append(Check(name=f"step {step}", status="failed", detail=_said(error)))
        return private.cleaned(ladder.report(), machine.secrets(work))
    finally:
        shutil.rmtree(work, ignore_errors=True)


def write(report: Report, path: Path) -> Path:
    """Write the report; beside a file that has come in the meantime, not over it.

    Returns:
        Where it is.
    """
    from launcher.acceptance.report import render

    number, free = 2, path
    while free.exists():
        free, number = path.with_stem(f"{path.stem}-{number}"), number + 1
    paths.write_atomic(free, render(report))
    return free


def judge(report: Report) -> None:
    """Raise when something failed; what needs a GPU is neither passed nor failed.

    Raises:
        CheckError: all that failed, each with the first line of what it said.
    """
    if report.failed:
        problems = [f"{name}: {detail.partition(chr(10))[0]}" for name, detail in report.failed]
        raise CheckError(f"{report.target} is not accepted", problems, hint="the report has the details")


def _prepared(
    asked: Asked,
    chosen: Settings,
    work: Path,
    *,
    progress: Callable[[], AbstractContextManager[Progress]],
    watch: Watch,
) -> "_Ladder":
    """Everything that can be refused is refused here, by planning the first run."""
    target = manifest.shipped().target(asked.target)
    if asked.model is not None:
        model.resolve(asked.model, download=True)
    record = judging.read((paths.images() / _RECORD).read_text(encoding="utf-8"), source=_RECORD)
    data = work / "data" / "short.jsonl"
    paths.write_atomic(data, texts.short())
    request = Request(recipe="tiny-xlmr", target=target.name, engine=asked.engine, data=(data,), nproc=1)
    with progress() as drawn:
        planned = planning.make(request, chosen, dry_run=False, progress=drawn)
    gpu = target.devices.kind != "none"
    return _Ladder(
        asked=asked,
        chosen=chosen,
        work=work,
        planned=planned,
        record=record,
        size="given" if asked.model else asked.size or ("large" if gpu else "tiny"),
        steps=asked.steps or (20 if gpu else 5),
        progress=progress,
        watch=watch,
        device=acceptance.DEVICES[target.devices.kind],
        notes=list(planned.notes),
    )


@dataclass(slots=True, kw_only=True)
class _Ladder:
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
            tiny = self._tiny(kind, data, "tiny")
            for precision in acceptance.PRECISIONS:
                self.found_curves.append(self._curve(recipe, precision, data, tiny))

    def _curve(self, recipe: str, precision: str, data: Path, tiny: Path | LaunchError) -> Curve:
        recorded = self.record.curves[recipe].losses
        failed = Curve(recipe=recipe, precision=precision, status="failed", recorded=recorded)
        if isinstance(tiny, LaunchError):
            return replace(failed, detail=f"no tiny model: {_said(tiny)}")
        try:
            ended = self._train(
                recipe,
                data,
                tiny,
                f"{recipe}-{precision}",
                {**dict(acceptance.CURVE_PARAMETERS), "precision": precision},
            )
        except LaunchError as error:
            return replace(failed, detail=_said(error))
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
        start = self.asked.model or self._tiny("reranker", data, self.size)
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
            return replace(failed, detail=f"no model: {_said(start)}")
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
            return replace(failed, detail=_said(error))
        kept: Pairs = tuple((key, value) for key, value in _parameters(ended).items() if key != "seed")
        return judging.speed(
            replace(failed, seconds=ended.result.seconds, parameters=kept), _events(ended), device=self.device
        )

    def _tiny(self, kind: str, data: Path, size: str) -> Path | LaunchError:
        """A model with random weights, or why there is none: what needs one then says so."""
        parameters = {**dict(acceptance.SIZES[size]), "kind": kind}
        try:
            ended = self._train("tiny-xlmr", data, None, f"model-{kind}-{data.stem}", parameters, keep=True)
        except LaunchError as error:
            return error
        return ended.place.output

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
        if ended.result.error.startswith("stopped by"):
            raise _Stopped
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
    return runs.MetricsReader(ended.place).new()


def _parameters(ended: Ended) -> dict[str, str]:
    plan = json.loads((ended.place.run / "plan.json").read_text(encoding="utf-8"))
    return dict(plan["parameters"])


def _said(error: Exception) -> str:
    if not isinstance(error, LaunchError):
        return f"{type(error).__name__}: {error}"
    problems = [f"- {problem}" for problem in error.problems] if isinstance(error, ProblemsError) else []
    return "\n".join(part for part in (error.message, *problems, error.why) if part)
