"""Acceptance: the ladder of :mod:`launcher.acceptance`, climbed through the launcher's own run path."""

import datetime
import shutil
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from launcher import acceptance, manifest, model, paths, runs
from launcher.acceptance import Check, Report, judging, private, texts
from launcher.app import machine
from launcher.app import plan as planning
from launcher.app.ladder import Asked, Ladder, Stopped, Watch, said
from launcher.app.plan import Request
from launcher.errors import CheckError, OutputError, UsageError
from launcher.progress import Progress
from launcher.settings import Settings

#: Where the recorded curves are.
_RECORD = "acceptance.toml"


def place_of(target: str, output: Path | None) -> Path:
    """Where the report goes.

    Raises:
        OutputError: something is there already.
    """
    now = datetime.datetime.now(datetime.UTC)
    path = (output or Path(f"accept-{target}-{now:%Y%m%d-%H%M%S}.md")).absolute()
    if path.exists():
        raise OutputError(f"{path} exists", hint="give another -o: nothing is overwritten")
    try:  # now, and not after an hour: whether a file can be made there
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise OutputError(
            f"no file can be made in {path.parent}", why=error.strerror or "", hint="give another -o"
        ) from None
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
        steps = ", ".join(acceptance.STEPS)
        raise UsageError(f"there is no step {', '.join(unknown)}", hint=f"steps: {steps}")
    work = paths.cache() / "accept" / runs.new_id("accept")
    try:
        ladder = _prepared(asked, chosen, work, progress=progress, watch=watch)
        for step in ladder.wanted:
            try:
                getattr(ladder, step)()
            except (KeyboardInterrupt, Stopped):
                ladder.complete = False
                break
            except Exception as error:  # noqa: BLE001 - whatever breaks a step, the others still say something
                ladder.found_checks.append(Check(name=f"step {step}", status="failed", detail=said(error)))
        return private.cleaned(ladder.report(), machine.secrets(work, asked.model))
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
) -> Ladder:
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
    return Ladder(
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
