"""Combinations that a recipe's header refuses: told before anything starts, all of them at once.

``recipes/runtime/header.py`` says the same to plain bash; one table of cases tests both.
"""

import re
from collections.abc import Iterator, Mapping, Sequence

from launcher.errors import RefusedError
from launcher.recipe.model import GIVEN, Recipe, Refusal, Value

#: A long option of a trainer, with or without its value.
_OPTION = re.compile(r"--([A-Za-z][\w-]*)(?:=(.*))?", re.DOTALL)

#: A word that argparse takes for an option, and so not for the value of the one before it.
_NO_VALUE = re.compile(r"-(?!\d+$|\d*\.\d+$).", re.DOTALL)

#: The spellings of booleans that transformers' parser knows.
_BOOLEANS = {
    **dict.fromkeys(("true", "t", "yes", "y", "1"), True),
    **dict.fromkeys(("false", "f", "no", "n", "0"), False),
}


def raw_values(arguments: Sequence[str]) -> dict[str, str]:
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


def held(
    refusals: Sequence[Refusal], target: str, values: Mapping[str, str], raw: Mapping[str, str]
) -> list[Refusal]:
    """The refusals whose every condition holds.

    Args:
        values: the recipe's parameters.
        raw: from :func:`raw_values`; they override the parameters of their names.
    """
    seen = {**values, **raw, "target": target}

    def holds(name: str, wanted: tuple[Value, ...]) -> bool:
        return any(
            name in raw if value == GIVEN else name in seen and says(value, seen[name]) for value in wanted
        )

    return [refusal for refusal in refusals if all(holds(*condition) for condition in refusal.when)]


def refuse(
    recipe: Recipe, target: str, values: Mapping[str, str], arguments: Sequence[str], *, language: str
) -> None:
    """Refuse what the recipe's header refuses.

    Args:
        language: of the reasons, which the recipe has in both.

    Raises:
        RefusedError: each combination with its reason.
    """
    raw = raw_values(arguments)
    problems = [
        f"{' '.join(_said(refusal, target, values, raw))}: {refusal.why.in_language(language)}"
        for refusal in held(recipe.refusals, target, values, raw)
    ]
    if problems:
        raise RefusedError(f"{recipe.name} does not run with these options together", problems)


def _said(refusal: Refusal, target: str, values: Mapping[str, str], raw: Mapping[str, str]) -> Iterator[str]:
    """The options of a refusal, as the command line has them."""
    for name, _ in refusal.when:
        if name == "target":
            yield f"--target {target}"
        elif name in raw:
            yield f"--{name} {raw[name]}".rstrip()
        else:
            yield f"--{name.replace('_', '-')} {values[name]}".rstrip()


def says(wanted: Value, text: str) -> bool:
    """Whether a text says a value: booleans and numbers by what they mean, all else letter by letter."""
    if isinstance(wanted, bool):
        return _BOOLEANS.get(text.strip().lower()) is wanted
    if isinstance(wanted, str):
        return text == wanted
    try:
        return float(text) == wanted
    except ValueError:
        return False
