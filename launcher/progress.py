"""How long work reports its progress without knowing a terminal: the command line draws it."""

from typing import Any, Protocol


class Progress(Protocol):
    """Receives progress; implemented with rich by ``cli.ui`` and by :class:`Silent`."""

    def start(self, task: str, *, total: float | None, unit: str = "steps") -> None:
        """A task begins; ``total`` is in ``unit`` (``bytes`` or ``steps``), None when unknown."""

    def advance(self, task: str, amount: float) -> None:
        """``amount`` more of the task is done."""

    def finish(self, task: str) -> None:
        """The task is done."""

    def say(self, line: str) -> None:
        """One line for the reader, above whatever is being drawn."""


class Silent:
    """Progress that nobody looks at."""

    def start(self, task: str, *, total: float | None, unit: str = "steps") -> None:
        """Nothing."""

    def advance(self, task: str, amount: float) -> None:
        """Nothing."""

    def finish(self, task: str) -> None:
        """Nothing."""

    def say(self, line: str) -> None:
        """Nothing."""


class RunView(Protocol):
    """Receives what happens in a run; implemented with rich by ``cli.live`` and by :class:`SilentView`."""

    def line(self, text: str) -> None:
        """One line of the recipe's output."""

    def event(self, event: dict[str, Any]) -> None:
        """One event of metrics.jsonl: begin, step or end."""

    def notice(self, text: str) -> None:
        """One line that the launcher itself has to say meanwhile."""

    def stopping(self, *, grace: float) -> None:
        """A signal arrived: the run was asked to end, and is killed after ``grace`` seconds."""


class SilentView:
    """A run that nobody watches."""

    def line(self, text: str) -> None:
        """Nothing."""

    def event(self, event: dict[str, Any]) -> None:
        """Nothing."""

    def notice(self, text: str) -> None:
        """Nothing."""

    def stopping(self, *, grace: float) -> None:
        """Nothing."""
