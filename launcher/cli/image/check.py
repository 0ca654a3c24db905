"""``launch image check``: the checks of a target, run inside its image."""

from dataclasses import asdict

import rich_click as click
from rich.markup import escape
from rich.table import Table

from launcher.cli import ui
from launcher.cli.image import options

_STYLES = {"ok": "green", "failed": "bold red", "needs-gpu": "yellow", "left-out": "dim"}


@click.command()
@click.argument("target")
@options.base
@options.without
@click.option("--only", multiple=True, metavar="CHECK", help="Run this check alone; may be repeated.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def command(
    target: str, base: str | None, without: tuple[str, ...], only: tuple[str, ...], as_json: bool
) -> None:
    """Run the checks that the manifest names for TARGET inside its built image.

    Exit code 0: no check failed. A check that needs a GPU which is not there is reported as such.
    """
    from launcher.app import images

    with ui.TerminalProgress() as progress:
        report = images.check(target, base=base, without=without, only=only, progress=progress)
    image, outcomes = report.image, report.outcomes
    if as_json:
        result = {
            "schema": 1,
            "target": target,
            "image": image.reference,
            "id": image.id,
            "left_out": list(image.left_out),
            "checks": [asdict(outcome) for outcome in outcomes],
        }
        ui.print_json(result)
    else:
        table = Table("check", "status", "seconds", "detail")
        for outcome in outcomes:
            style = _STYLES[outcome.status]
            seconds = f"{outcome.seconds:.1f}"
            table.add_row(outcome.check, f"[{style}]{outcome.status}[/]", seconds, escape(outcome.detail))
        ui.out.print(table)
        if image.left_out:
            ui.err.print(f"{image.reference} is partial: built without {', '.join(image.left_out)}")
    images.judge(outcomes)
