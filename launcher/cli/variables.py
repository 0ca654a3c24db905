"""``--env`` and ``--env-file``: what is recorded, and what is not."""

import os
import re
from collections.abc import Mapping
from pathlib import Path

from launcher.errors import UsageError

#: `--env NAME=VALUE` with such a name is treated as a secret: its value is not recorded.
_SECRET = re.compile(r"TOKEN(?!IZER)|SECRET|PASSWORD|PASSWD|(^|_|API)KEY$|CREDENTIAL", re.IGNORECASE)

#: So is a value that carries a user's name and password, such as a proxy's address.
_CREDENTIALS = re.compile(r"://[^/@\s]+@")

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class Variables:
    """Variables of the command line, parted into what is recorded and what is not."""

    def __init__(self) -> None:
        self.plain: dict[str, str] = {}
        self.secrets: dict[str, str] = {}

    @property
    def all(self) -> dict[str, str]:
        """For a plan that exists: it says itself which of them are secrets."""
        return {**self.plain, **self.secrets}


def read(given: tuple[str, ...], files: tuple[Path, ...]) -> Variables:
    """What ``--env`` and ``--env-file`` say.

    Raises:
        UsageError: no name of a variable, one that is not set, a file that cannot be read.
    """
    found = Variables()
    for file in files:
        found.secrets |= _read_env_file(file)
    for item in given:
        name, separator, value = item.partition("=")
        if not _NAME.fullmatch(name):
            raise UsageError(f"--env {item}: {name!r} is not a variable's name", hint="--env NAME=VALUE")
        if not separator and name not in os.environ:
            raise UsageError(f"--env {name}: it is not set in this shell", hint=f"--env {name}=VALUE")
        if separator and not _SECRET.search(name) and not _CREDENTIALS.search(value):
            found.plain[name] = value
        else:
            found.secrets[name] = value if separator else os.environ[name]
    return found


def _read_env_file(file: Path) -> Mapping[str, str]:
    """NAME=VALUE lines, as ``docker run --env-file`` reads them."""
    found: dict[str, str] = {}
    problems = []
    try:
        lines = re.split(r"\r?\n", file.read_bytes().decode("utf-8-sig"))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--env-file {file} cannot be read", why=str(error)) from None
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, separator, value = line.partition("=")
        if not separator or not _NAME.fullmatch(name.strip()):
            problems.append(f"line {number}")
        found[name.strip()] = value
    if problems:
        raise UsageError(f"--env-file {file}: not NAME=VALUE in {', '.join(problems)}")
    return found
