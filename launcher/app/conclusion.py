"""The end of a run that nobody followed to it, written by the first who sees it."""

import time

from launcher import runs, secretfile, texts
from launcher.app import execute, verdict
from launcher.app.plan import Planned
from launcher.app.recording import Recorder
from launcher.app.verdict import Outcome
from launcher.engines.base import Exit, Handle, Phase
from launcher.errors import EngineError
from launcher.runs import Record


def conclude(record: Record, planned: Planned, handle: Handle | None) -> None:
    """Write the end of a run that the engine says is over, or knows nothing of; the lock is held."""
    secretfile.forget(record.id, record.folder.parent)
    place, recorder = record.place, Recorder(planned, record.place, following=False)
    if not record.attempts:
        recorder.close(verdict.refused(EngineError("the launcher ended before it started it"), stage="start"))
        runs.unclaim(place)
        return
    attempt = record.attempts[-1]
    if attempt.ended and runs.restore_result(record.folder, attempt.number):
        return  # whoever was about to resume it did not come to it
    stopped = (
        attempt.cause.removeprefix(texts.STOPPED_BY) if attempt.cause.startswith(texts.STOPPED_BY) else ""
    )
    if handle is not None and handle.phase() is Phase.ENDED:
        execute.catch_up(handle, attempt, place)
        outcome = execute.judge(planned, place, attempt, handle.wait, recorder, stopped=stopped)
    elif attempt.recipe_exit is not None:  # its launcher was killed between two starts
        code = attempt.recipe_exit
        outcome = execute.judge(planned, place, attempt, lambda: Exit(code=code), recorder, stopped=stopped)
    else:
        outcome = _lost(record, started=handle is None)
    if not attempt.ended:
        recorder.end(attempt, outcome)
    recorder.close(outcome)
    if handle is not None:
        handle.remove()


def _lost(record: Record, *, started: bool) -> Outcome:
    """The end of what nobody saw end."""
    if not started:
        error = EngineError("the launcher ended before the engine started it")
        return verdict.refused(error, stage="start")
    seen = (file.stat().st_mtime for file in (record.log, record.metrics) if file.exists())
    last = max(seen, default=time.time())
    error = EngineError(
        "the run was lost: its engine knows nothing of it",
        why="the machine was restarted, or somebody removed it",
        hint=f"launch runs resume {record.id}",
    )
    ended = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(last))
    return Outcome(
        stage="train",
        exit_code=error.exit_code,
        recipe_exit=None,
        error=error,
        message=error.message,
        ended=ended,
    )
