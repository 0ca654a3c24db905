"""How a registry is asked: with the user's login of Docker, over TLS that the machine trusts.

Logins are read as Docker's own SDK reads them: config.json of DOCKER_CONFIG or ~/.docker, and the credential
helpers that it names. They are sent to the registry and to the token server that it names, and nowhere else.
"""

import re
import ssl
from base64 import b64encode
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any

import httpx
import truststore

from launcher.errors import RegistryAccessError
from launcher.image.reference import Reference

#: Where engines look for a registry's own CA and client certificate: in a folder of its name.
CERTIFICATES = tuple(
    Path(f"{place}/certs.d") for place in ("/etc/docker", "/etc/containers", "~/.config/docker")
)

_TIMEOUT = httpx.Timeout(60.0, connect=10.0)  # seconds without any byte
_PARAMETER = re.compile(r'([a-zA-Z_]+)="([^"]*)"')
_CLIENT_ID = "finetune-launch"


def client(
    reference: Reference,
    *,
    known: Mapping[str, str] | None = None,
    transport: httpx.BaseTransport | None = None,
) -> httpx.Client:
    """A client for one registry, with the machine's proxies; for this machine's own without them.

    Args:
        reference: of an image there.
        known: what the user logs in with; None: what :func:`login` finds.
        transport: what carries the requests; None: the network.

    Raises:
        RegistryAccessError: a credential helper fails.
        ValueError: a proxy variable is not an address that can be used.
    """
    answering = Login(reference, login(reference) if known is None else known)
    return httpx.Client(
        verify=_trust(reference.address),
        transport=transport,
        auth=answering,
        event_hooks={"request": [answering.stay]},
        timeout=_TIMEOUT,
        follow_redirects=True,
        trust_env=not reference.loopback,
    )


def login(reference: Reference) -> Mapping[str, str]:
    """What Docker knows of this user: ``username`` and ``password``, or ``identitytoken``, or nothing.

    Raises:
        RegistryAccessError: a credential helper fails, or the configuration cannot be read.
    """
    from docker import auth
    from docker.errors import DockerException

    try:
        found = auth.resolve_authconfig(auth.load_config(), auth.resolve_index_name(reference.host)) or {}
    except (DockerException, ValueError) as error:
        raise RegistryAccessError(
            f"Docker's configuration cannot say how this user logs in at {reference.host}",
            why=str(error),
            hint="docker login again, or correct credsStore and credHelpers in its config.json",
        ) from None
    return {str(key).lower(): str(value) for key, value in found.items() if value}


def _trust(host: str) -> ssl.SSLContext:
    """The machine's store, and what engines know of this registry beside it."""
    context = truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    for place in CERTIFICATES:
        folder = place.expanduser() / host
        for file in sorted(folder.glob("*.crt")):
            context.load_verify_locations(cafile=str(file))
        for file in sorted(folder.glob("*.cert")):
            context.load_cert_chain(str(file), str(file.with_suffix(".key")))
    return context


class Login(httpx.Auth):
    """Answers a registry's challenge: Basic, or a Bearer token of the server that it names.

    As the distribution project's specification of token authentication has it. A token is kept for the next
    requests. Nothing is answered after a redirect: storage elsewhere is not the registry. A token server
    may not redirect an identity token either, which is in the body: see :meth:`stay`.
    """

    requires_response_body = True

    def __init__(self, reference: Reference, known: Mapping[str, str]) -> None:
        self._host = httpx.URL(f"https://{reference.address}").host
        self._known = known
        self._header = ""
        self._realm: httpx.URL | None = None

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """See httpx.Auth."""
        if self._header:
            request.headers["Authorization"] = self._header
        answer = yield request
        if answer.status_code != httpx.codes.UNAUTHORIZED or answer.url.host != self._host:
            return
        scheme, _, rest = answer.headers.get("WWW-Authenticate", "").partition(" ")
        if scheme.lower() == "bearer":
            asked = self._token_request(dict(_PARAMETER.findall(rest)), request)
            if asked is None:
                return
            answer = yield asked
            token = _token(answer)
            if not token:
                request.headers.pop("Authorization", None)
                yield request  # the registry's own refusal says more than that of the token server
                return
            self._header = f"Bearer {token}"
        elif scheme.lower() == "basic" and "username" in self._known:
            self._header = self._basic()
        else:
            return
        request.headers["Authorization"] = self._header
        yield request

    def _token_request(self, asked: Mapping[str, str], request: httpx.Request) -> httpx.Request | None:
        """What is sent to the token server; None: it has no TLS where the registry has."""
        realm = asked.get("realm", "")
        if not realm.startswith("https://") and request.url.scheme == "https":
            return None
        self._realm = httpx.URL(realm)
        query = {name: asked[name] for name in ("service", "scope") if asked.get(name)}
        if "identitytoken" in self._known:
            form = {
                **query,
                "grant_type": "refresh_token",
                "client_id": _CLIENT_ID,
                "refresh_token": self._known["identitytoken"],
            }
            return httpx.Request("POST", self._realm, data=form)
        headers = {"Authorization": self._basic()} if "username" in self._known else {}
        return httpx.Request("GET", self._realm.copy_merge_params(query), headers=headers)

    def stay(self, request: httpx.Request) -> None:
        """Refuse to send a login anywhere but to the token server, before each request and redirect.

        httpx takes a header off a request that goes to another host, and keeps the body of a POST.

        Raises:
            RegistryAccessError: the token server sends it elsewhere.
        """
        if request.method == "POST" and self._realm is not None and request.url != self._realm:
            raise RegistryAccessError(
                f"the token server {self._realm.host} sends the login elsewhere, to {request.url.host}",
                why="a login goes only to the token server that the registry names",
                hint="the registry's setting (realm) should name that server itself; tell who runs it",
            )

    def _basic(self) -> str:
        """The header that carries user and password."""
        pair = f"{self._known['username']}:{self._known.get('password', '')}"
        return f"Basic {b64encode(pair.encode()).decode()}"


def _token(answer: httpx.Response) -> str:
    """The token in a token server's answer; empty when there is none."""
    try:
        found: Any = answer.json() if answer.is_success else {}
    except (ValueError, RecursionError):
        return ""
    return str(found.get("token") or found.get("access_token") or "") if isinstance(found, dict) else ""
