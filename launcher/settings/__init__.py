"""The user's settings: each value, and where it came from.

Order, first wins: environment (``LAUNCH_*``), the settings file, the default. The command line's own
options stand above all of them and are applied by the caller. Package indexes are the user's own:
uv's settings reach uv as they are, pip's are translated (uv does not read them).
"""

import configparser
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from launcher import memo, paths
from launcher.errors import SettingsError

T = TypeVar("T")

_CODE = [Path(__file__).with_name("schema.py")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting(Generic[T]):
    """A value and its origin: ``default``, a file, or an environment variable."""

    value: T
    origin: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings of one invocation.

    Attributes:
        target: the accelerator's target, or ``auto``.
        engine: ``auto``, ``docker``, ``podman`` or ``venv``.
        gpus: ``auto``, ``all``, or a list of numbers (NVIDIA: and uuids), e.g. ``0,1``.
        base: an image reference that replaces the manifest's base image in builds.
        without: optional packages that images and environments are made without, e.g. flash-attn.
        stop_grace: seconds between SIGTERM and SIGKILL when a run is stopped.
        shm_size: size of /dev/shm in containers, e.g. ``8g``; replaces the manifest's.
        dotenv: a file such as ``.env``, of the working folder, in which ``--env NAME`` is looked up, too.
    """

    target: Setting[str]
    engine: Setting[str]
    gpus: Setting[str]
    base: Setting[str | None]
    without: Setting[tuple[str, ...]]
    stop_grace: Setting[float]
    shm_size: Setting[str | None]
    dotenv: Setting[str | None]


def load(environment: Mapping[str, str] | None = None, file: Path | None = None) -> Settings:
    """Read the settings.

    Raises:
        SettingsError: unknown keys or wrong values, all at once, each with its origin.
    """
    environment = os.environ if environment is None else environment
    file = paths.config_file() if file is None else file
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    if file.is_file():
        try:
            values = tomllib.loads(file.read_text(encoding="utf-8"))
        except OSError as error:
            raise SettingsError(f"{file} cannot be read", [str(error)]) from None
        except (ValueError, RecursionError) as error:  # tomllib lets int() and the stack speak for themselves
            raise SettingsError(f"{file} is not valid TOML", [str(error)]) from None
        origins = dict.fromkeys(values, str(file))
    for name in Settings.__dataclass_fields__:
        variable = f"LAUNCH_{name.upper()}"
        if environment.get(variable):
            values[name] = environment[variable]
            origins[name] = variable
    source = repr((sorted(values.items()), sorted(origins.items()), str(file))).encode()
    parsed = memo.remembered(source, _CODE, dict, lambda: _validated(values, origins, file))
    return Settings(
        **{name: Setting(value=value, origin=origins.get(name, "default")) for name, value in parsed.items()}
    )


def _validated(values: dict[str, Any], origins: Mapping[str, str], file: Path) -> dict[str, Any]:
    # Imported here: settings that were read before need no validation.
    from launcher.settings import schema

    return schema.validated(values, origins, file)


@dataclass(frozen=True, slots=True, kw_only=True)
class Indexes:
    """Where packages come from, by the user's own settings.

    ``pip``'s index-url, find-links and cert are taken over unless uv has its own; its
    extra-index-url is not, because pip merges indexes where uv takes the first that knows a name,
    and a difference in that order is how dependency confusion happens.
    """

    index_url: Setting[str | None]
    find_links: Setting[tuple[str, ...]]
    cert: Setting[str | None]

    def uv_arguments(self) -> tuple[str, ...]:
        """The options that make uv look where the user's pip looks."""
        index = ("--default-index", self.index_url.value) if self.index_url.value else ()
        links = tuple(part for link in self.find_links.value for part in ("--find-links", link))
        return (*index, *links)

    def uv_environment(self) -> dict[str, str]:
        """Variables for uv: the extra CA that the user's pip trusts."""
        return {"SSL_CERT_FILE": self.cert.value} if self.cert.value else {}


def indexes(environment: Mapping[str, str] | None = None) -> Indexes:
    """The user's package indexes; uv's variables win over pip's."""
    environment = os.environ if environment is None else environment
    pip, origins = _pip_settings(environment)

    def pick(pip_key: str, *uv_variables: str) -> Setting[str | None]:
        for variable in uv_variables:
            if environment.get(variable):  # uv reads its own variables by itself
                return Setting(value=None, origin=variable)
        return Setting(value=pip.get(pip_key), origin=origins.get(pip_key, "default"))

    links = pick("find-links", "UV_FIND_LINKS")
    return Indexes(
        index_url=pick("index-url", "UV_DEFAULT_INDEX", "UV_INDEX_URL"),
        find_links=Setting(value=tuple((links.value or "").split()), origin=links.origin),
        cert=pick("cert", "SSL_CERT_FILE"),
    )


def _pip_settings(environment: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """pip's configuration files and variables, in pip's own order (later wins).

    Source: pip's documentation, "Configuration": site-wide, user, environment's file, variables.
    """
    values: dict[str, str] = {}
    origins: dict[str, str] = {}
    for file in _pip_files(environment):
        parser = configparser.RawConfigParser()
        try:
            parser.read(file, encoding="utf-8")
        except (configparser.Error, UnicodeDecodeError):
            continue  # pip itself reports its broken files
        for section in ("global", "install"):
            if parser.has_section(section):
                for key, value in parser.items(section):
                    values[key.replace("_", "-")] = value
                    origins[key.replace("_", "-")] = str(file)
    for variable, value in environment.items():
        if variable.startswith("PIP_") and value:
            key = variable.removeprefix("PIP_").lower().replace("_", "-")
            values[key], origins[key] = value, variable
    return values, origins


def _pip_files(environment: Mapping[str, str]) -> list[Path]:
    home = Path(environment.get("HOME", "/nonexistent"))
    config_home = Path(environment.get("XDG_CONFIG_HOME") or home / ".config")
    files = [
        Path("/etc/xdg/pip/pip.conf"),
        Path("/etc/pip.conf"),
        home / ".pip" / "pip.conf",
        config_home / "pip" / "pip.conf",
    ]
    named = environment.get("PIP_CONFIG_FILE")
    if named == os.devnull:  # pip's way to switch all files off
        return []
    if named:
        files.append(Path(named))
    return [file for file in files if file.is_file()]
