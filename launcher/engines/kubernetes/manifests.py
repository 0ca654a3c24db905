"""What is made of a run on a cluster, as data: an Indexed Job or a TrainJob, and what belongs to it; pure."""

import base64
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from launcher import process, yamltext
from launcher.engines.kubernetes import names
from launcher.engines.kubernetes.pod import PORT, Parts, for_torch, of_job, of_trainjob, parts
from launcher.errors import RecordError, UsageError
from launcher.plan import Folders, Kubernetes, RunPlan, Start

#: Who patches the site's runtime; Kueue's patches stand beside ours.
_MANAGER = "finetune-launch/launcher"

Manifest = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class KubernetesRequest:
    """One start on a cluster, as data.

    Attributes:
        name: of all its objects.
        job: the Job or the TrainJob.
        service: by which its nodes find each other; None: not needed.
        secrets: names of the variables whose values go into a Secret of its own.
        folders: of the run, whose log the handle continues.
    """

    name: str
    namespace: str
    context: str
    job: Manifest
    service: Manifest | None
    secrets: tuple[str, ...]
    folders: Folders
    start: Start

    def manifests(self) -> tuple[Manifest, ...]:
        """All but the Secret: its values are nobody's to print."""
        return (self.job,) if self.service is None else (self.service, self.job)

    def secret(self, values: Mapping[str, str]) -> Manifest:
        """The Secret of this start, with a key for each variable."""
        data = {
            name: base64.b64encode(values[name].encode("utf-8", "surrogateescape")).decode()
            for name in self.secrets
        }
        return {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": _metadata(self.job, self.name),
            "type": "Opaque",
            "immutable": True,
            "data": data,
        }

    def printed(self) -> str:
        """The kubectl line that makes the same, and before it the one that takes secrets from the shell."""
        kubectl = ["kubectl", *(["--context", self.context] if self.context else [])]
        kubectl += ["--namespace", self.namespace]
        lines = ""
        if self.secrets:
            values = " ".join(f'--from-file={name}=<(printf %s "${{{name}?}}")' for name in self.secrets)
            lines = f"{process.printed([*kubectl, 'create', 'secret', 'generic', self.name])} {values}\n"
        text = yamltext.dumped(self.manifests())
        return f"{lines}{process.printed([*kubectl, 'create', '-f', '-'])} <<'YAML'\n{text}YAML"

    def files(self) -> Mapping[str, str]:
        """The same as files to keep: name and text of each."""
        found = {
            f"{manifest['kind'].lower()}.yaml": yamltext.dumped([manifest]) for manifest in self.manifests()
        }
        return dict(sorted(found.items(), reverse=True))  # the service before the job, as they are needed


def rendered(plan: RunPlan, folders: Folders, start: Start) -> KubernetesRequest:
    """The request of a plan.

    Raises:
        UsageError: (UncoveredError) folders that the nodes do not have; what a TrainJob cannot say.
        RecordError: the plan is none for a cluster.
    """
    site = plan.kubernetes
    if site is None or site.kind == "auto":
        raise RecordError("the plan does not say what is made of it on the cluster")
    name = names.of(start)
    found = parts(plan, folders, start, site, name)
    labels = {
        names.MANAGER: "finetune-launch",
        names.RUN: names.label(start.run),
        names.START: name,
        names.RECIPE: names.label(plan.recipe),
        names.TARGET: plan.target,
    }
    make = _job if site.kind == "job" else _trainjob
    job = make(found, plan, site, name, labels)
    return KubernetesRequest(
        name=name,
        namespace=site.namespace,
        context=site.context,
        job=job,
        service=_service(job, name, labels) if site.kind == "job" and plan.nodes > 1 else None,
        secrets=plan.secrets,
        folders=folders,
        start=start,
    )


def _head(site: Kubernetes, name: str, labels: Mapping[str, str]) -> Manifest:
    queue = {names.QUEUE: site.queue} if site.queue else {}
    return {"name": name, "namespace": site.namespace, "labels": {**labels, **queue}}


