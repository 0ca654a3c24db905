"""``launch data``: what breaks after an hour of training is found in the first second; one file per verb."""

import rich_click as click

from launcher.cli import LazyGroup

VERBS = {
    "check": ("launcher.cli.data.check", "Find what would stop a training, or teach it wrong things."),
    "convert": ("launcher.cli.data.convert", "Make training rows of BEIR, CSV, parquet and others."),
    "split": ("launcher.cli.data.split", "Divide rows into train and dev without a leak."),
}


class _DataGroup(LazyGroup):
    verbs = VERBS


@click.command(cls=_DataGroup)
def command() -> None:
    """Check, convert and split training data."""
