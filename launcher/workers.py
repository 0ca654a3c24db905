"""Work shared out to processes of this program, results in order; beside ``process``, which starts others.

The processes are forked before anything else runs beside the main thread: they begin at once, know what it
has imported, and hash texts alike (Python's seed is theirs too), which finding repeated rows relies on.
"""

import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from launcher.errors import ProgramError

if TYPE_CHECKING:  # most runs have little data, and start sooner without them
    from concurrent.futures import Future, ProcessPoolExecutor

_In = TypeVar("_In")
_Out = TypeVar("_Out")

#: Less work than this is done sooner here than handed to others (bytes).
WORTH_IT = 24 << 20

#: PR_SET_PDEATHSIG of linux/prctl.h.
_PARENT_DEATH = 1


class Crew:
    """Calls a function on jobs in several processes; used like ``map``."""

    def __init__(self, executor: "ProcessPoolExecutor", size: int) -> None:
        self._executor, self._most = executor, 2 * size

    def __call__(self, function: Callable[[_In], _Out], jobs: Iterable[_In], /) -> Iterator[_Out]:
        """The results in the jobs' order; a few jobs more than there are processes are under way.

        Raises:
            ProgramError: a process was killed.
        """
        from concurrent.futures.process import BrokenProcessPool

        under_way: deque[Future[_Out]] = deque()
        try:
            for job in jobs:
                under_way.append(self._executor.submit(function, job))
                if len(under_way) >= self._most:
                    yield under_way.popleft().result()
            while under_way:
                yield under_way.popleft().result()
        except BrokenProcessPool:
            raise ProgramError(
                "a process that read the data was killed",
                why="most likely the memory of this machine, or of the container, is used up",
                hint="fewer processes: --jobs 1",
            ) from None
        finally:
            for future in under_way:
                future.cancel()


@contextmanager
def crew(size: int, work: int) -> Iterator[Any]:
    """Processes for ``work`` bytes, or plain ``map`` where there is too little to do.

    SIGTERM ends this process like an error while they are there, so that they are ended too; if it is killed
    without a word, the kernel ends them.

    Args:
        size: processes.
    """
    if size == 1 or work < WORTH_IT:
        yield map
        return
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor

    context = multiprocessing.get_context("fork")
    start = (os.getpid(),)
    with (
        _terminated(),
        ProcessPoolExecutor(size, mp_context=context, initializer=_begin, initargs=start) as executor,
    ):
        executor.submit(os.getpid).result()  # all of them start now
        try:
            yield Crew(executor, size)
        except BaseException:
            executor.shutdown(cancel_futures=True)  # what is under way ends, what waits does not begin
            raise


@contextmanager
def _terminated() -> Iterator[None]:
    """SIGTERM as an exception, unless something else is to happen then (only the main thread may say so)."""
    ours = threading.current_thread() is threading.main_thread()
    if not ours or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return

    def end(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _begin(parent: int) -> None:
    """In a new process: Ctrl-C is for the main process, which then ends this one, and it never outlives that.

    The kernel's signal for that is prctl(2)'s PR_SET_PDEATHSIG; it comes when the thread ends that forked.
    """
    import ctypes

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    ctypes.CDLL(None).prctl(_PARENT_DEATH, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:  # it was gone before
        os._exit(1)