def _job(found: Parts, plan: RunPlan, site: Kubernetes, name: str, labels: Mapping[str, str]) -> Manifest:
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": _head(site, name, labels),
        "spec": {
            "completionMode": "Indexed",
            "completions": plan.nodes,
            "parallelism": plan.nodes,
            # A pod that failed alone cannot join the others again: the whole start has failed.
            "backoffLimit": 0,
            # Kueue lets it go when there is room.
            **({"suspend": True} if site.queue else {}),
            "template": {"metadata": {"labels": dict(labels)}, "spec": of_job(found, plan, site, name)},
        },
    }


def _trainjob(
    found: Parts, plan: RunPlan, site: Kubernetes, name: str, labels: Mapping[str, str]
) -> Manifest:
    """Fields of Trainer 2.3 and later (trainer.kubeflow.org/v1alpha1); the rest is the site's runtime's."""
    if site.priority:
        raise UsageError(
            "--k8s-priority does not go with a TrainJob",
            why="its priority class is the runtime's",
            hint="--k8s-kind job, or a runtime that has it: --k8s-runtime NAME",
        )
    resources = {"resourcesPerNode": found.resources} if found.resources else {}
    pods = {"metadata": {"labels": dict(labels)}, "spec": of_trainjob(found)}
    node = {"name": "node", "template": {"spec": {"template": pods}}}
    return {
        "apiVersion": "trainer.kubeflow.org/v1alpha1",
        "kind": "TrainJob",
        "metadata": _head(site, name, labels),
        "spec": {
            "runtimeRef": {
                "apiGroup": "trainer.kubeflow.org",
                "kind": "ClusterTrainingRuntime",
                "name": site.runtime,
            },
            **({"suspend": True} if site.queue else {}),
            "trainer": {
                "image": site.image,
                "command": for_torch(found),
                "env": found.environment,
                "numNodes": plan.nodes,
                "numProcPerNode": plan.nproc,
                **resources,
            },
            "runtimePatches": [
                {
                    "manager": _MANAGER,
                    "trainingRuntimeSpec": {"template": {"spec": {"replicatedJobs": [node]}}},
                }
            ],
        },
    }


def _service(job: Manifest, name: str, labels: Mapping[str, str]) -> Manifest:
    """Gives each pod a name that the others find, also before it is ready."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _metadata(job, name),
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": {names.START: labels[names.START]},
            "ports": [{"name": "rendezvous", "port": PORT}, {"name": "meeting", "port": PORT + 1}],
        },
    }


def _metadata(job: Manifest, name: str) -> Manifest:
    """Of what belongs to a job."""
    labels = {key: value for key, value in job["metadata"]["labels"].items() if key != names.QUEUE}
    return {"name": name, "namespace": job["metadata"]["namespace"], "labels": labels}


def marked(manifest: Manifest, *, token: str, complete: bool) -> Manifest:
    """A job as it is created: whose it is; one that still lacks something does not start."""
    made = deepcopy(manifest)
    made["metadata"]["annotations"] = {names.TOKEN: token, **({names.COMPLETE: "true"} if complete else {})}
    if not complete:
        made["spec"]["suspend"] = True
    return made


def completed(manifest: Manifest) -> Manifest:
    """The patch that lets a job start; what a queue holds back is the queue's to let go."""
    patch: Manifest = {"metadata": {"annotations": {names.COMPLETE: "true"}}}
    if not manifest["spec"].get("suspend"):
        patch["spec"] = {"suspend": False}
    return patch


def owned(manifest: Manifest, owner: Manifest, token: str) -> Manifest:
    """A manifest that goes with its job."""
    made = deepcopy(manifest)
    made["metadata"]["annotations"] = {names.TOKEN: token}
    made["metadata"]["ownerReferences"] = [
        {
            "apiVersion": owner["apiVersion"],
            "kind": owner["kind"],
            "name": owner["metadata"]["name"],
            "uid": owner["metadata"]["uid"],
            "controller": False,
            "blockOwnerDeletion": False,
        }
    ]
    return made
