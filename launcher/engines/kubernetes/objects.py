"""Where the objects of a start are in the API, and how they are made, found and removed."""

import json
import secrets as random
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from launcher.engines.kubernetes import manifests, names
from launcher.engines.kubernetes.api import Api
from launcher.engines.kubernetes.manifests import KubernetesRequest, Manifest
from launcher.errors import ClusterError, EngineError, EngineGoneError

TRAINER = "/apis/trainer.kubeflow.org/v1alpha1"

_GROUPS = {"Job": ("/apis/batch/v1", "jobs"), "TrainJob": (TRAINER, "trainjobs")}
_CORE = {"Service": "services", "Secret": "secrets", "Pod": "pods", "Event": "events"}


def path(kind: str, namespace: str, name: str = "") -> str:
    """Where objects of a kind are, or one of them."""
    base, plural = _GROUPS.get(kind) or ("/api/v1", _CORE[kind])
    return f"{base}/namespaces/{namespace}/{plural}" + (f"/{name}" if name else "")


def get(api: Api, kind: str, namespace: str, name: str) -> Manifest | None:
    """One object; None: there is none."""
    try:
        return api.call("GET", path(kind, namespace, name))
    except ClusterError as error:
        if error.status == 404:
            return None
        raise


def pods(api: Api, namespace: str, name: str) -> tuple[list[Manifest], str]:
    """The pods of a start, and the version of the list, from which on a watch goes on."""
    found = api.call("GET", path("Pod", namespace), query={"labelSelector": f"{names.START}={name}"})
    return list(found["items"]), str(found["metadata"]["resourceVersion"])


def delete(api: Api, kind: str, namespace: str, name: str, *, grace: int | None = None) -> None:
    """Delete an object, and in the background what belongs to it; one that is gone is fine."""
    body: Manifest = {"propagationPolicy": "Background"}
    if grace is not None:
        body["gracePeriodSeconds"] = grace
    try:
        api.call("DELETE", path(kind, namespace, name), body)
    except ClusterError as error:
        # Whoever may not delete a Secret could not make one either.
        if error.status != 404 and not (error.status == 403 and kind in ("Secret", "Service")):
            raise


def create(api: Api, manifest: Manifest, token: str) -> Manifest:
    """Make an object. One of that name that this very call has made before is it: its answer was lost.

    Raises:
        EngineError: there is one of somebody else.
    """
    kind, head = manifest["kind"], manifest["metadata"]
    try:
        return api.call("POST", path(kind, head["namespace"]), manifest)
    except ClusterError as error:
        if error.status != 409:
            raise
    there = get(api, kind, head["namespace"], head["name"])
    if there is None or (there["metadata"].get("annotations") or {}).get(names.TOKEN) != token:
        raise EngineError(
            f"the cluster has a {kind} {head['name']} already",
            why="another start of this run was not cleaned up",
            hint=f"kubectl --namespace {head['namespace']} get all,secrets -l {names.START}={head['name']}",
        )
    return there


def rehearse(api: Api, request: KubernetesRequest) -> None:
    """Have the cluster check everything that a start makes, and make none of it.

    Raises:
        ClusterError: what it does not allow, or does not understand.
    """
    query = {"dryRun": "All", "fieldValidation": "Strict"}
    made = [*request.manifests()]
    if request.secrets:
        made.append(request.secret(dict.fromkeys(request.secrets, "")))
    for manifest in made:
        api.call("POST", path(manifest["kind"], request.namespace), manifest, query=query)


def submit(api: Api, request: KubernetesRequest, values: Mapping[str, str]) -> None:
    """Make all objects of a start: the job first, which waits until what it needs is there, and owns it.

    On failure nothing stays behind.
    """
    token = random.token_hex(8)
    needs = request.service is not None or bool(request.secrets)
    try:
        job = create(api, manifests.marked(request.job, token=token, complete=not needs), token)
        if not needs:
            return
        if request.service is not None:
            create(api, manifests.owned(request.service, job, token), token)
        if request.secrets:
            create(api, manifests.owned(request.secret(values), job, token), token)
        where = path(request.job["kind"], request.namespace, request.name)
        api.call("PATCH", where, manifests.completed(request.job))
    except BaseException:
        _undo(api, request, token)
        raise


def _undo(api: Api, request: KubernetesRequest, token: str) -> None:
    """Remove what this call has made, if the cluster answers; what somebody else has made stays."""
    for kind in (request.job["kind"], "Secret", "Service"):
        with suppress(EngineError):
            there = get(api, kind, request.namespace, request.name)
            if there and (there["metadata"].get("annotations") or {}).get(names.TOKEN) == token:
                delete(api, kind, request.namespace, request.name)


def remove(api: Api, kind: str, namespace: str, name: str) -> None:
    """Delete everything of a start; the cluster's own clean-up is not waited for."""
    for each in (kind, "Service", "Secret"):
        delete(api, each, namespace, name)
    for pod in pods(api, namespace, name)[0]:
        delete(api, "Pod", namespace, pod["metadata"]["name"])


def watched(api: Api, namespace: str, name: str, over: threading.Event) -> Iterator[tuple[str, Manifest]]:
    """The pods of a start, and everything that happens to them, until somebody says that it is over.

    A watch that breaks goes on from the last version that was seen. One that is too old (410) begins anew
    with the list; what has gone meanwhile is told as deleted.

    Raises:
        EngineGoneError: the cluster does not answer any more.
    """
    known: dict[str, Manifest] = {}
    version = ""
    while not over.is_set():
        if not version:
            found, version = pods(api, namespace, name)
            for pod in found:
                yield "ADDED", pod
            now = {pod["metadata"]["uid"]: pod for pod in found}
            for uid, pod in known.items():
                if uid not in now:
                    yield "DELETED", pod
            known = now
        try:
            for kind, pod in _events(api, namespace, name, version):
                version = str(pod["metadata"]["resourceVersion"])
                if kind == "BOOKMARK":
                    continue
                if kind == "DELETED":
                    known.pop(pod["metadata"]["uid"], None)
                else:
                    known[pod["metadata"]["uid"]] = pod
                yield kind, pod
        except ClusterError as error:
            if error.status != 410 and error.status < 500:
                raise
            over.wait(0.2)
            version = ""
        except EngineGoneError:
            # The list says whether it answers at all; the client has waited in between.
            over.wait(0.2)
            version = ""


def _events(api: Api, namespace: str, name: str, version: str) -> Iterator[tuple[str, Manifest]]:
    query = {
        "labelSelector": f"{names.START}={name}",
        "watch": "true",
        "allowWatchBookmarks": "true",
        "resourceVersion": version,
        "timeoutSeconds": "90",
    }
    for line in api.lines(path("Pod", namespace), query):
        try:
            event: dict[str, Any] = json.loads(line)
        except ValueError:  # cut off in the middle: the watch goes on from the last whole one
            return
        if event["type"] == "ERROR":
            status = event["object"]
            raise ClusterError(
                str(status.get("message", "")),
                status=int(status.get("code", 500)),
                reason=str(status.get("reason", "")),
            )
        yield event["type"], event["object"]
