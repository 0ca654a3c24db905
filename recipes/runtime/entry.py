"""Starts a program with its secrets: they come as a file, and are in no argument and no variable before.

    python -I -S entry.py mask|plain FILE PROGRAM ARGUMENTS…

The file holds NAME=VALUE, each ended by a zero byte, as /proc/PID/environ has them: a value may hold any
other byte. It is removed when it was read; where it is mounted, that is for whoever mounted it. A folder may
be in its place, with a file for each value, as a cluster mounts its secrets.

``plain`` becomes the program. ``mask`` stays as its parent and writes asterisks in the place of values that
it prints: a record is passed on, and an engine keeps the output in a file of its own. Standard library only.
"""

import ctypes
import os
import re
import resource
import select
import signal
import sys
import time
from collections.abc import Iterable
from contextlib import suppress

MASK = b"***"

#: Bytes below which a value is no mask's: "true" and "1" are words of every log. GitLab has the same.
SHORTEST = 8

#: The names of the variables that came so; runtime.events reads it.
NAMES = "LAUNCH_SECRETS"

#: Seconds in which what the program has written is read after its end; a child left behind may go on writing.
_DRAIN = 1.0

_BLOCK = 1 << 16
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)


class Mask:
    """Masks what comes in pieces: what may be the beginning of a value waits for its end.

    Args:
        values: each line of them that is long enough is masked: a key of several lines is printed by lines.
    """

    def __init__(self, values: Iterable[bytes]) -> None:
        lines = {line.strip() for value in values for line in value.splitlines()}
        self._lines = sorted((line for line in lines if len(line) >= SHORTEST), key=len, reverse=True)
        self._any = re.compile(b"|".join(map(re.escape, self._lines)) or rb"(?!)")
        self._first = {line[0] for line in self._lines}
        self._held = b""

    def feed(self, block: bytes) -> bytes:
        """The next piece, and what it brought to an end."""
        text, done, at = self._held + block, list[bytes](), 0
        waits = self._beginning(text, at)
        while (found := self._any.search(text, at)) and found.start() < waits:
            done += [text[at : found.start()], MASK]
            at = found.end()
            if at > waits:  # it was the middle of this one
                waits = self._beginning(text, at)
        self._held = text[waits:]
        return b"".join([*done, text[at:waits]])

    def rest(self) -> bytes:
        """What has waited, when nothing follows."""
        held, self._held = self._held, b""
        return self._any.sub(MASK, held)

    def _beginning(self, text: bytes, at: int) -> int:
        """From where on the text may be the beginning of a longer line; its length: from nowhere."""
        longest = len(self._lines[0]) if self._lines else 0
        for start in range(max(at, len(text) - longest + 1), len(text)):
            if text[start] in self._first:
                tail = text[start:]
                if any(len(line) > len(tail) and line.startswith(tail) for line in self._lines):
                    return start
        return len(text)


def read(file: str) -> dict[bytes, bytes]:
    """The variables of the file, which is removed, or of a folder's files."""
    if os.path.isdir(file):  # noqa: PTH112 - pathlib would be half of the start
        return dict(_folder(file))
    with open(file, "rb") as stream:  # noqa: PTH123 - pathlib would be half of the start
        items = stream.read().split(b"\0")
    with suppress(OSError):
        os.unlink(file)  # noqa: PTH108
    return dict(item.split(b"=", 1) for item in items if b"=" in item)


def _folder(folder: str) -> Iterable[tuple[bytes, bytes]]:
    """A variable for each file; what begins with a dot is how the cluster exchanges them."""
    for item in os.scandir(os.fsencode(folder)):
        if not item.name.startswith(b"."):
            with open(item.path, "rb") as stream:  # noqa: PTH123
                yield item.name, stream.read()


def main(arguments: list[str]) -> int:
    """Start the program; returns its exit code, 128 + number when a signal ended it."""
    mode, file, *command = arguments
    try:
        found = read(file)
    except OSError as error:
        print(f"the secrets cannot be read: {file}: {error.strerror}", file=sys.stderr)
        return 126
    os.environb.update(found)
    os.environb[NAMES.encode()] = b",".join(found)
    # A core file would be the values in the output's folder; a recipe that wants one may ask for it.
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    if mode == "plain":
        _become(command)
    return _followed(command, Mask(found.values()))


def _become(command: list[str]) -> None:
    """What every Python ignores, the program would ignore."""
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execvp(command[0], command)  # noqa: S606 - no shell is the point
    except OSError as error:
        os.write(2, f"{command[0]}: {error.strerror}\n".encode())
    os._exit(127)


def _followed(command: list[str], mask: Mask) -> int:
    """Run it in a group of its own, pass signals on, mask what it says."""
    reading, writing = os.pipe()
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    own, libc = os.getpid(), ctypes.CDLL(None)
    # Until there is somebody to pass it on to, a signal waits.
    signal.pthread_sigmask(signal.SIG_BLOCK, _PASSED_ON)
    child = os.fork()
    if child == 0:
        os.setpgid(0, 0)
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != own:  # it has died before that
            os._exit(127)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _PASSED_ON)
        os.dup2(writing, 1)
        os.dup2(writing, 2)
        _become(command)
    os.close(writing)
    with suppress(OSError):  # the child does the same: whoever comes first
        os.setpgid(child, child)

    def pass_on(number: int, _: object) -> None:
        with suppress(OSError):
            os.killpg(child, number)

    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    for number in _PASSED_ON:
        signal.signal(number, pass_on)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _PASSED_ON)
    status = _copied(child, reading, woken, mask)
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def _copied(child: int, reading: int, woken: int, mask: Mask) -> int:
    """Copy what the child says until it has ended; returns how."""
    status: int | None = None
    deadline = 0.0
    while True:
        ready, _, _ = select.select([reading, woken], [], [], None if status is None else 0)
        if reading in ready:
            block = os.read(reading, _BLOCK)
            if not block:
                break
            _say(mask.feed(block))
        if status is None:
            if woken in ready:
                os.read(woken, _BLOCK)
                pid, ended = os.waitpid(child, os.WNOHANG)
                if pid:
                    status, deadline = ended, time.monotonic() + _DRAIN
        elif reading not in ready or time.monotonic() > deadline:
            break
    _say(mask.rest())
    return os.waitpid(child, 0)[1] if status is None else status


def _say(text: bytes) -> None:
    """Write it all; a full disk, or a reader that is gone, is no reason to end the program."""
    with suppress(OSError):
        while text:
            text = text[os.write(1, text) :]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
