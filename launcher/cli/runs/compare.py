"""``launch runs compare``: what differs between runs, and what came of it."""

from dataclasses import asdict
from pathlib import Path

import rich_click as click
from rich.markup import escape
from rich.table import Table

from launcher.cli import ui
from launcher.comparison import Cell, Comparison, Row, Run, letters, shortened, text
from launcher.errors import UsageError

_STYLES = {"done": "green", "failed": "red", "stopped": "yellow", "open": "blue"}


@click.command()
@click.argument("names", metavar="A B…", nargs=-1, required=True)
@click.option("--all", "everything", is_flag=True, help="Show what is the same, too.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="FILE.html",
    help="Write the report page of these runs.",
)
@click.option("--force", is_flag=True, help="Replace that file when it is there.")
def command(
    names: tuple[str, ...], everything: bool, as_json: bool, output: Path | None, force: bool
) -> None:
    """Say what differs between runs, and what came of it: speed, memory, losses, evaluations.

    Figures are measured by the first run. The best value of each is marked, among runs that are done and
    can be compared in it: over as many steps, and of losses with the same recipe, data and batches.

    Exit code 0, also when something differs.
    """
    from launcher.app import report

    if len(names) < 2:
        raise UsageError("one run alone has nothing to be compared with", hint="launch runs compare A B")
    path = None if output is None else report.place_of(output, force=force)
    found, stories = report.compare(names)
    if as_json:
        ui.print_json(_as_data(found))
    elif path is None:
        _print(found, everything=everything)
    if path is not None:
        from launcher.cli.runs.report import write

        write(stories, path, quiet=as_json)


def _print(found: Comparison, *, everything: bool) -> None:
    """For people, on 80 columns, too: runs are letters, whose ids stand above."""
    names = letters(len(found.runs))
    for letter, run in zip(names, found.runs, strict=True):
        said = f"[{_STYLES[run.state]}]{run.state}[/]"
        ui.out.print(f"[bold]{letter}[/]  {escape(run.name)}  {said}", soft_wrap=True)
    outcomes = Table("", box=None, pad_edge=False)
    for letter in names:
        outcomes.add_column(letter, justify="right", no_wrap=True)
    for each in found.outcomes:
        cells = [_cell(cell, each.figure.unit, first=not at) for at, cell in enumerate(each.cells)]
        outcomes.add_row(escape(each.figure.title), *cells)
    ui.out.print()
    ui.out.print(outcomes)
    rows = found.rows if everything else found.differing
    ui.out.print()
    if rows:
        ui.out.print(_facts(rows, names))
    else:
        ui.out.print("nothing differs in what was given")
    for note in found.notes:
        ui.note(note)


def _facts(rows: tuple[Row, ...], names: list[str]) -> Table:
    table = Table("", box=None, pad_edge=False)
    for letter in names:
        table.add_column(letter, overflow="fold")
    for row in rows:
        table.add_row(escape(row.name), *(_value(row.name, value) for value in row.values))
    return table


def _value(name: str, value: str | None) -> str:
    return "[dim]–[/]" if value is None else escape(shortened(name, value))


def _cell(cell: Cell, unit: str, *, first: bool) -> str:
    if cell.value is None:
        return "[dim]–[/]"
    said = text(cell.value, unit) + ("*" if cell.fewer else "")
    said = f"[bold green]{said} ★[/]" if cell.best else said
    return said if first or not cell.measure else f"{said} [dim]{cell.measure}[/]"


def _as_data(found: Comparison) -> dict[str, object]:
    """Schema 1."""
    return {
        "schema": 1,
        "runs": [_run(run) for run in found.runs],
        "facts": [asdict(row) for row in found.rows],
        "outcomes": [
            {**asdict(each.figure), "values": [asdict(cell) for cell in each.cells]}
            for each in found.outcomes
        ],
        "notes": list(found.notes),
    }


def _run(run: Run) -> dict[str, object]:
    return {"run": run.name, "recipe": run.recipe, "state": run.state, "said": run.said, "trains": run.trains}
