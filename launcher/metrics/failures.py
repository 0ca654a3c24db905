"""Which rank broke a training: the first that failed for a reason of its own."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from launcher.metrics.events import Event, attempts, number, of_attempt, of_kind, whole

#: What a rank says when another one is gone. Sources: gloo (gloo/transport/tcp/pair.cc, unbound_buffer.cc),
#: torch (torch/csrc/distributed/c10d: TCPStore.cpp, ProcessGroupNCCL.cpp, ProcessGroupGloo.cpp), NCCL
#: (src/init.cc, ncclGetErrorString), oneCCL's use of the same sockets.
_PEER = re.compile(
    r"connection (was |is |been )?(likely )?(closed|reset|refused|aborted)|broken pipe"
    r"|(pair|connection) closure|socket (timeout|closed|error)|failed to recv, got 0 bytes"
    r"|timed out waiting .*(recv|send)|wait timeout after|client socket has timed out|monitoredbarrier"
    r"|watchdog caught collective operation timeout|ncclremoteerror|communicator was aborted"
    r"|remote process (exited|exiting)|sendbytes failed|recvvalue failed|recvbytes failed",
    re.IGNORECASE,
)

#: Exceptions that are about the connection between ranks and nothing else.
_PEER_TYPES = ("DistNetworkError", "DistStoreError", "BrokenPipeError", "ConnectionResetError")


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a training ended.

    Attributes:
        rank: whose failure it is.
        type, message: of the exception; a ``SystemExit`` is a refusal in words, or an exit code.
        traceback: as the interpreter prints it, from the trainer's own first line on.
        step: the last step that the attempt reported before it; None: none.
        attempt: which one failed.
        ranks: all ranks that reported a failure, in the order in which they did.
    """

    rank: int
    type: str
    message: str
    traceback: str
    step: int | None
    attempt: int
    ranks: tuple[int, ...]


def failure(events: Iterable[Event]) -> Failure | None:
    """The failure of the last attempt: of the rank that failed first for a reason of its own.

    When a rank ends, the others lose their connections to it, and often say so before it has said a word.
    None: no rank reported one; it was killed, or did not fail.
    """
    known = list(events)
    last = max(attempts(known), default=1)
    own = of_attempt(known, last)
    failed = sorted(of_kind(own, "failure"), key=lambda event: number(event, "time") or 0.0)
    if not failed:
        return None
    first = next((event for event in failed if not _of_a_peer(event)), failed[0])
    steps = [whole(event, "step") for event in own if event.get("event") in ("step", "usage")]
    return Failure(
        rank=whole(first, "rank") or 0,
        type=_text(first, "type"),
        message=_text(first, "message"),
        traceback=_text(first, "traceback"),
        step=max((step for step in steps if step is not None), default=None),
        attempt=last,
        ranks=tuple(dict.fromkeys(whole(event, "rank") or 0 for event in failed)),
    )


def _of_a_peer(event: Event) -> bool:
    kind = _text(event, "type").rpartition(".")[2]
    return kind in _PEER_TYPES or _PEER.search(_text(event, "message")) is not None


def _text(event: Event, key: str) -> str:
    value = event.get(key)
    return value if isinstance(value, str) else ""
