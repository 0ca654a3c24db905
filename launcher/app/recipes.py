"""Use cases around recipes."""

import re
from pathlib import Path

from launcher import manifest, process, recipe


def check(file: Path) -> list[str]:
    """What is wrong with a recipe beyond its header (whose problems are raised).

    Raises:
        RecipeError: the header is not valid.
    """
    found = recipe.load(file)
    known = manifest.shipped().names()
    problems = [f"targets: there is no target {name!r}" for name in found.targets if name not in known]
    syntax = process.run(["bash", "-n", str(file)], check=False)
    problems += [line.removeprefix(f"{file}: ") for line in syntax.stderr.splitlines()]
    body = recipe.BLOCK.sub("", file.read_text(encoding="utf-8"))
    unused = [p.name for p in found.parameters if not re.search(rf"\$\{{?{p.name.upper()}\b", body)]
    problems += [f"parameters.{name}: ${name.upper()} is never used" for name in unused]
    if not re.search(r"(?m)^set -[a-z]*e[a-z]*u?", body):
        problems.append("no `set -euo pipefail`: a failing line would not stop the recipe")
    if not re.search(r"(?m)^\s*exec ", body):
        problems.append("no `exec`: signals would reach bash, and not the trainer")
    return problems
