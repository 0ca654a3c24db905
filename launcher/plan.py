"""The plan of a run: pure, frozen, versioned data. Everything up to here can be printed and repeated.

``make`` puts a plan together from what was asked and what was found; ``environment`` and ``mounts`` say
what a recipe will see, for an engine that mounts (containers) and for one that does not (venv).
"""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Literal

from launcher.data import DataFile
from launcher.errors import RecordError
from launcher.manifest import Target
from launcher.recipe import Recipe

SCHEMA = 1

#: Where a run takes place: in a container, or in an environment of this machine.
EngineName = Literal["docker", "podman", "venv"]

#: CUDA's choice of GPUs.
VISIBLE = "CUDA_VISIBLE_DEVICES"

#: Level Zero's choice of GPUs, and what makes its versions count them in the order of the PCI bus. Source:
#: intel/compute-runtime, shared/source/execution_environment; newer versions always sort them so.
MASK = "ZE_AFFINITY_MASK"
_PCI_ORDER = "ZE_ENABLE_PCI_ID_DEVICE_ORDER"

#: What ``--env`` may say of them: it stands for ``--gpus``, and is not passed on.
CHOICES = (VISIBLE, MASK)

#: All variables that choose GPUs: the plan says which, so nobody else does.
GPU_VARIABLES = (VISIBLE, "CUDA_DEVICE_ORDER", "NVIDIA_VISIBLE_DEVICES", MASK, _PCI_ORDER)

