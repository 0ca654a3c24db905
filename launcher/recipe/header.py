"""What people may write in a recipe's header: validated as a whole, every problem with its key."""

import math
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from launcher.errors import RecipeError
from launcher.recipe.model import (
    BLOCK,
    GIVEN,
    RESERVED,
    Input,
    Parameter,
    ParameterType,
    Recipe,
    Refusal,
    Text,
    Value,
)
from launcher.validation import problems as problems_of

#: An id on the hub: owner and name.
HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


class _Text(_Strict):
    en: str = Field(min_length=1)
    zh: str = Field(min_length=1)


class _Data(_Strict):
    format: Literal["embedder", "reranker", "retrieval", "texts", "sft", "plain", "llm", "grpo", "documents"]
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


class _Refusal(_Strict):
    when: dict[str, Value | Annotated[list[Value], Field(min_length=1)]] = Field(min_length=1)
    why: _Text


class _Header(_Strict):
    summary: _Text
    targets: list[str] = Field(min_length=1)
    launch: Literal["torchrun", "python"]
    fit: Literal["", "sft", "grpo", "generate", "merge"] = ""
    inputs: _Inputs = _Inputs()
    outputs: _Outputs
    parameters: dict[str, _Parameter] = {}
    refusals: list[_Refusal] = []


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
        raise RecipeError(f"the header of {path} is not valid", problems_of(error)) from None
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
    for number, refusal in enumerate(header.refusals):
        for name, given in refusal.when.items():
            problems += [
                f"refusals.{number}.when.{name}: {problem}"
                for problem in _condition_problems(header, name, _alternatives(given))
            ]
    return problems


def _alternatives(given: Value | list[Value]) -> tuple[Value, ...]:
    return tuple(given) if isinstance(given, list) else (given,)


def _condition_problems(header: _Header, name: str, values: Sequence[Value]) -> Iterator[str]:
    """What can never hold; a raw argument may be anything."""
    parameter = header.parameters.get(name)
    if not re.fullmatch(r"[A-Za-z]\w*", name, re.ASCII):
        yield "not the name of an argument, spelt with underscores"
    for value in values:
        if name == "target" and value not in header.targets:
            yield f"{value!r} is not one of the targets"
        elif parameter is not None and value != GIVEN and not _fits(parameter.type, value, parameter.choices):
            yield f"{value!r} is not a {parameter.type}"


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
        fit=header.fit,
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
        refusals=tuple(
            Refusal(
                when=tuple((name, _alternatives(given)) for name, given in refusal.when.items()),
                why=text(refusal.why),
            )
            for refusal in header.refusals
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
    if kind in ("model", "file"):  # a folder or file would be one of the author's machine
        return not value or (kind == "model" and HUB_ID.fullmatch(value) is not None)
    return kind != "choice" or value in choices
