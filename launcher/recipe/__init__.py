"""Recipes: one file = one recipe. Parse the header, validate it, turn options into environment variables.

The header is TOML in a ``# /// recipe`` block (the block syntax of PEP 723). The catalogue is a glob over
``recipes/*.sh``; nothing is registered by hand.
"""

import hashlib
from pathlib import Path

from launcher import memo
from launcher.errors import RecipeError
from launcher.recipe.model import (
    BASE,
    BLOCK,
    RESERVED,
    Input,
    Parameter,
    ParameterType,
    Recipe,
    Refusal,
    Text,
    Value,
    convert,
)

__all__ = [
    "BASE",
    "BLOCK",
    "RESERVED",
    "Input",
    "Parameter",
    "ParameterType",
    "Recipe",
    "Refusal",
    "Text",
    "Value",
    "catalogue",
    "convert",
    "find",
    "load",
    "parse",
    "runtime_files",
    "runtime_sha256",
]

_CODE = [Path(__file__).parent / name for name in ("header.py", "model.py", "../validation.py")]


def catalogue(folder: Path) -> list[Path]:
    """The recipes of a folder, sorted by name."""
    return sorted(folder.glob("*.sh"))


def find(name: str, folder: Path) -> Path:
    """A recipe by path, or by name in the catalogue.

    Raises:
        RecipeError: there is none.
    """
    as_path = Path(name)
    if as_path.is_file():
        return as_path.absolute()
    stem = as_path.name.removesuffix(".sh")
    # Installed outside a checkout, ``recipes/bge-m3-unified.sh`` still names the recipe that ships.
    if as_path.parent in (Path(), Path("recipes")) and (found := folder / f"{stem}.sh").is_file():
        return found
    names = ", ".join(path.stem for path in catalogue(folder))
    raise RecipeError(f"there is no recipe {name!r}", [], hint=f"a file, or one of: {names}")


def load(path: Path) -> Recipe:
    """Read and check a recipe.

    Raises:
        RecipeError: all problems of the header at once, each with its key.
    """
    try:
        content = path.read_bytes()
        text = content.decode()
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path} cannot be read", [str(error)]) from None
    return memo.remembered(
        content + b"\0" + str(path).encode(),
        _CODE,
        Recipe,
        lambda: parse(text, path=path, sha256=hashlib.sha256(content).hexdigest()),
    )


def parse(text: str, *, path: Path, sha256: str = "") -> Recipe:
    """Parse a recipe's text; see :func:`load`."""
    # Imported here: a recipe that was read before needs no validation.
    from launcher.recipe import header

    return header.parse(text, path=path, sha256=sha256)


def runtime_sha256(recipes: Path) -> str:
    """sha256 over what runs beside a recipe: the folders beside it (``runtime/``, …) and ``../ds_configs``.

    Names and contents, sorted; compiled files do not count.
    """
    digest = hashlib.sha256()
    for folder in _runtime_folders(recipes):
        for file in _runtime_files(folder):
            content = hashlib.sha256(file.read_bytes()).hexdigest()
            digest.update(f"{folder.name}/{file.relative_to(folder)} {content}\n".encode())
    return digest.hexdigest()


def runtime_files(recipes: Path) -> list[Path]:
    """The files that :func:`runtime_sha256` is about."""
    return [file for folder in _runtime_folders(recipes) for file in _runtime_files(folder)]


def _runtime_folders(recipes: Path) -> tuple[Path, ...]:
    beside = sorted(path for path in recipes.iterdir() if path.is_dir() and path.name[0] not in "._")
    return *beside, recipes.parent / "ds_configs"


def _runtime_files(folder: Path) -> list[Path]:
    # Not by the ending alone: a compiled file has another one while it is written.
    return [
        file
        for file in sorted(folder.rglob("*"))
        if file.suffix != ".pyc" and "__pycache__" not in file.relative_to(folder).parts and file.is_file()
    ]
