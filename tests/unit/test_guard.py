"""The guard of the unit tests works: without it a slip would start a program and nobody would notice."""

import multiprocessing
import os
import socket
import subprocess
from collections.abc import Callable

import pytest

from launcher import process

# Each looks its function up when it is called: a reference taken here would be the unguarded one.
STARTS: dict[str, Callable[[], object]] = {
    "the launcher's own starter": lambda: process.run(["true"]),
    "a child of the launcher": lambda: process.Child(["true"], env={}),
    "subprocess.run": lambda: subprocess.run(["true"], check=True),
    "subprocess.Popen": lambda: subprocess.Popen(["true"]),
    "os.system": lambda: os.system("true"),  # noqa: S605
    "os.popen": lambda: os.popen("true"),  # noqa: S605
    "os.fork": lambda: os.fork(),
    "os.execv": lambda: os.execv("/bin/true", ["true"]),  # noqa: S606
    "os.execvpe": lambda: os.execvpe("true", ["true"], {}),  # noqa: S606
    "os.posix_spawn": lambda: os.posix_spawn("/bin/true", ["true"], {}),
    "os.spawnv": lambda: os.spawnv(os.P_NOWAIT, "/bin/true", ["true"]),  # noqa: S606
    "multiprocessing": lambda: multiprocessing.get_context("fork").Process(target=print).start(),
    "a name look-up": lambda: socket.getaddrinfo("localhost", 80),
    "a connection": lambda: socket.create_connection(("127.0.0.1", 9)),
    "a socket": lambda: socket.socket(),
    "a Unix socket": lambda: socket.socket(socket.AF_UNIX),
}


@pytest.mark.filterwarnings("ignore:A test tried to use socket")
@pytest.mark.parametrize("start", STARTS.values(), ids=STARTS.keys())
def test_raises(start: Callable[[], object]) -> None:
    with pytest.raises(BaseException, match=r"in a unit test|A test tried to use socket"):
        start()
