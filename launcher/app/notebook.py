"""JupyterLab in the place of a recipe, for one browser of this machine."""

import secrets
import signal
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from launcher import jupyter, paths, relay
from launcher.app import session
from launcher.app.session import Session, Submission
from launcher.engines.base import Handle
from launcher.errors import EngineError, UsageError
from launcher.plan import Folders

#: Jupyter's own port, tried first where none is asked for.
PORT = 8888

#: Seconds in which the server has to answer: a first start reads many files, from a slow disk too.
_START_S = 180.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """A server that answers.

    Attributes:
        url: with the token; whoever has it may run anything in the session.
    """

    url: str


def request(notebook: Session, folders: Folders) -> Submission:
    """The engine's request; the token is not in it."""
    return notebook.request(folders, jupyter.COMMAND, jupyter.variables(notebook.places(folders)))


def printed(notebook: Session, parent: Path) -> str:
    """The request as a line to paste; ``parent`` stands for the session's own folder."""
    return request(notebook, session.folders(notebook, parent)).printed()


def listen(port: int | None) -> socket.socket:
    """The port of this machine, taken before anything starts.

    Raises:
        UsageError: it is taken.
    """
    try:
        return relay.listen(port, first=PORT)
    except OSError as error:
        raise UsageError(
            f"port {port} cannot be used", why=error.strerror or str(error), hint="--port auto"
        ) from None


def serve(
    notebook: Session, listener: socket.socket, *, grace: float, ready: Callable[[Serving], None]
) -> None:
    """Start the server, say where it is when it answers, and stop it at Ctrl-C; nothing is left.

    Args:
        listener: see :func:`listen`.
        grace: seconds that it has to end.
        ready: told once.

    Raises:
        EngineError: it ended by itself, or never answered.
        LaunchError: see launcher.app.session.opened and the engines.
    """
    planned, token = notebook.planned, secrets.token_hex(24)
    with listener, session.opened(notebook) as folders, _interruptible():
        submission = request(notebook, folders)
        _configure(notebook, folders, submission, token)
        handle = planned.engine.start(submission, planned.secrets)
        said: deque[str] = deque(maxlen=30)
        # An event: a join that Ctrl-C interrupts calls the thread dead (Python before 3.13).
        ended = threading.Event()
        threading.Thread(
            target=_read, args=(handle, folders.run / "log.txt", said, ended), daemon=True
        ).start()
        stopped = meant = False
        try:
            with relay.relayed(listener, folders.run / jupyter.SOCKET) as port:
                if _answers(port, token, ended):
                    ready(Serving(url=f"http://{relay.LOOPBACK}:{port}/lab?token={token}"))
                    ended.wait()
                    meant = True  # unless it failed: "Shut Down" in its menu ends it, too
        except KeyboardInterrupt:
            stopped = True
        finally:
            code = _end(handle, ended, grace)
    if not (stopped or (meant and code == 0)):
        raise EngineError(
            f"JupyterLab ended with code {code}" if meant else "JupyterLab never answered",
            why="\n".join(said),
            hint=f"launch image check {notebook.target.name} --only tools",
        )


def _configure(notebook: Session, folders: Folders, submission: Submission, token: str) -> None:
    """Write what the server and its kernels read; the token is for this user's eyes."""
    places, folder = notebook.places(folders), folders.run / "jupyter"
    kernel = folder / "kernels" / jupyter.kernel_name(notebook.target.name) / "kernel.json"
    made = [folder, kernel.parent.parent, kernel.parent, folders.run / "runtime"]
    for each in made:
        each.mkdir(mode=0o700, exist_ok=True)
    file = folder / "jupyter_server_config.json"
    paths.write_atomic(file, jupyter.configuration(notebook.target.name, places, token), mode=0o600)
    paths.write_atomic(kernel, jupyter.kernel(notebook.target, session.environment(submission)), mode=0o600)
    session.hand_over(notebook, [*made, file, kernel])


def _read(handle: Handle, log: Path, said: deque[str], ended: threading.Event) -> None:
    """Keep the last of what it says, until it ends."""
    try:
        said.extend(handle.lines(log, 0, 0))
    finally:
        ended.set()


def _answers(port: int, token: str, ended: threading.Event) -> bool:
    """Wait until the server takes the token through its port; False when it ended before, or never did."""
    import httpx

    address = f"http://{relay.LOOPBACK}:{port}/api/status"
    headers = {"Authorization": f"token {token}"}
    deadline = time.monotonic() + _START_S
    with httpx.Client(timeout=5, trust_env=False) as client:  # a proxy is not for this machine's own
        while not ended.wait(0.1) and time.monotonic() < deadline:
            with suppress(httpx.HTTPError):
                if client.get(address, headers=headers).status_code == httpx.codes.OK:
                    return True
    return False


def _end(handle: Handle, ended: threading.Event, grace: float) -> int:
    """Ask it to end, wait, and clean up; a second Ctrl-C ends it at once."""
    try:
        if not ended.is_set():
            handle.stop(grace)
        if not ended.wait(grace + 5):
            handle.kill()
    except KeyboardInterrupt:
        handle.kill()
    code = handle.wait().code
    handle.remove()
    return code


@contextmanager
def _interruptible() -> Iterator[None]:
    """SIGTERM and a closed window are Ctrl-C."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, interrupt) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
