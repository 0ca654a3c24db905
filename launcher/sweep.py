"""Variants of a run: the product of grids of values, each variant with a name. Pure."""

import csv
import itertools
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from launcher.errors import GridError, UsageError
from launcher.recipe import Recipe, convert

#: The launcher's own options that a grid may vary, beside the recipe's parameters.
OPTIONS = ("target", "model", "nproc", "gpus")

#: What repetitions of a variant differ in, where the recipe has it: without it they would be the same run.
SEED = "seed"

#: Characters of a run's id that say which variant it is; a container's name has 255.
_LABEL = 48

Grid = tuple[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One run of a sweep.

    Attributes:
        name: of its values, as people read it; no other variant of the sweep has it.
        values: (name, text) pairs in the order of the grids; of repetitions also the seed.
        repetition: from 1.
    """

    name: str
    values: tuple[tuple[str, str], ...]
    repetition: int = 1

    @property
    def label(self) -> str:
        """The values alone, as a part of a run's id."""
        texts = [re.sub(r"[^A-Za-z0-9.+-]+", "-", text).strip("-.")[-24:] for _, text in self.values]
        return "_".join(filter(None, texts))[:_LABEL]


def variants(
    found: Recipe,
    texts: Sequence[str],
    *,
    given: Collection[str] = (),
    repeat: int = 1,
    seed: str | None = None,
) -> tuple[Variant, ...]:
    """The product of the grids, the last one turning fastest, each variant ``repeat`` times.

    Args:
        found: the recipe.
        texts: ``NAME=V1,V2``: values as in a line of CSV, so that ``"a,b"`` is one value.
        given: names that the command line fixes already.
        repeat: how often each is run; repetition k has the seed plus k - 1.
        seed: as it was given; None: the recipe's default.

    Raises:
        GridError: everything that is wrong with the grids.
    """
    problems: list[str] = []
    grids = [grid for text in texts if (grid := _grid(text, found, problems)) is not None]
    names = [name for name, _ in grids]
    problems += [f"{name} has two grids" for name in sorted(set(names)) if names.count(name) > 1]
    problems += [f"{name} has a grid, and a value of its own" for name in names if name in given]
    if repeat > 1 and SEED in names:
        problems.append(f"--repeat counts {SEED} up, which has a grid")
    if not texts and repeat < 2:
        problems.append("there is nothing to vary")
    if problems:
        raise GridError(
            "the grids cannot be tried",
            problems,
            hint=f"--grid NAME=V1,V2 with a parameter of {found.name}, or {', '.join(OPTIONS)}",
        )
    product = itertools.product(*([(name, value) for value in values] for name, values in grids))
    first = _seed(found, seed) if repeat > 1 else None
    return tuple(
        _variant(values, number, first, repeat) for values in product for number in range(1, repeat + 1)
    )


def _variant(values: tuple[tuple[str, str], ...], number: int, first: int | None, repeat: int) -> Variant:
    if first is not None:
        values = (*values, (SEED, str(first + number - 1)))
    words = [f"{name}={value}" for name, value in values]
    if repeat > 1 and first is None:
        words.append(f"#{number}")
    return Variant(name=" ".join(words), values=values, repetition=number)


def _seed(found: Recipe, given: str | None) -> int | None:
    """The first repetition's seed; None for a recipe without one."""
    for parameter in found.parameters:
        if parameter.name == SEED and parameter.type == "int":
            return int(given if given is not None else str(parameter.defaults[0][1]))
    return None


def _grid(text: str, found: Recipe, problems: list[str]) -> Grid | None:
    """A grid's name and canonical values; what is wrong with it is added to ``problems``."""
    name, separator, list_of_values = text.partition("=")
    name = name.strip().removeprefix("--").replace("-", "_")
    known = {parameter.name: parameter for parameter in found.parameters}
    if not separator or not name:
        problems.append(f"{text!r} is not NAME=V1,V2")
        return None
    if name not in known and name not in OPTIONS:
        problems.append(f"{found.name} has no parameter {name!r}")
        return None
    values: list[str] = []
    try:
        (raw,) = csv.reader([list_of_values], strict=True, skipinitialspace=True) or [[]]
    except (csv.Error, ValueError) as error:
        problems.append(f"{name}: {list_of_values!r} is no list of values: {error}")
        return None
    for value in raw:
        try:
            values.append(convert(known[name], value) if name in known else _option(name, value))
        except UsageError as error:
            problems.append(error.message)
    problems += [f"{name}: {value!r} is in the grid twice" for value in _twice(values)]
    if not raw:
        problems.append(f"{name} has no values")
    return name, tuple(values)


def _option(name: str, value: str) -> str:
    if not value:
        raise UsageError(f"--{name} takes no empty value")
    if name == "nproc" and not (value.isdecimal() and int(value) > 0):
        raise UsageError(f"--nproc takes a number of processes, not {value!r}")
    return value


def _twice(values: Iterable[str]) -> list[str]:
    counted = list(values)
    return sorted({value for value in counted if counted.count(value) > 1})
