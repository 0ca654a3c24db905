"""``launch demo``: the whole flow on this machine, and what the training was worth."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import rich_click as click

from launcher import runs, settings
from launcher.cli import ui
from launcher.errors import OutputError

if TYPE_CHECKING:
    from launcher.app.demo import Report
    from launcher.plan import RunPlan
    from launcher.progress import RunView


@click.command()
@click.option(
    "--folder", type=click.Path(path_type=Path), help="Where everything goes; default: demo/<time>."
)
@click.option(
    "--engine",
    type=click.Choice(["auto", "docker", "podman", "venv"]),
    help="Container or embedded environment.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
def command(folder: Path | None, engine: str | None, as_json: bool) -> None:
    """Fine-tune a tiny BGE-M3 on the documentation of this machine's Python, and measure it.

    Nothing is downloaded but packages: the text is the standard library's own docstrings, the model is
    made on the spot. It runs in the cpu image where an engine answers, otherwise in an environment made from
    the same lock.
    """
    from launcher.app import demo

    place = (folder or Path("demo") / runs.new_id("demo").rsplit("-", 2)[0]).absolute()
    if place.exists():
        raise OutputError(f"{place} exists", hint="choose another --folder")
    chosen = None if engine in (None, "auto") else engine
    with ui.TerminalProgress() as progress:
        prepared = demo.prepare(place, settings.load(), engine=chosen, progress=progress)
    report = demo.run(prepared, settings.load(), watch=_watch)
    if as_json:
        ui.print_json(_as_data(report))
    else:
        _print(report)


@contextmanager
def _watch(plan: "RunPlan") -> "Iterator[RunView]":
    from launcher.cli.live import LiveView

    ui.note(f"{plan.recipe} ({ui.where(plan.image)})")
    with LiveView(plan.recipe, output=False) as view:
        yield view


def _print(report: "Report") -> None:
    from rich.table import Table

    table = Table(title="held-out recall@10", title_justify="left", box=None, pad_edge=False)
    for title in ("head", "before", "after"):
        table.add_column(title, justify="left" if title == "head" else "right")
    for head, before, after in report.recall():
        table.add_row(head, f"{before:.3f}", f"[bold]{after:.3f}[/]")
    data = report.data
    ui.out.print(table)
    ui.out.print(
        f"{data.held_out} held-out queries over {data.passages} passages; trained on {data.rows} rows in "
        f"{report.seconds:.0f} s ({report.engine})\nmodel: {report.folder / 'model'}",
        markup=False,
        soft_wrap=True,
    )


def _as_data(report: "Report") -> dict[str, object]:
    return {
        "schema": 1,
        "folder": str(report.folder),
        "engine": report.engine,
        "seconds": report.seconds,
        "before": report.before,
        "after": report.after,
    }
