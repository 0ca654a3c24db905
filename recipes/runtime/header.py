"""Print a recipe's defaults as shell assignments: ``python header.py RECIPE TARGET [TRAINER ARGUMENTS]``.

The header is the only place where a default is written; variables that are already set stay. It is also the
only place where combinations are refused: one that is asked for ends this with exit code 64, and nothing is
printed that a shell could use. The launcher has refused it before (launcher/recipe/refusals.py); one table of
cases tests both. Standard library only, since it runs in every environment.
"""

import os
import re
import shlex
import sys
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

BLOCK = re.compile(r"(?m)^# /// recipe$\s(?P<content>(^#(| .*)$\s)+)^# ///$")

#: The launcher's exit code for options that do not go together.
REFUSED = 64

#: A long option of a trainer, with or without its value.
_OPTION = re.compile(r"--([A-Za-z][\w-]*)(?:=(.*))?", re.DOTALL)

#: A word that argparse takes for an option, and so not for the value of the one before it.
_NO_VALUE = re.compile(r"-(?!\d+$|\d*\.\d+$).", re.DOTALL)

#: The spellings of booleans that transformers' parser knows.
_BOOLEANS = {
    **dict.fromkeys(("true", "t", "yes", "y", "1"), True),
    **dict.fromkeys(("false", "f", "no", "n", "0"), False),
}


def read(text: str) -> dict[str, object]:
    """The TOML of the ``# /// recipe`` block (PEP 723's syntax)."""
    found = BLOCK.search(text)
    if found is None:
        raise SystemExit("there is no '# /// recipe' block")
    # Not splitlines(): TOML's texts may hold the other characters that it takes for line ends.
    lines = found.group("content").split("\n")
    return tomllib.loads("\n".join(line[2:] for line in lines))


def defaults(header: dict[str, Any], target: str) -> dict[str, str]:
    """The text of each parameter for a target."""
    found = {}
    for name, parameter in header.get("parameters", {}).items():
        default = parameter["default"]
        if isinstance(default, dict):
            if target not in default:
                raise SystemExit(f"{name} has no default for the target {target!r}")
            default = default[target]
        found[name] = default if isinstance(default, str) else _as_text(default)
    return found


def assignments(header: dict[str, Any], target: str) -> list[str]:
    """``export NAME=${NAME-default}`` for the model and each parameter, by target."""
    model = header.get("inputs", {}).get("model", {})
    texts = {"model": model["default"]} if "default" in model else {}
    # Only an unset variable takes the default: an empty one was set on purpose. Exported, so that a program
    # started by the recipe sees what the recipe saw.
    return [
        f"export {name.upper()}=${{{name.upper()}-{shlex.quote(text)}}}"
        for name, text in (texts | defaults(header, target)).items()
    ]


def refusals(
    header: dict[str, Any], target: str, arguments: Sequence[str], environment: Mapping[str, str]
) -> list[str]:
    """What the header refuses, one line each: the variables and arguments, and the reason."""
    raw = _raw_values(arguments)
    values = {name: environment.get(name.upper(), text) for name, text in defaults(header, target).items()}
    seen = {**values, **raw, "target": target}

    def holds(name: str, wanted: object) -> bool:
        return any(
            name in raw if value == "given" else name in seen and _is(value, seen[name])
            for value in (wanted if isinstance(wanted, list) else [wanted])
        )

    def said(name: str) -> str:
        return f"--{name} {seen[name]}" if name in raw else f"{name.upper()}={seen[name]}"

    return [
        f"{' '.join(said(name) for name in refusal['when'])}: {refusal['why'][_language(environment)]}"
        for refusal in header.get("refusals", [])
        if all(holds(name, wanted) for name, wanted in refusal["when"].items())
    ]


def _raw_values(arguments: Sequence[str]) -> dict[str, str]:
    """Raw trainer arguments by name, as argparse reads them: the last one counts, a bare flag is true.

    Names are spelt with underscores. transformers' parser switches ``name`` off by ``--no_name`` too.
    """
    found: dict[str, str] = {}
    for position, word in enumerate(arguments):
        option = _OPTION.fullmatch(word)
        if option is None:
            continue
        name, value = option[1].replace("-", "_"), option[2]
        if value is None:
            following = arguments[position + 1 : position + 2]
            bare = not following or _NO_VALUE.match(following[0])
            value = "true" if bare else following[0]
            if bare and name.startswith("no_"):
                found[name.removeprefix("no_")] = "false"
        found[name] = value
    return found


def _is(wanted: object, text: str) -> bool:
    """Whether a text says a value: booleans and numbers by what they mean, all else letter by letter."""
    if isinstance(wanted, bool):
        return _BOOLEANS.get(text.strip().lower()) is wanted
    if isinstance(wanted, str):
        return text == wanted
    try:
        return float(text) == wanted
    except ValueError:
        return False


def _language(environment: Mapping[str, str]) -> str:
    names = ("LAUNCH_LANG", "LC_ALL", "LC_MESSAGES", "LANG")
    chosen = next((environment[name] for name in names if environment.get(name)), "en")
    return "zh" if chosen.lower().startswith("zh") else "en"


def _as_text(value: object) -> str:
    """true/false and shortest numbers, as the launcher spells them."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:g}" if isinstance(value, float) and float(f"{value:g}") == value else str(value)


def main() -> None:
    """Refuse, or print the assignments."""
    script, target, *arguments = sys.argv[1:]
    header = read(Path(script).read_text(encoding="utf-8"))
    if refused := refusals(header, target, arguments, os.environ):
        print("\n".join((f"{Path(script).name} does not run with these together", *refused)), file=sys.stderr)
        raise SystemExit(REFUSED)
    print("\n".join(assignments(header, target)))


if __name__ == "__main__":
    main()
