"""Where a run takes place: in a container of the target's image, or in the embedded environment."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launcher import lock, manifest, paths
from launcher.engines.base import Engine
from launcher.engines.docker import DockerEngine
from launcher.engines.hosts import HostsEngine
from launcher.engines.kubernetes import KubernetesEngine, settled
from launcher.engines.slurm import SlurmEngine
from launcher.engines.venv import VenvEngine
from launcher.errors import EngineError, ImageMissingError, UsageError
from launcher.image import client, inputs, inspect
from launcher.image.inputs import Inputs
from launcher.image.inspect import ImageInfo
from launcher.lock import TargetLock
from launcher.manifest import Target
from launcher.plan import Hosts, Kubernetes, RunPlan, Slurm
from launcher.progress import Progress
from launcher.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """An engine, and what it has for the target.

    Attributes:
        engine: runs the recipe.
        image: reference of the image; None without a container.
        lock: what is installed there; packages that were left out are named by it.
        site: how a site's own engine is asked, with what is only known there; None on this machine.
    """

    engine: Engine[Any]
    image: str | None
    lock: TargetLock
    site: Slurm | Kubernetes | Hosts | None = None


def choose(
    wanted: str | None,
    chosen: Settings,
    target: Target,
    *,
    dry_run: bool,
    notes: list[str],
    progress: Progress,
) -> Place:
    """The place of a new run.

    Args:
        wanted: ``auto``, ``docker``, ``podman`` or ``venv``; None: by the settings.
        chosen: the user's settings.
        target: of the run.
        dry_run: nothing is started or made, and nothing that only a start needs is missed.
        notes: receives what the user should know.
        progress: told about an environment that is made.

    Raises:
        EngineError: no engine answers, and a container was asked for.
        ImageMissingError: the target's image is not there.
    """
    name = wanted or chosen.engine.value
    without = manifest.shipped().left_out(target, chosen.without.value)
    if name != "venv":
        inside = inputs.load(paths.images(), target, base=chosen.base.value, without=without)
        there = _container(name, inside, dry_run=dry_run, notes=notes)
        if there is not None:
            return there
    locked = lock.load(paths.images(), target).without(without).for_environment()
    _refuse_unfinished(target, locked)
    if locked.left_out:
        notes.append(f"the environment is partial: without {', '.join(locked.left_out)}")
    return Place(
        engine=VenvEngine(_environment(target, locked, progress, dry_run=dry_run)), image=None, lock=locked
    )


def on_site(
    site: Slurm | Kubernetes | Hosts,
    chosen: Settings,
    target: Target,
    *,
    nodes: int,
    dry_run: bool,
    notes: list[str],
    progress: Progress,
) -> Place:
    """The place of a new run that takes place on other machines.

    Nothing is asked here of the nodes: what they lack is found by the engine's own check, or there.

    Raises:
        ImageMissingError: what is installed trains nothing.
        UsageError: the runtime needs an image by name.
    """
    without = manifest.shipped().left_out(target, chosen.without.value)
    locked = lock.load(paths.images(), target).without(without)
    if not isinstance(site, Kubernetes) and site.runtime in ("none", "venv"):
        locked = locked.for_environment()
        _refuse_unfinished(target, locked)
        folder = _environment(target, locked, progress, dry_run=dry_run)
        engine = SlurmEngine(folder) if isinstance(site, Slurm) else HostsEngine(folder)
        return Place(engine=engine, image=None, lock=locked, site=site)
    _refuse_unfinished(target, locked)
    if isinstance(site, Kubernetes):
        site = settled(site, dry_run=dry_run, grace=chosen.stop_grace.value, notes=notes)
        return Place(engine=KubernetesEngine(site, nodes), image=site.image, lock=locked, site=site)
    if isinstance(site, Hosts):
        made = inputs.load(paths.images(), target, base=chosen.base.value, without=without)
        return Place(engine=HostsEngine(), image=made.reference, lock=locked, site=site)
    image = _image_of_nodes(site, chosen, target, without)
    return Place(engine=SlurmEngine(), image=image, lock=locked, site=site)


def _image_of_nodes(site: Slurm, chosen: Settings, target: Target, without: tuple[str, ...]) -> str:
    """What a runtime of Slurm's starts: what the user names, or the image that this checkout would build.

    Raises:
        UsageError: the runtime starts a file or folder, and none is named.
    """
    if site.image or site.runtime in ("docker", "podman"):
        return (
            site.image
            or inputs.load(paths.images(), target, base=chosen.base.value, without=without).reference
        )
    raise UsageError(
        f"--slurm-runtime {site.runtime} needs --slurm-image",
        why="it starts a file or folder that all nodes have, not an image of this machine's engine",
        hint="launch image save, then what docs/slurm.md says of this runtime",
    )


def _container(name: str, inside: Inputs, *, dry_run: bool, notes: list[str]) -> Place | None:
    """The container of a run; None: no engine answers, and none was asked for by name."""
    engine = DockerEngine("podman" if name == "podman" else "docker")
    try:
        found = inspect.find_for(engine.connect(), inside)
    except EngineError as error:
        podman = _podman_with(inside) if name == "auto" else None
        if podman is not None:
            notes.append(f"{error.message}: running in Podman, which has the image")
            return _with_image(*podman, inside, notes)
        if name != "auto" and not dry_run:
            raise
        if name != "auto" or dry_run:
            notes.append(
                f"{error.message}: this is the container's request"
                + ("; a start here would use the embedded environment" if name == "auto" else "")
            )
            return Place(engine=engine, image=inside.reference, lock=inside.lock)
        notes.append(f"{error.message}: running without a container, from the same lock")
        return None
    if found is None and not dry_run:
        raise _no_image(inside.target)
    return _with_image(engine, found, inside, notes)


def _podman_with(inside: Inputs) -> tuple[DockerEngine, ImageInfo] | None:
    """Podman with the image of these inputs, if it listens and has it."""
    if not client.podman_address(os.environ):
        return None
    engine = DockerEngine("podman")
    try:
        found = inspect.find_for(engine.connect(), inside)
    except EngineError:
        return None
    return (engine, found) if found is not None else None


def _with_image(engine: DockerEngine, found: ImageInfo | None, inside: Inputs, notes: list[str]) -> Place:
    """A container of the image that was found, or that will be built from these inputs.

    Raises:
        ImageMissingError: the image is for its checks.
    """
    installed = inside.lock.without(found.left_out if found else ())
    _refuse_unfinished(inside.target, installed)
    if installed.left_out:
        notes.append(f"the image is partial: built without {', '.join(installed.left_out)}")
    return Place(engine=engine, image=found.reference if found else inside.reference, lock=installed)


def of(plan: RunPlan, progress: Progress) -> Engine[Any]:
    """The engine of a plan that was made before."""
    target = manifest.shipped().target(plan.target)
    return _engine(plan, lambda: _environment(target, lock_of(plan), progress, dry_run=False))


def known(plan: RunPlan) -> Engine[Any]:
    """The engine of a run that was started before; an environment that is gone is not made again."""

    def folder() -> Path:
        # Imported here: a container needs none of it.
        from launcher.image import environment

        return environment.folder(lock_of(plan))

    return _engine(plan, folder)


def _engine(plan: RunPlan, folder: Callable[[], Path]) -> Engine[Any]:
    """The engine of a plan, with the environment's folder where it needs one."""
    if plan.kubernetes is not None:
        return KubernetesEngine(plan.kubernetes, plan.nodes)
    if plan.slurm is not None:
        return SlurmEngine(None if plan.container else folder())
    if plan.hosts is not None:
        return HostsEngine(None if plan.container else folder())
    if plan.engine in ("docker", "podman"):
        return DockerEngine("podman" if plan.engine == "podman" else "docker")
    return VenvEngine(folder())


