"""launcher.image.registry and access: a registry that is made up, asked without a socket."""

import base64
import hashlib
import json
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import httpx
import pytest

from launcher.errors import (
    CheckError,
    ImageMissingError,
    LaunchError,
    RegistryAccessError,
    RegistryError,
    RegistryServerError,
    RegistryTransportError,
)
from launcher.image import access, reference, registry
from launcher.image.reference import Reference

LABELS = {"launch.target": "cpu", "launch.lock-digest": "sha256:10cc"}
OCI = "application/vnd.oci.image."
REF = reference.parse("registry.example.org/team/finetune:cpu")


def digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


class Fake:
    """A registry with one image, in an index; challenges, failures and lies as told."""

    def __init__(self) -> None:
        self.documents: dict[str, bytes] = {}
        config = self.put({"config": {"Labels": LABELS}, "rootfs": {"diff_ids": ["sha256:aa", "sha256:bb"]}})
        layers = [
            {"mediaType": f"{OCI}layer.v1.tar+zstd", "digest": f"sha256:{n}", "size": n} for n in (3, 4)
        ]
        self.image = self.put({"schemaVersion": 2, "config": {"digest": config}, "layers": layers})
        entries = [
            {"digest": digest(b"arm"), "platform": {"os": "linux", "architecture": "arm64"}},
            {"digest": self.image, "platform": {"os": "linux", "architecture": "amd64"}},
            {"digest": digest(b"x"), "platform": {"os": "unknown", "architecture": "unknown"}},
        ]
        self.index = self.put({"manifests": entries})
        self.config = config
        self.tags = {"cpu": self.index}
        self.challenge = ""
        self.accepted: set[str] = set()
        self.requests: list[httpx.Request] = []
        self.token_answer: Callable[[httpx.Request], httpx.Response] | None = None
        self.answer: Callable[[httpx.Request], httpx.Response | None] = lambda request: None

    def put(self, document: dict[str, Any]) -> str:
        content = json.dumps(document).encode()
        self.documents[digest(content)] = content
        return digest(content)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        if self.token_answer and request.url.path == "/token":
            return self.token_answer(request)
        other = self.answer(request)
        if other is not None:
            return other
        if self.challenge and request.headers.get("Authorization", "") not in self.accepted:
            return httpx.Response(401, headers={"WWW-Authenticate": self.challenge})
        if request.url.path == "/v2/":
            return httpx.Response(200, headers={"Docker-Distribution-Api-Version": "registry/2.0"})
        name = request.url.path.rsplit("/", 1)[1]
        content = self.documents.get(self.tags.get(name, name))
        if content is None or not request.url.path.startswith("/v2/team/finetune/"):
            return httpx.Response(
                404, json={"errors": [{"code": "MANIFEST_UNKNOWN", "message": "manifest unknown"}]}
            )
        return httpx.Response(200, content=content, headers={"Docker-Content-Digest": digest(content)})


@pytest.fixture
def fake() -> Fake:
    return Fake()


def connect(fake: Fake, **known: str) -> Callable[[Reference], httpx.Client]:
    def made(of: Reference) -> httpx.Client:
        return access.client(of, known=known, transport=httpx.MockTransport(fake))

    return made


def basic(user: str, password: str) -> str:
    return f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"


# ------------------------------------------------------------------------------------------ what is there
def test_an_image_is_found_in_an_index_and_named_by_it(fake: Fake) -> None:
    found = registry.resolve(REF, connect=connect(fake))
    assert str(found.reference) == f"registry.example.org/team/finetune@{fake.index}"
    assert (found.digest, found.manifest, found.config) == (fake.index, fake.image, fake.config)
    assert (found.labels, found.size, found.plain_http) == (LABELS, 7, False)
    assert found.media_types == (f"{OCI}layer.v1.tar+zstd",)
    by_digest = registry.resolve(REF.pinned(fake.image), connect=connect(fake))
    assert by_digest.digest == by_digest.manifest == fake.image
    assert all(request.url.scheme == "https" for request in fake.requests)


def test_another_platform_is_missing(fake: Fake) -> None:
    with pytest.raises(ImageMissingError, match="no image for linux/s390x"):
        registry.resolve(REF, platform="linux/s390x", connect=connect(fake))


