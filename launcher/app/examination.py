"""What ``launch doctor`` looks at: the probes of a target on this machine, all at once."""

import importlib
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from launcher import lock, manifest, model, paths
from launcher.app import accelerators, probes
from launcher.app.probes import Broken
from launcher.app.wishes import Asked
from launcher.diagnosis import network as reading
from launcher.diagnosis.facts import EngineFacts, GpuHealth, ImageFacts, ModelFacts, NetworkSettings, Token
from launcher.errors import LaunchError, ModelNotFoundError
from launcher.host import Host, cpu, limits, memory, network, nvidia
from launcher.lock import TargetLock
from launcher.manifest import Target
from launcher.settings import Settings

_LIBRARIES = ("docker", "huggingface_hub.hf_api", "launcher.image.download", "launcher.image.environment")

#: Seconds for everything together, and for one server or program within it.
PATIENCE, ANSWER = 2.0, 1.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """An engine, and the target's image on it."""

    engine: EngineFacts
    image: ImageFacts | LaunchError


@dataclass(frozen=True, slots=True, kw_only=True)
class Devices:
    """The GPUs of a run.

    Attributes:
        host: with the cards that were looked at.
        gpus: the choice, as :func:`launcher.app.accelerators.choose` gives it.
        refused: why a start is refused; None: it is not.
        health: of NVIDIA's GPUs.
    """

    host: Host
    gpus: str
    refused: LaunchError | None
    health: tuple[GpuHealth, ...] | Broken


@dataclass(frozen=True, slots=True, kw_only=True)
class Examination:
    """What was found.

    Attributes:
        target: that was looked at.
        chosen: the user's settings.
        settings: of the network.
        facts: by the probe's name; :class:`Broken` where nothing was found out.
    """

    target: Target
    chosen: Settings
    settings: NetworkSettings
    facts: Mapping[str, Any]

    def known(self, name: str) -> Any:
        """A fact; None where nothing was found out."""
        found = self.facts.get(name)
        return None if isinstance(found, Broken) else found

    @property
    def container(self) -> bool:
        """Runs take place in a container: as :func:`launcher.app.place.choose` decides it."""
        wanted = self.chosen.engine.value
        # An engine that is slow to answer is still waited for by a run.
        return wanted == "docker" or (wanted == "auto" and isinstance(self.facts["engine"], Seen | Broken))

    @property
    def image(self) -> ImageFacts | None:
        """The target's image; None: unknown."""
        seen = self.known("engine")
        return seen.image if isinstance(seen, Seen) and isinstance(seen.image, ImageFacts) else None


def look(target: Target, host: Host, chosen: Settings, name: str | None) -> Examination:
    """Ask everything about a target at once.

    Args:
        target: to look at.
        host: what is known of the machine already.
        chosen: the user's settings.
        name: of the model to start from; None: none.
    """
    settings = reading.settings(os.environ)
    _load()
    asked = {
        **_local(target, chosen),
        "devices": lambda: devices(target, host, chosen),
        "engine": lambda: engine(target, chosen),
        "model": lambda: model_facts(name),
        **_servers(target, chosen, settings, name),
    }
    return Examination(
        target=target, chosen=chosen, settings=settings, facts=probes.gather(asked, patience=PATIENCE)
    )


def _load() -> None:
    """Import what probes use before their time runs: a machine that has never run it compiles it first."""
    for name in _LIBRARIES:
        # One that refuses a variable of the user's at its import (HF_HUB_DOWNLOAD_TIMEOUT=abc) breaks the
        # probes that ask it, each with a line.
        with suppress(Exception):
            importlib.import_module(name)


def _local(target: Target, chosen: Settings) -> dict[str, Callable[[], object]]:
    """What this machine's own files say."""
    return {
        "lock": lambda: locked(target, chosen),
        "environment": lambda: environment(target, chosen),
        "cpu": cpu.facts,
        "memory": memory.facts,
        "shm": memory.shared,
        "limits": limits.facts,
        "output": lambda: memory.disk(paths.runs()),
        "cache": lambda: memory.disk(paths.cache()),
        "models": lambda: memory.disk(models_folder()),
        "token": token,
    }


def _servers(
    target: Target, chosen: Settings, settings: NetworkSettings, name: str | None
) -> dict[str, Callable[[], object]]:
    """Who is asked over the network; nobody whom the user's settings keep from being asked."""
    asked: dict[str, Callable[[], object]] = {}
    if not settings.hub_offline:
        asked["hub"] = lambda: network.hub(patience=ANSWER)
        if name and not model.is_folder(name):
            asked["model.size"] = lambda: model.size_on_hub(name, patience=ANSWER)
    if not settings.packages_offline:
        asked["packages"] = lambda: network.packages(patience=ANSWER)
    url = registry(target, chosen)
    if url and chosen.engine.value != "venv":
        asked["images"] = partial(_server, url)
    for host, address in places(target, chosen).items():
        asked[f"wheels {host}"] = partial(_server, address)
    return asked


