"""Options that the data verbs share."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import rich_click as click

from launcher.data.rules import FORMATS
from launcher.errors import UsageError

Command = Callable[..., Any]

paths = click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="PATH...")
format_ = click.option("--format", "format_", type=click.Choice([*FORMATS]), help="The rows' format.")
jobs = click.option(
    "--jobs", type=click.IntRange(1, 256), help="Processes; as many as cores may be used when not given."
)
as_json = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")


def pairs(values: tuple[str, ...], option: str) -> dict[str, str]:
    """``NAME=VALUE`` texts as a mapping.

    Raises:
        UsageError: one without ``=``.
    """
    found = {}
    for value in values:
        name, equals, text = value.partition("=")
        if not equals or not name:
            raise UsageError(f"{option} takes NAME=VALUE, not {value!r}")
        found[name] = text
    return found
