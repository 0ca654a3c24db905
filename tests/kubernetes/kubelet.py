"""The nodes and controllers of the fake cluster: pods that do what a test says, or what their command says.

``real`` starts the command of a pod as a process of this machine, with the paths of its mounts in the place
of their names in the container, and the embedded environment in the place of the image's.
"""

import base64
import copy
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.kubernetes.cluster import Cluster, now
from tests.kubernetes.rules import Manifest

INDEX = "batch.kubernetes.io/job-completion-index"


class Killed(BaseException):
    """The pod was told to end."""


class Pod:
    """One pod, for its script."""

    def __init__(self, cluster: Cluster, manifest: Manifest, job: Manifest) -> None:
        self.cluster, self.manifest, self.job = cluster, manifest, job
        self.name = manifest["metadata"]["name"]
        self.container = manifest["spec"]["containers"][0]
        self.node = int(manifest["metadata"]["annotations"][INDEX])
        self.told = threading.Event()
        self.status: Manifest = {"phase": "Pending", "startTime": now()}

    def show(self) -> None:
        """Let the API say what is."""
        self.manifest["status"] = copy.deepcopy(self.status)
        self.cluster.put("pods", self.manifest)

    def unscheduled(self, message: str) -> None:
        """No node fits."""
        condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
        self.status = {"phase": "Pending", "conditions": [condition]}
        self.show()

    def waits(self, reason: str, message: str = "", ago: float = 0) -> None:
        """The container does not start."""
        self.status = {"phase": "Pending", "startTime": now(ago)}
        self._state({"waiting": {"reason": reason, "message": message}})

    def runs(self) -> None:
        """The container has started."""
        self.cluster.logs.setdefault(self.name, [])
        self.status = {"phase": "Running", "startTime": now()}
        self._state({"running": {"startedAt": now()}})

    def say(self, *lines: str) -> None:
        """What the program prints."""
        for line in lines:
            self.cluster.say(self.name, line.encode())

    def pause(self, seconds: float) -> None:
        """Go on later; a pod that is told to end does not."""
        if self.told.wait(seconds):
            raise Killed

    def ends(self, code: int, reason: str = "") -> None:
        """The program has ended."""
        self.status["phase"] = "Failed" if code else "Succeeded"
        word = reason or ("Error" if code else "Completed")
        self._state({"terminated": {"exitCode": code, "reason": word, "finishedAt": now()}})
        with self.cluster.changed:
            self.cluster.closed.add(self.name)
            self.cluster.changed.notify_all()

    def taken(self, reason: str, message: str) -> None:
        """The node's kubelet, or the scheduler, has ended it."""
        self.status |= {"phase": "Failed", "reason": reason, "message": message}
        self.show()
        self.cluster.closed.add(self.name)

    def _state(self, state: Manifest) -> None:
        self.status["containerStatuses"] = [
            {"name": self.container["name"], "state": state, "restartCount": 0, "ready": "running" in state}
        ]
        self.show()


Script = Callable[[Pod], None]


