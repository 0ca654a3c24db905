"""Records read back: what a run was, and how it ended."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launcher import paths
from launcher import plan as plans
from launcher.errors import RecordError, UsageError
from launcher.plan import RunPlan
from launcher.runs import result as results


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One run as its folder tells it.

    Attributes:
        folder: ``runs/<id>``.
        plan: what was asked for.
        result: result.json as it is; None: the run has not ended, or nobody has looked yet.
    """

    folder: Path
    plan: RunPlan
    result: dict[str, Any] | None

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
    return Record(folder=folder, plan=plan, result=_result(folder / "result.json"))


def _result(file: Path) -> dict[str, Any] | None:
    if not file.is_file():
        return None
    try:
        found = json.loads(file.read_bytes())
        schema = found["schema"]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise RecordError(f"{file} is damaged", hint="the plan beside it can still be run again") from None
    if schema != results.SCHEMA:
        raise RecordError(
            f"{file} has the version {schema}, this launcher reads {results.SCHEMA}",
            why="it was written by another version of the launcher",
            hint="use the launcher version that the record names under versions.launcher",
        )
    return dict(found)


def everything(parent: Path | None = None) -> list[Path]:
    """The folders of all runs, oldest first; whether they can be read is another question.

    Args:
        parent: where records lie; None: the working folder's ``runs``.
    """
    folder = parent or paths.runs()
    if not folder.is_dir():
        return []
    return sorted(file.parent for file in folder.glob("*/plan.json"))


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
    known = everything()
    if name == "last" and known:
        return known[-1]
    exact = [folder for folder in known if folder.name == name]
    fitting = exact or [folder for folder in known if name in folder.name]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        names = ", ".join(folder.name for folder in fitting[:5])
        raise UsageError(f"{name!r} is part of {len(fitting)} runs: {names}", hint="give more of the id")
    raise UsageError(
        f"there is no run {name!r} in {paths.runs()}",
        hint="launch runs list   (LAUNCH_RUNS_DIR names another folder)",
    )
