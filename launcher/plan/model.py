"""The plan of a run: pure, frozen, versioned data. Everything up to here can be printed and repeated."""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from launcher.data import DataFile
from launcher.errors import RecordError
from launcher.manifest import Target
from launcher.plan.sites import Hosts, Kubernetes, Slurm
from launcher.recipe import Recipe

SCHEMA = 1

#: Where a run takes place: in a container or an environment of this machine, or on the site's nodes.
EngineName = Literal["docker", "podman", "venv", "slurm", "kubernetes", "hosts"]

#: CUDA's choice of GPUs.
VISIBLE = "CUDA_VISIBLE_DEVICES"

#: Level Zero's choice of GPUs, and what makes its versions count them in the order of the PCI bus. Source:
#: intel/compute-runtime, shared/source/execution_environment; newer versions always sort them so.
MASK = "ZE_AFFINITY_MASK"
PCI_ORDER = "ZE_ENABLE_PCI_ID_DEVICE_ORDER"

#: What ``--env`` may say of them: it stands for ``--gpus``, and is not passed on.
CHOICES = (VISIBLE, MASK)

#: All variables that choose GPUs: the plan says which, so nobody else does.
GPU_VARIABLES = (VISIBLE, "CUDA_DEVICE_ORDER", "NVIDIA_VISIBLE_DEVICES", MASK, PCI_ORDER)

#: Where Intel GPUs are.
DRI = "/dev/dri"


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A model that a run reads: the one to start from, or one that a parameter names.

    Attributes:
        name: what the user wrote: a folder or an id on the hub.
        path: the folder on this machine; it need not exist in the plan of a dry run.
        root: the folder to mount: ``path`` itself, or the cache entry that its links point into.
        revision: the hub's commit; empty for a folder.
    """

    name: str
    path: Path
    root: Path
    revision: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A file of this machine that a parameter names.

    Attributes:
        path: absolute; its name is kept in a container.
        sha256: of its bytes, when the plan was made.
    """

    path: Path
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """What a container gets of the machine beside files.

    Attributes:
        gpus: ``all`` NVIDIA GPUs, a list of numbers or uuids such as ``0,1``, or empty; of Intel's a list of
            numbers, or empty for all.
        devices: device nodes or folders.
        groups: ids of the groups that own those nodes.
        shm_size: size of /dev/shm, e.g. ``2g``.
        memory: limit of RAM, e.g. ``16g``; empty: none.
        network: ``none`` when data and model are on this machine, otherwise ``bridge``.
    """

    gpus: str = ""
    devices: tuple[str, ...] = ()
    groups: tuple[int, ...] = ()
    shm_size: str = "2g"
    memory: str = ""
    network: Literal["none", "bridge"] = "none"

    @property
    def nvidia(self) -> str:
        """``gpus`` for CUDA and NVIDIA's container tools; empty when they are another vendor's."""
        return "" if DRI in self.devices else self.gpus

    @property
    def intel(self) -> str:
        """``gpus`` for Level Zero; empty when they are another vendor's."""
        return self.gpus if DRI in self.devices else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPlan:
    """One run, complete: the same plan on the same machine is the same run.

    Attributes:
        schema: version of this format.
        launcher: version of the launcher that made it.
        recipe: the recipe's name; its file and hash follow.
        recipes: the folder of recipes whose runtime is used.
        runtime_sha256: of what runs beside the recipe, DeepSpeed's configurations included.
        world_size: processes in all; verified against what the trainer saw. 0: nothing to verify.
        nproc: processes on each node.
        nodes: machines that the run takes; more than one only where something starts it on others.
        inputs: the data paths as given, absolute.
        data: every file of them, as it was when it was checked.
        output: where the result goes; None: ``output`` in the run's own folder.
        parameters: of the recipe, all of them.
        models: (parameter, model) pairs of the parameters that name one.
        files: (parameter, file) pairs, likewise.
        arguments: raw trainer arguments, after ``--``.
        env: variables of the target, then those of ``--env``.
        secrets: names of variables whose values are never written down.
        image: reference of the image; None for the venv engine.
        lock_digest: sha256 over the target's locks, as far as they are installed.
        without: optional packages that the image or environment was made without.
        preflight: False: data, memory and machine were not looked at before the start (``--no-preflight``).
        slurm, kubernetes, hosts: how the run is handed to the engine of that name; None on the others.
    """

    schema: int = SCHEMA
    launcher: str
    recipe: str
    recipe_path: Path
    recipe_sha256: str
    runtime_sha256: str
    recipes: Path
    target: str
    engine: EngineName
    image: str | None
    lock_digest: str
    without: tuple[str, ...] = ()
    world_size: int
    nproc: int
    inputs: tuple[Path, ...]
    data: tuple[DataFile, ...]
    model: Model | None
    output: Path | None
    parameters: tuple[tuple[str, str], ...]
    models: tuple[tuple[str, Model], ...] = ()  # plans written before there were any have no such key
    files: tuple[tuple[str, File], ...] = ()  # the same
    arguments: tuple[str, ...]
    env: tuple[tuple[str, str], ...]
    secrets: tuple[str, ...]
    uid: int
    gid: int
    access: Access
    preflight: bool = True  # older plans say nothing of it: their data was checked
    nodes: int = 1
    slurm: Slurm | None = None
    kubernetes: Kubernetes | None = None
    hosts: Hosts | None = None

    @property
    def container(self) -> bool:
        """It runs in a container."""
        if self.slurm is not None:
            return self.slurm.runtime != "none"
        return self.engine != "venv" and (self.hosts is None or self.hosts.runtime != "venv")

    @property
    def elsewhere(self) -> bool:
        """It runs on other machines: of this one only the shared folders count."""
        return self.scheduled or self.hosts is not None

    @property
    def scheduled(self) -> bool:
        """The site's engine has it, and goes on by itself: nothing of it runs on this machine."""
        return self.engine in ("slurm", "kubernetes")

    @property
    def device(self) -> str:
        """What torch calls the kind of device that the run is for."""
        return "cuda" if self.access.nvidia else "xpu" if DRI in self.access.devices else "cpu"


