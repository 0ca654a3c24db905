"""``launch doctor``: what this machine lacks for a run, and the command that brings it."""

from dataclasses import asdict
from typing import TYPE_CHECKING

import rich_click as click

from launcher.cli import ui

if TYPE_CHECKING:
    from launcher.diagnosis.lines import Line

_STYLES = {"ok": "green", "warning": "yellow", "failed": "bold red", "skipped": "dim"}


@click.command()
@click.option("--target", metavar="TARGET", help="Look at this target; auto: the one that a run would pick.")
@click.option("--recipe", metavar="RECIPE", help="Its targets and its default model count.")
@click.option("--model", metavar="MODEL", help="A folder, or an id on the hub: whether it is here, and fits.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def command(target: str | None, recipe: str | None, model: str | None, as_json: bool) -> None:
    """Check engine, GPUs, processor, memory, limits, clock, disks, model and network for a run.

    Nothing is changed, built or downloaded. Every line that is not ok says what it means and what fixes it.
    Exit code 0: nothing failed; 72: a run would be refused or break. Warnings and what was skipped pass.
    """
    from launcher import settings
    from launcher.app import doctor

    report = doctor.examine(target=target, recipe_name=recipe, model_name=model, chosen=settings.load())
    if as_json:
        lines = [asdict(line) for line in report.lines]
        counts = {status: sum(line.status == status for line in report.lines) for status in _STYLES}
        ui.print_json(
            {
                "schema": 1,
                "target": report.target,
                "why": report.why,
                "engine": report.engine,
                "seconds": round(report.seconds, 3),
                "counts": counts,
                "lines": lines,
            }
        )
    else:
        _table(report.lines)
        ui.note(f"{len(report.lines)} checks in {report.seconds:.1f} s; docs/doctor.md explains each")
    doctor.judge(report.lines)


def _table(lines: "tuple[Line, ...]") -> None:
    from rich.markup import escape
    from rich.table import Table

    table = Table("check", "status", "found", "what it means, and what fixes it")
    for line in lines:
        style = _STYLES[line.status]
        todo = escape(line.means)
        if line.fix:
            todo += f"{chr(10) if todo else ''}[green]{escape(line.fix)}[/]"
        table.add_row(line.name, f"[{style}]{line.status}[/]", escape(line.found), todo)
    ui.out.print(table)
