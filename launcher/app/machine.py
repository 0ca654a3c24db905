"""What a report of acceptance says of this machine: facts, checks, and what has to stay unsaid."""

import getpass
import json
import os
import platform
import re
import socket
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import launcher
from launcher import host, manifest, model, paths
from launcher.acceptance import Check
from launcher.acceptance.private import Secrets
from launcher.app import images, place
from launcher.app.plan import Planned
from launcher.host import intel, nvidia, system
from launcher.image import check as programs
from launcher.image import environment, inputs
from launcher.plan import RunPlan
from launcher.progress import Progress
from launcher.settings import Settings

#: Of a card's facts, what tells this one from others of its kind, or names a group of this machine.
_UNSAID = ("uuid", "instances", "gid", "group")

#: Variables that name folders of the model hub's cache.
_HUB = ("HF_HOME", "HF_HUB_CACHE", "HF_XET_CACHE", "XDG_CACHE_HOME")

#: Of a model's config.json, what decides speed and memory.
_SHAPE = ("num_hidden_layers", "hidden_size", "num_attention_heads", "vocab_size", "max_position_embeddings")


def facts(planned: Planned) -> dict[str, Any]:
    """Machine, cards of both vendors, engine, target; every field is known, none names a person or a host."""
    found, plan = host.facts(), planned.plan
    engine = planned.engine.describe(plan)
    return {
        "launcher": launcher.version(),
        "target": plan.target,
        "lock_digest": plan.lock_digest,
        "left_out": list(plan.without),
        "engine": plan.engine,
        "engine_version" if plan.image else "python_of_environment": engine.version,
        "image": {"reference": plan.image, "digest": engine.image_digest}
        if plan.image
        else "none, embedded environment",
        "gpus_used": _used(plan),
        "system": {**asdict(system.facts()), "cores": found.cpus, "ram_bytes": found.memory},
        "python_of_launcher": platform.python_version(),
        "nvidia": _cards(asdict(nvidia.facts()), memory="memory"),
        "intel": _cards(asdict(intel.facts()), memory="bar"),
    }


def _used(plan: RunPlan) -> str:
    """Which GPUs the trainings get: numbers as they are; of uuids only how many."""
    names = plan.access.gpus.split(",") if plan.access.gpus else []
    if not names:
        return "all" if plan.access.devices else "none"
    return plan.access.gpus if all(re.fullmatch(r"[0-9.]+|all", name) for name in names) else f"{len(names)}"


def _cards(vendor: dict[str, Any], *, memory: str) -> dict[str, Any]:
    """One vendor's part without what is nobody's business; sizes get their unit into their name."""
    gpus = [
        {
            (f"{key}_bytes" if key == memory else key): value
            for key, value in gpu.items()
            if key not in _UNSAID
        }
        for gpu in vendor.pop("gpus") or ()
    ]
    for gpu in gpus:
        if "device" in gpu:
            gpu["device"] = f"8086:{gpu['device']}"
        if "capability" in gpu:
            gpu["capability"] = ".".join(map(str, gpu["capability"]))
    return {**vendor, "gpu": gpus}


def checks(plan: RunPlan, chosen: Settings, progress: Progress) -> Iterator[Check]:
    """The target's checks: in its image, or as far as they can be run in the embedded environment.

    Raises:
        LaunchError: the engine refused to run any.
    """
    target = manifest.shipped().target(plan.target)
    if plan.container:
        report = images.check(
            target.name, base=chosen.base.value, without=plan.without, only=(), progress=progress
        )
        yield from map(_check, report.outcomes)
        return
    inside = inputs.load(paths.images(), target, base=chosen.base.value, without=plan.without)
    folder = environment.folder(place.lock_of(plan))
    task = "checking the embedded environment"
    progress.start(task, total=len(target.checks) + 1)
    for name in (*target.checks, programs.SIZE):
        yield _check(programs.run_here(inside, folder, name))
        progress.advance(task, 1)
    progress.finish(task)


def _check(outcome: programs.Outcome) -> Check:
    return Check(
        name=outcome.check, status=outcome.status, detail=outcome.detail, seconds=round(outcome.seconds, 1)
    )


def shape(start: Path | str) -> dict[str, Any]:
    """What decides a model's speed and memory, from its configuration; its id, but never its folder.

    Raises:
        ModelNotFoundError: it is neither a folder nor on the hub.
    """
    found = model.resolve(str(start), download=True).model
    text = (found.path / "config.json").read_text(encoding="utf-8")
    said = {key: value for key, value in json.loads(text).items() if key in _SHAPE}
    return {"id": found.name, "revision": found.revision, **said} if found.revision else said


def secrets(work: Path, given: str | None = None) -> Secrets:
    """The folders and names of this machine that printed texts may hold.

    The user ``root`` is everybody's.

    Args:
        work: the ladder's own folder.
        given: the user's model; an id on the hub says nothing of the user.
    """
    folder = model.folder_of(given).absolute() if given else None
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # a user id without a name
        user = ""
    hosts = {socket.gethostname(), platform.node()}
    hosts |= {name.partition(".")[0] for name in hosts}
    names = {name: "[host]" for name in hosts if name not in ("", "localhost")}
    given_folders = {
        work: "[work]",
        paths.cache(): "[cache]",
        paths.assets(): "[launcher]",
        paths.runs(): "[runs]",
        Path(tempfile.gettempdir()): "[tmp]",
        Path.cwd(): "[here]",
        Path.home(): "~",
        **{Path(os.environ[name]): "[hub]" for name in _HUB if os.environ.get(name)},
        **({folder: "[model]"} if folder and model.is_folder(str(folder)) else {}),
    }
    return Secrets(
        folders={
            str(path): stand_in
            for known, stand_in in given_folders.items()
            for path in (known.resolve(), known)
        },
        names={**names, **({user: "[user]"} if user not in ("", "root") else {})},
    )
