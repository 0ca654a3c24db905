"""``launch runs show RUN``."""

import json
from typing import Any

import rich_click as click

from launcher.cli import ui


@click.command()
@click.argument("run", metavar="RUN")
@click.option("--json", "as_json", is_flag=True, help="Print plan, starts and result as JSON.")
def command(run: str, as_json: bool) -> None:
    """Show one run: its state, its starts, what was asked for, what came of it."""
    from dataclasses import asdict

    from launcher import plan as plans
    from launcher import runs
    from launcher.app import runs as seen
    from launcher.errors import RecordError

    found = seen.look(runs.find(run))
    if found.record is None:
        raise RecordError(f"{found.folder.name} cannot be read: {found.why}")
    record = found.record
    if as_json:
        ui.print_json(
            {
                "schema": 1,
                "run": record.id,
                "folder": record.folder,
                "state": str(found.state),
                "why": found.why,
                "followed": found.followed,
                "plan": json.loads(plans.to_json(record.plan)),
                "attempts": [asdict(attempt) for attempt in record.attempts],
                "result": record.result,
            }
        )
        return
    _print(found, record)


def _print(found: Any, record: Any) -> None:
    from rich.markup import escape
    from rich.table import Table

    from launcher import metrics

    plan, result = record.plan, record.result or {}
    last = metrics.latest(record.metrics)
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")

    def row(name: str, value: object) -> None:
        if value not in (None, "", ()):
            table.add_row(name, escape(str(value)))

    row("run", record.id)
    row("state", f"{found.state}{': ' + found.why if found.why else ''}")
    row("recipe", f"{plan.recipe} on {plan.target} ({ui.where(plan.image)})")
    row("step", f"{last['step']} of {last.get('max_steps', '?')}" if "step" in last else None)
    row("loss", f"{last['loss']:.6g}" if "loss" in last else None)
    row("time", ui.duration(result["seconds"]) if "seconds" in result else None)
    row("data", ", ".join(str(path) for path in plan.inputs))
    row("model", plan.model.name if plan.model else None)
    row("output", record.output)
    row("record", record.folder)
    ui.out.print(table)
    if record.attempts:
        ui.out.print("\n[bold]starts[/]")
        for attempt in record.attempts:
            whence = f" from {attempt.checkpoint}" if attempt.checkpoint else ""
            end = f"{attempt.ended}: {attempt.cause or 'done'}" if attempt.ended else str(found.state)
            ui.out.print(f"  {attempt.number}  {attempt.began}{whence} – {escape(end)}", soft_wrap=True)
    ui.out.print("\n[bold]parameters[/]")
    for name, value in plan.parameters:
        ui.out.print(f"  {name} = {escape(value)}", soft_wrap=True)
