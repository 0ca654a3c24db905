"""images/manifest.toml: the targets as data. Parse, validate (all problems at once), flatten.

What people write is a pydantic model (:mod:`launcher.manifest.schema`) that reports every problem with its
key; what the rest of the launcher reads is a frozen :class:`Target`.
"""

from pathlib import Path

from launcher import memo, paths
from launcher.manifest.target import (
    DRIVERS,
    Base,
    Devices,
    Driver,
    Layer,
    Manifest,
    Target,
    UrlWheel,
    lock_inputs_digest,
)

__all__ = [
    "DRIVERS",
    "Base",
    "Devices",
    "Driver",
    "Layer",
    "Manifest",
    "Target",
    "UrlWheel",
    "load",
    "lock_inputs_digest",
    "parse",
    "shipped",
]

_CODE = [Path(__file__).parent / name for name in ("schema.py", "target.py", "../validation.py")]


def load(path: Path) -> Manifest:
    """Read the manifest.

    Raises:
        ManifestError: all problems of the file at once, each with its key.
    """
    return memo.of_file(
        path, _CODE, Manifest, lambda text: parse(text, source=str(path)), missing="there is no manifest"
    )


def shipped() -> Manifest:
    """The manifest that ships with the launcher; see :func:`load`."""
    return load(paths.images() / "manifest.toml")


def parse(text: str, *, source: str = "images/manifest.toml") -> Manifest:
    """Parse the manifest's text; see :func:`load`."""
    # Imported here: a manifest that was read before needs no validation.
    from launcher.manifest import schema

    return schema.parse(text, source=source)