class Kubelet:
    """Makes pods of jobs, ends them, and says what became of the jobs."""

    def __init__(self, cluster: Cluster, script: Script, folder: Path) -> None:
        self.cluster, self.script, self.folder = cluster, script, folder
        self.pods: dict[str, Pod] = {}
        self.delay, self.again = 0.0, False
        cluster.hooks.append(self._hook)

    def _hook(self, verb: str, plural: str, found: Manifest) -> None:
        if plural in ("jobs", "trainjobs"):
            if verb in ("create", "patch") and not found["spec"].get("suspend"):
                threading.Thread(target=self._start, args=(found,), daemon=True).start()
            elif verb == "delete" or found["spec"].get("suspend"):
                for pod in list(self.pods.values()):
                    if pod.job["metadata"]["uid"] == found["metadata"]["uid"]:
                        self._tell(pod)
        elif plural == "pods" and verb == "delete" and found["metadata"]["name"] in self.pods:
            self._tell(self.pods[found["metadata"]["name"]])

    def _tell(self, pod: Pod) -> None:
        if pod.status["phase"] in ("Failed", "Succeeded"):
            self.cluster.drop("pods", pod.name)
        else:
            pod.told.set()

    def _start(self, job: Manifest) -> None:
        there = [name for _, name in self.cluster.objects]
        uid = job["metadata"]["uid"]
        if any(pod.job["metadata"]["uid"] == uid for name, pod in self.pods.items() if name in there):
            return
        time.sleep(self.delay)
        nodes = job["spec"]["completions"] if job["kind"] == "Job" else job["spec"]["trainer"]["numNodes"]
        made = [Pod(self.cluster, _pod(job, node, self.cluster.port), job) for node in range(nodes)]
        for pod in made:
            self.pods[pod.name] = pod
            self.cluster.put("pods", pod.manifest, "ADDED")
        threads = [threading.Thread(target=self._run, args=(pod, made), daemon=True) for pod in made]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self._conclude(job, made)

    def _run(self, pod: Pod, peers: list[Pod]) -> None:
        try:
            self.script(pod)
            if self.again:  # as a runtime does whose restart policy says so
                first = pod.status["containerStatuses"][0]["state"]
                self.script(pod)
                pod.status["containerStatuses"][0]["lastState"] = first
                pod.show()
        except Killed:
            if pod.status["phase"] == "Running":
                pod.ends(143)
        if pod.status["phase"] == "Failed":  # backoffLimit 0: the controller ends the others
            for peer in peers:
                if peer is not pod:
                    peer.told.set()
        if pod.told.is_set():
            time.sleep(0.3)  # its status goes out before it does
            self.cluster.drop("pods", pod.name)

    def _conclude(self, job: Manifest, made: list[Pod]) -> None:
        kind = "jobs" if job["kind"] == "Job" else "trainjobs"
        there = self.cluster.objects.get((kind, job["metadata"]["name"]))
        if there is None:
            for pod in made:
                self.cluster.drop("pods", pod.name)
            return
        if there["spec"].get("suspend"):  # a queue took its place away
            return
        good = all(pod.status["phase"] == "Succeeded" for pod in made)
        condition = {"type": "Complete" if good else "Failed", "status": "True", "reason": "Test"}
        there["status"] = {"conditions": [condition]}
        self.cluster.put(kind, there)


