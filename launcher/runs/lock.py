"""Who follows a run: one launcher at a time, as the kernel knows it."""

import fcntl
import os
import struct
from pathlib import Path
from types import TracebackType

from launcher.errors import UsageError

_FILE = ".lock"

#: struct flock of Linux with 64-bit offsets: type, whence, start, length, process id.
_FLOCK = "hhqqi4x"


class Lock:
    """Held by the launcher that follows a run, and by nobody once it has ended, however it ended.

    It belongs to the open file, not to the process: a launcher that inherits the descriptor holds it too.
    """

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    @classmethod
    def take(cls, run: Path) -> "Lock":
        """Become the one who follows a run.

        Raises:
            UsageError: another launcher does, or there is no such run any more.
        """
        try:
            descriptor = os.open(run / _FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except FileNotFoundError:
            raise UsageError(f"{run.name} is gone", why="somebody has removed it") from None
        try:
            fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, struct.pack(_FLOCK, fcntl.F_WRLCK, 0, 0, 0, 0))
        except OSError:
            os.close(descriptor)
            raise UsageError(
                f"another launcher follows {run.name}",
                hint=f"launch runs attach {run.name} looks on; launch runs stop {run.name} ends it",
            ) from None
        return cls(descriptor)

    def release(self) -> None:
        """Give it up."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    def __enter__(self) -> "Lock":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()


def followed(run: Path) -> bool:
    """Whether a launcher follows a run; asking takes nothing."""
    try:
        descriptor = os.open(run / _FILE, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        asked = struct.pack(_FLOCK, fcntl.F_RDLCK, 0, 0, 0, 0)
        answer = fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, asked)
    finally:
        os.close(descriptor)
    return bool(struct.unpack(_FLOCK, answer)[0] != fcntl.F_UNLCK)
