"""``launch runs``: what ran and what came of it, one file per verb."""

import rich_click as click

from launcher.cli import LazyGroup

VERBS: dict[str, tuple[str, str]] = {
    "compare": ("launcher.cli.runs.compare", "Say what differs between runs, and what came of it."),
    "report": (
        "launcher.cli.runs.report",
        "Write runs as one HTML file: curves, figures, parameters.",
    ),
    "board": ("launcher.cli.runs.board", "Show runs and their live curves in a browser on this machine."),
}


class _RunsGroup(LazyGroup):
    verbs = VERBS


@click.command(cls=_RunsGroup)
def command() -> None:
    """Look at runs, stop, resume, repeat and compare them.

    RUN is an id, a part of exactly one, the folder of a record, or `last`.
    """