#: Where an image has its environment.
ENVIRONMENT = "/opt/venv"

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
        nproc: processes on this machine.
        inputs: the data paths as given, absolute.
        data: every file of them, as it was when it was checked.
        output: where the result goes; None: ``output`` in the run's own folder.
        parameters: of the recipe, all of them.
        models: (parameter, model) pairs of the parameters that name one.
        arguments: raw trainer arguments, after ``--``.
        env: variables of the target, then those of ``--env``.
        secrets: names of variables whose values are never written down.
        image: reference of the image; None for the venv engine.
        lock_digest: sha256 over the target's locks, as far as they are installed.
        without: optional packages that the image or environment was made without.
        preflight: False: data, memory and machine were not looked at before the start (``--no-preflight``).
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
    arguments: tuple[str, ...]
    env: tuple[tuple[str, str], ...]
    secrets: tuple[str, ...]
    uid: int
    gid: int
    access: Access
    preflight: bool = True  # older plans say nothing of it: their data was checked

    @property
    def container(self) -> bool:
        """It runs in a container."""
        return self.engine != "venv"

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
        world_size=nproc if recipe.launch == "torchrun" else 0,
        nproc=nproc,
        inputs=inputs,
        data=data,
        model=model,
        output=output,
        parameters=parameters,
        models=models,
        arguments=arguments,
        env=tuple(sorted(merged.items())),
        secrets=tuple(sorted(secrets)),
        uid=uid,
        gid=gid,
        access=access,
        preflight=preflight,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Folders:
    """The run's own folders on this machine.

    Attributes:
        run: the run's record, ``runs/<id>``.
        output: where the recipe writes its result.
        home: a writable HOME, kept between runs (compiled kernels live there).
    """

    run: Path
    output: Path
    home: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """One start of a plan.

    Attributes:
        run: the run's id.
        attempt: 1 is the first start; a run that is resumed or restarted has more.
        checkpoint: the folder in the output that the training goes on from; empty: from the beginning.
    """

    run: str
    attempt: int = 1
    checkpoint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """A folder or file of this machine, seen by the container under another name."""

    source: Path
    target: PurePosixPath
    read_only: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where the recipe finds things: in the container, or on this machine.

    Attributes:
        models: (parameter, folder) pairs.
    """

    recipe: str
    recipes: str
    data: tuple[str, ...]
    model: str | None
    models: tuple[tuple[str, str], ...]
    output: str
    run: str
    home: str


def on_host(plan: RunPlan, folders: Folders) -> Places:
    """The places of an engine that mounts nothing."""
    return Places(
        recipe=str(plan.recipe_path),
        recipes=str(plan.recipes),
        data=tuple(str(path) for path in plan.inputs),
        model=None if plan.model is None else str(plan.model.path),
        models=tuple((name, str(model.path)) for name, model in plan.models),
        output=str(folders.output),
        run=str(folders.run),
        home=str(folders.home),
    )


def in_container(plan: RunPlan) -> Places:
    """The places of an engine that mounts; names are kept, because trainers read meaning from them."""
    shipped = plan.recipe_path.parent == plan.recipes
    return Places(
        recipe=f"/launch/{'recipes' if shipped else 'recipe'}/{plan.recipe_path.name}",
        recipes="/launch/recipes",
        data=tuple(f"/data/{number}/{path.name}" for number, path in enumerate(plan.inputs)),
        model=None if plan.model is None else _inside(_MODEL, plan.model),
        models=tuple((name, _inside(_MODELS / name, model)) for name, model in plan.models),
        output="/output",
        run="/launch/run",
        home="/launch/home",
    )


#: Where models are mounted, each under its own name. A parameter's lies below the parameter's name, not in
#: the first one's folder: models of one name, and one model for two parameters, stay apart.
_MODEL, _MODELS = PurePosixPath("/model"), PurePosixPath("/models")


def _inside(folder: PurePosixPath, model: Model) -> str:
    return str(folder / model.root.name / model.path.relative_to(model.root))


def mounts(plan: RunPlan, folders: Folders) -> tuple[Mount, ...]:
    """What a container sees of this machine: inputs read-only, its own folders writable, nothing else."""
    inside = in_container(plan)

    def bind(source: Path, target: str, *, read_only: bool = True) -> Mount:
        return Mount(source=source, target=PurePosixPath(target), read_only=read_only)

    found = [
        bind(plan.recipes, inside.recipes),
        bind(plan.recipes.parent / "ds_configs", "/launch/ds_configs"),
    ]
    if plan.recipe_path.parent != plan.recipes:
        found.append(bind(plan.recipe_path, inside.recipe))
    # The resolved path is mounted: a link would point out of the container.
    found += [bind(source.resolve(), target) for source, target in zip(plan.inputs, inside.data, strict=True)]
    if plan.model is not None:
        found.append(bind(plan.model.root, str(_MODEL / plan.model.root.name)))
    found += [bind(model.root, str(_MODELS / name / model.root.name)) for name, model in plan.models]
    found += [
        bind(folders.output, inside.output, read_only=False),
        bind(folders.run, inside.run, read_only=False),
        bind(folders.home, inside.home, read_only=False),
    ]
    return tuple(found)


def environment(plan: RunPlan, places: Places, start: Start | None = None) -> tuple[tuple[str, str], ...]:
    """Every variable of the run but the secrets: a recipe is driven by its environment alone.

    MODEL is where the recipe reads it; LAUNCH_MODEL_NAME is what it is for whoever comes later, a hub id or
    the folder on this machine: an adapter names its base by it.

    Args:
        start: of a run; None: it is not about one.
    """
    variables = {
        # A container's uid has no passwd entry: getpass and torch ask these two instead.
        "HOME": places.home,
        "USER": "launch",
        "LOGNAME": "launch",
        # Models come from the launcher, as folders; nothing asks the hub again.
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": f"{places.home}/huggingface",
        **dict(plan.env),
        "TARGET": plan.target,
        "NPROC": str(plan.nproc),
        "OUTPUT": places.output,
        "LAUNCH_RECIPES": places.recipes,
        "LAUNCH_RUN_DIR": places.run,
        "LAUNCH_SCRATCH": f"{places.run}/scratch",
        **{name.upper(): value for name, value in (*plan.parameters, *places.models)},
    }
    if plan.world_size:
        variables |= {"LAUNCH_WORLD_SIZE": str(plan.world_size), "LAUNCH_DEVICE": plan.device}
    if start is not None:
        variables["LAUNCH_RUN_ID"] = start.run
        if start.attempt > 1:
            variables["LAUNCH_ATTEMPT"] = str(start.attempt)
        if start.checkpoint:
            variables["LAUNCH_RESUME"] = f"{places.output}/{start.checkpoint}"
    if places.data:
        variables["DATA"] = ":".join(places.data)
    if places.model:
        variables["MODEL"] = places.model
    if plan.model is not None:
        variables["LAUNCH_MODEL_NAME"] = plan.model.name if plan.model.revision else str(plan.model.path)
    if plan.access.network == "bridge":
        variables["HF_HUB_OFFLINE"] = "0"
    if plan.access.nvidia not in ("", "all") and "NVIDIA_VISIBLE_DEVICES" in variables:
        # The image's own "all" would contradict it, and an engine whose default runtime is NVIDIA's reads it.
        variables["NVIDIA_VISIBLE_DEVICES"] = plan.access.nvidia
    if plan.access.intel:  # in containers too: all of /dev/dri is in them
        variables |= {MASK: plan.access.intel, _PCI_ORDER: "1"}
    return tuple(sorted(variables.items()))


def command(plan: RunPlan, places: Places) -> tuple[str, ...]:
    """What is started: the recipe, with the raw trainer arguments."""
    return ("bash", places.recipe, *plan.arguments)


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
