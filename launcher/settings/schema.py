"""What the settings file and the ``LAUNCH_*`` variables may say."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from launcher.errors import SettingsError


def _names(value: object) -> object:
    """A variable holds one text: names between spaces or commas."""
    return tuple(value.replace(",", " ").split()) if isinstance(value, str) else value


class _Schema(BaseModel):
    """Names, types and defaults; see launcher.settings.Settings."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    target: str = "auto"
    engine: str = Field(default="auto", pattern="^(auto|docker|podman|venv)$")
    gpus: str = Field(default="auto", pattern="^(auto|all|[0-9a-zA-Z/-]+(, ?[0-9a-zA-Z/-]+)*)$")
    base: str | None = None
    without: Annotated[tuple[str, ...], BeforeValidator(_names)] = ()
    stop_grace: float = Field(default=20.0, gt=0, le=3600)
    shm_size: str | None = Field(default=None, pattern=r"^\d+[kmgKMG]?$")
    dotenv: str | None = None


def validated(values: dict[str, Any], origins: Mapping[str, str], file: Path) -> dict[str, Any]:
    """Every setting, defaults included, with its final type.

    Raises:
        SettingsError: unknown keys or wrong values, all at once, each with its origin.
    """
    try:
        return _Schema.model_validate(values).model_dump()
    except ValidationError as error:
        problems = []
        for item in error.errors():
            key = ".".join(str(part) for part in item["loc"])
            problems.append(f"{key} (from {origins.get(key, str(file))}): {item['msg']}")
        raise SettingsError("settings cannot be used", problems) from None
