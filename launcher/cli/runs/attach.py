"""``launch runs attach RUN``."""

import sys

import rich_click as click

from launcher.cli import ui


@click.command()
@click.argument("run", metavar="RUN")
@click.option("--show-output", is_flag=True, help="Show the recipe's own output, not only its progress.")
def command(run: str, show_output: bool) -> None:
    """Watch a run to its end, and exit as it does.

    Ctrl-C ends the watching; the run goes on. A run whose launcher is gone is followed and recorded.
    """
    from launcher import runs
    from launcher.app import runs as seen
    from launcher.cli.live import LiveView

    folder = runs.find(run)
    record = runs.load(folder)
    try:
        with LiveView(record.plan.recipe, output=show_output or not record.plan.world_size) as view:
            record = seen.attach(folder, view)
    except KeyboardInterrupt:
        ui.note(f"not watching any more; {folder.name} goes on (launch runs stop {folder.name} ends it)")
        return
    result = record.result or {}
    ui.note(f"{seen.look(folder).state}: {result.get('error') or record.output}")
    sys.exit(int(result.get("exit_code", 0)))
