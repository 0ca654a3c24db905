"""``launch accept``: prove a target on this machine's card, with one report to show."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import rich_click as click

from launcher import settings
from launcher.acceptance import SIZES, STEPS
from launcher.cli import ui
from launcher.errors import UsageError

if TYPE_CHECKING:
    from launcher.acceptance import Report
    from launcher.plan import RunPlan
    from launcher.progress import RunView


@click.command()
@click.argument("target")
@click.option(
    "--engine",
    type=click.Choice(["auto", "docker", "podman", "venv"]),
    help="Container or embedded environment.",
)
@click.option(
    "--model", metavar="PATH|ID", help="Measure the speed of this reranker; default: a random one of --size."
)
@click.option(
    "--size",
    type=click.Choice(list(SIZES)),
    help="Of the random model; large is bge-reranker-v2-m3's. Default: large with a GPU, tiny without.",
)
@click.option(
    "--steps",
    type=click.IntRange(1, 1000),
    help="Training steps to measure; default: 20 with a GPU, 5 without.",
)
@click.option(
    "--only", metavar="STEPS", help=f"Some of {','.join(STEPS)}, by commas; default: all.", default=""
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The report; default: accept-TARGET-TIME.md in the working folder.",
)
def command(
    target: str,
    engine: str | None,
    model: str | None,
    size: str | None,
    steps: int | None,
    only: str,
    output: Path | None,
) -> None:
    """Prove TARGET on this machine: checks, short trainings beside recorded ones, speed and memory.

    Everything goes into one Markdown file, without names of host, user and folders, to be attached to an
    issue. What fails does not stop the rest, and Ctrl-C keeps what was found so far.

    Exit code 0: all was done, and nothing failed.
    """
    from launcher.app import accept
    from launcher.app.ladder import Asked

    if model and size:
        raise UsageError("--size is of a model with random weights, and --model names another one")
    steps_asked = tuple(name.strip() for name in only.split(",") if name.strip())
    if only and not steps_asked:
        raise UsageError(f"--only {only!r} names no step")
    path = accept.place_of(target, output)
    asked = Asked(
        target=target,
        engine=engine,
        model=model,
        size=size,
        steps=steps,
        only=steps_asked,
    )
    report = accept.run(asked, settings.load(), progress=ui.TerminalProgress, watch=_watch)
    written = accept.write(report, path)
    _print(report)
    ui.out.print(f"report: {written}", markup=False, soft_wrap=True)
    if not report.complete:
        sys.exit(128 + signal.SIGINT)
    accept.judge(report)


@contextmanager
def _watch(plan: "RunPlan") -> "Iterator[RunView]":
    from launcher.cli.live import LiveView

    chosen = dict(plan.parameters)
    how = [chosen.get("precision", ""), "unsloth" if chosen.get("unsloth") == "on" else ""]
    title = " ".join(part for part in (plan.recipe, *how) if part)
    ui.note(f"{title} ({ui.where(plan.image)})")
    with LiveView(title, output=False) as view:
        yield view


_STYLES = {"ok": "green", "failed": "bold red", "needs-gpu": "yellow"}


def _print(report: "Report") -> None:
    from rich.markup import escape
    from rich.table import Table

    from launcher.acceptance.report import SPEED_TITLES, speed_rows, verdict

    table = Table("step", "part", "status", "found")
    for check in report.checks:
        table.add_row("checks", check.name, _styled(check.status), escape(_line(check.detail)))
    for curve in report.curves:
        found = curve.detail or f"off by {curve.off:.4f}, {curve.tolerance:.4f} is allowed"
        table.add_row(
            "curves", f"{curve.recipe}, {curve.precision}", _styled(curve.status), escape(_line(found))
        )
    for speed in report.speed:
        table.add_row("speed", speed.name, _styled(speed.status), escape(_line(speed.detail)))
    if table.row_count:
        ui.out.print(table)
    if report.speed:
        figures = Table(*SPEED_TITLES)
        for row in speed_rows(report):
            figures.add_row(*map(escape, row))
        ui.out.print(figures)
    ui.out.print(verdict(report), markup=False)


def _styled(status: str) -> str:
    style = _STYLES.get(status, "dim")
    return f"[{style}]{status}[/]"


def _line(text: str) -> str:
    return text.partition("\n")[0]
