"""What sbatch is told: what the plan says, then what ``--sbatch`` adds."""

from launcher.engines.shell import option
from launcher.errors import UsageError
from launcher.plan import Folders, RunPlan, Start

#: Options of sbatch that the plan says, or that the script relies on, and what is used instead.
OWNED = {
    "array": "launch sweep",
    "chdir": "--output",
    "clusters": "log in to that cluster, or set SLURM_CONF",
    "container": "--slurm-runtime oci --slurm-image BUNDLE",
    "container-image": "--slurm-runtime pyxis --slurm-image IMAGE",
    "error": "launch runs logs shows both streams",
    "export": "--env",
    "export-file": "--env-file",
    "get-user-env": "--env",
    "input": "--data",
    "job-name": "the run's own id",
    "nodes": "--nodes",
    "ntasks": "--nodes and --nproc",
    "ntasks-per-node": "--nproc",
    "open-mode": "launch runs logs shows every start",
    "output": "launch runs logs; the result's folder is --output",
    "parsable": "launch runs show",
    "tasks-per-node": "--nproc",
    "signal": "the site's KillWait",
    "test-only": "--dry-run; every start asks it first",
    "wait": "launch runs attach",
    "wrap": "a recipe",
}

#: What the plan would say, unless ``--sbatch`` says it otherwise.
_INSTEAD = {
    "gpus-per-node": ("gpus", "gpus-per-node", "gpus-per-task", "gres"),
    "cpus-per-task": ("cpus-per-task", "cpus-per-gpu", "exclusive"),
    "mem": ("mem", "mem-per-cpu", "mem-per-gpu"),
    "requeue": ("requeue", "no-requeue"),
}


def job_name(start: Start) -> str:
    """The job of one start: nobody else's has this name."""
    return f"launch-{start.run}-{start.attempt}"


def refuse(plan: RunPlan) -> None:
    """Raise when an option of ``--sbatch`` is the plan's to say, or is none.

    Raises:
        UsageError: see above.
    """
    for key, value in plan.slurm.options if plan.slurm else ():
        if (owned := _owned(key)) is not None:
            raise UsageError(
                f"--sbatch {key}: the plan says it",
                why="the job would be another than the record's",
                hint=f"instead: {OWNED[owned]}",
            )
        if len(key) < 2 or not key.replace("-", "").isalnum() or not key.isascii() or key.startswith("-"):
            raise UsageError(
                f"--sbatch {key}={value}: {key!r} is no long name of an option of sbatch",
                hint="e.g. --sbatch partition=gpu; without a value it ends in =, as --sbatch exclusive=",
            )
        if any(sign in value for sign in "\n\r\0"):
            raise UsageError(f"--sbatch {key}: its value holds a line break")


def _owned(key: str) -> str | None:
    """The option of the plan's that sbatch would take a key for: getopt_long(3) completes what is unique."""
    if key in OWNED:
        return key
    return next((name for name in OWNED if len(key) > 1 and name.startswith(key)), None)


def options(plan: RunPlan, folders: Folders, start: Start) -> tuple[tuple[str, str], ...]:
    """Every option of the job; an empty value is none.

    Memory is per node, as in containers; a task is a node's, so that it gets the CPUs of all its processes.

    Raises:
        UsageError: the record is in a folder that Slurm cannot be told.
    """
    given = dict(plan.slurm.options if plan.slurm else ())
    if "\\" in str(folders.run):  # Slurm takes it for a sign of its own in the name of an output
        raise UsageError(
            f"the job's output cannot be in {folders.run}",
            why="its path holds a backslash, which Slurm reads otherwise",
            hint="another LAUNCH_RUNS_DIR",
        )
    # A percent sign begins one of sbatch's own words.
    log = str(folders.run / "log.txt").replace("%", "%%")
    own = {
        "job-name": job_name(start),
        "nodes": str(plan.nodes),
        "ntasks-per-node": "1",
        "cpus-per-task": str(plan.nproc),
        **({"gpus-per-node": str(plan.nproc)} if plan.access.nvidia else {}),
        **({"mem": _memory(plan.access.memory)} if plan.access.memory else {}),
        "requeue": "",
        "open-mode": "append",
        "output": log,
        "chdir": str(folders.run),
        # Of the shell that submits it nothing is the job's, whoever submits it.
        "export": "NONE",
    }
    for key, others in _INSTEAD.items():
        if any(other in given for other in others):
            own.pop(key, None)
    return (*own.items(), *given.items())


def _memory(asked: str) -> str:
    """A container's memory in Slurm's words: without a suffix it is bytes there, and megabytes here."""
    return f"{-(-int(asked) // 1024)}K" if asked.isdecimal() else asked.upper()


def directives(found: tuple[tuple[str, str], ...]) -> str:
    """The ``#SBATCH`` lines.

    Raises:
        UsageError: a path that sbatch cannot be told.
    """
    try:
        return "".join(f"#SBATCH --{key}{'=' + option(value) if value else ''}\n" for key, value in found)
    except ValueError as error:
        raise UsageError(
            f"a path with a line break cannot be given to sbatch: {error}", hint="another LAUNCH_RUNS_DIR"
        ) from None
