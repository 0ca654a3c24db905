"""What a record or a plan names, beside what is found here; :mod:`launcher.replay` judges it."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

import launcher
from launcher import data, model, recipe
from launcher.app import place
from launcher.engines.base import Engine
from launcher.errors import EngineError, EngineGoneError
from launcher.host import Host
from launcher.plan import Model, RunPlan
from launcher.replay import Fact

#: Facts of a machine that people look at when a result differs; the first ones can change the bits.
_HOST = {
    "processor": "the processor",
    "cpus": "the number of cores",
    "nvidia": "the number of NVIDIA GPUs",
    "intel": "the number of Intel GPUs",
    "memory": "the RAM in bytes",
    "kernel": "the kernel",
}


def of_plan(plan: RunPlan) -> Iterator[Fact]:
    """Recipe, runtime, lock, and whether models, data and files are there; data and files are read whole."""
    yield from of_code(plan)
    for _, used in models(plan):
        known = used.revision or str(used.path)
        now = known if used.path.is_dir() else ""
        yield Fact(kind="model", subject=f"the model {used.name}", was=known, now=now)
    for file in plan.data:
        yield Fact(kind="data", subject=str(file.path), was=file.sha256, now=data.fingerprint(file.path))
    yield from of_files(plan)


def of_files(plan: RunPlan) -> Iterator[Fact]:
    """The files that parameters name, by their content."""
    for name, file in plan.files:
        subject = f"{file.path} of --{name.replace('_', '-')}"
        yield Fact(kind="file", subject=subject, was=file.sha256, now=data.fingerprint(file.path))


def of_code(plan: RunPlan) -> Iterator[Fact]:
    """Recipe, what runs beside it, and lock."""
    path = plan.recipe_path
    now = recipe.load(path).sha256 if path.is_file() else ""
    yield Fact(kind="recipe", subject=f"the recipe {path}", was=plan.recipe_sha256, now=now)
    beside = f"what runs beside the recipes in {plan.recipes}"
    runtime = recipe.runtime_sha256(plan.recipes)
    yield Fact(kind="runtime", subject=beside, was=plan.runtime_sha256, now=runtime)
    locked = place.lock_of(plan).digest
    yield Fact(kind="lock", subject=f"the lock of {plan.target}", was=plan.lock_digest, now=locked)


def of_model(used: Model, recorded: Mapping[str, str]) -> Fact:
    """A model by its revision, or by the weights of its folder.

    Args:
        used: as it is here.
        recorded: what the record says: ``revision`` or ``weights_sha256``, or neither.
    """
    subject, revision = f"the model {used.name}", recorded.get("revision", "")
    if not used.path.is_dir():
        was = revision or recorded.get("weights_sha256", "") or str(used.path)
        return Fact(kind="model", subject=subject, was=was, now="")
    if not revision:
        was = recorded.get("weights_sha256", "")
        return Fact(kind="model", subject=subject, was=was, now=model.weights_sha256(used) if was else "")
    here = used.revision or (used.path.name if used.path.parent.name == "snapshots" else "")
    if not here:  # a plain folder: a revision says nothing of its bytes
        return Fact(kind="model", subject=f"{subject} (known by its revision alone)", was="", now="")
    return Fact(kind="model", subject=subject, was=revision, now=here)


def of_image(plan: RunPlan, engine: Engine[Any], digest: str | None) -> Iterator[Fact]:
    """The image of a container, by the digest that the engine has.

    Raises:
        EngineGoneError: the engine does not answer.
    """
    if plan.image is None:
        return
    try:
        now = engine.describe(plan).image_digest or ""
    except EngineGoneError:
        raise
    except EngineError:
        now = ""
    yield Fact(kind="image", subject=f"the image {plan.image}", was=digest or "", now=now)


def of_launcher(plan: RunPlan) -> Fact:
    """The launcher's own version: it decides what a recipe sees."""
    return Fact(kind="launcher", subject="the launcher", was=plan.launcher, now=launcher.version())


def of_host(recorded: Mapping[str, Any], machine: Host) -> Iterator[Fact]:
    """Facts of the machine, those that the record has."""
    here = asdict(machine)
    for key, subject in _HOST.items():
        if recorded.get(key) not in (None, ""):
            yield Fact(kind="host", subject=subject, was=str(recorded[key]), now=str(here[key]))


def models(plan: RunPlan) -> tuple[tuple[str, Model], ...]:
    """Every model of a plan; the one to start from as ``model``, which no parameter may be called."""
    return (*((("model", plan.model),) if plan.model else ()), *plan.models)
