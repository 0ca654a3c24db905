"""The files of this machine that parameters name: found, and known by their content."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from launcher import paths
from launcher.errors import UsageError
from launcher.plan import File
from launcher.recipe import Parameter, Recipe


def named(found: Recipe, values: Mapping[str, str]) -> tuple[tuple[str, File], ...]:
    """(parameter, file) pairs of the parameters that name one; an empty text names none.

    Raises:
        UsageError: with the option whose file is none, or cannot be read.
    """
    return tuple(
        (item.name, _file(item, values[item.name]))
        for item in found.parameters
        if item.type == "file" and values[item.name]
    )


def _file(parameter: Parameter, name: str) -> File:
    try:
        path = Path(name).expanduser().absolute()
        return File(path=path, sha256=paths.sha256(path))
    except (OSError, RuntimeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UsageError(
            f"{parameter.option}: {name!r} is no file that can be read",
            why=reason,
            hint="give the path of a file of this machine",
        ) from None


def as_they_are(recorded: tuple[tuple[str, File], ...]) -> tuple[tuple[str, File], ...]:
    """Recorded files with the digests that they have here; each was looked at before.

    Raises:
        OSError: one has gone since.
    """
    return tuple((name, replace(file, sha256=paths.sha256(file.path))) for name, file in recorded)
