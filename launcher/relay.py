"""From a port of this machine's loopback to a socket of the file system, byte for byte.

A server in a container then needs no network, and no port of it is published: it listens on a socket in a
mounted folder, and only this process, on 127.0.0.1, passes on what a browser says.
"""

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

#: Only programs of this machine reach it.
LOOPBACK = "127.0.0.1"

_BLOCK = 1 << 16


def listen(port: int | None, *, first: int) -> socket.socket:
    """A listening socket on the loopback, taken before anything is started.

    Args:
        port: of the caller's choice; None: ``first`` when it is free, otherwise any.
        first: the port to try without a choice.

    Raises:
        OSError: the chosen port is taken, or may not be used.
    """
    for candidate in (port,) if port is not None else (first, 0):
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((LOOPBACK, candidate))
            listener.listen(128)
        except OSError:
            listener.close()
            if candidate == (port if port is not None else 0):
                raise
        else:
            return listener
    raise AssertionError("a port or an error")


@contextmanager
def relayed(listener: socket.socket, path: Path) -> Iterator[int]:
    """Pass connections on to the socket at ``path`` while the block runs; gives the port.

    A connection that comes before there is such a socket is closed.
    """
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=_run, args=(loop, listener, path), daemon=True)
    port = int(listener.getsockname()[1])
    thread.start()
    try:
        yield port
    finally:
        loop.call_soon_threadsafe(_cancel, loop)
        thread.join()


def _run(loop: asyncio.AbstractEventLoop, listener: socket.socket, path: Path) -> None:
    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_unix_connection(str(path))
        except OSError:
            writer.close()
            return
        try:
            await asyncio.gather(_copy(reader, back), _copy(there, writer))
        finally:  # newer Pythons wait for connections that are open when the server ends
            back.transport.abort()
            writer.transport.abort()

    async def serve() -> None:
        async with await asyncio.start_server(pass_on, sock=listener) as server:
            await server.serve_forever()

    with suppress(asyncio.CancelledError):
        loop.run_until_complete(serve())
    loop.close()


def _cancel(loop: asyncio.AbstractEventLoop) -> None:
    for task in asyncio.all_tasks(loop):
        task.cancel()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One direction until its end, which is passed on; either end may go away at any time."""
    with suppress(OSError):
        while block := await reader.read(_BLOCK):
            writer.write(block)
            await writer.drain()
        writer.write_eof()
