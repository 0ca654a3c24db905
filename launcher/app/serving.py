"""The board's server: who may ask, what for, and how it is answered.

It shows what recipes printed, so it is for whoever started it alone: it listens on 127.0.0.1, every address
but the first needs a cookie that the first one's random token gives, and a name other than this machine's own
is refused, because a foreign page can make a browser ask 127.0.0.1 by a name of its own (DNS rebinding). It
serves only records by their id and a fixed list of files, and a request changes nothing but this: a run that
has ended unobserved is concluded, as by every command that looks at it (its result.json is written, and its
container removed).
"""

import hmac
import json
import secrets
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from launcher.app import board
from launcher.app.board import Board
from launcher.errors import LaunchError, UsageError
from launcher.report import page

ADDRESS = "127.0.0.1"

#: plotly.js makes style elements; nothing else is allowed to bring its own.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src data: blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'"
)

_HTML, _JSON, _TEXT = "text/html; charset=utf-8", "application/json", "text/plain; charset=utf-8"
_SCRIPT, _STYLE = "text/javascript; charset=utf-8", "text/css; charset=utf-8"

_STATIC = {
    "base.css": _STYLE,
    "theme.js": _SCRIPT,
    "charts.js": _SCRIPT,
    "live.js": _SCRIPT,
    "board.js": _SCRIPT,
    "plotly.js": _SCRIPT,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a request is answered with."""

    status: int
    body: bytes
    kind: str = _TEXT
    more: tuple[tuple[str, str], ...] = ()

    @property
    def headers(self) -> tuple[tuple[str, str], ...]:
        """All of them: nothing is kept by a browser, embedded by another page or told to one."""
        kept = "private, max-age=3600" if any(name == "ETag" for name, _ in self.more) else "no-store"
        return (
            ("Content-Type", self.kind),
            ("Content-Length", str(len(self.body))),
            ("Cache-Control", kept),
            ("Content-Security-Policy", f"{_POLICY}; frame-ancestors 'none'"),
            ("Cross-Origin-Resource-Policy", "same-origin"),
            ("Referrer-Policy", "no-referrer"),
            ("X-Content-Type-Options", "nosniff"),
            *self.more,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """Who may ask.

    Attributes:
        port: that the server listens on; names of this machine without it are another server's.
        token: stands in the address that is printed, and is good for the cookie alone.
        session: the cookie's value.
    """

    port: int
    token: str = field(default_factory=lambda: secrets.token_urlsafe(32))
    session: str = field(default_factory=lambda: secrets.token_urlsafe(32))

    @property
    def url(self) -> str:
        """The address to open."""
        return f"http://{ADDRESS}:{self.port}/?token={self.token}"

    @property
    def cookie(self) -> str:
        """Its name: browsers give the cookies of one port to all others of the same host."""
        return f"launch-board-{self.port}"

    def refusal(self, method: str, target: str, headers: Mapping[str, str]) -> Answer | None:
        """Why a request is not answered, or the cookie for one that brings the token; None: it may pass."""
        if headers.get("Host", "") not in (f"{ADDRESS}:{self.port}", f"localhost:{self.port}"):
            return _refused(403, "this board answers to its own address alone")
        if method != "GET":
            return _refused(405, "the board is only looked at", ("Allow", "GET"))
        try:
            query = parse_qs(urlsplit(target).query)
        except ValueError:
            return _refused(400, "this is no address")
        given = query.get("token", [""])[0]
        if given and _same(given, self.token):
            cookie = f"{self.cookie}={self.session}; Path=/; HttpOnly; SameSite=Strict"
            # The token leaves the address bar, and with it bookmarks and screenshots.
            return Answer(status=303, body=b"", more=(("Location", "/"), ("Set-Cookie", cookie)))
        # By hand: the standard library's parser stops at the first odd cookie of another program here.
        pairs = (part.strip().partition("=") for part in headers.get("Cookie", "").split(";"))
        if not any(name == self.cookie and _same(value, self.session) for name, _, value in pairs):
            return _refused(403, "open the address that `launch runs board` printed")
        return None


def answer(target: str, shown: Board) -> Answer:
    """What is at an address; the gate has let the request pass."""
    parts = urlsplit(target)
    match [unquote(part) for part in parts.path.split("/")[1:]]:
        case [""]:
            return _html(page.listing(policy=_POLICY, folder=str(shown.folder)))
        case ["api", "runs"]:
            return _json(board.as_data(shown.runs()))
        case ["static", name] if name in _STATIC:
            return _static(name)
        case ["run", name]:
            folder = shown.find(name)
            if folder is not None:
                return _html(page.board(shown.story(folder), policy=_POLICY))
        case ["api", "run", name]:
            folder = shown.find(name)
            if folder is not None:
                return _json(shown.since(folder, parse_qs(parts.query).get("cursor", [""])[0]))
    return _refused(404, "there is no such page, or no such run any more")


def serve(shown: Board, port: int) -> "Server":
    """A server that listens, and answers once ``serve_forever`` is called.

    Args:
        shown: what it shows.
        port: 0: any free one.

    Raises:
        UsageError: the port is taken, or not for this user.
    """
    try:
        return Server(shown, port)
    except OSError as error:
        raise UsageError(
            f"port {port} cannot be used: {error.strerror}",
            hint="give another --port, or none",
        ) from None


class Server(ThreadingHTTPServer):
    """Answers on 127.0.0.1; its threads end with the program."""

    daemon_threads = True

    def __init__(self, shown: Board, port: int) -> None:
        super().__init__((ADDRESS, port), _Handler)
        self.shown = shown
        self.gate = Gate(port=self.server_address[1])

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that leaves before it was answered is no error."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    """Asks the gate, then the pages. A slow or silent client holds a thread of its own, and for a minute."""

    server: Server
    timeout = 60
    server_version, sys_version = "launch", ""

    def _reply(self) -> None:
        headers = {name.title(): value for name, value in self.headers.items()}
        try:
            refusal = self.server.gate.refusal(self.command, self.path, headers)
            found = refusal or answer(self.path, self.server.shown)
        except (LaunchError, OSError) as error:  # a record that is being removed, or is damaged
            found = _refused(500, getattr(error, "message", "") or str(error))
        except Exception as error:  # noqa: BLE001 - damaged in a way that nobody thought of; a page needs an answer
            found = _refused(500, f"this cannot be shown: {type(error).__name__}: {error}")
        self.send_response(found.status)
        for name, value in found.headers:
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(found.body)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = _reply  # noqa: N815

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: a line of every two seconds helps nobody, and the first one has the token."""


def _same(given: str, wanted: str) -> bool:
    """Compared in a time that says nothing of where they differ."""
    return hmac.compare_digest(given.encode(), wanted.encode())


def _static(name: str) -> Answer:
    text = page.plotly() if name == "plotly.js" else page.asset(name)
    # Five megabytes that never change; the rest may change under a developer's hands.
    kept = (("ETag", '"plotly"'),) if name == "plotly.js" else ()
    return Answer(status=200, body=text.encode(), kind=_STATIC[name], more=kept)


def _html(text: str) -> Answer:
    return Answer(status=200, body=text.encode("utf-8", "replace"), kind=_HTML)


def _json(value: object) -> Answer:
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Answer(status=200, body=text.encode("utf-8", "replace"), kind=_JSON)


def _refused(status: int, why: str, *more: tuple[str, str]) -> Answer:
    return Answer(status=status, body=f"{why}\n".encode("utf-8", "replace"), more=more)
