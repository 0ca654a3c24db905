"""A recipe as the rest of the launcher reads it: frozen, checked, and able to check values."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from launcher.errors import UsageError

BLOCK = re.compile(r"(?m)^# /// recipe$\s(?P<content>(^#(| .*)$\s)+)^# ///$")

#: Names of the launcher's own variables and options, and of variables that bash or Python live by; no
#: parameter may take one.
RESERVED = frozenset(
    "target engine nproc data model output home path user here env env_file detach dry_run plan json memory"
    " shm_size network verbose help show_output begun as_json grid repeat fail_fast uid euid ppid ifs"
    " pythonpath".split()
)

#: A ``model`` is a folder or an id on the hub; the recipe's variable holds the folder that it sees.
ParameterType = Literal["int", "float", "bool", "str", "choice", "model"]
Value = bool | int | float | str

#: In a refusal: a raw trainer argument of that name is there, whatever its value.
GIVEN = "given"


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """A text in both languages."""

    en: str
    zh: str

    def in_language(self, language: str) -> str:
        """The Chinese text for ``zh``, the English one for everything else."""
        return self.zh if language.startswith("zh") else self.en


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """What a recipe reads: data of a format, or a model with a default."""

    help: Text
    format: str = ""
    default: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """A typed option of a recipe.

    Attributes:
        defaults: (target, default) pairs, one per target of the recipe.
    """

    name: str
    type: ParameterType
    defaults: tuple[tuple[str, Value], ...]
    choices: tuple[str, ...]
    help: Text

    @property
    def option(self) -> str:
        """The command line's spelling: ``--learning-rate``."""
        return f"--{self.name.replace('_', '-')}"

    def default_text(self) -> str:
        """The default as people read it: one value, or one by target."""
        texts = {target: as_text(value) for target, value in self.defaults}
        if len(set(texts.values())) == 1:
            return next(iter(texts.values()))
        return ", ".join(f"{target}: {text}" for target, text in texts.items())


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Options that would fail late together, or silently train the wrong thing.

    Attributes:
        when: (name, values) pairs, all of which must hold. A name is a parameter, a raw trainer argument or
            ``target``; it holds when it has one of the values.
    """

    when: tuple[tuple[str, tuple[Value, ...]], ...]
    why: Text

    def condition(self) -> str:
        """The options that do not go together, as people write them: ``--target cpu --precision fp16``."""
        words = []
        for name, values in self.when:
            words.append(f"--{name}")
            words += [] if values == (GIVEN,) else ["|".join(as_text(value) for value in values)]
        return " ".join(words)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A recipe's header, checked.

    Attributes:
        launch: ``torchrun`` recipes train, and their world size is verified; ``python`` ones do not.
        fit: whose memory ``launch fit`` counts, one of launcher.fit.step.Kind; empty: as the data's format
            says.
        sha256: of the whole file.
    """

    name: str
    path: Path
    sha256: str
    summary: Text
    targets: tuple[str, ...]
    launch: Literal["torchrun", "python"]
    fit: str = ""
    data: Input | None
    model: Input | None
    outputs: Text
    parameters: tuple[Parameter, ...]
    refusals: tuple[Refusal, ...]

    def values(self, target: str, given: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
        """The recipe's parameters for a target: what was given, checked, and defaults for the rest.

        Args:
            target: one of the recipe's targets.
            given: parameter name to the text of the command line.

        Returns:
            (name, text) pairs in the header's order.

        Raises:
            UsageError: an unknown parameter, a value of the wrong type, a target that is not the recipe's.
        """
        if target not in self.targets:
            raise UsageError(
                f"{self.name} does not run on the target {target!r}",
                hint=f"it runs on: {', '.join(self.targets)}",
            )
        known = {parameter.name: parameter for parameter in self.parameters}
        for name in given:
            if name not in known:
                raise UsageError(
                    f"{self.name} has no parameter {name!r}", hint=f"launch run {self.name} --help"
                )
        return tuple(
            (
                name,
                convert(parameter, given[name])
                if name in given
                else as_text(dict(parameter.defaults)[target]),
            )
            for name, parameter in known.items()
        )


def convert(parameter: Parameter, text: str) -> str:
    """Check a text against the parameter's type and return its canonical spelling.

    Raises:
        UsageError: it is not of that type.
    """
    kind = parameter.type
    try:
        if kind == "int":
            return str(int(text))
        if kind == "float":
            number = float(text)
            if math.isfinite(number):
                return as_text(number)
            raise ValueError("not finite")
        if kind == "bool":
            return {
                "true": "true",
                "1": "true",
                "yes": "true",
                "false": "false",
                "0": "false",
                "no": "false",
            }[text.lower()]
    except (ValueError, KeyError):
        raise UsageError(f"{parameter.option} takes {_article(kind)}, not {text!r}") from None
    if kind == "choice" and text not in parameter.choices:
        raise UsageError(f"{parameter.option} takes one of {', '.join(parameter.choices)}, not {text!r}")
    if "\n" in text or "\0" in text:
        raise UsageError(f"{parameter.option} takes one line")
    return text


def as_text(value: Value) -> str:
    """The spelling that a recipe sees: true/false, shortest numbers."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:g}" if isinstance(value, float) and float(f"{value:g}") == value else str(value)


def _article(kind: str) -> str:
    return {"int": "a whole number", "float": "a number", "bool": "true or false"}[kind]