def lies(fake: Fake, name: str) -> None:
    """The content under a digest is another."""
    fake.documents[name] = fake.documents[name].replace(b"cpu", b"xpu") + b" "
    fake.answer = lambda request: (
        httpx.Response(200, content=fake.documents[name]) if request.url.path.endswith(name) else None
    )


@pytest.mark.parametrize("which", ["index", "image", "config"])
def test_what_is_not_what_its_digest_says_is_refused(fake: Fake, which: str) -> None:
    lies(fake, getattr(fake, which))
    pinned = REF.pinned(fake.index)
    with pytest.raises(CheckError) as caught:
        registry.resolve(pinned, connect=connect(fake))
    assert "was asked for" in caught.value.problems[0]


def test_a_header_that_names_another_digest_is_no_match(fake: Fake) -> None:
    content = fake.documents[fake.index]
    fake.answer = lambda request: (
        httpx.Response(200, content=content, headers={"Docker-Content-Digest": digest(b"other")})
        if request.url.path.endswith("/cpu")
        else None
    )
    with pytest.raises(CheckError) as caught:
        registry.resolve(REF, connect=connect(fake))
    assert "what the registry calls it" in caught.value.problems[0]


@pytest.mark.parametrize("called", ["sha512:" + "a" * 128, "sha256:../../other", ""])
@pytest.mark.parametrize("which", ["manifest", "config", "header"])
def test_a_digest_that_cannot_be_compared_is_not_believed(fake: Fake, which: str, called: str) -> None:
    fake.documents[called] = fake.documents[fake.image if which == "manifest" else fake.config]
    document: dict[str, Any] = {"manifests": [{"digest": called}]}
    if which == "config":
        document = {"config": {"digest": called}}
    content = fake.documents[fake.index] if which == "header" else json.dumps(document).encode()
    headers = {"Docker-Content-Digest": called or "none"} if which == "header" else {}

    def answer(request: httpx.Request) -> httpx.Response | None:
        if request.url.path.endswith("/cpu"):
            return httpx.Response(200, content=content, headers=headers)
        known = request.url.path == "/v2/" or request.url.path.rsplit("/", 1)[1] in (fake.image, fake.config)
        return None if known else httpx.Response(200, content=fake.documents[called])

    fake.answer = answer
    with pytest.raises(CheckError) as caught:
        registry.resolve(REF, connect=connect(fake))
    assert "is no sha256 digest" in caught.value.problems[0]


@pytest.mark.parametrize(
    "content",
    [
        b"<html>",
        b"[]",
        b'{"layers": 3}',
        b'{"layers": []}',
        b'{"manifests": [{}]}',
        b'"',
        b" " * (5 << 20),
        b'{"x":' + b"[" * 100_000,
    ],
)
def test_what_is_no_manifest_is_named(fake: Fake, content: bytes) -> None:
    fake.answer = lambda request: (
        httpx.Response(200, content=content) if request.url.path.endswith("/cpu") else None
    )
    with pytest.raises(CheckError):
        registry.resolve(REF, connect=connect(fake))


