"""Print a recipe's defaults as shell assignments: ``python header.py RECIPE TARGET``.

The header is the only place where a default is written; variables that are already set stay.
Standard library only, since it runs in every environment.
"""

import re
import shlex
import sys
import tomllib
from pathlib import Path

BLOCK = re.compile(r"(?m)^# /// recipe$\s(?P<content>(^#(| .*)$\s)+)^# ///$")


def read(text: str) -> dict[str, object]:
    """The TOML of the ``# /// recipe`` block (PEP 723's syntax)."""
    found = BLOCK.search(text)
    if found is None:
        raise SystemExit("there is no '# /// recipe' block")
    # Not splitlines(): TOML's texts may hold the other characters that it takes for line ends.
    lines = found.group("content").split("\n")
    return tomllib.loads("\n".join(line[2:] for line in lines))


def assignments(header: dict, target: str) -> list[str]:
    """``export NAME=${NAME-default}`` for the model and each parameter, by target."""
    lines = []
    model = header.get("inputs", {}).get("model", {})
    if "default" in model:
        lines.append(_assignment("MODEL", model["default"]))
    for name, parameter in header.get("parameters", {}).items():
        default = parameter["default"]
        if isinstance(default, dict):
            if target not in default:
                raise SystemExit(f"{name} has no default for the target {target!r}")
            default = default[target]
        lines.append(_assignment(name.upper(), default))
    return lines


def _assignment(name: str, value: object) -> str:
    text = value if isinstance(value, str) else _as_text(value)
    # Only an unset variable takes the default: an empty one was set on purpose. Exported, so that a program
    # started by the recipe sees what the recipe saw.
    return f"export {name}=${{{name}-{shlex.quote(text)}}}"


def _as_text(value: object) -> str:
    """true/false and shortest numbers, as the launcher spells them."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:g}" if isinstance(value, float) and float(f"{value:g}") == value else str(value)


if __name__ == "__main__":
    print("\n".join(assignments(read(Path(sys.argv[1]).read_text(encoding="utf-8")), sys.argv[2])))
