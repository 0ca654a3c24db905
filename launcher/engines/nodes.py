"""What a node of several starts: a container of its own engine, or the environment that all nodes see.

Words of a command, of which a node's own are left to its shell; who brings that shell to the node, Slurm or
DeepSpeed's launcher, is each engine's own matter. Sources: docker-run(1) and podman-run(1) as in
:mod:`launcher.engines.container`.
"""

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from launcher import plan as plans
from launcher import secretfile
from launcher.engines import podman
from launcher.engines.container import ContainerRequest
from launcher.engines.podman import Podman
from launcher.engines.shell import Raw, quoted
from launcher.errors import EngineError, ImageMissingError, LaunchError
from launcher.plan import Folders, Mount, RunPlan, Start
from launcher.secretfile import SecretFile

#: Variables of a node's shell, made by the script: the container's name, the options and variables that only
#: this node has.
NAME, VARIABLES = Raw('"$container"'), Raw('"${variables[@]}"')

#: Bash before 4.4 takes an empty list for a variable that nobody has set.
OPTIONS = Raw('${options[@]+"${options[@]}"}')

#: The file of secrets in the folder that a node has in its memory, and its name for a node's shell.
COPY = "values"
_COPY = Raw('"$memory/values"')

#: The groups that open render nodes have other numbers on other nodes; oneAPI tells cards apart by the links.
RENDER = """\
for each in /dev/dri/renderD*; do options+=(--group-add "$(stat -c %g "$each")"); done
links=/dev/dri/by-path
[[ ! -e $links ]] || options+=(--mount "type=bind,source=$links,target=$links,readonly")"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Launched:
    """How a node starts the recipe.

    Attributes:
        command: what its shell starts.
        step: options of srun for that step, with the same meaning of :class:`Raw`.
        inside: the node's shell is itself in the container, which srun makes.
        program: that has to be on each node; empty: none.
        engine: a container's, which lives outside of the job: it is stopped and removed by name.
        files: that it reads: name and text.
        secrets: None: there are none.
    """

    command: tuple[str, ...]
    step: tuple[str, ...] = ()
    inside: bool = False
    program: str = ""
    engine: bool = False
    files: tuple[tuple[str, str], ...] = ()
    secrets: SecretFile | None = None


def bare(plan: RunPlan, folders: Folders, start: Start, environment: Path, path: str) -> Launched:
    """The embedded environment, which lies on a file system that all nodes have."""
    places = plans.on_host(plan, folders)
    python = str(environment / "bin" / "python")
    secrets = secretfile.on_nodes(plan, start, folders.run.parent, seen=_COPY, python=python)
    variables = {
        name: value.replace(plans.ENVIRONMENT, str(environment))
        for name, value in plans.environment(plan, places, start)
    }
    variables |= {"PATH": f"{environment / 'bin'}:{path}", "VIRTUAL_ENV": str(environment)}
    given = (f"{name}={value}" for name, value in sorted(variables.items()))
    command = with_secrets(secrets, plans.command(plan, places))
    return Launched(command=("env", "-i", *given, VARIABLES, *command), secrets=secrets)


def with_secrets(secrets: SecretFile | None, command: tuple[str, ...]) -> tuple[str, ...]:
    """The command, started with its secrets if there are any."""
    return command if secrets is None else secrets.command(command)


def container(
    plan: RunPlan, folders: Folders, start: Start, secrets: SecretFile | None, program: str
) -> Launched:
    """One container on each node, of an engine that runs outside of the job."""
    places = plans.in_container(plan)
    request = ContainerRequest(
        name=NAME,
        image=plan.image or "",
        command=with_secrets(secrets, plans.command(plan, places)),
        environment=plans.environment(plan, places, start),
        secrets=None,  # of this machine's; a node's own is among its options
        mounts=mounts(plan, folders, secrets),
        user=f"{plan.uid}:{plan.gid}",
        groups=(),
        devices=plan.access.devices,
        gpus="",
        shm_size=plan.access.shm_size,
        memory=plan.access.memory,
        network="host" if plan.nodes > 1 else plan.access.network,
        labels=(("launch.recipe", plan.recipe), ("launch.run", start.run), ("launch.target", plan.target)),
        log_driver="",
    )
    if program == "podman":
        request = podman.adapted(request, Podman(rootless=plan.uid != 0))
    # Its output is the job's, and its record is the run's: the engine keeps neither.
    words = request.words(("--rm", "--log-driver", "none", OPTIONS))
    if plan.access.devices and request.userns:  # a user's own Podman keeps the groups of the node's user
        words[2:2] = ["--group-add", "keep-groups"]
    return Launched(command=tuple(words), program=program, engine=True, secrets=secrets)


def mounts(plan: RunPlan, folders: Folders, secrets: SecretFile | None) -> tuple[Mount, ...]:
    """What a container sees of its node; the node's copy of the secrets is not among it."""
    found = plans.mounts(plan, folders)
    if secrets is None:
        return found
    entry = Mount(source=secrets.entry, target=PurePosixPath(secrets.entry_seen), read_only=True)
    return (*found, entry)


