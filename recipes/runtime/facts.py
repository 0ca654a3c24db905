"""What a node says of itself before several train together, and the tokens in their folders."""

import contextlib
import hashlib
import os
import platform
import socket
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from runtime import header
from runtime.nodes import Settings

#: Libraries whose version decides what is trained.
_LIBRARIES = ("torch", "transformers", "accelerate", "FlagEmbedding", "trl", "peft", "deepspeed")

#: Beginning of the names of the files by which nodes see that they have the same folder.
MARK = ".meeting-"


def addresses() -> dict[str, list[str]]:
    """Every address of this machine, by interface."""
    import psutil  # accelerate brings it

    families = (socket.AF_INET, socket.AF_INET6)
    return {
        name: [each.address.partition("%")[0] for each in owned if each.family in families]
        for name, owned in psutil.net_if_addrs().items()
    }


def bound_by_gloo() -> str:
    """The address that gloo takes when it is told no interface; see :func:`nodes.gloo_interface`."""
    with contextlib.suppress(OSError):
        for family, kind, protocol, _, address in socket.getaddrinfo(
            socket.gethostname(), None, type=socket.SOCK_STREAM
        ):
            with contextlib.suppress(OSError), socket.socket(family, kind, protocol) as tried:
                tried.bind(address)
                return str(address[0])
    return "127.0.0.1"


def identity(chosen: Settings, recipe: Path, arguments: tuple[str, ...]) -> dict[str, Any]:
    """What must be the same on all nodes."""
    head = header.read(recipe.read_text(encoding="utf-8"))
    target = os.environ.get("TARGET", "")
    own_to_a_machine = ("model", "file")  # such a parameter is a path
    parameters: Mapping[str, Any] = head.get("parameters", {})  # type: ignore[assignment]
    return {
        "run": chosen.run,
        "nodes": chosen.nodes,
        "nproc": chosen.nproc,
        "target": target,
        "versions": {"python": platform.python_version(), **dict(_versions())},
        "recipe": hashlib.sha256(recipe.read_bytes()).hexdigest(),
        "arguments": hashlib.sha256("\0".join(arguments).encode()).hexdigest(),
        "parameters": {
            name: os.environ.get(name.upper(), "")
            for name, parameter in parameters.items()
            if parameter["type"] not in own_to_a_machine
        },
        "runtime": _digest(_sources()),
        "data": _digest(_sizes(os.environ.get("DATA", ""))),
    }


def _versions() -> Iterator[tuple[str, str]]:
    for name in _LIBRARIES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            yield name, metadata.version(name)


def _sources() -> Iterator[str]:
    """The runtime's own files; two checkouts of one version are the same."""
    own = Path(__file__).parent
    for file in sorted(own.rglob("*.py")):
        yield f"{file.relative_to(own)} {hashlib.sha256(file.read_bytes()).hexdigest()}"


def _sizes(paths: str) -> Iterator[str]:
    """Name and size of every file of the data; where it lies may differ."""
    for path in map(Path, filter(None, paths.split(":"))):
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            size = file.stat().st_size if file.is_file() else -1
            yield f"{file.relative_to(path.parent)} {size}"


def _digest(lines: Iterator[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def write(folder: Path, token: str) -> str:
    """Leave this node's token in a folder; why not, if that cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / f"{MARK}{token}").open("w") as stream:
            stream.write(token)
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        return error.strerror or str(error)
    return ""


def there(folder: Path, token: str) -> bool:
    """Whether a node's token is in a folder; listing it first makes network file systems ask their server."""
    with contextlib.suppress(OSError):
        list(folder.iterdir())
        return (folder / f"{MARK}{token}").read_text(encoding="utf-8") == token
    return False
