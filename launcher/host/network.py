"""Who answers over the network, asked as the rest of the launcher would ask, each within a deadline.

An answer with an error code is an answer: what is asked here is the way there.
"""

import time
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

from launcher.diagnosis import network
from launcher.diagnosis.facts import Answer
from launcher.errors import ProgramError


def server(url: str, *, certificates: str | None, patience: float) -> Answer:
    """Ask a place of wheels or images, with the machine's trust store and the user's proxies.

    Args:
        url: its address.
        certificates: a CA bundle that is trusted as well.
        patience: seconds.
    """
    from launcher.image import download  # only here: an HTTP client takes longer to load than all the rest

    def ask() -> Mapping[str, str]:
        with download.client(jobs=1, certificates=certificates, addresses=[url]) as http:
            return http.head(url, timeout=patience, follow_redirects=False).headers

    return _answer(url, ask)


def hub(*, patience: float) -> Answer:
    """Ask the model hub, with the hub library's own session: endpoint, proxies and CA are the user's."""
    from huggingface_hub import constants, get_session

    def ask() -> Mapping[str, str]:
        headers: Mapping[str, str] = get_session().head(constants.ENDPOINT, timeout=patience).headers
        return headers

    return _answer(constants.ENDPOINT, ask)


def packages(*, patience: float) -> Answer:
    """Let uv look for one small package in the user's indexes; which those are is the user's affair."""
    from launcher.image import uv

    begin = time.monotonic()
    arguments = ["--no-deps", "--no-cache", "--no-header", *uv.index_arguments()]
    try:
        uv.run(
            ["pip", "compile", "requirements.in", *arguments],
            files={"requirements.in": "wheel\n"},
            env={"UV_HTTP_TIMEOUT": str(max(1, round(patience))), "UV_HTTP_RETRIES": "0"},
            timeout=patience,
        )
    except ProgramError as error:
        return Answer(host="the index", reached=False, why=network.why(error.output or error.message))
    return Answer(host="the index", reached=True, seconds=time.monotonic() - begin)


def _answer(url: str, ask: Callable[[], Any]) -> Answer:
    host = urlsplit(url).hostname or "?"
    begin = time.monotonic()
    try:
        headers = ask()
    except Exception as error:  # noqa: BLE001 - of two HTTP libraries, sockets, TLS and proxies: no answer
        return Answer(host=host, reached=False, why=network.why(f"{type(error).__name__}: {error}"))
    took = time.monotonic() - begin
    return Answer(host=host, reached=True, seconds=took, ahead=_ahead(headers.get("date", ""), took))


def _ahead(date: str, took: float) -> float | None:
    """Seconds that this machine's clock is ahead of the server's, which spoke about halfway."""
    try:
        said = parsedate_to_datetime(date).timestamp()
    except (ValueError, TypeError):
        return None
    return time.time() - took / 2 - said