# --------------------------------------------------------------------------------------------------- logins
def test_a_token_is_asked_for_once_and_used_for_all(fake: Fake) -> None:
    fake.challenge = (
        'Bearer realm="https://auth.example.org/token",service="reg",scope="repository:team/finetune:pull"'
    )
    fake.accepted = {"Bearer t0ken"}
    asked: list[httpx.Request] = []

    def token(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(200, json={"token": "t0ken"})

    fake.token_answer = token
    assert registry.resolve(REF, connect=connect(fake, username="me", password="pw")).digest == fake.index
    (request,) = asked
    assert request.headers["Authorization"] == basic("me", "pw")
    assert dict(request.url.params) == {"service": "reg", "scope": "repository:team/finetune:pull"}
    assert all(
        each.headers.get("Authorization") in (None, "Bearer t0ken")
        for each in fake.requests
        if each.url.host == "registry.example.org"
    )


def test_an_identity_token_is_exchanged(fake: Fake) -> None:
    fake.challenge = 'Bearer realm="https://auth.example.org/token",service="reg"'
    fake.accepted = {"Bearer t0ken"}

    def token(request: httpx.Request) -> httpx.Response:
        form = parse_qs(request.content.decode())
        right = form["refresh_token"] == ["kept"] and form["grant_type"] == ["refresh_token"]
        return httpx.Response(200, json={"access_token": "t0ken"}) if right else httpx.Response(401)

    fake.token_answer = token
    assert registry.resolve(REF, connect=connect(fake, identitytoken="kept")).digest == fake.index


@pytest.mark.parametrize("status", [307, 308])
def test_an_identity_token_follows_no_redirect(fake: Fake, status: int) -> None:
    fake.challenge = 'Bearer realm="https://auth.example.org/token",service="reg"'
    fake.token_answer = lambda request: httpx.Response(
        status, headers={"Location": "https://collector.example.net/token"}
    )
    with pytest.raises(RegistryAccessError, match=r"elsewhere, to collector\.example\.net") as caught:
        registry.resolve(REF, connect=connect(fake, identitytoken="kept-word"))
    assert "kept-word" not in f"{caught.value} {caught.value.why} {caught.value.hint}"
    assert not any(request.url.host == "collector.example.net" for request in fake.requests)


@pytest.mark.parametrize("known", [{}, {"identitytoken": "kept"}])
def test_a_token_server_that_has_no_address_is_named(fake: Fake, known: dict[str, str]) -> None:
    fake.challenge = 'Bearer realm="https://auth.example.org:port/token",service="reg"'
    with pytest.raises(RegistryError, match="an address that is none") as caught:
        registry.resolve(REF, connect=connect(fake, **known))
    assert "port" in caught.value.why


def test_a_password_goes_to_the_registry_that_asks_for_it(fake: Fake) -> None:
    fake.challenge, fake.accepted = 'Basic realm="reg"', {basic("me", "pw")}
    assert registry.resolve(REF, connect=connect(fake, username="me", password="pw")).digest == fake.index
    with pytest.raises(RegistryAccessError) as caught:
        registry.resolve(REF, connect=connect(fake, username="me", password="secret-word"))
    assert "secret-word" not in f"{caught.value} {caught.value.why} {caught.value.hint}"
    with pytest.raises(RegistryAccessError, match="does not give this user access to team/finetune"):
        registry.resolve(REF, connect=connect(fake))


def test_nothing_secret_leaves_over_a_worse_line_or_to_another_host(fake: Fake) -> None:
    fake.challenge = 'Bearer realm="http://auth.example.org/token"'
    with pytest.raises(RegistryAccessError):
        registry.resolve(REF, connect=connect(fake, username="me", password="pw"))
    assert not any(request.url.path == "/token" for request in fake.requests)

    def moved(request: httpx.Request) -> httpx.Response | None:
        if "/blobs/" in request.url.path:
            return httpx.Response(307, headers={"Location": "https://storage.example.net/blob"})
        if request.url.host == "storage.example.net":
            return httpx.Response(401, headers={"WWW-Authenticate": 'Basic realm="x"'})
        return None

    fake.challenge, fake.accepted, fake.answer = 'Basic realm="reg"', {basic("me", "pw")}, moved
    with pytest.raises(RegistryAccessError):
        registry.resolve(REF, connect=connect(fake, username="me", password="pw"))
    stored = [request for request in fake.requests if request.url.host == "storage.example.net"]
    assert stored
    assert not any("Authorization" in request.headers for request in stored)


@pytest.mark.parametrize(
    ("config", "known"),
    [
        ({}, {}),
        ({"auths": {"registry.example.org": {"auth": "bWU6cHc="}}}, {"username": "me", "password": "pw"}),
        (
            {"auths": {"https://registry.example.org/v2/": {"auth": "bWU6cHc="}}},
            {"username": "me", "password": "pw"},
        ),
        ({"auths": {"registry.example.org": {"identitytoken": "kept"}}}, {"identitytoken": "kept"}),
        ({"auths": {"other.example.org": {"auth": "bWU6cHc="}}}, {}),
    ],
)
def test_logins_are_those_of_docker(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, config: dict[str, Any], known: dict[str, str]
) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps(config))
    found = access.login(REF)
    assert {name: found[name] for name in known} == known
    assert bool(found) == bool(known)


