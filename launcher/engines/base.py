"""What every engine can do with a plan, and with a run that somebody else started."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Protocol, TypeVar

from launcher.plan import EngineName, Folders, RunPlan, Start


class Phase(StrEnum):
    """Where a run is, as its engine says."""

    UNSTARTED = "unstarted"  # made, and nobody will start it any more
    PENDING = "pending"  # it waits for its turn, for the first time or again
    RUNNING = "running"
    ENDED = "ended"

    @property
    def going(self) -> bool:
        """It has an end before it."""
        return self in (Phase.PENDING, Phase.RUNNING)


@dataclass(frozen=True, slots=True, kw_only=True)
class Exit:
    """How a run ended.

    Attributes:
        code: the recipe's own exit code (128 + signal when a signal ended it).
        out_of_memory: the kernel killed it, or a part of it, because memory ran out.
        memory_kills: the kernel killed something of this machine for that, meanwhile.
        ended: UTC, ISO 8601, as the engine has it; empty when it does not say.
        restarts: how often the engine itself has started it again, after it had taken its nodes away.
    """

    code: int
    out_of_memory: bool = False
    memory_kills: bool = False
    ended: str = ""
    restarts: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """The engine that a plan runs on.

    Attributes:
        image_digest: of the plan's image; None without one.
        version: of the engine.
        where: which engine of which machine; another one knows nothing of its runs.
    """

    image_digest: str | None
    version: str
    where: str


class Handle(Protocol):
    """A run that the engine knows."""

    def phase(self) -> Phase:
        """Where it is now.

        Raises:
            EngineGoneError: the engine does not answer.
        """

    def waiting(self) -> str:
        """Why it is still pending, in the engine's words; empty when it is not, or nobody says."""

    def lines(self, log: Path, begins: int, shown: int, *, follow: bool = True) -> Iterator[str]:
        """Bring its output into a file, and give what comes line by line until it ends.

        What the file has already is not written twice.

        Args:
            log: the file.
            begins: where the output of this start begins in it, in bytes.
            shown: where the lines begin that are given.
            follow: False: what there is now, and no more.
        """

    def wait(self) -> Exit:
        """Wait for the end.

        Raises:
            EngineGoneError: the engine does not answer: it may still run.
            EngineError: the engine lost it.
        """

    def remove(self) -> None:
        """Clean up what the engine keeps of it; only when its end is on the record."""

    def stop(self, grace: float) -> None:
        """Ask it to end (SIGTERM), and kill it after ``grace`` seconds."""

    def kill(self) -> None:
        """End it now (SIGKILL)."""


class Submission(Protocol):
    """An engine's own request as data."""

    def printed(self) -> str:
        """The same request as a command line to paste."""


RequestT = TypeVar("RequestT", bound=Submission)


class Engine(Protocol[RequestT]):
    """A place where plans run."""

    name: EngineName

    def check(self, plan: RunPlan) -> None:
        """Raise the named error of whatever is missing: engine, image, device, runtime."""

    def describe(self, plan: RunPlan) -> Description:
        """What the record says of the engine.

        Raises:
            EngineGoneError: the engine does not answer.
        """

    def where(self) -> str:
        """Which engine of which machine this is.

        Raises:
            EngineGoneError: the engine does not answer.
        """

    def render(self, plan: RunPlan, folders: Folders, start: Start) -> RequestT:
        """The request of a plan; pure."""

    def start(self, submission: RequestT, secrets: Mapping[str, str]) -> Handle:
        """Start it; on failure nothing stays behind."""

    def find(self, folders: Folders, start: Start) -> Handle | None:
        """A run that was started before, by whomever; None: the engine knows nothing of it.

        Raises:
            EngineGoneError: the engine does not answer.
        """
