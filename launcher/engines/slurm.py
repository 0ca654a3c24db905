"""Runs on Slurm."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from launcher.engines.base import Description, Handle
from launcher.plan import EngineName, Folders, RunPlan, Start


@dataclass(frozen=True, slots=True, kw_only=True)
class SlurmRequest:
    """A submission, as data."""

    def printed(self) -> str:
        """The same as a command line to paste."""
        raise NotImplementedError

    def files(self) -> Mapping[str, str]:
        """The same as files to keep: name and text of each."""
        raise NotImplementedError


class SlurmEngine:
    """The site's Slurm."""

    name: EngineName = "slurm"

    def __init__(self, environment: Path | None = None) -> None:
        self._environment = environment

    def check(self, plan: RunPlan) -> None:
        """See base.Engine.check."""
        raise NotImplementedError

    def describe(self, plan: RunPlan) -> Description:
        """See base.Engine.describe."""
        raise NotImplementedError

    def where(self) -> str:
        """See base.Engine.where."""
        raise NotImplementedError

    def render(self, plan: RunPlan, folders: Folders, start: Start) -> SlurmRequest:
        """See base.Engine.render."""
        raise NotImplementedError

    def start(self, submission: SlurmRequest, secrets: Mapping[str, str]) -> Handle:
        """See base.Engine.start."""
        raise NotImplementedError

    def find(self, folders: Folders, start: Start) -> Handle | None:
        """See base.Engine.find."""
        raise NotImplementedError
