"""``launch runs list``."""

import datetime
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rich_click as click

from launcher.cli import ui

_COLOURS = {
    "starting": "cyan",
    "pending": "blue",
    "running": "cyan",
    "done": "green",
    "stopped": "yellow",
    "failed": "red",
    "unknown": "magenta",
    "unreadable": "magenta",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Line:
    """A run in the list; ``step``, ``steps`` and ``loss`` are None for what reports none."""

    run: str
    folder: Path
    state: str
    why: str
    followed: bool
    recipe: str | None = None
    target: str | None = None
    engine: str | None = None
    started: str | None = None
    seconds: float | None = None
    step: int | None = None
    steps: int | None = None
    loss: float | None = None


@click.command()
@click.option("--all", "everywhere", is_flag=True, help="Those that were started in other folders, too.")
@click.option("--json", "as_json", is_flag=True, help="Print the list as JSON.")
def command(everywhere: bool, as_json: bool) -> None:
    """List runs, the oldest first; the state is what the engine says."""
    from dataclasses import asdict

    from launcher import runs
    from launcher.app import runs as seen

    folders = runs.everything(everywhere=everywhere)
    looked = [seen.look(folder) for folder in folders]
    seen.tidy(looked)
    lines = [_line(one) for one in looked]
    if as_json:
        ui.print_json({"schema": 1, "runs": [asdict(line) for line in lines]})
        return
    if not lines:
        ui.note("no runs here; `launch runs list --all` looks everywhere" if not everywhere else "no runs")
        return
    _print(lines, everywhere=everywhere)


def _line(seen: Any) -> _Line:
    from launcher import metrics

    common: dict[str, Any] = {
        "run": seen.folder.name,
        "folder": seen.folder,
        "state": str(seen.state),
        "why": seen.why,
        "followed": seen.followed,
    }
    if seen.record is None:
        return _Line(**common)
    record, last = seen.record, metrics.latest(seen.record.metrics)
    result = record.result or {}
    began = record.attempts[0].began if record.attempts else result.get("started")
    return _Line(
        **common,
        recipe=record.plan.recipe,
        target=record.plan.target,
        engine=record.plan.engine,
        started=began,
        seconds=result.get("seconds", _since(began)),
        step=last.get("step"),
        steps=last.get("max_steps"),
        loss=last.get("loss"),
    )


def _since(began: str | None) -> float | None:
    if began is None:
        return None
    return (datetime.datetime.now(datetime.UTC) - datetime.datetime.fromisoformat(began)).total_seconds()


def _print(lines: list[_Line], *, everywhere: bool) -> None:
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("run", "target", "state"):
        table.add_column(name, no_wrap=True)
    for name in ("step", "loss", "time"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("", overflow="fold")
    for line in lines:
        why = line.why
        if line.state == "running" and not line.followed and line.engine not in ("slurm", "kubernetes"):
            why = "its launcher is gone; launch runs attach follows it"
        table.add_row(
            str(line.folder) if everywhere else line.run,
            line.target or "",
            f"[{_COLOURS[line.state]}]{line.state}[/]",
            "" if line.step is None else f"{line.step}/{line.steps}" if line.steps else str(line.step),
            "" if line.loss is None else f"{line.loss:.4g}",
            "" if line.seconds is None else ui.duration(line.seconds),
            escape(why),
        )
    ui.out.print(table)
