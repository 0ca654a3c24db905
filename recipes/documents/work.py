"""Files read side by side, each by a process that may fail, hang or grow without harm to the others."""

import ctypes
import json
import multiprocessing
import os
import resource
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from documents import chunks, sources
from documents.chunks import Sizes
from documents.pdf import RefusedError
from documents.sources import Source

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """How files are read.

    Attributes:
        folder: for the text of each file, ``NUMBER.md``, and its chunks, ``NUMBER.jsonl``.
        seconds: that a file may take.
        memory: bytes that a process may map.
    """

    folder: Path
    sizes: Sizes
    extractor: str
    ocr: str
    seconds: float
    memory: int


@dataclass(slots=True, kw_only=True)
class Result:
    """What became of a file.

    Attributes:
        problem: why nothing came out; empty when something did.
        warnings: what did not come out, though the rest did.
    """

    name: str
    sha256: str = ""
    pages: int = 0
    scanned: int = 0
    characters: int = 0
    chunks: int = 0
    seconds: float = 0.0
    problem: str = ""
    warnings: list[str] = field(default_factory=list)


def run(found: Sequence[Source], task: Task, processes: int, done: Callable[[Result], None]) -> list[Result]:
    """Read all files.

    Args:
        processes: at a time.
        done: told about each file as it ends.

    Returns:
        A result for each file, in their order, whichever was ready first.
    """
    results: list[Result] = [Result(name=each.name) for each in found]
    waiting = list(range(len(found)))[::-1]
    workers: list[_Worker] = []
    try:
        while waiting or workers:
            while waiting and len(workers) < processes:
                workers.append(_Worker(task))
            for worker in workers:
                if worker.job is None and waiting:
                    worker.give(waiting.pop(), found)
            busy = [worker for worker in workers if worker.job is not None]
            for idle in [worker for worker in workers if worker.job is None]:
                idle.end()
                workers.remove(idle)
            if not busy:
                continue
            wait([worker.pipe for worker in busy], timeout=max(0.0, min(each.left() for each in busy)))
            for worker in busy:
                number, result = worker.job, worker.result(found)
                if result is None or number is None:
                    continue
                results[number] = result
                done(result)
                if not worker.process.is_alive():
                    workers.remove(worker)
    finally:
        for worker in workers:
            worker.end()
    return results


class _Worker:
    """A process, its pipe, and the file that it reads."""

    def __init__(self, task: Task) -> None:
        context = multiprocessing.get_context("spawn")  # a fork would copy threads' locks
        self.pipe, other = context.Pipe()
        self.process = context.Process(target=_serve, args=(other, task), daemon=True)
        self.process.start()
        other.close()
        self.task = task
        self.job: int | None = None
        self.started = 0.0

    def give(self, number: int, found: Sequence[Source]) -> None:
        """The next file; a process that has died meanwhile is found by :meth:`result`."""
        self.job, self.started = number, time.monotonic()
        with suppress(OSError):
            self.pipe.send((number, found[number]))

    def left(self) -> float:
        """Seconds until the file has taken too long."""
        return self.started + self.task.seconds - time.monotonic()

    def result(self, found: Sequence[Source]) -> Result | None:
        """What became of the file; None: nothing yet."""
        if self.job is None:
            return None
        source, problem = found[self.job], ""
        if self.pipe.poll():
            try:
                result: Result = self.pipe.recv()
                self.job = None
                return result
            except (EOFError, OSError):
                self.process.join()
                code = self.process.exitcode or 0
                problem = (
                    f"the process that read it ended by signal {-code}" if code < 0 else "the process died"
                )
                problem += " (9: the machine's memory ran out)" if code == -9 else ""
        elif self.left() <= 0:
            problem = f"took longer than {self.task.seconds:g} s: a larger --seconds-per-file"
        if not problem:
            return None
        self.end()
        seconds = time.monotonic() - self.started
        self.job = None
        return Result(name=source.name, seconds=round(seconds, 2), problem=problem)

    def end(self) -> None:
        """No process stays behind."""
        self.pipe.close()
        self.process.kill()
        self.process.join()


def _serve(pipe: Connection, task: Task) -> None:
    """One file after the other, until the pipe closes; the process does not outlive its parent."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if task.memory:
        # The address space: what is mapped counts, so a library's own reserve does too.
        resource.setrlimit(resource.RLIMIT_AS, (task.memory, task.memory))
    os.nice(5)
    while True:
        try:
            number, source = pipe.recv()
        except (EOFError, OSError):
            return
        pipe.send(read(number, source, task))


def read(number: int, source: Source, task: Task) -> Result:
    """Read one file, write its text and its chunks."""
    result = Result(name=source.name)
    started = time.monotonic()
    try:
        result.sha256 = sources.digest(source.path) if source.kind and source.path.is_file() else ""
        document = sources.read(source, extractor=task.extractor, ocr=task.ocr)
        result.pages, result.scanned, result.warnings = document.pages, document.scanned, document.problems
        result.characters = len(document.markdown)
        (task.folder / f"{number}.md").write_text(document.markdown, encoding="utf-8")
        with (task.folder / f"{number}.jsonl").open("w", encoding="utf-8") as stream:
            for section in chunks.cut(document.markdown, task.sizes):
                row: dict[str, Any] = {"headings": list(section.headings), "text": section.text}
                stream.write(json.dumps(row, ensure_ascii=False) + "\n")
                result.chunks += 1
        if not result.chunks:
            result.problem = "nothing that is long enough for a row"
    except RefusedError as error:
        result.problem = str(error)
    except MemoryError:
        result.problem = "needs more memory than --memory-gib allows"
    except PermissionError:
        result.problem = "cannot be read: permission denied"
    except Exception as error:  # noqa: BLE001 - a damaged file raises anything in a library; it is named
        result.problem = f"broken: {type(error).__name__}: {str(error)[:300]}"
    result.seconds = round(time.monotonic() - started, 2)
    return result
