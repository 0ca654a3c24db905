"""``launch runs``: what ran and what came of it, one file per verb."""

import rich_click as click

from launcher.cli import LazyGroup

VERBS = {
    "list": ("launcher.cli.runs.list", "Runs, their state and last numbers."),
    "show": ("launcher.cli.runs.show", "One run: state, starts, parameters, result."),
    "logs": ("launcher.cli.runs.logs", "What a recipe printed."),
    "attach": ("launcher.cli.runs.attach", "Watch a run that somebody else started."),
    "stop": ("launcher.cli.runs.stop", "End runs, wherever they were started."),
    "resume": ("launcher.cli.runs.resume", "Go on from the last complete checkpoint."),
    "replay": ("launcher.cli.runs.replay", "Run a record's plan again, and compare what came out."),
    "export": ("launcher.cli.runs.export", "One file of a run, to be repeated on another machine."),
    "rm": ("launcher.cli.runs.rm", "Delete records and the results in them."),
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
