"""What a registry has under a name: digest and labels, read over its HTTP API, without a container engine.

The API is that of the OCI distribution specification. Nothing is believed: what comes is hashed, and must be
what the reference, the registry's own header and the manifest say.
"""

import hashlib
import json
import re
import ssl
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import httpx

from launcher.errors import (
    CheckError,
    ImageMissingError,
    LaunchError,
    RegistryAccessError,
    RegistryError,
    RegistryServerError,
    RegistryTransportError,
)
from launcher.image import access, oci
from launcher.image.reference import Reference

#: What manifests may be; without it registries answer with a form of 2016 that has no digest of its own.
_MANIFESTS = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)

_Document = TypeVar("_Document", oci.Manifest, oci.Config)

_MOST_BYTES = 4 << 20  # of a manifest or a configuration: what registries themselves accept of a manifest

#: How OpenSSL 1.1, 3.0 and 3.2 call an answer to a TLS greeting that is none.
_PLAIN = ("WRONG_VERSION_NUMBER", "record layer failure", "HTTP_REQUEST")

#: The only kind of digest that is computed here; another could not be compared, and would only be believed.
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")

_FULL = (httpx.codes.INSUFFICIENT_STORAGE, httpx.codes.REQUEST_ENTITY_TOO_LARGE)


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteImage:
    """An image in a registry, as its manifest and its configuration describe it.

    Attributes:
        reference: by its digest: what names exactly this image for ever.
        digest: ``sha256:…`` of what the name leads to: a manifest, or an index of several.
        manifest: ``sha256:…`` of the image's own manifest; the digest, where there is no index.
        config: ``sha256:…`` of its configuration, which engines without containerd call the image's id.
        labels: as built.
        size: bytes of its packed layers.
        media_types: of its layers, without repetition.
        plain_http: whether it was asked without TLS.
    """

    reference: Reference
    digest: str
    manifest: str
    config: str
    labels: Mapping[str, str]
    size: int
    media_types: tuple[str, ...]
    plain_http: bool


def resolve(
    reference: Reference,
    *,
    platform: str = "linux/amd64",
    plain_http: bool = False,
    connect: Callable[[Reference], httpx.Client] = access.client,
) -> RemoteImage:
    """Digest and labels of an image in a registry.

    Args:
        reference: by tag or by digest.
        platform: which image of an index.
        plain_http: the registry has no TLS. One on this machine is asked without it when it has none.
        connect: makes the HTTP client.

    Raises:
        CheckError: what came is not what its digest says.
        ImageMissingError: there is no such image, or none for the platform.
        RegistryAccessError: this user may not have it.
        RegistryError: it does not answer, or is no registry.
        RegistryServerError: it answers with an error of its own.
        RegistryTransportError: its certificate is not trusted, or it has no TLS.
    """
    with _asked(reference), connect(reference) as http:
        place = _base(http, reference, plain_http)
        content, digest = _fetched(http, f"{place}/manifests/{reference.asked}", reference, reference.digest)
        said, manifest = _read(content, oci.Manifest, reference), digest
        if said.manifests is not None:
            manifest = _comparable(_chosen(said.manifests, platform, reference), reference)
            content, _ = _fetched(http, f"{place}/manifests/{manifest}", reference, manifest)
            said = _read(content, oci.Manifest, reference)
        if said.config is None:
            raise _wrong(reference, f"{manifest} describes no image")
        config = _comparable(said.config.digest, reference)
        content, _ = _fetched(http, f"{place}/blobs/{config}", reference, config)
        described = _read(content, oci.Config, reference)
    return RemoteImage(
        reference=reference.pinned(digest),
        digest=digest,
        manifest=manifest,
        config=config,
        labels=described.labels,
        size=sum(layer.size for layer in said.layers),
        media_types=tuple(dict.fromkeys(layer.media_type for layer in said.layers)),
        plain_http=place.startswith("http:"),
    )


def reach(
    reference: Reference,
    *,
    plain_http: bool = False,
    connect: Callable[[Reference], httpx.Client] = access.client,
) -> None:
    """Ask a registry whether it is one, before gigabytes are sent to it; it need not let anybody in yet.

    Raises:
        RegistryError, RegistryServerError, RegistryTransportError: as :func:`resolve`.
    """
    with _asked(reference), connect(reference) as http:
        _base(http, reference, plain_http)


