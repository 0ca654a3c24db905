"""The run's record, ``$LAUNCH_RUN_DIR/metrics.jsonl``: one JSON object per line, appended by every rank.

Of several nodes, node K > 0 has ``metrics.K.jsonl``: what two machines append to one file of a network file
system overwrites each other (open(2) says so of NFS).

Schema 1, as docs/runs.md lists it. Standard library only: what ends a run before its trainer is imported is
reported as well.
"""

import contextlib
import json
import os
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from runtime.entry import MASK, NAMES, SHORTEST

SCHEMA = 1

#: Characters of an exception's message and traceback that are kept: whole tensors are printed into some.
_MESSAGE, _TRACEBACK = 2_000, 30_000

#: Whoever called the trainer: not where it failed.
_CALLERS = ("<frozen runpy>", str(Path(__file__).with_name("__main__.py")))


def rank() -> int:
    """This process's, as torchrun numbers it."""
    return int(os.environ.get("RANK", "0"))


def report(event: str, *, rank: int | None = None, **fields: Any) -> None:
    """Append one event to the run's record, with one system call, so that ranks never mix.

    Without a rank it is this process's, and only rank 0 writes. Without a record nothing is written.
    """
    own = int(os.environ.get("RANK", "0"))
    if not os.environ.get("LAUNCH_RUN_DIR") or (rank is None and own != 0):
        return
    line = {"schema": SCHEMA, "event": event, "rank": own if rank is None else rank, "time": time.time()}
    # The launcher counts its own starts, and the site's scheduler those that it repeats.
    attempt = int(os.environ.get("LAUNCH_ATTEMPT") or 1) + int(os.environ.get("LAUNCH_RESTARTS") or 0)
    if attempt > 1:
        line["attempt"] = attempt
    node = int(os.environ.get("LAUNCH_NODE_RANK") or 0)
    file = Path(os.environ["LAUNCH_RUN_DIR"]) / (f"metrics.{node}.jsonl" if node else "metrics.jsonl")
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        os.write(descriptor, (json.dumps({**line, **_masked(fields, secrets())}) + "\n").encode())
    finally:
        os.close(descriptor)


def secrets() -> list[str]:
    """What must not be in a record: lines of the variables that came as secrets, the longest first."""
    names = [name for name in os.environb.get(NAMES.encode(), b"").split(b",") if name]
    # As bytes, like the entry: text has more ends of lines, and shorter lines that would be left.
    lines = {line.strip() for name in names for line in os.environb.get(name, b"").splitlines()}
    return [os.fsdecode(line) for line in sorted(lines, key=len, reverse=True) if len(line) >= SHORTEST]


def _masked(value: Any, hidden: Sequence[str]) -> Any:
    """The same with asterisks: the message of an exception may hold an address with its token."""
    if not hidden:
        return value
    if isinstance(value, str):
        for text in hidden:
            value = value.replace(text, MASK.decode())
        return value
    if isinstance(value, dict):
        return {key: _masked(each, hidden) for key, each in value.items()}
    return [_masked(each, hidden) for each in value] if isinstance(value, list | tuple) else value


def report_failure(error: BaseException) -> None:
    """Say by which exception this rank's trainer ended; a stop that was asked for is none.

    What cannot be written is lost: the exception itself must reach the trainer's own end.
    """
    if isinstance(error, KeyboardInterrupt | GeneratorExit):
        return
    message = str(error)
    if isinstance(error, SystemExit):
        if error.code is None or error.code == 0:
            return
        message = f"exit code {error.code}" if isinstance(error.code, int) else str(error.code)
    hidden = secrets()  # masked before it is cut: a half of one would be none
    with contextlib.suppress(OSError):
        report(
            "failure",
            rank=rank(),
            type=_name(type(error)),
            message=_masked(message, hidden)[:_MESSAGE],
            traceback=_masked(_traceback(error), hidden)[-_TRACEBACK:],
        )


def _name(kind: type[BaseException]) -> str:
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _traceback(error: BaseException) -> str:
    """As the interpreter prints it, but from the trainer's own first line on."""
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename in _CALLERS:
        frames = frames.tb_next
    return "".join(traceback.format_exception(type(error), error, frames or error.__traceback__))
