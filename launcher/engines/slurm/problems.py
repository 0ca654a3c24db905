"""What Slurm refuses and how it ends jobs, as named errors with Slurm's own words."""

import re

from launcher.engines import nodes
from launcher.engines.slurm.state import Job
from launcher.errors import EngineError, LaunchError

#: How a job can end but by itself: what happened, why, what to do.
_ENDS = {
    "NODE_FAIL": ("a node of it failed", "it is down, or slurmd does not answer there", ""),
    "TIMEOUT": (
        "its time was up",
        "the time limit of the job, or of the partition",
        "--sbatch time=HH:MM:SS for a new run; ",
    ),
    "DEADLINE": ("its deadline was missed", "", ""),
    "PREEMPTED": (
        "another job took its nodes",
        "the site's preemption ends jobs instead of requeueing them",
        "",
    ),
    "CANCELLED": ("somebody cancelled it", "scancel, by another hand or an administrator", ""),
    "BOOT_FAIL": ("a node did not boot", "", ""),
    "REVOKED": ("another cluster has taken it", "", ""),
}


def ended_by_slurm(found: Job, run: str) -> LaunchError:
    """The error of a job that Slurm ended."""
    what, why, first = _ENDS.get(found.state, (f"it ended as {found.state}", "", ""))
    reason = "" if found.reason in ("", "None") else f" ({found.reason})"
    return EngineError(
        f"Slurm ended job {found.id}: {what}{reason}",
        why=why,
        hint=f"{first}launch runs resume {run} goes on from the last checkpoint",
    )


def not_started(found: Job, log: str) -> LaunchError:
    """The error of a job whose script left no word of its end."""
    if (found.code, found.signal) == (128 + 53, 53):  # slurmd: it could not open the job's output
        return EngineError(
            f"job {found.id} could not write {log} on {found.nodes or 'its node'}",
            why="the folder of the records is not on a file system that the nodes have",
            hint="LAUNCH_RUNS_DIR: a folder that all nodes and this machine share",
        )
    return EngineError(
        f"job {found.id} ended as {found.state} with code {found.code}, and left no word",
        why="its script was killed, or could not write beside the record",
        hint=f"{log}; LAUNCH_RUNS_DIR has to be a folder that all nodes share",
    )


def lacking(text: str) -> LaunchError | None:
    """The error of what nodes lack, of the script's lines; None: it is none."""
    return nodes.lacking(text, "another --slurm-runtime")


#: What sbatch refuses with: a pattern of its words, what happened, what to do.
_REFUSALS = (
    (
        r"invalid partition|Invalid partition",
        "there is no such partition",
        "sinfo --summarize; --sbatch partition=NAME",
    ),
    (
        r"Requested node configuration is not available|More processors requested|Node count specification|"
        r"Memory (required|specification)|Invalid generic resource|Requested nodes? .* not available",
        "no nodes of this cluster are like that",
        "less --nodes, --nproc, --memory or --sbatch …; sinfo -N -l shows what there is",
    ),
    (r"Invalid feature", "no node has that feature", "sinfo -o '%N %f'; --sbatch constraint=NAME"),
    (r"[Ii]nvalid account|account/partition", "you may not use that account", "--sbatch account=NAME"),
    (r"[Ii]nvalid (qos|QOS)", "you may not use that quality of service", "--sbatch qos=NAME"),
    (r"time limit", "it wants more time than it may have", "--sbatch time=HH:MM:SS; sinfo shows the limits"),
    (
        r"violates accounting/QOS|QOS|Assoc",
        "a limit of your account is reached",
        "squeue --me; or less --nodes",
    ),
    (r"unrecognized option|[Ii]nvalid option|unknown option", "sbatch knows no such option", "sbatch --help"),
)

#: What means that slurmctld was not reached.
_GONE = re.compile(
    r"Unable to contact|Connection (refused|timed out)|timed out|Zero Bytes|Unable to connect|"
    r"Transport endpoint|Communication connection failure|Protocol authentication|Munge|No route",
    re.IGNORECASE,
)


def unreachable(text: str) -> bool:
    """Whether an error says that slurmctld was not reached."""
    return _GONE.search(text) is not None


def unknown_job(text: str) -> bool:
    """Whether an error says that slurmctld has no such job."""
    return "Invalid job id" in text


def refused(text: str) -> LaunchError:
    """The error of a submission that Slurm refused."""
    said = "; ".join(
        line.removeprefix("sbatch: error: ").strip() for line in text.splitlines() if line.strip()
    )
    for pattern, what, hint in _REFUSALS:
        if re.search(pattern, text):
            return EngineError(f"Slurm refuses the run: {what}", why=said, hint=hint)
    return EngineError("Slurm refuses the run", why=said, hint="launch run … --dry-run shows the script")
