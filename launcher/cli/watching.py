"""A begun run on the terminal: watched to its end, or left to a launcher in the background."""

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import rich_click as click

from launcher import settings
from launcher.cli import ui

#: Tells a launcher in the background which of its descriptors is the run's lock.
_LOCK = "LAUNCH_LOCK_DESCRIPTOR"

#: And which one holds the values of the run's secrets, as JSON: a file in memory, without a name.
_SECRETS = "LAUNCH_SECRETS_DESCRIPTOR"


def watch(begun: Any, *, as_json: bool, show_output: bool, restarts: int = 0) -> int:
    """Run it, show it, say how it ended, and return the exit code."""
    from dataclasses import asdict

    from launcher import metrics
    from launcher.app import execute
    from launcher.cli import failures
    from launcher.cli.live import LiveView

    plan = begun.planned.plan
    ui.note(f"{plan.recipe} on {plan.target} ({ui.where(plan.image)}), record in {begun.place.run}")
    with LiveView(plan.recipe, output=show_output) as view:
        ended = execute.execute(begun, view, grace=settings.load().stop_grace.value, restarts=restarts)
    if as_json:
        ui.print_json(asdict(ended.result))
    if ended.result.exit_code and not show_output:
        failures.print_end(metrics.read(begun.place.run / "metrics.jsonl"), ended.tail)
    if ended.error is not None:
        ui.print_error(ended.error)
    elif ended.result.exit_code:
        ui.err.print(f"[bold red]{ended.result.stage}[/] ended with code {ended.result.exit_code}; "
                     f"log: {begun.place.run / 'log.txt'}", soft_wrap=True)  # fmt: skip
    else:
        ui.note(f"done: {begun.place.output}")
    return ended.result.exit_code


def detach(begun: Any, *, restarts: int) -> None:
    """A launcher of its own follows the run in the background; it survives this terminal.

    It inherits the run's lock: nobody else takes the run for abandoned meanwhile.
    """
    from launcher import process
    from launcher.app import execute

    if begun.planned.plan.scheduled:  # the site's engine goes on by itself
        if restarts:
            ui.note("--max-restarts is without effect: nobody stays here to start it again after a crash")
        execute.submit(begun)
        click.echo(begun.place.run)
        return
    start, lock = begun.start, begun.lock
    secrets = _hand_over(begun.planned.secrets)
    try:
        process.detach(  # -P: a docker.py in the working folder is not for the launcher
            [
                *(sys.executable, "-P", "-m", "launcher", "run", "--begun", str(begun.place.run)),
                *("--attempt", str(start.attempt), "--checkpoint", start.checkpoint),
                *("--max-restarts", str(restarts)),
            ],
            log=execute.detached_log(begun.place),
            env={**os.environ, _LOCK: str(lock.descriptor), _SECRETS: str(secrets)},
            keep=(lock.descriptor, secrets),
        )
    finally:
        os.close(secrets)
    click.echo(begun.place.run)


def _hand_over(secrets: Mapping[str, str]) -> int:
    """A descriptor for the child; in its environment a HOME or DOCKER_HOST of the run would be its own."""
    descriptor = os.memfd_create("secrets")
    with os.fdopen(os.dup(descriptor), "w", encoding="utf-8") as stream:
        json.dump(dict(secrets), stream)
    os.lseek(descriptor, 0, os.SEEK_SET)  # the child shares the position
    return descriptor


def _handed_over() -> dict[str, str]:
    """The secrets of a run that was begun by another process; they can be read once."""
    with os.fdopen(int(os.environ.pop(_SECRETS)), encoding="utf-8") as stream:
        return dict(json.load(stream))


def go_on(run: Path, *, attempt: int, checkpoint: str, restarts: int) -> int:
    """The launcher in the background: take the begun run over, and watch it."""
    from launcher.app import execute
    from launcher.app import plan as planning
    from launcher.plan import Start
    from launcher.runs import Lock

    lock = Lock(int(os.environ.pop(_LOCK)))
    os.set_inheritable(lock.descriptor, False)
    planned = planning.reread(run, _handed_over())
    start = Start(run=run.name, attempt=attempt, checkpoint=checkpoint)
    begun = execute.take_over(planned, run, start, lock)
    return watch(begun, as_json=False, show_output=True, restarts=restarts)