def lock_of(plan: RunPlan) -> TargetLock:
    """What the locks say now that a plan's image or environment holds."""
    found = lock.load(paths.images(), manifest.shipped().target(plan.target)).without(plan.without)
    return found if plan.container else found.for_environment()


def _refuse_unfinished(target: Target, locked: TargetLock) -> None:
    """Such images and environments are for their checks.

    Raises:
        ImageMissingError: there is no torch, or there are no drivers.
    """
    missing = [name for name in lock.NEEDED if name in locked.left_out]
    if missing:
        raise ImageMissingError(
            f"what is here of {target.name} was made without {' and '.join(missing)}, and trains nothing",
            why="it shows that the rest of the image fits together",
            hint=f"bring the files that `launch image fetch {target.name}` names, then launch image build "
            f"{target.name}",
        )


def _no_image(target: Target) -> ImageMissingError:
    return ImageMissingError(
        f"the image of {target.name} is not on this engine",
        why="it was not built from this lock yet",
        hint=f"launch image build {target.name}   (or run without a container: --engine venv)",
    )


def _environment(target: Target, locked: TargetLock, progress: Progress, *, dry_run: bool) -> Path:
    """The embedded environment's folder; only a dry run leaves it unmade."""
    # Imported here: a container needs none of it.
    from launcher.image import environment

    if dry_run:
        return environment.folder(locked)
    return environment.ensure(target, locked, progress=progress).folder
