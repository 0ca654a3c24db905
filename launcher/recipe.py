"""Recipes: one file = one recipe. Parse the header, validate it, turn options into environment variables.

The header is TOML in a ``# /// recipe`` block (the block syntax of PEP 723). The catalogue is a glob over
``recipes/*.sh``; nothing is registered by hand.
"""

import hashlib
import math
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from launcher.errors import RecipeError, UsageError

BLOCK = re.compile(r"(?m)^# /// recipe$\s(?P<content>(^#(| .*)$\s)+)^# ///$")

ParameterType = Literal["int", "float", "bool", "str", "choice", "path"]
Value = bool | int | float | str

#: Names of the launcher's own variables and options, and of variables that bash or Python live by; no
#: parameter may take one.
RESERVED = frozenset(
    "target engine nproc data model output home path user here env env_file detach dry_run plan json memory"
    " shm_size network verbose help show_output begun as_json uid euid ppid ifs pythonpath".split()
)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


class _Text(_Strict):
    en: str = Field(min_length=1)
    zh: str = Field(min_length=1)


class _Data(_Strict):
    format: Literal["embedder", "reranker", "retrieval", "texts"]
    help: _Text


class _Model(_Strict):
    default: str | None = None
    help: _Text


class _Inputs(_Strict):
    data: _Data | None = None
    model: _Model | None = None


class _Outputs(_Strict):
    help: _Text


class _Parameter(_Strict):
    type: ParameterType
    default: Value | dict[str, Value]
    choices: list[str] = []
    help: _Text

    @model_validator(mode="after")
    def _choices_and_default(self) -> "_Parameter":
        if (self.type == "choice") != bool(self.choices):
            raise ValueError('choices go with type = "choice", and only with it')
        defaults = self.default.values() if isinstance(self.default, dict) else [self.default]
        for default in defaults:
            if not _fits(self.type, default, self.choices):
                raise ValueError(f"default {default!r} is not a {self.type}")
        return self


class _Header(_Strict):
    summary: _Text
    targets: list[str] = Field(min_length=1)
    launch: Literal["torchrun", "python"]
    inputs: _Inputs = _Inputs()
    outputs: _Outputs
    parameters: dict[str, _Parameter] = {}


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
        texts = {target: _as_text(value) for target, value in self.defaults}
        if len(set(texts.values())) == 1:
            return next(iter(texts.values()))
        return ", ".join(f"{target}: {text}" for target, text in texts.items())


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A recipe's header, checked.

    Attributes:
        launch: ``torchrun`` recipes train, and their world size is verified; ``python`` ones do not.
        sha256: of the whole file.
    """

    name: str
    path: Path
    sha256: str
    summary: Text
    targets: tuple[str, ...]
    launch: Literal["torchrun", "python"]
    data: Input | None
    model: Input | None
    outputs: Text
    parameters: tuple[Parameter, ...]

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
                else _as_text(dict(parameter.defaults)[target]),
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
                return _as_text(number)
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
    return parse(text, path=path, sha256=hashlib.sha256(content).hexdigest())


def parse(text: str, *, path: Path, sha256: str = "") -> Recipe:
    """Parse a recipe's text; see :func:`load`."""
    found = BLOCK.search(text)
    if found is None:
        raise RecipeError(
            f"{path} is not a recipe",
            ["there is no '# /// recipe' … '# ///' block"],
            hint="start from one that works: launch recipe copy bge-m3-unified my-recipe.sh",
        )
    try:
        # Not splitlines(): TOML's texts may hold the other characters that it takes for line ends.
        raw = tomllib.loads("\n".join(line[2:] for line in found.group("content").split("\n")))
    except (ValueError, RecursionError) as error:  # tomllib lets int() and the stack speak for themselves
        raise RecipeError(f"the header of {path} is not valid TOML", [str(error)]) from None
    try:
        header = _Header.model_validate(raw)
    except ValidationError as error:
        problems = [
            f"{'.'.join(str(part) for part in item['loc'])}: {item['msg']}" for item in error.errors()
        ]
        raise RecipeError(f"the header of {path} is not valid", problems) from None
    if problems := _problems(header):
        raise RecipeError(f"the header of {path} is not valid", problems)
    return _recipe(header, path, sha256)


def _problems(header: _Header) -> list[str]:
    """What a single key cannot tell: names, and defaults for every target."""
    problems = []
    for name, parameter in header.parameters.items():
        if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or name in RESERVED or name.startswith("launch"):
            problems.append(
                f"parameters.{name}: not a usable name (lower case, and not one of the launcher's)"
            )
        if isinstance(parameter.default, dict):
            missing = [target for target in header.targets if target not in parameter.default]
            extra = [target for target in parameter.default if target not in header.targets]
            problems += [
                f"parameters.{name}.default: nothing for the target {target!r}" for target in missing
            ]
            problems += [
                f"parameters.{name}.default: {target!r} is not one of the targets" for target in extra
            ]
    return problems


def _recipe(header: _Header, path: Path, sha256: str) -> Recipe:
    def text(source: _Text) -> Text:
        return Text(en=source.en, zh=source.zh)

    def defaults(parameter: _Parameter) -> tuple[tuple[str, Value], ...]:
        given = parameter.default
        by_target: Mapping[str, Value] = (
            given if isinstance(given, dict) else dict.fromkeys(header.targets, given)
        )
        return tuple((target, by_target[target]) for target in header.targets)

    data, model = header.inputs.data, header.inputs.model
    return Recipe(
        name=path.stem,
        path=path,
        sha256=sha256,
        summary=text(header.summary),
        targets=tuple(header.targets),
        launch=header.launch,
        data=Input(help=text(data.help), format=data.format) if data else None,
        model=Input(help=text(model.help), default=model.default) if model else None,
        outputs=text(header.outputs.help),
        parameters=tuple(
            Parameter(
                name=name,
                type=parameter.type,
                defaults=defaults(parameter),
                choices=tuple(parameter.choices),
                help=text(parameter.help),
            )
            for name, parameter in header.parameters.items()
        ),
    )


def _fits(kind: ParameterType, value: Any, choices: list[str]) -> bool:
    """Whether a default of the header is of the parameter's type (TOML's true is not an int)."""
    if kind == "bool":
        return isinstance(value, bool)
    if kind == "int":
        return isinstance(value, int) and not isinstance(value, bool)
    if kind == "float":
        return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < math.inf
    if not isinstance(value, str) or "\n" in value or "\0" in value:  # it becomes an environment variable
        return False
    return kind != "choice" or value in choices


def _as_text(value: Value) -> str:
    """The spelling that a recipe sees: true/false, shortest numbers."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:g}" if isinstance(value, float) and float(f"{value:g}") == value else str(value)


def _article(kind: str) -> str:
    return {"int": "a whole number", "float": "a number", "bool": "true or false"}[kind]
