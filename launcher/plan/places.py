"""Where a run finds things: in a container, or on this machine; and the variables that drive its recipe."""

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from launcher.plan.model import MASK, PCI_ORDER, Model, RunPlan

#: Where an image has its environment.
ENVIRONMENT = "/opt/venv"


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
        files: (parameter, file) pairs.
    """

    recipe: str
    recipes: str
    data: tuple[str, ...]
    model: str | None
    models: tuple[tuple[str, str], ...]
    files: tuple[tuple[str, str], ...]
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
        files=tuple((name, str(file.path)) for name, file in plan.files),
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
        files=tuple((name, str(_FILES / name / file.path.name)) for name, file in plan.files),
        output="/output",
        run="/launch/run",
        home="/launch/home",
    )


#: Where models are mounted, each under its own name. A parameter's lies below the parameter's name, not in
#: the first one's folder: models of one name, and one model for two parameters, stay apart.
_MODEL, _MODELS = PurePosixPath("/model"), PurePosixPath("/models")

#: Where the files of parameters are, likewise below the parameter's name.
_FILES = PurePosixPath("/files")


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
        bind(file.path.resolve(), target)
        for (_, file), (_, target) in zip(plan.files, inside.files, strict=True)
    ]
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
        **{name.upper(): value for name, value in (*plan.parameters, *places.models, *places.files)},
    }
    if plan.nodes > 1:
        variables["LAUNCH_NODES"] = str(plan.nodes)
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
        variables |= {MASK: plan.access.intel, PCI_ORDER: "1"}
    return tuple(sorted(variables.items()))


def command(plan: RunPlan, places: Places) -> tuple[str, ...]:
    """What is started: the recipe, with the raw trainer arguments."""
    return ("bash", places.recipe, *plan.arguments)
