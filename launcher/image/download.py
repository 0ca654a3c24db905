"""One file from one address: resumed, verified while it streams, in place only when it is right."""

import fcntl
import hashlib
import netrc
import os
import ssl
import threading
from base64 import b64encode
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

import httpx
import truststore
from tenacity import (
    Retrying,
    retry_if_exception,
    retry_if_exception_type,
    stop_after_attempt,
    wait_random_exponential,
)

_CHUNK = 1 << 20  # bytes
_TIMEOUT = httpx.Timeout(60.0, connect=20.0)  # seconds without any byte
_TRANSIENT = frozenset({408, 429, 500, 502, 503, 504})


class WrongContentError(Exception):
    """A complete file that is not the one that was asked for."""


class Cancelled(Exception):  # noqa: N818 - not an error
    """The caller wants no more."""


class _Credentials(httpx.Auth):
    """User and password of the hosts that the user's index addresses or netrc name.

    httpx itself drops them when a redirect leads to another host.
    """

    def __init__(self, addresses: Sequence[str]) -> None:
        self._known: dict[str, tuple[str, str]] = {}
        try:
            for host, (user, _, password) in netrc.netrc().hosts.items():
                self._known[host] = (user, password)
        except (FileNotFoundError, netrc.NetrcParseError):
            pass  # curl and pip do without it, too
        for address in addresses:
            parts = urlsplit(address)
            if parts.hostname and parts.username:
                self._known[parts.hostname] = (unquote(parts.username), unquote(parts.password or ""))

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Add them to the first request; nothing is negotiated."""
        if request.url.host in self._known and "Authorization" not in request.headers:
            user, password = self._known[request.url.host]
            token = b64encode(f"{user}:{password}".encode()).decode()
            request.headers["Authorization"] = f"Basic {token}"
        yield request


def client(*, jobs: int, certificates: str | None, addresses: Sequence[str]) -> httpx.Client:
    """A client with the machine's own trust store, the user's proxies (SOCKS included) and credentials.

    Args:
        jobs: connections at once.
        certificates: a CA bundle that is trusted beside the machine's store, if any.
        addresses: of the user's indexes, which may carry a user name and a password.

    Raises:
        ValueError: a proxy variable is not an address that can be used.
    """
    context = truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if certificates:
        context.load_verify_locations(cafile=certificates)
    return httpx.Client(
        verify=context,
        auth=_Credentials(addresses),
        timeout=_TIMEOUT,
        follow_redirects=True,
        limits=httpx.Limits(max_connections=jobs, max_keepalive_connections=jobs),
        headers={"Accept-Encoding": "identity"},  # the bytes that the hash is of
    )


def size(http: httpx.Client, url: str) -> int | None:
    """The size of a file in bytes, where its place tells."""
    path = local_path(url)
    if path is not None:
        return path.stat().st_size if path.is_file() else None
    try:
        answer = http.head(url)
    except httpx.HTTPError:
        return None
    length = answer.headers.get("Content-Length", "")
    return int(length) if answer.is_success and length.isdigit() else None


def local_path(url: str) -> Path | None:
    """The path of a ``file:`` address."""
    parts = urlsplit(url)
    return Path(url2pathname(parts.path)) if parts.scheme == "file" else None


def download(
    http: httpx.Client,
    url: str,
    destination: Path,
    sha256: str,
    *,
    advance: Callable[[float], None],
    stop: threading.Event,
) -> None:
    """Bring one file to its place. Returns at once when it is there; other launchers are waited for.

    What is already in ``<destination>.part`` is continued. A connection that breaks is taken up again, a
    file that turns out wrong is fetched once more from its beginning.

    Args:
        http: see :func:`client`.
        url: where it lies.
        destination: the finished file; read-only afterwards, as it is shared by hard links.
        sha256: that it must have.
        advance: told the number of bytes as they come; negative when some count no more.
        stop: set by the caller to end all downloads; what has come stays for the next time.

    Raises:
        WrongContentError: the place has another file.
        httpx.HTTPError: the place does not answer, or not with the file.
        OSError: the disk is full, or a local file cannot be read.
        Cancelled: ``stop`` was set.
    """
    destination.parent.mkdir(parents=True, exist_ok=True)
    part = destination.with_name(f"{destination.name}.part")
    with part.open("ab+") as stream:
        _lock(stream, stop)
        if destination.is_file():  # whoever held the lock has brought it
            advance(destination.stat().st_size)
            part.unlink(missing_ok=True)
            return
        transfer = _Transfer(http=http, url=url, sha256=sha256, stream=stream, advance=advance, stop=stop)
        twice = Retrying(
            retry=retry_if_exception_type(WrongContentError), stop=stop_after_attempt(2), reraise=True
        )
        twice(transfer.complete)
        part.chmod(0o444)
        part.replace(destination)


def _lock(stream: IO[bytes], stop: threading.Event) -> None:
    """Wait for another launcher that writes the same file, without becoming deaf to ``stop``."""
    while True:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if stop.wait(0.2):
                raise Cancelled from None
        else:
            return


@dataclass(frozen=True, slots=True, kw_only=True)
class _Transfer:
    """One part file on its way; the fields are :func:`download`'s."""

    http: httpx.Client
    url: str
    sha256: str
    stream: IO[bytes]
    advance: Callable[[float], None]
    stop: threading.Event

    def complete(self) -> None:
        """Fill the file up to its end, verify it, make it durable; empty it when it is wrong."""
        persistent = Retrying(
            retry=retry_if_exception(_is_transient),
            stop=stop_after_attempt(5),
            wait=wait_random_exponential(multiplier=0.5, max=10),
            sleep=self._sleep,
            reraise=True,
        )
        digest = persistent(self._continue)
        if digest != self.sha256:
            self.advance(-self.stream.seek(0, os.SEEK_END))
            self.stream.truncate(0)
            raise WrongContentError(f"another file is there, its sha256 is {digest}")
        self.stream.flush()
        os.fsync(self.stream.fileno())

    def _sleep(self, seconds: float) -> None:
        if self.stop.wait(seconds):
            raise Cancelled

    def _continue(self) -> str:
        """Append what is missing; the sha256 of all."""
        self.stream.seek(0)
        digest = hashlib.sha256()
        have = 0
        while chunk := self.stream.read(_CHUNK):
            digest.update(chunk)
            have += len(chunk)
        with self._opened(have) as (chunks, resumed):
            if not resumed:
                self.stream.truncate(0)
                digest, have = hashlib.sha256(), 0
            self.advance(have)
            try:
                for chunk in chunks:
                    if self.stop.is_set():
                        raise Cancelled
                    self.stream.write(chunk)
                    digest.update(chunk)
                    have += len(chunk)
                    self.advance(len(chunk))
            except httpx.TransportError:
                self.advance(-have)  # counted again when it is taken up
                raise
        return digest.hexdigest()

    @contextmanager
    def _opened(self, have: int) -> Iterator[tuple[Iterable[bytes], bool]]:
        """The bytes after the first ``have``, or all of them (False) where a place cannot resume."""
        path = local_path(self.url)
        if path is not None:
            with path.open("rb") as source:
                source.seek(have)
                yield iter(partial(source.read, _CHUNK), b""), True
            return
        headers = {"Range": f"bytes={have}-"} if have else {}
        with self.http.stream("GET", self.url, headers=headers) as answer:
            if have and answer.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
                yield (), True  # there is no more: the hash decides
                return
            answer.raise_for_status()
            yield answer.iter_raw(_CHUNK), answer.status_code == httpx.codes.PARTIAL_CONTENT


def _is_transient(error: BaseException) -> bool:
    if isinstance(error, httpx.HTTPStatusError):
        return error.response.status_code in _TRANSIENT
    return isinstance(error, httpx.TransportError)
