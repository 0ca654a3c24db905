"""Records read back: what a run was, and how it ended."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launcher import paths
from launcher import plan as plans
from launcher.errors import RecordError, UsageError
from launcher.plan import Folders, RunPlan
from launcher.runs import attempt
from launcher.runs import result as results
from launcher.runs.attempt import Attempt
from launcher.runs.folder import folders


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One run as its folder tells it.

    Attributes:
        folder: ``runs/<id>``.
        plan: what was asked for.
        result: result.json as it is; None: the run has not ended, or nobody has looked yet.
        attempts: its starts so far.
    """

    folder: Path
    plan: RunPlan
    result: dict[str, Any] | None
    attempts: tuple[Attempt, ...] = ()

    @property
    def id(self) -> str:
        """The run's id."""
        return self.folder.name

    @property
    def log(self) -> Path:
        """The recipe's output."""
        return self.folder / "log.txt"

    @property
    def metrics(self) -> Path:
        """What the trainer reported."""
        return self.folder / "metrics.jsonl"

    @property
    def place(self) -> Folders:
        """The run's folders."""
        return folders(self.id, self.plan, parent=self.folder.parent)

    @property
    def output(self) -> Path:
        """Where the recipe wrote its result."""
        return self.plan.output or self.folder / "output"


def load(folder: Path) -> Record:
    """Read a record.

    Raises:
        RecordError: damaged, or written by another version of the launcher.
    """
    try:
        text = (folder / "plan.json").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RecordError(f"{folder} holds no plan that can be read", why=str(error)) from None
    plan = plans.from_json(text, source=str(folder / "plan.json"))
    return Record(
        folder=folder, plan=plan, result=_result(folder / "result.json"), attempts=attempt.read(folder)
    )


def _result(file: Path) -> dict[str, Any] | None:
    if not file.is_file():
        return None
    try:
        found = json.loads(file.read_bytes())
        schema = found["schema"]
        if schema == results.SCHEMA:
            results.check(found)
    except (ValueError, TypeError, KeyError, RecursionError):
        raise RecordError(f"{file} is damaged", hint="the plan beside it can still be run again") from None
    if schema != results.SCHEMA:
        raise RecordError(
            f"{file} has the version {schema}, this launcher reads {results.SCHEMA}",
            why="it was written by another version of the launcher",
            hint="use the launcher version that the record names under versions.launcher",
        )
    return dict(found)


def everything(parent: Path | None = None, *, everywhere: bool = False) -> list[Path]:
    """The folders of runs, oldest first; whether they can be read is another question.

    Args:
        parent: where records lie; None: the working folder's ``runs``.
        everywhere: those elsewhere, too, that this user has started on this machine.
    """
    found = _below(parent or paths.runs())
    if everywhere:
        found |= {link.resolve() for link in _below(paths.known_runs())}
    return sorted(found, key=lambda folder: (folder.name, folder))


def _below(parent: Path) -> set[Path]:
    # What begins with a dot is being removed.
    return {file.parent for file in parent.glob("[!.]*/plan.json")} if parent.is_dir() else set()


def find(name: str) -> Path:
    """The folder of a run.

    Args:
        name: an id, a part of exactly one, the path of a record, or ``last``.

    Raises:
        UsageError: there is none, or several fit.
    """
    given = Path(name)
    if (given / "plan.json").is_file():
        return given.absolute()
    for known in (everything(), everything(everywhere=True)):
        if name == "last" and known:
            return known[-1]
        fitting = [folder for folder in known if folder.name == name]
        fitting = fitting or [folder for folder in known if name in folder.name]
        if len(fitting) == 1:
            return fitting[0]
        if fitting:
            names = ", ".join(folder.name for folder in fitting[:5])
            raise UsageError(f"{name!r} is part of {len(fitting)} runs: {names}", hint="give more of the id")
    raise UsageError(
        f"there is no run {name!r}",
        why=f"neither in {paths.runs()} nor among those that this user has started elsewhere",
        hint="launch runs list --all",
    )


def tail(log: Path, offset: int, count: int) -> list[str]:
    """The last lines of a log, of what begins at ``offset``."""
    if not log.is_file():
        return []
    with log.open("rb") as stream:
        stream.seek(max(offset, stream.seek(0, os.SEEK_END) - _TAIL))
        return stream.read().decode(errors="replace").splitlines()[-count:]


#: Bytes that the last lines of a log are looked for in.
_TAIL = 64 * 1024
