"""A job that was submitted, by whomever."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from launcher import secretfile
from launcher.engines.base import Exit, Phase
from launcher.engines.slurm import client, problems, state
from launcher.engines.slurm.options import job_name
from launcher.engines.slurm.script import traces
from launcher.engines.slurm.state import End, Job
from launcher.errors import EngineError, EngineGoneError, LaunchError
from launcher.plan import Folders, Start

#: Seconds between two looks at a log that grows.
_PAUSE = 0.2

#: Seconds in which what a job has written last is seen here, too: file systems over a network keep what they
#: know of a file for a moment.
_LATE = 10.0

#: Exit code of a recipe that was asked to end: 128 and SIGTERM.
_TERMINATED = 143

#: Seconds in which an engine's containers are killed before the rest of the job is.
_KILLING = 5.0


#: Seconds in which a slurmctld comes back that was started anew, or that another machine takes over from.
_AWAY = 300.0


def _going(found: Job | None) -> bool:
    return found is not None and found.phase.going


class SlurmHandle:
    """A job; what it was is in its record.

    Args:
        folders: the run's own.
        start: which one; the job has its name, for numbers come again when a cluster is set up anew.
        number: of the job.
    """

    def __init__(self, folders: Folders, start: Start, number: str) -> None:
        self._folders, self._start = folders, start
        self._number, self._name, self._traces = number, job_name(start), traces(folders, start)

    @property
    def id(self) -> str:
        """The job's number."""
        return self._number

    def phase(self) -> Phase:
        """See base.Handle.phase."""
        found = self._job()
        return Phase.ENDED if found is None else found.phase

    def waiting(self) -> str:
        """See base.Handle.waiting."""
        with suppress(EngineGoneError):  # whoever waits for the end says so
            found = self._job()
            if found is not None and found.phase is Phase.PENDING:
                return state.waiting(found)
        return ""

    def lines(self, log: Path, begins: int, shown: int, *, follow: bool = True) -> Iterator[str]:
        """See base.Handle.lines; Slurm writes the log itself."""
        rest, over = b"", False
        with log.open("rb") as stream:
            stream.seek(shown)
            while not over:
                over = not follow or not _going(self._patiently())
                *complete, rest = (rest + stream.read()).split(b"\n")
                for line in complete:
                    yield line.decode(errors="replace")
                if not over:
                    time.sleep(_PAUSE)
        if rest:
            yield rest.decode(errors="replace")

    def wait(self) -> Exit:
        """See base.Handle.wait.

        Raises:
            ImageMissingError, EngineError: a node lacks something; Slurm ended it; nobody knows how it ended.
        """
        while _going(found := self._patiently()):
            time.sleep(client.FRESH)
        end = self._end(found)
        if (lacks := self._lacks()) is not None:
            raise lacks
        restarts = found.restarts if found else end.restarts if end else 0
        if self._asked():
            code = end.code if end else _TERMINATED
            return Exit(code=code, ended=end.ended if end else "", restarts=restarts)
        memory = found is not None and found.state == "OUT_OF_MEMORY"
        if found is not None and found.state not in ("COMPLETED", "FAILED", "OUT_OF_MEMORY"):
            raise problems.ended_by_slurm(found, self._start.run)
        if end is not None and (found is not None or not end.terminated):
            return Exit(
                code=end.code or int(memory), out_of_memory=memory, ended=end.ended, restarts=restarts
            )
        if memory:
            return Exit(code=137, out_of_memory=True, restarts=restarts)
        if found is not None:
            raise problems.not_started(found, str(self._folders.run / "log.txt"))
        raise EngineError(
            f"the run was lost: Slurm has forgotten job {self._number}, which left no word of its end",
            why="nobody looked for longer than Slurm keeps jobs (MinJobAge), and a node or Slurm ended it",
            hint=f"launch runs resume {self._start.run} goes on from the last checkpoint",
        )

    def remove(self) -> None:
        """See base.Handle.remove: the file of secrets is all that is left."""
        secretfile.forget(self._start.run, self._folders.run.parent)

    def stop(self, grace: float) -> None:
        """See base.Handle.stop; the time until it is killed is the site's (KillWait)."""
        self._in_background(lambda: client.cancel(self._number))

    def kill(self) -> None:
        """See base.Handle.kill."""

        def act() -> None:
            # A container is not of the job: its node kills it by this signal, which ends other runs as well.
            client.cancel(self._number, "--signal=USR1")
            deadline = time.monotonic() + _KILLING
            while self.phase().going and time.monotonic() < deadline:
                time.sleep(_PAUSE)
            client.cancel(self._number, "--signal=KILL")

        self._in_background(act)

    def _in_background(self, action: Callable[[], None]) -> None:
        """The caller goes on reading the output; who asked is on the record before Slurm hears of it."""
        with suppress(OSError):  # on a full disk it looks as if somebody else had done it
            self._traces.asked.touch()

        def act() -> None:
            while True:
                with suppress(
                    EngineGoneError
                ):  # whoever waits for the end says so; nobody asks a second time
                    action()
                    return
                time.sleep(client.FRESH)
                with suppress(EngineGoneError):
                    if not self.phase().going:
                        return

        threading.Thread(target=act, daemon=True).start()

    def _job(self) -> Job | None:
        return client.job(self._number, self._name)

    def _patiently(self) -> Job | None:
        """Whoever follows a run outlasts a slurmctld that is started anew.

        Raises:
            EngineGoneError: it does not answer for longer than that.
        """
        from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

        patient = Retrying(
            retry=retry_if_exception_type(EngineGoneError),
            wait=wait_fixed(client.FRESH),
            stop=stop_after_delay(_AWAY),
            reraise=True,
        )
        return patient(self._job)

    def _asked(self) -> bool:
        return self._traces.asked.exists()

    def _lacks(self) -> LaunchError | None:
        with suppress(OSError):
            return problems.lacking(self._traces.problems.read_text(errors="replace"))
        return None

    def _end(self, found: Job | None) -> End | None:
        """What the script wrote of this job's last start."""
        deadline = time.monotonic() + _LATE
        while True:
            with suppress(OSError):
                said = state.end(self._traces.end.read_text(errors="replace"))
                last = said is not None and (found is None or said.restarts == found.restarts)
                if said is not None and last and said.job == self._number:
                    return said
            expected = found is not None and found.state in ("COMPLETED", "FAILED") and not found.signal
            if not expected or time.monotonic() > deadline:
                return None
            time.sleep(_PAUSE)