def of_engine(plan: RunPlan, program: str) -> str:
    """Whether a node's own engine can start the plan's image; its shell has a function ``problem``."""
    label = '{{index .Config.Labels "launch.lock-digest"}}'
    return _ENGINE.format(
        program=program,
        image=quoted(plan.image or ""),
        label=quoted(label),
        digest=quoted(f"sha256:{plan.lock_digest}"),
    )


_ENGINE = """\
if ! command -v {program} >/dev/null; then
  problem program {program}
elif ! {program} info >/dev/null 2>&1; then
  problem engine {program}
elif ! held="$({program} image inspect --format {label} {image} 2>/dev/null)"; then
  problem image {image}
elif [[ $held != {digest} ]]; then
  problem other-image {image}
fi"""


def lacking(text: str, other: str) -> LaunchError | None:
    """The error of what nodes lack; None: there is no such line.

    Args:
        text: lines of their shells: a mark, what kind of thing, the node, what; between them tabulators.
        other: what else can start the recipe, as an option.
    """
    rows = [line.split("\t")[1:4] for line in text.splitlines() if line.count("\t") == 3]
    if not rows:
        return None
    kind, _, what = rows[0]
    nodes = ", ".join(sorted({node for found, node, thing in rows if (found, thing) == (kind, what)}))
    if kind in ("image", "other-image"):
        return ImageMissingError(
            f"the image {what} is not on {nodes}"
            if kind == "image"
            else f"the image {what} holds other packages than the plan's on {nodes}",
            why="each node starts it from its own engine, or from a path that it has",
            hint="launch image push, then pull it there; or launch image save, and load the file there",
        )
    message, why, hint = _LACKING.get(kind, (f"{kind} {what}", "", ""))
    return EngineError(f"{nodes}: {message.format(what)}", why=why, hint=hint.format(other=other))


_LACKING = {
    "path": (
        "{} is not there",
        "the nodes do not share the file system that it is on",
        "put records (LAUNCH_RUNS_DIR), data, models and recipes on storage that all nodes have",
    ),
    "environment": (
        "the environment's {} is not there, or does not start",
        "the nodes do not share the folder of environments, or the Python that it is made from",
        "LAUNCH_CACHE_DIR on storage that all nodes have; or {other}",
    ),
    "launcher": (
        "{} is not there",
        "DeepSpeed's launcher starts its own Python on every host, by its path here",
        "install DeepSpeed in an environment that all hosts have at the same path",
    ),
    "program": ("{} is not installed", "this runtime needs it on every node", "{other}"),
    "engine": (
        "{} does not answer",
        "its daemon is not running, or you may not use it",
        "{other}",
    ),
}
