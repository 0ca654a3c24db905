"""The starts of a run: ``attempts/N.json``, from before a start until after its end."""

import datetime
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from launcher import paths
from launcher.errors import RecordError

SCHEMA = 1

_FOLDER = "attempts"


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One start of a run.

    Attributes:
        number: 1 is the first.
        checkpoint: the folder in the output that it went on from; empty: from the beginning.
        log_offset: where its output begins in log.txt, in bytes.
        where: the machine and engine; another one knows nothing of it.
        image_digest: of the image; None without one.
        engine_version: the engine's, or the version of the environment's Python.
        began, ended: UTC, ISO 8601; ``ended`` is empty while it runs.
        recipe_exit: the recipe's own exit code; None while it runs, and when nobody knows it.
        cause: why it ended; empty when all is well.
        restarts: how often the engine itself has started it again; those events have the next numbers.
    """

    schema: int = SCHEMA
    number: int
    checkpoint: str = ""
    log_offset: int = 0
    where: str
    image_digest: str | None
    engine_version: str
    began: str
    ended: str = ""
    recipe_exit: int | None = None
    cause: str = ""
    restarts: int = 0

    @property
    def newest(self) -> int:
        """The number that its last events have."""
        return self.number + self.restarts


def write(run: Path, attempt: Attempt) -> None:
    """Put it on the record."""
    text = json.dumps(asdict(attempt), indent=2, ensure_ascii=False)
    paths.write_atomic(run / _FOLDER / f"{attempt.number}.json", text + "\n")


def read(run: Path) -> tuple[Attempt, ...]:
    """All starts of a run, the first one first.

    Raises:
        RecordError: damaged, or written by another version of the launcher.
    """
    found = [_read(file) for file in (run / _FOLDER).glob("*.json") if file.stem.isdecimal()]
    return tuple(sorted(found, key=lambda attempt: attempt.number))


def _read(file: Path) -> Attempt:
    try:
        raw = json.loads(file.read_bytes())
        if raw["schema"] != SCHEMA:
            raise RecordError(
                f"{file} has the version {raw['schema']}, this launcher reads {SCHEMA}",
                why="it was written by another version of the launcher",
            )
        return _checked(Attempt(**raw))
    except (ValueError, TypeError, KeyError, RecursionError):
        raise RecordError(f"{file} is damaged") from None


def _checked(found: Attempt) -> Attempt:
    """Raise when a value is none that was written: what reads a list of runs must not stumble over one."""
    texts = (found.checkpoint, found.where, found.engine_version, found.began, found.ended, found.cause)
    numbers = (
        found.number,
        found.log_offset,
        found.restarts,
        0 if found.recipe_exit is None else found.recipe_exit,
    )
    if not all(isinstance(text, str) for text in (*texts, found.image_digest or "")):
        raise TypeError("a text")
    if not all(type(number) is int for number in numbers) or min(found.log_offset, found.restarts) < 0:
        raise TypeError("a number")
    for time in filter(None, (found.began, found.ended)):
        if datetime.datetime.fromisoformat(time).tzinfo is None:
            raise ValueError("a time without its zone")
    return found


def set_aside_result(run: Path, number: int) -> None:
    """The run goes on: what result.json says is now the end of one start."""
    (run / _FOLDER).mkdir(exist_ok=True)
    (run / "result.json").rename(run / _FOLDER / f"{number}.result.json")
    paths.sync_folder(run)


def restore_result(run: Path, number: int) -> bool:
    """Put the result back that was set aside for a start which never came; False: there is none."""
    try:
        (run / _FOLDER / f"{number}.result.json").rename(run / "result.json")
    except FileNotFoundError:
        return False
    paths.sync_folder(run)
    return True
