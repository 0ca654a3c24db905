"""``launch runs``: what ran and what came of it, one file per verb."""

import rich_click as click

from launcher.cli import LazyGroup

VERBS: dict[str, tuple[str, str]] = {}


class _RunsGroup(LazyGroup):
    verbs = VERBS


@click.command(cls=_RunsGroup)
def command() -> None:
    """Look at runs, stop, resume, repeat and compare them.

    RUN is an id, a part of exactly one, the folder of a record, or `last`.
    """
