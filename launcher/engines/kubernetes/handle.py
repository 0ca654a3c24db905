"""A run on a cluster: followed, waited for, stopped, removed; from its first moment or from any later one."""

import queue
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from launcher import errors
from launcher.engines.base import Exit, Phase
from launcher.engines.kubernetes import logs, objects, reading
from launcher.engines.kubernetes import pod as pod_starts
from launcher.engines.kubernetes.api import Api
from launcher.engines.kubernetes.ledger import Cursor, Ledger, Noted
from launcher.engines.kubernetes.manifests import Manifest
from launcher.errors import ClusterError, EngineError, EngineGoneError, LaunchError, TakenAwayError
from launcher.plan import Folders, Start

#: Seconds between two looks at a run whose end is waited for.
_LOOK = 2.0

#: Seconds between two notes of how far the logs were brought.
_NOTE = 1.0


class KubernetesHandle:
    """A start on a cluster.

    Args:
        api: the cluster.
        kind: Job or TrainJob.
        namespace, name: of its objects.
        nodes: of the run.
        folders, start: of the run, whose ledger is kept beside its record.
    """

    def __init__(
        self, api: Api, kind: str, namespace: str, name: str, nodes: int, folders: Folders, start: Start
    ) -> None:
        self._api, self._kind, self._namespace, self._name = api, kind, namespace, name
        self._nodes, self._log = nodes, folders.run / "log.txt"
        self._folders, self._start = folders, start
        self._ledger = Ledger(folders, start)
        self._why: str | None = None
        api.meanwhile = "it may still run"

    def known(self) -> bool:
        """The cluster has it, or had it, and its end was seen."""
        noted = self._ledger.read()
        job, pods = self._seen()
        return bool(job or pods or noted.ends or noted.stopped or noted.failed)

    def phase(self) -> Phase:
        """See base.Handle.phase."""
        noted = self._ledger.read()
        if noted.failed:
            return Phase.ENDED
        job, pods = self._seen()
        if job is None and not pods and not noted.ends and not noted.stopped:
            raise _gone_for_good()
        _forget(noted, job, pods)
        return reading.phase(job, pods, noted.ends.values(), time.time())

    def waiting(self) -> str:
        """See base.Handle.waiting; while the run is followed, what was found out last."""
        if self._why is not None:
            return self._why
        job, pods = self._seen()
        if job is None:
            return ""
        return reading.waiting(job, pods, self._warnings(pods))

    def lines(self, log: Path, begins: int, shown: int, *, follow: bool = True) -> Iterator[str]:
        """See base.Handle.lines."""
        self._why = "" if follow else None  # it is asked often from now on
        with self._ledger.held(wait=True):
            noted = self._ledger.read()
            with logs.Writer(log, begins, self._nodes, noted) as writer:
                try:
                    yield from (self._followed if follow else self._there)(writer, noted)
                finally:
                    writer.settle()
                    self._ledger.write(noted)

    def _there(self, writer: logs.Writer, noted: Noted) -> Iterator[str]:
        """What the pods have said so far."""
        for pod in objects.pods(self._api, self._namespace, self._name)[0]:
            self._note(pod, noted)
            if reading.started(pod):
                cursor = noted.cursors.get(str(reading.number(pod)), Cursor())
                for line in logs.Reader(self._api, pod, cursor, follow=False).lines():
                    text = writer.take(line)
                    if text is not None:
                        yield text

    def _followed(self, writer: logs.Writer, noted: Noted) -> Iterator[str]:
        """What the pods say, until the run has ended."""
        self._api = self._api.patient()
        following = _Following(self._api, self._namespace, self._name, noted)
        last, looked, ended = time.monotonic(), 0.0, False
        try:
            while True:
                item = following.next(_LOOK / 20 if ended else _LOOK)
                if isinstance(item, tuple) and len(item) == 3:
                    text = writer.take(item)
                    if text is not None:
                        yield text
                elif item is not None:
                    self._note(item, noted)
                    self._ledger.write(noted)
                if time.monotonic() - last > _NOTE:
                    writer.settle()
                    self._ledger.write(noted)
                    last = time.monotonic()
                if not ended and not isinstance(item, tuple) and time.monotonic() - looked > _LOOK / 10:
                    looked = time.monotonic()
                    self._why, ended = self._looked(noted)
                if ended and not following.finish():
                    return
        finally:
            following.over.set()

    def _looked(self, noted: Noted) -> tuple[str, bool]:
        """Why it waits, and whether it has ended."""
        job, pods = self._seen()
        for pod in pods:
            self._note(pod, noted)
        _forget(noted, job, pods)
        noted.stopped = self._ledger.stopped()
        phase = reading.phase(job, pods, noted.ends.values(), time.time())
        if phase is Phase.PENDING and job is not None:
            return reading.waiting(job, pods, self._warnings(pods)), False
        if phase is Phase.ENDED and not noted.ends and (why := _stuck(pods)):
            noted.failed = (type(why).__name__, why.message, why.why, why.hint)
        return "", phase in (Phase.ENDED, Phase.UNSTARTED)

    def _note(self, pod: reading.Manifest, noted: Noted) -> None:
        """Keep a pod's end; the first one of each node, whatever becomes of it later."""
        end = reading.end(pod)
        if end is not None:
            before = noted.ends.get(str(end.node))
            if before is None or before.code is None or before.code in (137, 143):
                noted.ends[str(end.node)] = end

    def wait(self) -> Exit:
        """See base.Handle.wait."""
        while self.phase().going:
            time.sleep(_LOOK)
        noted = self._ledger.read()
        job, pods = self._seen()
        if noted.failed:
            raise _again(noted.failed)
        for pod in pods:
            self._note(pod, noted)
        _forget(noted, job, pods)
        restarts = pod_starts.restarts(self._folders, self._start)
        if not noted.ends:
            if noted.stopped:  # before it began
                return Exit(code=143, restarts=restarts)
            if why := _stuck(pods):
                raise why
            raise _without_pods(job)
        self._ledger.write(noted)
        try:
            end = reading.verdict(list(noted.ends.values()))
        except EngineError:
            if noted.stopped:  # while it was starting
                return Exit(code=143, restarts=restarts)
            raise
        code = 1 if end.code is None else end.code
        return Exit(
            code=code,
            out_of_memory=end.reason == "OOMKilled",
            # The cluster has whole seconds of its own clock: of what was stopped they would say too little.
            ended="" if noted.stopped or not end.at else end.at.replace("Z", "+00:00"),
            restarts=restarts,
        )

    def remove(self) -> None:
        """See base.Handle.remove."""
        with self._refusals("its objects are still there"):
            objects.remove(self._api, self._kind, self._namespace, self._name)

    def stop(self, grace: float) -> None:
        """See base.Handle.stop."""
        self._in_background(max(1, round(grace)))

    def kill(self) -> None:
        """See base.Handle.kill."""
        self._in_background(0)

    def _in_background(self, grace: int) -> None:
        """The caller goes on reading the output while the pods take their time."""

        def act() -> None:
            with suppress(EngineError, OSError):  # whoever waits for the end says so
                self._delete(grace)

        threading.Thread(target=act, daemon=True).start()

    def _delete(self, grace: int) -> None:
        """Delete the run; where nobody follows it, bring what its pods still say before they are gone.

        The job goes first: it would make new pods in the place of those that end.
        """
        self._ledger.stop()
        with self._ledger.held(wait=False) as alone:
            if alone:
                self._stop_alone(grace)
            else:  # whoever follows it takes note of its end
                self._end(grace)

    def _stop_alone(self, grace: int) -> None:
        noted = self._ledger.read()
        with logs.Writer(self._log, noted.size, self._nodes, noted) as writer:
            following = _Following(self._api, self._namespace, self._name, noted)
            try:
                self._end(grace)
                while True:
                    item = following.next(_LOOK / 4)
                    if isinstance(item, tuple):
                        writer.take(item)
                    elif item is not None:
                        self._note(item, noted)
                    elif self._looked(noted)[1] and not following.finish():
                        break
            finally:
                following.over.set()
                writer.settle()
                self._ledger.write(noted)

    def _end(self, grace: int) -> None:
        objects.delete(self._api, self._kind, self._namespace, self._name)
        for pod in objects.pods(self._api, self._namespace, self._name)[0]:
            if reading.end(pod) is None:
                objects.delete(self._api, "Pod", self._namespace, pod["metadata"]["name"], grace=grace)

    def _seen(self) -> tuple[Manifest | None, list[Manifest]]:
        with self._refusals("it may still run"):
            job = objects.get(self._api, self._kind, self._namespace, self._name)
            return job, objects.pods(self._api, self._namespace, self._name)[0]

    def _warnings(self, pods: list[Manifest]) -> list[Manifest]:
        """What the cluster warns of; who may not read that does without."""
        about = [pod["metadata"]["name"] for pod in pods if not reading.started(pod)][:1]
        found: list[Manifest] = []
        for name in about or [self._name, f"{self._name}-node-0"]:
            query = {"fieldSelector": f"involvedObject.name={name}"}
            with suppress(ClusterError):
                found += self._api.call("GET", objects.path("Event", self._namespace), query=query)["items"]
        return sorted(
            found, key=lambda event: str(event.get("lastTimestamp") or event.get("eventTime") or "")
        )

    def _refusals(self, meanwhile: str) -> "_Asking":
        return _Asking(meanwhile)