def _base(http: httpx.Client, reference: Reference, plain_http: bool) -> str:
    """The address of a repository, with the scheme that the registry answers to."""
    schemes = ("http",) if plain_http else ("https", "http") if reference.loopback else ("https",)
    for scheme in schemes:
        root = f"{scheme}://{reference.address}/v2/"
        try:
            answer = http.get(root, auth=None)
        except httpx.ConnectError as error:
            if scheme != schemes[-1] and _speaks_plainly(error):
                continue
            raise
        if answer.status_code >= httpx.codes.INTERNAL_SERVER_ERROR:
            raise _refused(reference, answer.status_code, answer.text)
        if "registry/2" in answer.headers.get("Docker-Distribution-Api-Version", "registry/2"):
            if answer.status_code in (httpx.codes.OK, httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
                return root + reference.repository
            if "HTTPS server" in answer.text:  # what servers written in Go say
                raise _transport(reference, "it speaks TLS, and was asked without", "leave out --plain-http")
        break
    raise RegistryError(
        f"{reference.host} is no registry of images",
        why=f"it answers {answer.status_code} to /v2/, where a registry says what it is",
        hint="the registry's host and port, without the path of its web pages",
    )


def _fetched(http: httpx.Client, url: str, reference: Reference, digest: str) -> tuple[bytes, str]:
    """A manifest or a configuration, and its digest, which is that of its bytes."""
    with http.stream("GET", url, headers={"Accept": ", ".join(_MANIFESTS)}) as answer:
        content = b""
        for piece in answer.iter_bytes():
            content += piece
            if len(content) > _MOST_BYTES:
                raise _wrong(reference, f"{url.rsplit('/', 1)[1]} has more than {_MOST_BYTES >> 20} MiB")
    if not answer.is_success:
        raise _refused(reference, answer.status_code, content.decode(errors="replace"))
    have = f"sha256:{hashlib.sha256(content).hexdigest()}"
    for want, who in (
        (digest, "was asked for"),
        (answer.headers.get("Docker-Content-Digest", ""), "is what the registry calls it"),
    ):
        if want and _comparable(want, reference) != have:
            raise _wrong(reference, f"{have} came, {want} {who}")
    return content, have


def _comparable(digest: str, reference: Reference) -> str:
    """A digest that a registry names, which what comes can be compared with.

    Raises:
        CheckError: it is of another kind, or none.
    """
    if not _DIGEST.fullmatch(digest):
        raise _wrong(reference, f"{digest or 'nothing'} is no sha256 digest, so nothing proves what it names")
    return digest


def _read(content: bytes, kind: type[_Document], reference: Reference) -> _Document:
    try:
        return oci.read(content, kind)
    except ValueError as error:
        raise _wrong(reference, f"what came is no {kind.__name__.lower()}: {error}") from None


def _chosen(entries: Sequence[oci.Descriptor], platform: str, reference: Reference) -> str:
    """The digest of the platform's image in an index."""
    found = oci.chosen(entries, platform)
    if found is None:
        raise ImageMissingError(f"{reference} has no image for {platform}")
    return found.digest


@contextmanager
def _asked(reference: Reference) -> Iterator[None]:
    """What the HTTP client says, as named errors."""
    try:
        yield
    except (httpx.ConnectError, httpx.ConnectTimeout) as error:
        raise _unreached(reference, error) from None
    except httpx.HTTPError as error:
        raise RegistryError(
            f"{reference.host} was lost while it was asked",
            why=str(error) or type(error).__name__,
            hint="repeat the command",
        ) from None
    except httpx.InvalidURL as error:  # no HTTPError: nothing was asked yet
        raise RegistryError(
            f"{reference.host} cannot be asked: it leads to an address that is none",
            why=str(error),
            hint="check the name and the port; a token server's address is the registry's own setting",
        ) from None
    except ValueError as error:  # of a proxy variable that is no address
        raise RegistryError("a proxy variable cannot be used", why=str(error).split("@")[-1]) from None


def _unreached(reference: Reference, error: httpx.TransportError) -> LaunchError:
    if _speaks_plainly(error):
        return _transport(
            reference, "it has no TLS", "--plain-http, if that is meant: what is sent can be read"
        )
    if "CERTIFICATE_VERIFY" in str(error) or isinstance(_root(error), ssl.SSLError):
        return _transport(
            reference, str(error), f"put its CA into {access.CERTIFICATES[0] / reference.address}/ca.crt"
        )
    return RegistryError(
        f"{reference.host} cannot be reached from this machine",
        why=str(error) or type(error).__name__,
        hint="check the name, the port, the network and HTTPS_PROXY",
    )


def _transport(reference: Reference, why: str, hint: str) -> RegistryTransportError:
    return RegistryTransportError(f"{reference.host} cannot be spoken to safely", why=why, hint=hint)


def _speaks_plainly(error: httpx.TransportError) -> bool:
    """Whether what answered the TLS greeting has no TLS."""
    return any(sign in str(error) for sign in _PLAIN)


def _root(error: BaseException) -> BaseException:
    """What an error began with."""
    while (before := error.__cause__ or error.__context__) is not None:
        error = before
    return error


def _refused(reference: Reference, status: int, said: str) -> LaunchError:
    """A registry's status and words as a named error."""
    why = f"it answers {status}{_words(said)}"
    if status in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
        return access_refused(reference, why)
    if status == httpx.codes.NOT_FOUND:
        return ImageMissingError(
            f"{reference} is not in the registry", why=why, hint="launch image push TARGET REGISTRY"
        )
    if status >= httpx.codes.INTERNAL_SERVER_ERROR or status in (*_FULL, httpx.codes.TOO_MANY_REQUESTS):
        return failed(reference, why)
    return RegistryError(f"{reference.host} does not understand the question", why=why)


def access_refused(reference: Reference, why: str) -> RegistryAccessError:
    """The error for a user whom a registry does not let in."""
    return RegistryAccessError(
        f"{reference.host} does not give this user access to {reference.repository}",
        why=why,
        hint=f"docker login {reference.host}; or have {reference.repository} made there, and opened to you",
    )


def failed(reference: Reference, why: str) -> RegistryServerError:
    """The error for a registry that fails."""
    return RegistryServerError(
        f"{reference.host} answered with an error of its own",
        why=why,
        hint="its disk may be full; repeat later: what arrived stays there",
    )


def _words(said: str) -> str:
    """The messages of a registry's answer; nothing of an answer in another form."""
    try:
        errors = json.loads(said).get("errors") or []
        return "".join(f": {each.get('message') or each.get('code')}" for each in errors)
    except (ValueError, AttributeError, TypeError, RecursionError):
        return ""


def _wrong(reference: Reference, problem: str) -> CheckError:
    return CheckError(f"{reference} is not what it is called", [problem])
