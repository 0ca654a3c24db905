"""An image from the engine into a registry, sent by the engine: named for it, and the name taken away."""

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from launcher.errors import EngineError, LaunchError, RegistryError, RegistryTransportError
from launcher.image import inspect, registry
from launcher.image.inspect import ImageInfo
from launcher.image.reference import Reference
from launcher.progress import Progress

if TYPE_CHECKING:
    from docker import DockerClient

_SAID = re.compile(r"digest: (sha256:[0-9a-f]{64})")

#: How engines (Docker 20.10 to 29, Podman 4 and 5) word a registry's refusals, lower case, by what they mean.
_DENIED = (
    *("unauthorized", "authentication required", "no basic auth credentials", "denied"),
    *("insufficient_scope", "authorization failed", "authorization token", "forbidden"),
)
_PLAIN = ("gave http response to https client",)
_UNTRUSTED = ("x509:", "certificate", "tls:")
_FAILED = (
    *("insufficient storage", "no space left", "quota", "toomanyrequests", "too many requests"),
    *(
        "internal server error",
        "bad gateway",
        "service unavailable",
        "gateway timeout",
        "unknown: unknown error",
    ),
)
#: A number means something behind these words only: digests and ports have numbers, too.
_STATUS = r"\b(?:status(?: ?code)?|response(?: code)?):? ?"
_FAILED_STATUS = re.compile(rf"{_STATUS}(?:5\d\d|413|429)\b")
_DENIED_STATUS = re.compile(rf"{_STATUS}(?:401|403)\b")
_UNREACHABLE = (
    *("connection refused", "no such host", "i/o timeout", "no route to host", "network is unreachable"),
    *("deadline exceeded", "connection reset", "server misbehaving", "connection timed out"),
)
_LOST = re.compile(r"\beof\b")


def push(client: "DockerClient", image: ImageInfo, reference: Reference, *, progress: Progress) -> str:
    """Send an image; the login is the one that Docker's configuration has for the registry.

    Args:
        client: of the engine that has it, and sends it.
        image: which.
        reference: where, with a tag.
        progress: told the bytes.

    Returns:
        The digest that the engine names, "" when it names none: what the registry has is not asked here.

    Raises:
        EngineError: the engine failed, or was lost.
        RegistryAccessError, RegistryError, RegistryServerError, RegistryTransportError: the registry refused.
    """
    from docker.errors import APIError, DockerException
    from requests.exceptions import RequestException

    task = f"pushing {reference}"
    try:
        with _named(client, image, reference):
            progress.start(task, total=_size(client, image), unit="bytes")
            lines = client.api.push(reference.name, tag=reference.tag, stream=True, decode=True)
            try:
                digest = _followed(lines, reference, task, progress)
            finally:
                lines.close()  # the engine stops sending when nobody listens
            progress.finish(task)
            return digest
    except APIError as error:
        raise refused(reference, str(error.explanation or error)) from None
    except (DockerException, RequestException) as error:
        raise EngineError(
            f"the engine was lost while it pushed {reference}",
            why=str(error),
            hint="see what `docker version` says, and repeat the command: what has arrived stays there",
        ) from None


@contextmanager
def _named(client: "DockerClient", image: ImageInfo, reference: Reference) -> Iterator[None]:
    """The image has the registry's name while it is sent; what had that name before has it again."""
    from docker.errors import APIError
    from requests.exceptions import RequestException

    text = str(reference)
    before = inspect.find(client, text)
    client.images.get(image.id).tag(reference.name, reference.tag)
    try:
        yield
    finally:
        with suppress(APIError, RequestException):  # of the way out: what went wrong before says more
            if before is None:
                client.images.remove(text, noprune=True)
            else:
                client.images.get(before.id).tag(reference.name, reference.tag)


def _size(client: "DockerClient", image: ImageInfo) -> int | None:
    """Bytes that are sent when the registry has none of them: the engine's own figure."""
    return int(client.images.get(image.id).attrs.get("Size", 0)) or None


def _followed(lines: Iterator[dict[str, Any]], reference: Reference, task: str, progress: Progress) -> str:
    """The engine's words on the way, up to its end."""
    digest, sent = "", dict[str, int]()
    for line in lines:
        if line.get("error") or line.get("errorDetail"):
            detail = (line.get("errorDetail") or {}).get("message")
            raise refused(reference, str(detail or line.get("error")))
        digest = str((line.get("aux") or {}).get("Digest") or "") or digest
        found = _SAID.search(str(line.get("status", "")))
        digest = found[1] if found else digest
        layer, now = str(line.get("id", "")), (line.get("progressDetail") or {}).get("current")
        if layer and now:
            progress.advance(task, int(now) - sent.get(layer, 0))
            sent[layer] = int(now)
    return digest


def refused(reference: Reference, said: str) -> LaunchError:
    """What an engine says of a push that failed, as a named error.

    Engines hand on a registry's status in words, so words decide; the most certain sign comes first.
    """
    said = re.sub(r"\?[^\s:]+", "", said)  # what an upload is continued by is nobody else's
    text = said.lower()
    if any(sign in text for sign in _PLAIN):
        return RegistryTransportError(
            f"{reference.host} has no TLS, and the engine was not told so",
            why=said,
            hint=f'"insecure-registries": ["{reference.host}"] in the daemon\'s configuration; restart it',
        )
    if any(sign in text for sign in _UNTRUSTED):
        return RegistryTransportError(
            f"the engine does not trust the certificate of {reference.host}",
            why=said,
            hint=f"put its CA into /etc/docker/certs.d/{reference.host}/ca.crt on the engine's machine",
        )
    if _FAILED_STATUS.search(text) or any(sign in text for sign in _FAILED):
        return registry.failed(reference, said)
    if _LOST.search(text) or any(sign in text for sign in _UNREACHABLE):
        return RegistryError(
            f"the engine does not reach {reference.host}",
            why=said,
            hint="it is the engine's network and proxy that count; `docker info` shows them",
        )
    if _DENIED_STATUS.search(text) or any(sign in text for sign in _DENIED):
        return registry.access_refused(reference, said)
    return EngineError(f"the engine cannot push {reference}", why=said)