class _Asking:
    """What may not be asked any more is no word about the run's end."""

    def __init__(self, meanwhile: str) -> None:
        self._meanwhile = meanwhile

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, ClusterError):
            raise EngineGoneError(
                f"{error.message}; {self._meanwhile}", why=error.why, hint=error.hint
            ) from None


class _Following:
    """The pods of a run and what they say, in one queue.

    Each pod has a thread that reads its log, another watches for pods.
    """

    def __init__(self, api: Api, namespace: str, name: str, noted: Noted) -> None:
        self._api, self._noted = api, noted
        self._found: queue.Queue[Any] = queue.Queue(maxsize=10_000)
        self._readers: dict[str, logs.Reader] = {}
        self._open: set[str] = set()
        self.over = threading.Event()
        self._begin("watch", lambda: objects.watched(api, namespace, name, self.over))

    def next(self, seconds: float) -> Any:
        """A line, a pod that has changed, or None: nothing has come for so long.

        Raises:
            EngineGoneError: the cluster does not answer any more.
        """
        try:
            item = self._found.get(timeout=seconds)
        except queue.Empty:
            return None
        if len(item) == 3:
            return item
        first, second = item
        if isinstance(second, dict):
            self._changed(first, second)
            return second
        self._open.discard(first)
        if second is not None:
            raise _as_gone(second)
        return None

    def finish(self) -> bool:
        """The run has ended: whether logs are still being read to their ends."""
        for reader in self._readers.values():
            reader.ended.set()
        return bool(self._open - {"watch"}) or not self._found.empty()

    def _changed(self, kind: str, pod: Manifest) -> None:
        uid = pod["metadata"]["uid"]
        if uid not in self._readers and reading.started(pod):
            cursor = self._noted.cursors.get(str(reading.number(pod)), Cursor())
            self._readers[uid] = logs.Reader(self._api, pod, cursor, follow=True, over=self.over)
            self._begin(uid, self._readers[uid].lines)
        if uid in self._readers and (kind == "DELETED" or reading.end(pod) is not None):
            self._readers[uid].ended.set()

    def _begin(self, name: str, work: Any) -> None:
        self._open.add(name)
        logs.in_background(work, self._found, name)


