"""``--env`` and ``--env-file``: what is recorded, what is not, and where the values come from."""

import os
import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path

from launcher import credentials, settings
from launcher.errors import UsageError

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

#: The service under which the system's keyring has a secret, beside its name.
SERVICE = "finetune-launch"


class Variables:
    """Variables of the command line, parted into what is recorded and what is not."""

    def __init__(self) -> None:
        self.plain: dict[str, str] = {}
        self.secrets: dict[str, str] = {}
        self._origins: dict[str, str] = {}

    @property
    def all(self) -> dict[str, str]:
        """For a plan that exists: it says itself which of them are secrets."""
        return {**self.plain, **self.secrets}

    @property
    def notes(self) -> tuple[str, ...]:
        """Where each secret comes from."""
        origins = sorted(set(self._origins.values()))
        found = {each: sorted(n for n in self._origins if self._origins[n] == each) for each in origins}
        return tuple(f"{', '.join(names)}: from {origin}" for origin, names in found.items())

    def keep(self, name: str, value: str, origin: str) -> None:
        """Add a secret.

        Raises:
            UsageError: it has a byte that no variable can have.
        """
        if "\0" in value:
            raise UsageError(f"{name} from {origin}: a variable cannot hold a zero byte")
        self.secrets[name], self._origins[name] = value, origin


def read(given: tuple[str, ...], files: tuple[Path, ...]) -> Variables:
    """What ``--env`` and ``--env-file`` say; docs/secrets.md has the order of the sources.

    Raises:
        UsageError: no name of a variable, one that is found nowhere, a file that cannot be read.
    """
    found = Variables()
    for file in files:
        for name, value in _read_env_file(file).items():
            found.keep(name, value, str(file))
    for item in given:
        name, separator, value = item.partition("=")
        if not _NAME.fullmatch(name):
            # What stands behind it may be a secret: the item is not repeated.
            raise UsageError(f"--env: {name!r} is not a variable's name", hint="--env NAME=VALUE")
        if not separator:
            if name in os.environ or name not in found.secrets:
                found.keep(name, *_looked_up(name))
        elif credentials.in_name(name) or credentials.in_address(value):
            found.keep(name, value, "the command line")
        else:
            found.plain[name] = value
    return found


def _looked_up(name: str) -> tuple[str, str]:
    """The value of a name that came without one, and where it was found.

    Raises:
        UsageError: nowhere.
    """
    looked = []
    for source, missing in _sources(name):
        if (value := source.get(name)) is not None:
            return value, missing
        looked.append(missing)
    raise UsageError(
        f"--env {name}: it is set nowhere",
        why=f"looked in: {', '.join(looked)}",
        hint=f"export {name}=…, or put it into the keyring: docs/secrets.md",
    )


def _sources(name: str) -> Iterator[tuple[Mapping[str, str], str]]:
    """Where a name is looked for, one after the other; what is not asked for is not opened."""
    yield os.environ, "this shell"
    file = settings.load().dotenv.value
    if file:
        yield _dotenv(Path(file).expanduser().absolute()), file
    value, said = _keyring(name)
    yield {} if value is None else {name: value}, said


@cache
def _dotenv(file: Path) -> Mapping[str, str]:
    """A .env as programs read it: quotes, escapes, ``export``, comments; nothing is put in for ``${…}``."""
    if not file.is_file():
        return {}
    from dotenv import dotenv_values

    try:
        found = dotenv_values(file, interpolate=False, encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file} cannot be read", why=_why(error)) from None
    return {name: value for name, value in found.items() if value is not None}


@cache
def _keyring(name: str) -> tuple[str | None, str]:
    """What the system's keyring has under :data:`SERVICE` and the name, and how it is called in a note.

    It may ask the user to unlock it, so it comes last, and once.
    """
    try:
        import keyring
        from keyring.errors import KeyringError, NoKeyringError
    except ImportError:
        return None, "the keyring (its library is missing: pip install keyring)"
    ask: Callable[[str, str], str | None] = keyring.get_password
    try:
        return ask(SERVICE, name), f"the keyring ({SERVICE})"
    except NoKeyringError:
        return None, "the keyring (this system has none)"
    except (KeyringError, OSError, RuntimeError) as error:  # a backend's own: its text is no secret
        return None, f"the keyring ({type(error).__name__})"


def _why(error: OSError | UnicodeDecodeError) -> str:
    """A decoder's own text would show a byte of the file."""
    return error.strerror or "" if isinstance(error, OSError) else "it is not UTF-8"


def _read_env_file(file: Path) -> Mapping[str, str]:
    """NAME=VALUE lines, as ``docker run --env-file`` reads them."""
    found: dict[str, str] = {}
    problems = []
    try:
        lines = re.split(r"\r?\n", file.read_bytes().decode("utf-8-sig"))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--env-file {file} cannot be read", why=_why(error)) from None
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
