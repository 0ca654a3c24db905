"""A container that people type into: the request of a run, with the caller's own terminal at its other end.

The terminal is attached through the engine's socket: no ``docker`` program is needed (Podman's users have but
the socket), and secrets are in no argument list. Keys go to the container as they are: Ctrl-C is the shell's.
"""

import os
import signal
import socket
import sys
import termios
import threading
import tty
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, TextIO

from launcher import secretfile
from launcher.engines.container import ContainerRequest
from launcher.engines.docker import DockerEngine
from launcher.errors import EngineError, OutputError
from launcher.image import refusals

if TYPE_CHECKING:
    from docker.models.containers import Container

#: Docker's own, Ctrl-P Ctrl-Q, would swallow the key by which a shell goes back in its history. Nobody types
#: this one: a session cannot be left alone anyway, it ends with the launcher.
_DETACH = "ctrl-^,ctrl-^,ctrl-^,ctrl-^"

_BLOCK = 1 << 15


@dataclass(frozen=True, slots=True, kw_only=True)
class InteractiveRequest:
    """A run's container with standard input.

    Attributes:
        terminal: its streams are a terminal.
    """

    container: ContainerRequest
    terminal: bool

    def printed(self) -> str:
        """The equivalent ``docker run`` line, or Podman's."""
        terminal = ("--tty",) if self.terminal else ()
        return self.container.printed(("--interactive", *terminal, "--rm"))

    def create(self, engine: DockerEngine) -> "Container":
        """The container, which has not started."""
        return engine.create(self.container, stdin_open=True, tty=self.terminal)


def run(engine: DockerEngine, request: InteractiveRequest, secrets: Mapping[str, str]) -> int:
    """Start it, connect it with this process's streams until it ends, remove it; returns its exit code.

    Raises:
        DeviceError, DeviceRuntimeError, EngineError: the engine refused, or went away.
        OutputError: see :func:`_say`.
    """
    from docker.errors import APIError, DockerException

    container: Container | None = None
    try:
        with _ended_by_signals():
            with secretfile.handed(request.container.secrets, secrets):
                container = request.create(engine)
                stream = _attached(container)
                container.start()
            with _raw() if request.terminal else nullcontext():
                _connect(container, stream, request.terminal)
            return int(container.wait()["StatusCode"])
    except APIError as error:
        raise refusals.explained(error, "the engine refused to start the container") from None
    except (DockerException, OSError) as error:  # requests' own errors are OSErrors
        raise EngineError("the container was lost while it ran", why=str(error)) from None
    finally:
        if container is not None:
            with suppress(DockerException, OSError):
                container.remove(force=True)


def _attached(container: "Container") -> Any:
    """The stream of a container that has not started: nothing that it says is missed."""
    wanted = {"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1, "detachKeys": _DETACH}
    stream: Any = container.attach_socket(params=wanted)
    getattr(stream, "_sock", stream).settimeout(None)  # people think longer than a request may take
    return stream


def _connect(container: "Container", stream: Any, terminal: bool) -> None:
    """Pass on what is typed and what is said, until the container's streams end."""
    from docker.utils.socket import frames_iter

    threading.Thread(target=_send, args=(getattr(stream, "_sock", stream),), daemon=True).start()
    with _resizing(container) if terminal else nullcontext():
        for kind, block in frames_iter(stream, terminal):  # type: ignore[no-untyped-call]
            _say(sys.stderr if kind == 2 else sys.stdout, block)  # as the engine numbers them


def _say(stream: TextIO, block: bytes) -> None:
    """Pass on what the container says.

    Raises:
        SystemExit: whoever read it is gone; the code is that of a program that SIGPIPE ended.
        OutputError: it cannot be written.
    """
    try:
        stream.buffer.write(block)
        stream.buffer.flush()
    except OSError as error:
        with Path(os.devnull).open("wb") as nowhere:  # Python would try, and complain, once more at its end
            os.dup2(nowhere.fileno(), stream.fileno())
        if isinstance(error, BrokenPipeError):
            raise SystemExit(128 + signal.SIGPIPE) from None
        raise OutputError("what the container says cannot be passed on", why=error.strerror or "") from None


def _send(connection: socket.socket) -> None:
    """Everything of standard input, and its end."""
    with suppress(OSError, ValueError):
        while block := os.read(sys.stdin.fileno(), _BLOCK):
            connection.sendall(block)
        connection.shutdown(socket.SHUT_WR)


@contextmanager
def _resizing(container: "Container") -> Iterator[None]:
    """The container's terminal has the size of this one, now and after each change."""
    from docker.errors import DockerException

    def fit(*_: Any) -> None:
        size = os.get_terminal_size(sys.stdin.fileno())
        with suppress(DockerException, OSError):  # it may just have ended
            if size.lines and size.columns:  # a terminal that no window shows has none
                container.resize(height=size.lines, width=size.columns)

    fit()
    with _handled({signal.SIGWINCH: fit}):
        yield


@contextmanager
def _raw() -> Iterator[None]:
    """Keys are passed on one by one, and none of them is this process's; afterwards all is as it was."""
    before = termios.tcgetattr(sys.stdin)
    try:
        tty.setraw(sys.stdin)
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """A closed window and SIGTERM end the block like an exception, so that nothing is left behind."""

    def end(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    with _handled(dict.fromkeys((signal.SIGINT, signal.SIGTERM, signal.SIGHUP), end)):
        yield


@contextmanager
def _handled(handlers: Mapping[int, Callable[..., Any]]) -> Iterator[None]:
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