def _as_gone(error: BaseException) -> BaseException:
    """A refusal in the middle of a run says nothing of its end."""
    if isinstance(error, ClusterError):
        return EngineGoneError(f"{error.message}; it may still run", why=error.why, hint=error.hint)
    return error


def _forget(noted: Noted, job: Manifest | None, pods: list[Manifest]) -> None:
    """Leave out the ends that are none of the run's."""
    if not noted.stopped:
        for node, end in list(noted.ends.items()):
            if reading.overcome(end, job, pods):
                del noted.ends[node]


def _stuck(pods: list[Manifest]) -> LaunchError | None:
    return next(filter(None, (reading.stuck(pod, time.time()) for pod in pods)), None)


def _again(failed: tuple[str, ...]) -> LaunchError:
    """An error that was noted."""
    kind, message, why, hint = failed
    found: type[LaunchError] = getattr(errors, kind, EngineError)
    return found(message, why=why, hint=hint)


def _gone_for_good() -> EngineError:
    return EngineError(
        "the run was lost: the cluster knows nothing of it any more",
        why="somebody has removed it, or the cluster was made anew",
        hint="launch runs resume goes on from the last checkpoint",
    )


def _without_pods(job: Manifest | None) -> EngineError:
    """It ended, and no pod was there to say how."""
    conditions = [] if job is None else job.get("status", {}).get("conditions") or []
    for condition in conditions:
        if condition.get("type") == "Failed" and condition.get("status") == "True":
            if condition.get("reason") == "DeadlineExceeded":
                return TakenAwayError(
                    "the run reached the deadline that the site sets", why=str(condition.get("message", ""))
                )
            return EngineError(
                f"the run failed on the cluster: {condition.get('reason', '')}",
                why=str(condition.get("message", "")),
            )
    return _gone_for_good()
