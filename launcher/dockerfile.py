"""From a target to its Dockerfile, its image's name and its labels: pure text, no engine."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict

from launcher.errors import ManifestError
from launcher.lock import TargetLock
from launcher.manifest import Target

#: The moment that every file and image config is dated back to, in seconds since 1970 (2026-01-01). One fixed
#: value, because a build's own clock would be in every digest; after 1980, which is where zip files begin.
SOURCE_DATE_EPOCH = 1767225600

#: Dates back what the step has changed, inside the step: layers are then packed once, and a later build packs
#: only its new ones. Mount points are not writable, and not part of the layer.
_DATED = f"find / -xdev -writable -newermt @{SOURCE_DATE_EPOCH} -exec touch -h -d @{SOURCE_DATE_EPOCH} {{}} +"

#: The repository part of every image's name.
REPOSITORY = "finetune"

#: Packages whose presence says that the image compiles at run time, so C and C++ headers must stay.
_COMPILERS = frozenset({"gcc", "g++", "build-essential", "clang"})


def render(target: Target, lock: TargetLock, template: str) -> str:
    """The Dockerfile of a target.

    Args:
        target: the target, what it extends included.
        lock: its locks; a layer that holds a package without a wheel has it built in the image build.
        template: the text of images/Dockerfile.j2.

    Raises:
        ManifestError: the template uses a name that the target does not have.
    """
    # Imported here: a run needs the image's name, and no template.
    from jinja2 import Environment, StrictUndefined, TemplateError

    environment = Environment(  # noqa: S701 - a Dockerfile is not HTML
        undefined=StrictUndefined, keep_trailing_newline=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["quoted"] = quoted
    try:
        return environment.from_string(template).render(
            target=target,
            lock_files=[part.file_name for part in lock.locks],
            sources=frozenset(
                part.layer for part in lock.layers if any(package.is_source for package in part.packages)
            ),
            dated=_DATED,
            headers=not _COMPILERS.isdisjoint(target.system_packages),
        )
    except TemplateError as error:
        raise ManifestError("images/Dockerfile.j2 cannot be rendered", [str(error)]) from None


def quoted(value: str) -> str:
    """A value between double quotes, so that a Dockerfile takes every character of it literally."""
    for special in ("\\", '"', "$"):
        value = value.replace(special, "\\" + special)
    return f'"{value}"'


def build_digest(
    target: Target, *, lock_digest: str, dockerfile: str, base: str, tools: Sequence[str]
) -> str:
    """sha256 over everything that decides an image's content, its labels included.

    Args:
        target: what the manifest says.
        lock_digest: of the target's locks.
        dockerfile: the Dockerfile's text.
        base: the base image's reference as given to the build.
        tools: texts of the programs that the Dockerfile runs (images/seal.py).
    """
    parts = [target_digest(target), lock_digest, dockerfile, base, str(SOURCE_DATE_EPOCH), *tools]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def target_digest(target: Target) -> str:
    """sha256 of what the manifest says about the making of one target's image.

    Another target's change leaves it alone, and so does what is only asked when the image is checked or run.
    """
    said = asdict(target)
    for later in ("checks", "max_size", "devices"):
        del said[later]
    said["architectures"] = [target.devices.cuda, target.devices.architectures]  # labels say so
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def reference(target_name: str, digest: str) -> str:
    """The image's own name, e.g. ``finetune:cpu-0123456789ab``: the same inputs, the same name."""
    return f"{REPOSITORY}:{target_name}-{digest[:12]}"


def alias(target_name: str) -> str:
    """The name that moves: the target's image that was built last, e.g. ``finetune:cpu``."""
    return f"{REPOSITORY}:{target_name}"


def labels(
    target: Target,
    *,
    lock_digest: str,
    digest: str,
    base: str,
    revision: str,
    unreproducible: str,
    installer: str,
) -> tuple[tuple[str, str], ...]:
    """The labels that a build adds to those of the Dockerfile, sorted.

    Args:
        target: the target.
        lock_digest: of the target's locks.
        digest: of :func:`build_digest`.
        base: the base image's reference as given to the build.
        revision: the last commit that touched the inputs, or "" where there is none.
        unreproducible: why this engine's image is not bit-reproducible, or "".
        installer: the installing program and its version, e.g. ``uv 0.9.0``.
    """
    found = {
        "launch.base": base,
        "launch.base-stand-in": "false" if base == target.base.reference else "true",
        "launch.build-digest": f"sha256:{digest}",
        "launch.installer": installer,
        "launch.lock-digest": f"sha256:{lock_digest.removeprefix('sha256:')}",
        "launch.manifest-digest": f"sha256:{target_digest(target)}",
        "launch.reproducible": f"false ({unreproducible})" if unreproducible else "true",
        "org.opencontainers.image.version": digest[:12],
    }
    if target.devices.kind == "nvidia":
        found["launch.cuda"] = target.devices.cuda
        found["launch.architectures"] = " ".join(target.devices.architectures)
    if revision:
        found["org.opencontainers.image.revision"] = revision
    return tuple(sorted(found.items()))
