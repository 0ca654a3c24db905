"""images/compatibility.toml: what goes together, as data with sources.

Drivers and CUDA, compute capabilities and packages, Intel's cards and kernels, packages and packages. The
rules that judge by it are :mod:`launcher.cuda`, :mod:`launcher.intel` and :class:`Compatibility` itself.
"""

from pathlib import Path

from launcher import memo, paths
from launcher.compatibility.table import Compatibility, Drivers, Family, Kernels, Pair, Toolkit

__all__ = ["Compatibility", "Drivers", "Family", "Kernels", "Pair", "Toolkit", "load", "parse", "shipped"]

_CODE = [Path(__file__).parent / name for name in ("schema.py", "table.py", "../validation.py")]


def load(path: Path) -> Compatibility:
    """Read the table.

    Raises:
        ManifestError: all problems of the file at once, each with its key.
    """
    return memo.of_file(
        path,
        _CODE,
        Compatibility,
        lambda text: parse(text, source=str(path)),
        missing="there is no table of compatibility",
    )


def shipped() -> Compatibility:
    """The table that ships with the launcher; see :func:`load`."""
    return load(paths.images() / "compatibility.toml")


def parse(text: str, *, source: str = "images/compatibility.toml") -> Compatibility:
    """Parse the table's text; see :func:`load`."""
    # Imported here: a table that was read before needs no validation.
    from launcher.compatibility import schema

    return schema.parse(text, source=source)
