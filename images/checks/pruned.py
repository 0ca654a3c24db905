"""Nothing that stayed asks for what the build removed (images/seal.py): no import, no library by its name.

Imports count where they run as soon as their module is imported, whatever block they stand in; one in a
function starts the tests. Headers are not looked for: only a compiler asks, and where there is one they stay.
"""

import ast
import importlib.util
import mmap
import re
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from _common import Failed, main

SEAL = Path("/launch/seal.py")

#: These list every library of CUDA by name, and load one when a caller names it.
CATALOGUES = ("cuda/pathfinder/_dynamic_libs",)


def seal() -> Any:
    """The module that removed them."""
    spec = importlib.util.spec_from_file_location("seal", SEAL)
    if spec is None or spec.loader is None:
        raise Failed(f"{SEAL} cannot be loaded")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def expression(pattern: str) -> re.Pattern[str]:
    """A glob below site-packages as an expression for a path and all that is below it."""
    parts = re.split(r"(\*\*/|\*|\[[^]]*\])", pattern)
    inside = {"**/": "(?:.*/)?", "*": "[^/]*"}
    text = "".join(
        inside.get(part) or (part.replace("[!", "[^") if part.startswith("[") else re.escape(part))
        for part in parts
    )
    return re.compile(f"{text}(?:\\.py)?(?:/.*)?$")


def words(patterns: list[str]) -> re.Pattern[bytes]:
    """What a module's text has at least one of when it imports something that was removed."""
    names = {re.split(r"[*\[]", Path(pattern).name)[0] for pattern in patterns}
    return re.compile(
        rb"\b(?:" + b"|".join(re.escape(name).encode() for name in sorted(names) if name) + rb")"
    )


def imports(tree: ast.Module, package: list[str]) -> Iterator[str]:
    """The modules that a module names when it is imported, as paths; ``package`` is where it lies."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        statement = waiting.pop()
        if isinstance(statement, ast.Import):
            yield from (name.name.replace(".", "/") for name in statement.names)
        elif isinstance(statement, ast.ImportFrom):
            above = package[: len(package) - statement.level + 1] if statement.level else []
            module = "/".join([*above, *(statement.module or "").split(".")]).rstrip("/")
            yield module
            yield from (f"{module}/{name.name}" for name in statement.names)
        elif not isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.expr):
            waiting += ast.iter_child_nodes(statement)


def asked(site: Path, patterns: list[str]) -> Iterator[str]:
    """Imports of what is gone."""
    removed, some = [expression(pattern) for pattern in patterns], words(patterns)
    for path in site.rglob("*.py"):
        content = path.read_bytes()
        # Reading first saves the parser most of its work. Tests that stayed may ask for others.
        if not {"test", "tests"}.isdisjoint(path.parts) or not some.search(content):
            continue
        try:
            tree = ast.parse(content)
        except (SyntaxError, ValueError):
            continue  # a template, or for another Python
        place = path.relative_to(site)
        for module in imports(tree, list(place.parts[:-1])):
            gone = not (site / module).exists() and not (site / f"{module}.py").exists()
            if gone and any(pattern.match(module) for pattern in removed):
                yield f"{place} imports {module.replace('/', '.')}"


def named(site: Path, libraries: list[bytes]) -> Iterator[str]:
    """Libraries and modules that name a shared library that is gone."""
    for path in (*site.rglob("*.so*"), *site.rglob("*.py")):
        if str(path.parent.relative_to(site)) in CATALOGUES:
            continue
        if path.is_file() and path.stat().st_size:
            with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
                for library in libraries:
                    if content.find(library) >= 0:
                        yield f"{path.relative_to(site)} names {library.decode()}"


def check() -> str:
    """Imports first, then names of libraries."""
    module, site = seal(), Path(sysconfig.get_path("purelib"))
    patterns = [pattern for several in module.PRUNED.values() for pattern in several]
    names = [Path(pattern).name.split(".so")[0] for pattern in patterns if ".so" in pattern]
    libraries = [f"{name}.so".encode() for name in names if "*" not in name]
    problems = [*asked(site, patterns), *named(site, libraries)]
    if problems:
        raise Failed("; ".join(sorted(set(problems))[:10]))
    return f"{len(patterns)} patterns of removed files, nothing asks for one"


if __name__ == "__main__":
    main(check)