# -------------------------------------------------------------------------------------------------- failures
@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, RegistryError),
        (401, RegistryAccessError),
        (403, RegistryAccessError),
        (404, ImageMissingError),
        (413, RegistryServerError),
        (429, RegistryServerError),
        (500, RegistryServerError),
        (503, RegistryServerError),
        (507, RegistryServerError),
    ],
)
def test_answers_are_named(fake: Fake, status: int, kind: type[LaunchError]) -> None:
    body = {"errors": [{"code": "X", "message": "in its words"}]}
    fake.answer = lambda request: (
        httpx.Response(status, json=body) if "/manifests/" in request.url.path else None
    )
    with pytest.raises(kind) as caught:
        registry.resolve(REF, connect=connect(fake))
    assert type(caught.value) is kind
    assert caught.value.why == f"it answers {status}: in its words"


@pytest.mark.parametrize(
    "body", ['{"errors": 5}', '{"errors": "no"}', '{"errors": [5]}', "[]", "<html>", "[" * 100_000]
)
def test_an_answer_in_another_form_has_no_words(fake: Fake, body: str) -> None:
    fake.answer = lambda request: (
        httpx.Response(403, text=body) if "/manifests/" in request.url.path else None
    )
    with pytest.raises(RegistryAccessError) as caught:
        registry.resolve(REF, connect=connect(fake))
    assert caught.value.why == "it answers 403"


def fails(error: Exception) -> Callable[[httpx.Request], httpx.Response | None]:
    def answer(request: httpx.Request) -> httpx.Response | None:
        if request.url.scheme == "https":
            raise error
        return None

    return answer


NO_TLS = httpx.ConnectError("[SSL: WRONG_VERSION_NUMBER] wrong version number (_ssl.c:1006)")


def test_plain_http_is_for_this_machine_or_when_it_is_meant(fake: Fake) -> None:
    fake.answer = fails(NO_TLS)
    with pytest.raises(RegistryTransportError, match="cannot be spoken to safely") as caught:
        registry.resolve(REF, connect=connect(fake))
    assert "--plain-http" in caught.value.hint
    assert not any(request.url.scheme == "http" for request in fake.requests)
    assert registry.resolve(REF, plain_http=True, connect=connect(fake)).plain_http
    here = reference.parse("127.0.0.1:5000/team/finetune:cpu")
    assert registry.resolve(here, connect=connect(fake)).plain_http


def untrusted() -> httpx.ConnectError:
    error = httpx.ConnectError("unable to get local issuer certificate")
    error.__cause__ = ssl.SSLCertVerificationError("unable to get local issuer certificate")
    return error


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (httpx.ConnectError("[SSL: CERTIFICATE_VERIFY_FAILED] self-signed"), RegistryTransportError),
        (untrusted(), RegistryTransportError),
        (httpx.ConnectError("[Errno 111] Connection refused"), RegistryError),
        (httpx.ConnectTimeout("timed out"), RegistryError),
        (httpx.RemoteProtocolError("illegal status line"), RegistryError),
        (httpx.ReadTimeout(""), RegistryError),
    ],
)
def test_what_does_not_answer_is_named(fake: Fake, error: Exception, kind: type[LaunchError]) -> None:
    fake.answer = fails(error)
    with pytest.raises(kind) as caught:
        registry.reach(reference.parse("127.0.0.1:5000/team/finetune:cpu"), connect=connect(fake))
    assert type(caught.value) is kind
    assert caught.value.why
    assert caught.value.hint


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (httpx.Response(200, text="<html>"), None),
        (httpx.Response(200, headers={"Docker-Distribution-Api-Version": "registry/1.0"}), RegistryError),
        (httpx.Response(404), RegistryError),
        (httpx.Response(502), RegistryServerError),
        (
            httpx.Response(400, text="Client sent an HTTP request to an HTTPS server.\n"),
            RegistryTransportError,
        ),
    ],
)
def test_what_is_no_registry_is_named(
    fake: Fake, answer: httpx.Response, kind: type[LaunchError] | None
) -> None:
    """Some registries say nothing of themselves to those they let in."""
    fake.answer = lambda request: answer
    if kind is None:
        registry.reach(REF, connect=connect(fake))
        return
    with pytest.raises(kind):
        registry.reach(REF, connect=connect(fake))
