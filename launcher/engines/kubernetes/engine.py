"""Runs on a Kubernetes cluster, through the official client."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from typing import Literal

from launcher import runs
from launcher.engines.base import Description
from launcher.engines.kubernetes import manifests, names, objects
from launcher.engines.kubernetes.api import Api
from launcher.engines.kubernetes.handle import KubernetesHandle
from launcher.engines.kubernetes.manifests import KubernetesRequest
from launcher.errors import ClusterError, EngineError
from launcher.plan import EngineName, Folders, Kubernetes, RunPlan, Start

#: What a run asks of the cluster: verb, group, resource, subresource. Beside the job's own.
_NEEDED = (
    ("list", "", "pods", ""),
    ("watch", "", "pods", ""),
    ("delete", "", "pods", ""),
    ("get", "", "pods", "log"),
)


class KubernetesEngine:
    """One cluster, as a plan names it.

    Args:
        site: of the plan.
        nodes: of the run.
    """

    name: EngineName = "kubernetes"

    def __init__(self, site: Kubernetes, nodes: int = 1) -> None:
        self._site, self._nodes = site, nodes

    @cached_property
    def api(self) -> Api:
        """Requests to the cluster."""
        return Api(self._site.context)

    def check(self, plan: RunPlan) -> None:
        """See base.Engine.check: what is allowed, and whether the cluster would take the run as it is.

        Raises:
            EngineError: (ClusterError) what it does not allow, or does not understand.
        """
        start = Start(run=runs.new_id(plan.recipe))
        request = manifests.rendered(plan, runs.folders(start.run, plan), start)
        _allowed(self.api, plan, self._site)
        if self._site.kind == "trainjob":
            _runtime(self.api, self._site)
        objects.rehearse(self.api, request)

    def describe(self, plan: RunPlan) -> Description:
        """See base.Engine.describe."""
        version = str(self.api.call("GET", "/version").get("gitVersion", ""))
        return Description(
            image_digest=self._site.image.partition("@")[2], version=version, where=self.where()
        )

    def where(self) -> str:
        """See base.Engine.where."""
        return f"{self.api.address()} {self._site.namespace}"

    def render(self, plan: RunPlan, folders: Folders, start: Start) -> KubernetesRequest:
        """See base.Engine.render.

        Raises:
            UsageError: (UncoveredError) folders that the nodes do not have; what a TrainJob cannot say.
        """
        return manifests.rendered(plan, folders, start)

    def start(self, submission: KubernetesRequest, secrets: Mapping[str, str]) -> KubernetesHandle:
        """See base.Engine.start.

        Raises:
            EngineError: the cluster refused; nothing is left of it.
        """
        objects.submit(self.api, submission, secrets)
        return self._handle(submission.folders, submission.start)

    def find(self, folders: Folders, start: Start) -> KubernetesHandle | None:
        """See base.Engine.find."""
        found = self._handle(folders, start)
        return found if found.known() else None

    def _handle(self, folders: Folders, start: Start) -> KubernetesHandle:
        kind = "TrainJob" if self._site.kind == "trainjob" else "Job"
        return KubernetesHandle(
            self.api, kind, self._site.namespace, names.of(start), self._nodes, folders, start
        )


def settled(site: Kubernetes, *, dry_run: bool, grace: float, notes: list[str]) -> Kubernetes:
    """What a plan says of its cluster, with all that is only known there.

    Args:
        site: as asked for.
        dry_run: without a cluster, it is the request for a plain one.
        grace: seconds between SIGTERM and SIGKILL.
        notes: what the user should know is added.

    Raises:
        UsageError: the image is not named by its digest.
        EngineError: no cluster answers.
    """
    site = replace(site, image=names.by_digest(site.image), grace=max(1, round(grace)))
    api = Api(site.context, tries=1 if dry_run else 6)
    try:
        namespace = site.namespace or api.namespace()
        kind = site.kind if site.kind != "auto" else _kind(api)
    except EngineError as error:
        if not dry_run:
            raise
        notes.append(f"{error.message}: this is the request for a cluster without Kubeflow's Trainer")
        namespace, kind = site.namespace or "default", "job" if site.kind == "auto" else site.kind
    return replace(site, namespace=namespace, kind=kind)


def _kind(api: Api) -> Literal["job", "trainjob"]:
    """TrainJob where the cluster has it."""
    with suppress(ClusterError):
        found = api.call("GET", objects.TRAINER)
        if any(resource.get("name") == "trainjobs" for resource in found.get("resources") or []):
            return "trainjob"
    return "job"


def _allowed(api: Api, plan: RunPlan, site: Kubernetes) -> None:
    """Ask whether the user may do what a run needs.

    Raises:
        EngineError: something is not allowed; all of it at once.
    """
    group, job = ("trainer.kubeflow.org", "trainjobs") if site.kind == "trainjob" else ("batch", "jobs")
    needed = [*_NEEDED, *((verb, group, job, "") for verb in ("create", "get", "delete"))]
    secrets = ["secrets"] if plan.secrets else []
    services = ["services"] if site.kind == "job" and plan.nodes > 1 else []
    if secrets or services:
        needed.append(("patch", group, job, ""))
    needed += [(verb, "", kind, "") for kind in (*secrets, *services) for verb in ("create", "get", "delete")]
    refused = [
        f"{verb} {'/'.join(filter(None, (kind, below)))}"
        for verb, group_of, kind, below in needed
        if not _may(api, site.namespace, verb, group_of, kind, below)
    ]
    if refused:
        raise EngineError(
            f"the namespace {site.namespace} does not allow you to: {', '.join(refused)}",
            why="the role that you have there lacks it, or there is no such namespace",
            hint="docs/kubernetes.md has the role that is needed; --k8s-namespace names another one",
        )


def _may(api: Api, namespace: str, verb: str, group: str, kind: str, below: str) -> bool:
    attributes = {"namespace": namespace, "verb": verb, "group": group, "resource": kind}
    if below:
        attributes["subresource"] = below
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": attributes},
    }
    try:
        answer = api.call("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", review)
    except ClusterError:  # nobody may ask there: the request itself says it
        return True
    return bool(answer.get("status", {}).get("allowed"))


def _runtime(api: Api, site: Kubernetes) -> None:
    """The runtime that a TrainJob names is there, as far as one may ask.

    Raises:
        EngineError: it is not.
    """
    try:
        api.call("GET", f"{objects.TRAINER}/clustertrainingruntimes/{site.runtime}")
    except ClusterError as error:
        if error.status != 404:
            return
        raise EngineError(
            f"the cluster has no training runtime {site.runtime}",
            why="a TrainJob is made by one, which who runs the cluster has to install",
            hint="kubectl get clustertrainingruntimes, then --k8s-runtime NAME; or --k8s-kind job",
        ) from None