def _server(url: str) -> object:
    from launcher.settings import indexes

    return network.server(url, certificates=indexes().cert.value, patience=ANSWER)


def locked(target: Target, chosen: Settings) -> TargetLock:
    """The target's lock without what the user's settings leave out."""
    without = manifest.shipped().left_out(target, chosen.without.value)
    return lock.load(paths.images(), target).without(without)


def places(target: Target, chosen: Settings) -> dict[str, str]:
    """Hosts of wheels that are on no index and not in the cache yet, each with one address there."""
    from launcher.image import fetch

    found: dict[str, str] = {}
    try:
        have = locked(target, chosen)
    except LaunchError:  # the line "libraries" says so
        return found
    for wheel in target.wheels:
        package = have.package(wheel.name)
        if package is not None and not fetch.cached(package).is_file():
            found.setdefault(urlsplit(wheel.url).hostname or "?", wheel.url)
    drivers = have.drivers.packages if have.drivers and chosen.engine.value != "venv" else ()
    for driver in target.drivers:
        for package in drivers:
            if package.name == driver.name and not fetch.cached(package).is_file():
                found.setdefault(urlsplit(driver.url).hostname or "?", driver.url)
    return found


def registry(target: Target, chosen: Settings) -> str:
    """Where the registry of the base image answers; empty: the base image is the user's own."""
    name = chosen.base.value or target.base.image
    host = name.partition("/")[0]
    if "/" not in name or not ({".", ":"} & set(host) or host == "localhost"):
        return ""
    # Docker Hub's registry has another name than its images have.
    return f"https://{'registry-1.docker.io' if host == 'docker.io' else host}/v2/"


def engine(target: Target, chosen: Settings) -> Seen | LaunchError:
    """The engine and the target's image, or why no engine answers."""
    from launcher.image import client, inputs
    from launcher.image import engine as asking

    try:
        connection = client.connect(timeout=PATIENCE)
        facts = asking.facts(connection, patience=ANSWER)
    except LaunchError as error:
        return error
    try:
        without = manifest.shipped().left_out(target, chosen.without.value)
        inside = inputs.load(paths.images(), target, base=chosen.base.value, without=without)
        return Seen(engine=facts, image=asking.image(connection, inside))
    except LaunchError as error:
        return Seen(engine=facts, image=error)


def devices(target: Target, host: Host, chosen: Settings) -> Devices:
    """The GPUs that a run on the target would get, by the rules of a start."""
    seen = accelerators.look(host, target)
    gpus, refused = "", None
    container = chosen.engine.value != "venv"
    without = manifest.shipped().left_out(target, chosen.without.value)
    try:
        gpus, _ = accelerators.choose(Asked(), chosen.gpus, target, seen, dry_run=False, notes=[])
        accelerators.judge(gpus, target, seen, dry_run=False, notes=[])
        accelerators.settle(gpus, target, seen, container=container, without=without, dry_run=False, notes=[])
    except LaunchError as error:
        refused = error
    health: tuple[GpuHealth, ...] | Broken = ()
    if target.devices.kind == "nvidia":
        try:
            health = nvidia.health()
        except OSError as error:
            health = Broken(why=str(error))
    return Devices(host=seen, gpus=gpus, refused=refused, health=health)


def environment(target: Target, chosen: Settings) -> bool:
    """Whether the environment of runs without a container is there."""
    from launcher.image import environment as environments

    return environments.existing(locked(target, chosen)) is not None


def models_folder() -> Path:
    """The Hugging Face cache, by the user's own settings."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def model_facts(name: str | None) -> ModelFacts | None:
    """The model, as far as this machine knows it."""
    if name is None:
        return None
    try:
        found = model.resolve(name, download=False)
    except ModelNotFoundError as error:
        why = f"{error.message}{f': {error.why}' if error.why else ''}"
        return ModelFacts(name=name, present=False, problem=why, hint=error.hint)
    present = found.model.path.is_dir()
    return ModelFacts(name=name, present=present, complete=found.complete, size=model.size(found.model))


def token() -> Token | None:
    """The hub's token, of which only the form is kept."""
    from huggingface_hub import constants, get_token

    text = get_token()
    if not text:
        return None
    names = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
    origin = next((each for each in names if os.environ.get(each)), str(constants.HF_TOKEN_PATH))
    return reading.token(text, origin)