def _pod(job: Manifest, node: int, port: int) -> Manifest:
    """The pod that the controllers make: of an Indexed Job, or of a TrainJob and torch's runtime."""
    head, spec = job["metadata"], job["spec"]
    if job["kind"] == "Job":
        template = copy.deepcopy(spec["template"])
        name = f"{head['name']}-{node}-{uuid.uuid4().hex[:5]}"
    else:
        (patch,) = spec["runtimePatches"]
        (replicated,) = patch["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]
        template = copy.deepcopy(replicated["template"]["spec"]["template"])
        trainer, (container,) = spec["trainer"], template["spec"]["containers"]
        container |= {"image": trainer["image"], "command": trainer["command"]}
        container["env"] = [
            *trainer["env"],
            {"name": "PET_NNODES", "value": str(trainer["numNodes"])},
            {"name": "PET_NPROC_PER_NODE", "value": str(trainer["numProcPerNode"])},
            {"name": "PET_NODE_RANK", "value": str(node)},
            {"name": "PET_MASTER_ADDR", "value": "127.0.0.1"},
            {"name": "PET_MASTER_PORT", "value": str(port)},
        ]
        name = f"{head['name']}-node-0-{node}-{uuid.uuid4().hex[:5]}"
    metadata = {
        **template.get("metadata", {}),
        "name": name,
        "namespace": head["namespace"],
        "uid": str(uuid.uuid4()),
        "creationTimestamp": now(),
        "annotations": {INDEX: str(node)},
    }
    return {"kind": "Pod", "metadata": metadata, "spec": template["spec"], "status": {"phase": "Pending"}}


def real(environment: Path | None) -> Script:
    """Start the pod's own command here.

    Args:
        environment: whose python stands for the image's; None: this test's own.
    """

    def run(pod: Pod) -> None:
        folder = Path(tempfile.mkdtemp(prefix="pod-"))
        try:
            _run_here(pod, folder, environment)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    return run


def expanded(text: str, variables: Mapping[str, str]) -> str:
    """As a kubelet reads values and commands: $$ is a dollar, $(NAME) a variable; unknown ones stay.

    Source: Kubernetes, third_party/forked/golang/expansion.
    """

    def meant(found: re.Match[str]) -> str:
        return "$" if found[0] == "$$" else variables.get(found[1], found[0])

    return re.sub(r"\$\$|\$\(([^)]*)\)", meant, text)


def _run_here(pod: Pod, folder: Path, environment: Path | None) -> None:
    places = _places(pod, folder)

    def one(text: str) -> str:
        for inside, outside in sorted(places.items(), key=lambda item: len(item[0]), reverse=True):
            if text == inside or text.startswith(f"{inside}/"):
                return outside + text[len(inside) :]
        return text

    def here(text: str) -> str:
        return ":".join(map(one, text.split(":")))

    python = Path(sys.executable).parent if environment is None else environment / "bin"
    variables = {"PATH": f"{python}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1", "LANG": "C.UTF-8"}
    for item in pod.container["env"]:
        value = expanded(item.get("value", ""), variables)
        if "valueFrom" in item:
            path = item["valueFrom"]["fieldRef"]["fieldPath"]
            value = "127.0.0.1" if path == "status.podIP" else str(pod.node)
        if item["name"] == "LAUNCH_RENDEZVOUS":  # its service is not in any DNS here
            value = f"127.0.0.1:{pod.cluster.port}"
        variables[item["name"]] = here(value)
    variables["JOB_COMPLETION_INDEX"] = str(pod.node)  # the job controller's own
    asked = [expanded(word, variables) for word in pod.container["command"]]
    command = [here(word).replace("/opt/venv/bin", str(python)) for word in asked]
    pod.runs()
    child = subprocess.Popen(
        command,
        cwd=folder,
        env=variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )

    def watch() -> None:
        pod.told.wait()
        child.send_signal(signal.SIGTERM)

    def clean() -> None:  # with process 1 all the others of a container go
        child.wait()
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)

    for work in (watch, clean):
        threading.Thread(target=work, daemon=True).start()
    assert child.stdout is not None
    for line in child.stdout:
        pod.cluster.say(pod.name, line.rstrip(b"\n"))
    code = child.wait()
    pod.ends(code if code >= 0 else 128 - code)


def _places(pod: Pod, folder: Path) -> dict[str, str]:
    """Where the mounts of a pod are here; its own folders, and its secrets, are made."""
    sources = {volume["name"]: volume for volume in pod.manifest["spec"]["volumes"]}
    found: dict[str, str] = {}
    for mount in pod.container["volumeMounts"]:
        volume: dict[str, Any] = sources[mount["name"]]
        if "hostPath" in volume:
            root = Path(volume["hostPath"]["path"])
        elif "persistentVolumeClaim" in volume:
            root = Path("/")
        else:
            root = folder / mount["name"]
            root.mkdir(exist_ok=True)
            for source in volume.get("projected", {}).get("sources", []):
                _project(pod, source["secret"], root)
        found[mount["mountPath"]] = str(root / mount.get("subPath", ""))
        assert Path(found[mount["mountPath"]]).exists(), mount
    return found


def _project(pod: Pod, source: dict[str, Any], root: Path) -> None:
    secret = pod.cluster.objects["secrets", source["name"]]
    keys = {item["key"]: item["path"] for item in source.get("items", [])} or {
        key: key for key in secret["data"]
    }
    for key, path in keys.items():
        (root / path).write_bytes(base64.b64decode(secret["data"][key]))
