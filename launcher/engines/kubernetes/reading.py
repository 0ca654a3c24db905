"""What a cluster's objects say of a run: where it is, why it waits, how it ended; pure."""

import datetime
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from launcher.engines.base import Phase
from launcher.engines.kubernetes import names
from launcher.errors import EngineError, ImageMissingError, LaunchError, TakenAwayError

Manifest = Mapping[str, Any]

#: Seconds in which whoever makes a job makes what belongs to it, too.
MAKING = 120.0

#: Seconds that what cannot start may take to become startable; registries have their bad minutes.
_PATIENCE = 300.0

#: Seconds in which the other nodes of a TrainJob notice that one has failed.
_PEERS = 60.0

#: Seconds after which a pod that should be gone is on a node that nobody reaches.
_UNREACHABLE = 60.0

#: Why a container does not start, of which the first two never get better.
_NEVER = ("InvalidImageName", "ErrImageNeverPull")
_IMAGE = (*_NEVER, "ImagePullBackOff", "ErrImagePull", "ImageInspectError")
_CONTAINER = ("CreateContainerConfigError", "CreateContainerError", "RunContainerError")

#: Why pods end that their own program did not end. Sources: kubernetes.io/docs, "Pod disruption conditions",
#: and the kubelet's reasons of a failed pod.
_TAKEN = {
    "Evicted": "its node ran short of a resource",
    "Preempting": "a pod of higher priority took its place",
    "Preempted": "a pod of higher priority took its place",
    "PreemptionByScheduler": "a pod of higher priority took its place",
    "DeletionByTaintManager": "its node was tainted",
    "EvictionByEvictionAPI": "its node is being drained",
    "DeletionByPodGC": "its node is gone",
    "TerminationByKubelet": "its node ran short of a resource, or was shut down",
    "NodeLost": "its node does not answer any more",
    "NodeShutdown": "its node was shut down",
    "Terminated": "its node was shut down",
    "Shutdown": "its node was shut down",
    "DeadlineExceeded": "it reached the deadline that the site sets",
    "UnexpectedAdmissionError": "its node could not give it the devices",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """How the pod of one node ended.

    Attributes:
        node: its number.
        code: of its container; None: it never had one, or nobody knows.
        reason: the cluster's word.
        message: the cluster's sentence.
        at: UTC, ISO 8601, to the second; empty: nobody knows.
        pod: its uid.
    """

    node: int
    code: int | None
    reason: str = ""
    message: str = ""
    at: str = ""
    pod: str = ""


def number(pod: Manifest) -> int:
    """Which node of the run a pod is."""
    head = pod["metadata"]
    found = (head.get("annotations") or {}).get(names.INDEX) or (head.get("labels") or {}).get(names.INDEX)
    return int(found or 0)


def container(pod: Manifest) -> Manifest:
    """The state of the recipe's container; empty: it has none yet."""
    found = [
        status
        for status in pod.get("status", {}).get("containerStatuses") or []
        if status.get("name") in ("recipe", "node")
    ]
    return found[0] if found else {}


def started(pod: Manifest) -> bool:
    """Its program has begun, so that there is a log."""
    status = container(pod)
    state = status.get("state") or {}
    return "running" in state or "terminated" in state or "terminated" in (status.get("lastState") or {})


def end(pod: Manifest) -> End | None:
    """How a pod ended; None: it has not. A container that is made anew has ended all the same."""
    status, state = pod.get("status", {}), container(pod)
    for which in ("state", "lastState"):
        over = (state.get(which) or {}).get("terminated")
        if over and not (which == "lastState" and over.get("exitCode") == 0):
            reason = _taken(pod) or str(over.get("reason") or "")
            return End(
                node=number(pod),
                code=int(over["exitCode"]),
                reason=reason,
                message=str(status.get("message") or over.get("message") or ""),
                at=str(over.get("finishedAt") or ""),
                pod=str(pod["metadata"].get("uid", "")),
            )
    if status.get("phase") in ("Failed", "Succeeded"):  # it was never started, or its node is gone
        code = 0 if status["phase"] == "Succeeded" else None
        reason = _taken(pod) or str(status.get("reason") or "")
        return End(
            node=number(pod),
            code=code,
            reason=reason,
            message=str(status.get("message") or ""),
            pod=str(pod["metadata"].get("uid", "")),
        )
    return None


def _taken(pod: Manifest) -> str:
    """Who ended the pod from outside; empty: nobody."""
    status = pod.get("status", {})
    for condition in status.get("conditions") or []:
        if condition.get("type") == "DisruptionTarget" and condition.get("status") == "True":
            return str(condition.get("reason") or "Evicted")
    reason = str(status.get("reason") or "")
    return reason if reason in _TAKEN else ""


def finished(job: Manifest) -> str:
    """Complete or Failed, as the job's conditions say; empty: neither."""
    for condition in job.get("status", {}).get("conditions") or []:
        if condition.get("type") in ("Complete", "Failed") and condition.get("status") == "True":
            return str(condition["type"])
    return ""


def phase(job: Manifest | None, pods: Sequence[Manifest], ends: Iterable[End], now: float) -> Phase:
    """Where a run is.

    Args:
        job: None: it was deleted, by whomever.
        pods: that there are.
        ends: of pods that there were.
        now: seconds since 1970.
    """
    active = [pod for pod in pods if end(pod) is None and not _lost(pod, now)]
    over = {each.node: each for each in (*ends, *filter(None, map(end, pods)))}
    if job is None:
        return Phase.RUNNING if active else Phase.ENDED
    if names.COMPLETE not in (job["metadata"].get("annotations") or {}) and not over:
        return Phase.PENDING if now - _at(job["metadata"]["creationTimestamp"]) < MAKING else Phase.UNSTARTED
    if finished(job):
        return Phase.RUNNING if active else Phase.ENDED
    failed = [_at(each.at) for each in over.values() if each.code != 0 and each.at]
    if failed and job["kind"] == "TrainJob" and (not active or now - min(failed) > _PEERS):
        # Its runtime may make the container anew, which ends at once: see launcher.engines.kubernetes.pod.
        return Phase.ENDED
    if any(stuck(pod, now) for pod in active):
        return Phase.ENDED
    running = [pod for pod in active if started(pod)]
    if over or (running and len(running) == size(job)):
        return Phase.RUNNING
    return Phase.PENDING


def overcome(end: End, job: Manifest | None, pods: Sequence[Manifest]) -> bool:
    """An end that is none of the run's: a queue took the place of its pods away, and gives them another."""
    if job is None or finished(job):
        return False
    if job["spec"].get("suspend"):
        return True
    successors = [pod for pod in pods if number(pod) == end.node and pod["metadata"].get("uid") != end.pod]
    return bool(successors) and end.code in (None, 137, 143)


def _lost(pod: Manifest, now: float) -> bool:
    """It should long be gone; its node says nothing of it any more."""
    until = pod["metadata"].get("deletionTimestamp")
    return bool(until) and now - _at(until) > _UNREACHABLE


def size(job: Manifest) -> int:
    """Nodes of the run."""
    spec = job["spec"]
    return int(spec["completions"] if job["kind"] == "Job" else spec["trainer"]["numNodes"])


def stuck(pod: Manifest, now: float) -> LaunchError | None:
    """Why a pod will never start; None: it may."""
    waiting = (container(pod).get("state") or {}).get("waiting") or {}
    reason, text = str(waiting.get("reason") or ""), str(waiting.get("message") or "")
    since = _at(pod["status"].get("startTime") or pod["metadata"]["creationTimestamp"])
    if reason not in (*_IMAGE, *_CONTAINER) or (reason not in _NEVER and now - since < _PATIENCE):
        return None
    if reason in _IMAGE:
        return ImageMissingError(
            f"a node cannot pull the image: {reason}",
            why=text,
            hint="launch image push prints the name; --k8s-pull-secret NAME has the registry's login",
        )
    return EngineError(f"a node cannot start the container: {reason}", why=text)


def waiting(job: Manifest, pods: Sequence[Manifest], events: Sequence[Manifest]) -> str:
    """Why a run is pending, in the cluster's own words where it has some."""
    queue = (job["metadata"].get("labels") or {}).get(names.QUEUE)
    if job["spec"].get("suspend"):
        if names.COMPLETE not in (job["metadata"].get("annotations") or {}):
            return "it is being made"
        return f"Kueue's queue {queue} has no room yet" if queue else "somebody has suspended it"
    said = [text for text in map(_of_pod, pods) if text]
    warned = [
        f"{event.get('reason', '')}: {event.get('message', '')}"
        for event in events
        if event.get("type") == "Warning"
    ]
    if pods and not said:
        said = ["its containers are being made"] if not all(map(started, pods)) else []
    if warned and (not pods or said == ["its containers are being made"]):
        said = [warned[-1]]
    if not pods and not said:
        said = ["the cluster has made no pods yet"]
    running = sum(map(started, pods))
    some = f"{running} of {size(job)} nodes run; " if running else ""
    return some + "; ".join(dict.fromkeys(said))


def _of_pod(pod: Manifest) -> str:
    state = (container(pod).get("state") or {}).get("waiting") or {}
    reason, message = str(state.get("reason") or ""), str(state.get("message") or "")
    if reason in _IMAGE:
        return f"the image cannot be pulled: {reason}: {message}"
    if reason and reason not in ("ContainerCreating", "PodInitializing"):
        return f"{reason}: {message}"
    for condition in pod.get("status", {}).get("conditions") or []:
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            return f"{condition.get('reason', 'Unschedulable')}: {condition.get('message', '')}"
    return ""


def verdict(ends: Sequence[End]) -> End:
    """The end that counts: the first failure. What was killed after it only followed.

    Raises:
        TakenAwayError: the site took a node away.
    """
    failed = [each for each in ends if each.code != 0]
    if not failed:
        return max(ends, key=lambda each: each.at)
    for each in failed:
        if each.reason in _TAKEN:
            raise TakenAwayError(
                f"node {each.node} was taken away: {each.reason}, {_TAKEN[each.reason]}",
                why=each.message,
                hint="launch runs resume goes on from the last checkpoint; --max-restarts does so by itself",
            )
    ran_out = [each for each in failed if each.reason == "OOMKilled"]
    if ran_out:
        return ran_out[0]
    known = [each for each in failed if each.code is not None]
    if not known:
        raise EngineError(
            f"node {failed[0].node} failed before its program started: {failed[0].reason}",
            why=failed[0].message,
        )
    return min(known, key=lambda each: (each.code in (137, 143), each.at, each.node))


def _at(moment: str) -> float:
    return datetime.datetime.fromisoformat(moment.replace("Z", "+00:00")).timestamp()
