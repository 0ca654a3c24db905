"""Names of images in registries: taken apart, put together, and compared as text. Pure.

The grammar is that of the distribution project (github.com/distribution/reference), narrowed to names that
say their registry: a name without one means Docker Hub to some programs and something else to others.
"""

import ipaddress
import re
from dataclasses import dataclass, replace

from launcher.errors import UsageError

_LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
_HOST = rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9a-fA-F:.]+\])(?::[0-9]{{1,5}})?"
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_PATH = rf"{_PART}(?:/{_PART})*"
_TAG = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"
_DIGEST = r"sha256:[0-9a-f]{64}"

_REGISTRY = re.compile(rf"(?P<host>{_HOST})(?:/(?P<path>{_PATH}))?")
_REFERENCE = re.compile(
    rf"(?P<host>{_HOST})/(?P<path>{_PATH})(?::(?P<tag>{_TAG}))?(?:@(?P<digest>{_DIGEST}))?", re.ASCII
)

#: Docker Hub's names in references, and the host that answers for it.
_HUB = frozenset({"docker.io", "index.docker.io", "registry-1.docker.io"})
_HUB_ADDRESS = "registry-1.docker.io"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """One image in one registry.

    Attributes:
        host: of the registry, with its port where there is one.
        repository: the path below it, e.g. ``team/finetune``.
        tag: may be empty.
        digest: ``sha256:…`` of a manifest; may be empty.
    """

    host: str
    repository: str
    tag: str = ""
    digest: str = ""

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return f"{self.name}{tag}{f'@{self.digest}' if self.digest else ''}"

    @property
    def name(self) -> str:
        """Registry and repository, without tag and digest."""
        return f"{self.host}/{self.repository}"

    @property
    def address(self) -> str:
        """The host that is asked: Docker Hub answers under another name than images have."""
        return _HUB_ADDRESS if self.host in _HUB else self.host

    @property
    def asked(self) -> str:
        """What a manifest is asked for by: the digest, which cannot change, or else the tag."""
        return self.digest or self.tag or "latest"

    @property
    def loopback(self) -> bool:
        """Whether it is on this machine, where engines take plain HTTP without being told to."""
        return is_loopback(self.host)

    def pinned(self, digest: str) -> "Reference":
        """The same image by its digest alone: some programs refuse a tag beside it."""
        return replace(self, tag="", digest=digest)


def is_loopback(host: str) -> bool:
    """Whether a registry's host is this machine."""
    bare = host.rpartition(":")[0] if re.search(r":[0-9]+$", host) and not host.endswith("]") else host
    if bare == "localhost":
        return True
    try:
        return ipaddress.ip_address(bare.strip("[]")).is_loopback
    except ValueError:
        return False


def parse(text: str) -> Reference:
    """Take a reference apart; ``host[:port]/path[:tag][@sha256:…]``.

    Raises:
        UsageError: it is none, names no registry, or carries a credential (which is not repeated).
    """
    _refuse(text)
    found = _REFERENCE.fullmatch(text)
    if found is None or not _names_a_registry(found["host"]) or not _is_host(found["host"]):
        raise UsageError(
            f"{text!r} is no reference of an image in a registry",
            why=_why(text),
            hint="registry.example.org/team/finetune:cpu, or with @sha256:… in place of the tag",
        )
    return Reference(
        host=found["host"], repository=found["path"], tag=found["tag"] or "", digest=found["digest"] or ""
    )


def below(registry: str, image: str) -> Reference:
    """Where an image of an engine goes: below a registry, under its own name and tag.

    Args:
        registry: ``host[:port][/path]``; Docker Hub's is ``docker.io/NAME``.
        image: as the engine has it, e.g. ``finetune:cpu-0123456789ab``.

    Raises:
        UsageError: the registry is no such place, or carries a credential (which is not repeated).
    """
    _refuse(registry)
    place = registry.rstrip("/")
    found = _REGISTRY.fullmatch(place)
    if found is None or not _names_a_registry(found["host"]) or not _is_host(found["host"]):
        raise UsageError(
            f"{registry!r} is no place in a registry",
            why=_why(place),
            hint="registry.example.org/team, localhost:5000/team, or docker.io/NAME for Docker Hub",
        )
    repository, _, tag = image.partition(":")
    path = f"{found['path']}/{repository}" if found["path"] else repository
    return Reference(host=found["host"], repository=path, tag=tag)


def _names_a_registry(host: str) -> bool:
    """Docker's rule: with a dot or a port, or localhost; anything else is a name at Docker Hub."""
    return "." in host or ":" in host or host == "localhost"


def _is_host(host: str) -> bool:
    """Whether what is in brackets, if any is, is an address: the grammar only knows its letters."""
    bare = re.fullmatch(r"\[(.*)\](?::[0-9]+)?", host)
    try:
        return bare is None or bool(ipaddress.IPv6Address(bare[1]))
    except ValueError:
        return False


def _refuse(text: str) -> None:
    """A user name or password would be in the shell's history, in ``ps`` and in errors."""
    if re.search(r"@(?![a-z0-9]+:[0-9a-f]{32,}$)", text):
        raise UsageError(
            "a registry's name carries no user and no password; a digest is @sha256:… with 64 hex digits",
            why="what stands before an @ is seen by other users of this machine, and kept by shells",
            hint="docker login REGISTRY, once; the name is then registry.example.org/team",
        )


def _why(text: str) -> str:
    if "://" in text:
        return "it has a scheme: registries are asked by HTTPS; --plain-http is for one that has no TLS"
    if text != text.lower():
        return "registries take lower-case names only"
    host = text.split("/")[0]
    if not _names_a_registry(host):
        return f"{host!r} names no registry: it has neither a dot nor a port"
    if not _is_host(host):
        return f"{host!r} holds no IPv6 address"
    return "its form is host[:port]/path[:tag][@sha256:64 hex digits]"