def make(
    *,
    launcher: str,
    recipe: Recipe,
    recipes: Path,
    runtime_sha256: str,
    target: Target,
    engine: EngineName,
    image: str | None,
    lock_digest: str,
    without: tuple[str, ...],
    nproc: int,
    inputs: tuple[Path, ...],
    data: tuple[DataFile, ...],
    model: Model | None,
    output: Path | None,
    parameters: tuple[tuple[str, str], ...],
    models: tuple[tuple[str, Model], ...],
    arguments: tuple[str, ...],
    env: tuple[tuple[str, str], ...],
    secrets: tuple[str, ...],
    uid: int,
    gid: int,
    access: Access,
    preflight: bool = True,
    files: tuple[tuple[str, File], ...] = (),
    nodes: int = 1,
    site: Slurm | Kubernetes | Hosts | None = None,
) -> RunPlan:
    """Put a plan together; see :class:`RunPlan` for the parts."""
    merged = {**dict(target.env), **dict(env)}
    return RunPlan(
        launcher=launcher,
        recipe=recipe.name,
        recipe_path=recipe.path,
        recipe_sha256=recipe.sha256,
        runtime_sha256=runtime_sha256,
        recipes=recipes,
        target=target.name,
        engine=engine,
        image=None if engine == "venv" else image,
        lock_digest=lock_digest,
        without=without,
        world_size=nodes * nproc if recipe.launch == "torchrun" else 0,
        nproc=nproc,
        nodes=nodes,
        slurm=site if isinstance(site, Slurm) else None,
        kubernetes=site if isinstance(site, Kubernetes) else None,
        hosts=site if isinstance(site, Hosts) else None,
        inputs=inputs,
        data=data,
        model=model,
        output=output,
        parameters=parameters,
        models=models,
        files=files,
        arguments=arguments,
        env=tuple(sorted(merged.items())),
        secrets=tuple(sorted(secrets)),
        uid=uid,
        gid=gid,
        access=access,
        preflight=preflight,
    )


def to_json(plan: RunPlan) -> str:
    """The plan as versioned JSON, ready to be run again with ``--plan``."""
    return json.dumps(asdict(plan), indent=2, default=str, ensure_ascii=False) + "\n"


def from_json(text: str, *, source: str = "plan.json") -> RunPlan:
    """Read a plan back.

    Raises:
        RecordError: not a plan, or one of a version that this launcher does not know.
    """
    try:
        raw = json.loads(text)
        schema = raw["schema"]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise RecordError(
            f"{source} is not a plan", hint="launch run RECIPE … --dry-run --json prints one"
        ) from None
    if schema != SCHEMA:
        raise RecordError(
            f"{source} has the version {schema}, this launcher reads {SCHEMA}",
            why="it was written by another version of the launcher",
            hint="use the launcher version named in the plan's key 'launcher'",
        )
    # Imported here: a new plan is made, not read.
    from pydantic import TypeAdapter, ValidationError

    try:
        # Strict JSON mode: lists become tuples and texts paths, nothing else is bent into shape.
        return TypeAdapter(RunPlan).validate_json(text, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise RecordError(f"{source} is damaged: {key}: {first['msg']}") from None


def with_output(plan: RunPlan, output: Path | None) -> RunPlan:
    """The same plan, writing elsewhere."""
    return replace(plan, output=output)
