"""What Slurm says of a job, in its own words and in ours; nothing is asked here.

``scontrol -o show job`` is one line of KEY=VALUE. Its JSON changes from version to version (20.11 has none),
and sacct needs a database that many clusters do not have.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from launcher.engines.base import Phase

#: States in which a job has its end before it. Source: job_state_string in src/common/slurm_protocol_defs.c.
_WAITS = {
    "PENDING",
    "CONFIGURING",
    "REQUEUED",
    "REQUEUE_FED",
    "REQUEUE_HOLD",
    "SPECIAL_EXIT",
    "POWER_UP_NODE",
    "RESV_DEL_HOLD",
}
#: States that no job leaves, but to be queued again. Whatever else Slurm may say is no end: a run that still
#: goes would be written off, and its secrets removed.
_ENDS = {
    "BOOT_FAIL",
    "CANCELLED",
    "COMPLETED",
    "DEADLINE",
    "FAILED",
    "NODE_FAIL",
    "OUT_OF_MEMORY",
    "PREEMPTED",
    "REVOKED",
    "TIMEOUT",
}

#: Keys whose values may hold spaces; what follows them is looked for by its own key.
_KEY = re.compile(r"(?:^| )([A-Z][A-Za-z_/:]*)=")


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A job as slurmctld knows it.

    Attributes:
        state: its base state, e.g. ``RUNNING``.
        reason: why it waits, or ended.
        code: exit code; 128 + number when a signal ended it.
        signal: that ended it, or a number of Slurm's own; 0: none.
        restarts: how often Slurm has put it back into the queue.
        nodes: where it is, as Slurm lists them.
    """

    id: str
    name: str
    state: str
    reason: str
    code: int
    signal: int
    restarts: int
    nodes: str

    @property
    def phase(self) -> Phase:
        """Where it is."""
        if self.state in _WAITS:
            return Phase.PENDING
        return Phase.ENDED if self.state in _ENDS else Phase.RUNNING


def job(text: str) -> Job | None:
    """What ``scontrol -o show job`` printed; None: nothing of it is a job."""
    found = _fields(text.splitlines()[0] if text.strip() else "")
    if "JobId" not in found or "JobState" not in found:
        return None
    code, _, number = found.get("ExitCode", "0:0").partition(":")
    signal = int(number) if number.isdecimal() else 0
    # 23.11 and later may add flags to the state, as in COMPLETED+… of other tools.
    state = re.split(r"[+,]", found["JobState"])[0]
    return Job(
        id=found["JobId"].split()[0],
        name=found.get("JobName", ""),
        state=state,
        reason=found.get("Reason", "").split(" ")[0],
        code=128 + signal if signal else int(code) if code.isdecimal() else 0,
        signal=signal,
        restarts=int(found["Restarts"]) if found.get("Restarts", "").isdecimal() else 0,
        nodes=found.get("NodeList", "").replace("(null)", ""),
    )


def _fields(line: str) -> Mapping[str, str]:
    marks = list(_KEY.finditer(line))
    ends = [*(mark.start() for mark in marks), len(line)][1:]
    found: dict[str, str] = {}
    for mark, end in zip(marks, ends, strict=False):
        found.setdefault(mark[1], line[mark.end() : end])
    return found


def cluster(text: str) -> str:
    """The cluster's name, of ``scontrol show config``; empty: it does not say."""
    found = re.search(r"^ClusterName *= *(\S+)", text, re.MULTILINE)
    return found[1] if found else ""


def version(text: str) -> str:
    """Of ``scontrol --version``: Debian's and SchedMD's packages have other names in front."""
    found = re.search(r"\d+\.\d+(\.\d+)?(-\w+)?", text)
    return found[0] if found else text.strip() or "unknown"


#: Why a job waits. Source: squeue(1), JOB REASON CODES, of 20.11 to 25.05.
_REASONS = {
    "Resources": "it is next, and waits for nodes that are free",
    "Priority": "jobs with a higher priority come first",
    "Dependency": "it waits for another job",
    "BeginTime": "its start is later: Slurm waits some minutes before it starts a job again",
    "JobHeldUser": "it is held: scontrol release lets it go",
    "JobHeldAdmin": "an administrator holds it",
    "Reservation": "it waits for its reservation",
    "ReqNodeNotAvail": "nodes that it needs are down, drained or reserved",
    "PartitionTimeLimit": "its time limit is above the partition's: it will never start",
    "PartitionNodeLimit": "it wants more nodes than the partition has: it will never start",
    "PartitionDown": "the partition is down",
    "PartitionInactive": "the partition takes no jobs now",
    "NodeDown": "a node that it needs is down",
    "Licenses": "it waits for a licence",
    "Cleaning": "its earlier start is still being cleaned up",
    "JobHoldMaxRequeue": "it was started again too often, and is held: scontrol release lets it go",
    "launch_failed_requeued_held": "a node could not start it, and it is held: scontrol release lets it go",
    "AssociationJobLimit": "your account has as many jobs as it may",
    "InvalidAccount": "its account is not one: it will never start",
    "InvalidQOS": "its quality of service is not one: it will never start",
}


def waiting(found: Job) -> str:
    """Why a job waits: Slurm's word, and what it means."""
    word = found.reason.strip("()")
    if found.state == "CONFIGURING":
        return "its nodes are being made ready"
    if word in ("", "None"):
        return "Slurm has not looked at it yet"
    meant = _REASONS.get(word, "")
    if word.startswith(("ReqNodeNotAvail", "Nodes_required_for_job")):  # with a list of them, or a sentence
        meant = _REASONS["ReqNodeNotAvail"]
    if not meant and word.startswith(("QOS", "Assoc")):
        meant = "a limit of your account or quality of service is reached"
    again = f" (start {found.restarts + 1})" if found.restarts else ""
    return f"{word}: {meant}{again}" if meant else f"{word}{again}"


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """What the script wrote when the recipe had ended; see :mod:`script`."""

    job: str
    restarts: int
    code: int
    terminated: bool
    ended: str


def end(text: str) -> End | None:
    """Read it; None: it is none."""
    try:
        said: Any = json.loads(text)
        return End(
            job=str(said["job"]),
            restarts=int(said["restarts"]),
            code=int(said["code"]),
            terminated=bool(said["terminated"]),
            ended=str(said["ended"]),
        )
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
