"""Files that people write, validated as a whole: every problem with its key."""

import tomllib
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from launcher.errors import ManifestError

M = TypeVar("M", bound=BaseModel)


def problems(error: ValidationError) -> list[str]:
    """A line for each problem: its key, and what is wrong."""
    return [f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()]


def of_toml(kind: type[M], text: str, *, source: str) -> M:
    """A file's text as a model.

    Args:
        source: the file's name, for errors.

    Raises:
        ManifestError: it is no TOML, or not what the model allows.
    """
    try:
        return kind.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise ManifestError(f"{source} is not valid TOML", [str(error)]) from None
    except ValidationError as error:
        raise ManifestError(f"{source} is not valid", problems(error)) from None
