"""The end of a failed run: why it failed first, then what the log ends with."""

from collections.abc import Sequence

from launcher import metrics
from launcher.cli import ui
from launcher.metrics import Event, Failure


def print_end(events: list[Event], tail: Sequence[str]) -> None:
    """Say why a run failed.

    Args:
        events: what its trainer reported.
        tail: the last lines of its log. They are shown only where no rank said enough: with several ranks
            they are often those of another one, and of the program that started them.
    """
    failure = metrics.failure(events)
    if failure is None or not _said(failure):
        for line in tail:
            ui.err.print(line, markup=False, soft_wrap=True)
    if failure is not None:
        print_failure(failure)


def _said(failure: Failure) -> bool:
    """An exit code alone explains nothing: a parser, for one, writes its reason to the log."""
    return bool(failure.traceback) and not (
        failure.type == "SystemExit" and failure.message.startswith("exit code ")
    )


def print_failure(failure: Failure) -> None:
    """Which rank failed, when, and its traceback, which ends with the reason; refusals need none."""
    from rich.text import Text

    after = "before the first step" if failure.step is None else f"after step {failure.step}"
    others = [f"{rank}" for rank in failure.ranks if rank != failure.rank]
    followed = f"; rank {', '.join(others)} failed with it" if others else ""
    ui.err.print(
        Text.assemble((f"rank {failure.rank} failed", "bold red"), f" {after}{followed}"), soft_wrap=True
    )
    refused = failure.type == "SystemExit"
    *frames, reason = (failure.message if refused else failure.traceback.rstrip()).split("\n") or [""]
    for line in frames:
        ui.err.print(Text(line, "" if refused else "dim"), soft_wrap=True)
    ui.err.print(Text(reason or failure.type, "bold"), soft_wrap=True)
