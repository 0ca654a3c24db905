"""What every engine can do with a plan."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeVar

from launcher.plan import EngineName, Folders, RunPlan


@dataclass(frozen=True, slots=True, kw_only=True)
class Exit:
    """How a run ended.

    Attributes:
        code: the recipe's own exit code (128 + signal when a signal ended it).
        out_of_memory: the kernel killed it because memory ran out.
    """

    code: int
    out_of_memory: bool = False


class Handle(Protocol):
    """A run that has been started."""

    def lines(self) -> Iterator[str]:
        """Its output, line by line, until it ends."""

    def wait(self) -> Exit:
        """Wait for the end and clean up what the engine keeps."""

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

    def describe(self, plan: RunPlan) -> tuple[str | None, str]:
        """The digest of the plan's image (None without one), and the engine's version."""

    def render(self, plan: RunPlan, folders: Folders, run_id: str) -> RequestT:
        """The request of a plan; pure."""

    def start(self, submission: RequestT, secrets: Mapping[str, str]) -> Handle:
        """Start it; on failure nothing stays behind."""
