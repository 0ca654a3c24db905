"""The pod of each node: least privilege, the run's folders, memory for /tmp and /dev/shm; pure."""

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from launcher import paths
from launcher import plan as plans
from launcher.engines.kubernetes import names, volumes
from launcher.plan import Folders, Kubernetes, Mount, RunPlan, Start
from launcher.secretfile import SecretFile

#: Where the processes of all nodes meet; the port above it is used before that.
PORT = 29400

#: Seconds in which all nodes must be there. They do not start together: one may still pull its image, which
#: takes minutes, when the others are ready.
TOGETHER = 900

#: Where the pod finds its secrets: a file for each.
SECRETS = PurePosixPath("/launch/secrets")

_ENTRY = PurePosixPath("/launch/entry.py")

#: What a device is called, by torch's name of its kind. Sources: NVIDIA's and Intel's device plugins.
_DEVICES = {"cuda": "nvidia.com/gpu", "xpu": "gpu.intel.com/xe"}

#: What a node notes of its own starts, below the run's scratch folder.
_STATE = "kubernetes-{attempt}-{node}"

#: What every container starts, with the command behind it. A pod is made anew where a queue took its place
#: away: then it goes on from a checkpoint. A TrainJob's runtime may also make one anew that failed by itself:
#: it would only fail again, so it ends at once, as it did before. Bash is process 1, which the kernel passes
#: no signal that it does not ask for, so it passes SIGTERM on.
_WRAPPER = """\
state="$LAUNCH_SCRATCH/kubernetes-${LAUNCH_ATTEMPT:-1}-${JOB_COMPLETION_INDEX:-0}"
if [[ -e $state.ended ]]; then
  echo "this start has ended before: $state.ended has its exit code" >&2
  exit "$(<"$state.ended")"
fi
echo >>"$state.starts" && mapfile -t starts <"$state.starts"
export LAUNCH_RESTARTS=$((${#starts[@]} - 1))
cd "$OUTPUT" || exit
"""

#: Torch's runtime sets variables for torchrun, which would take them beside the recipe's own options.
_TORCH = """\
if [[ ${LAUNCH_NODES:-1} != 1 ]]; then
  export LAUNCH_NODE_RANK="${PET_NODE_RANK:?the runtime is not one for torch}"
  export LAUNCH_RENDEZVOUS="${PET_MASTER_ADDR:?}:${PET_MASTER_PORT:?}"
fi
unset "${!PET_@}"
"""

_START = """\
"$@" & child=$!
trap 'told=1; kill -TERM "$child" 2>/dev/null' TERM INT
while wait "$child"; code=$?; kill -0 "$child" 2>/dev/null; do :; done
[[ ${told:-} ]] || echo "$code" >"$state.ended"
exit "$code"
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What a pod is put together from, for either kind of job."""

    command: tuple[str, ...]
    environment: list[dict[str, Any]]
    resources: dict[str, Any]
    volumes: list[dict[str, Any]]
    mounts: list[dict[str, Any]]
    pod_security: dict[str, Any]
    security: dict[str, Any]
    scheduling: dict[str, Any]


def parts(plan: RunPlan, folders: Folders, start: Start, site: Kubernetes, name: str) -> Parts:
    """The parts of a plan's pods.

    Args:
        name: of the job.

    Raises:
        UncoveredError: the nodes do not have all folders.
    """
    places = plans.in_container(plan)
    file = _secrets(plan, site)
    needed = plans.mounts(plan, folders)
    if file is not None:
        needed = (*needed, Mount(source=file.entry, target=_ENTRY, read_only=True))
    shared, mounts = volumes.mounted(needed, volumes.read(site.volumes))
    own, inside = _own(plan, site, name, secrets=file is not None)
    command = plans.command(plan, places)
    return Parts(
        command=command if file is None else file.command(command),
        environment=_environment(plan, start, site, name),
        resources=_resources(plan, site),
        volumes=[*shared, *own],
        mounts=[*mounts, *inside],
        pod_security=_pod_security(plan, site),
        security={
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        scheduling=_scheduling(site),
    )


def of_job(found: Parts, plan: RunPlan, site: Kubernetes, name: str) -> dict[str, Any]:
    """The pod of an Indexed Job."""
    spec: dict[str, Any] = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        **found.scheduling,
        "securityContext": found.pod_security,
        "volumes": found.volumes,
        "containers": [
            {
                "name": "recipe",
                "image": site.image,
                "command": wrapped(found.command, _WRAPPER + _START),
                "env": found.environment,
                **({"resources": found.resources} if found.resources else {}),
                "securityContext": found.security,
                "volumeMounts": found.mounts,
            }
        ],
    }
    if plan.nodes > 1:
        spec["subdomain"] = name
    if site.priority:
        spec["priorityClassName"] = site.priority
    return spec


def of_trainjob(found: Parts) -> dict[str, Any]:
    """What of it a patch of the site's runtime may say."""
    return {
        **found.scheduling,
        "securityContext": found.pod_security,
        "volumes": found.volumes,
        "containers": [{"name": "node", "securityContext": found.security, "volumeMounts": found.mounts}],
    }


def for_torch(found: Parts) -> list[str]:
    """The command of a TrainJob's container."""
    return wrapped(found.command, _WRAPPER + _TORCH + _START)


def wrapped(command: tuple[str, ...], script: str) -> list[str]:
    """A command, started by some lines of shell."""
    return ["bash", "-c", script, "bash", *map(_literal, command)]


def _literal(text: str) -> str:
    """A text that the cluster takes as it is: ``$$`` is its dollar, ``$(NAME)`` a variable.

    Source: Kubernetes, third_party/forked/golang/expansion; names that it does not know it leaves alone.
    """
    return re.sub(r"\$(?=[$(])", "$$", text)


def restarts(folders: Folders, start: Start) -> int:
    """How often the site has started the first node again."""
    state = _STATE.format(attempt=start.attempt, node=0)
    try:
        with paths.open_plain(folders.run / "scratch" / f"{state}.starts") as stream:
            return max(0, len(stream.read(1 << 16).splitlines()) - 1)
    except OSError:
        return 0


def _secrets(plan: RunPlan, site: Kubernetes) -> SecretFile | None:
    """How the program comes to its secrets; None: it has none."""
    if not (plan.secrets or site.secret):
        return None
    return SecretFile(
        names=plan.secrets,
        path=paths.recipes(),  # nothing is written on this machine
        seen=str(SECRETS),
        entry=paths.recipes() / "runtime" / "entry.py",
        entry_seen=str(_ENTRY),
        python=f"{plans.ENVIRONMENT}/bin/python",
        owner=(plan.uid, plan.gid),
    )


def _environment(plan: RunPlan, start: Start, site: Kubernetes, name: str) -> list[dict[str, Any]]:
    """The variables; a value is never taken for a reference to another one.

    Which devices it sees the cluster says: NVIDIA_VISIBLE_DEVICES=all would be every GPU of the node.
    """
    found: list[dict[str, Any]] = [
        {"name": key, "value": _literal(value)}
        for key, value in plans.environment(plan, plans.in_container(plan), start)
        if key not in plans.GPU_VARIABLES
    ]
    if plan.nodes > 1:
        found += [
            {"name": "LAUNCH_NODE_ADDRESS", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            {"name": "LAUNCH_RENDEZVOUS_TIMEOUT", "value": str(TOGETHER)},
        ]
        if site.kind == "job":
            rank = {"fieldRef": {"fieldPath": f"metadata.annotations['{names.INDEX}']"}}
            meeting = f"{name}-0.{name}.{site.namespace}.svc:{PORT}"
            found += [
                {"name": "LAUNCH_NODE_RANK", "valueFrom": rank},
                {"name": "LAUNCH_RENDEZVOUS", "value": meeting},
            ]
    return found


def _resources(plan: RunPlan, site: Kubernetes) -> dict[str, Any]:
    """What each node gives; asked for and limited alike: what is not reserved may be taken away."""
    wanted = {"cpu": site.cpu, "memory": names.quantity(plan.access.memory) if plan.access.memory else ""}
    if device := site.gpu_resource or _DEVICES.get(plan.device, ""):
        wanted[device] = str(plan.nproc)
    found = {name: amount for name, amount in wanted.items() if amount}
    return {"requests": found, "limits": dict(found)} if found else {}


def _pod_security(plan: RunPlan, site: Kubernetes) -> dict[str, Any]:
    found: dict[str, Any] = {"runAsUser": plan.uid, "runAsGroup": plan.gid}
    if plan.uid:
        found["runAsNonRoot"] = True
    if groups := sorted({*plan.access.groups, *site.groups}):
        found["supplementalGroups"] = groups
    return {**found, "seccompProfile": {"type": "RuntimeDefault"}}


def _scheduling(site: Kubernetes) -> dict[str, Any]:
    found: dict[str, Any] = {"terminationGracePeriodSeconds": site.grace}
    if site.selectors:
        found["nodeSelector"] = dict(site.selectors)
    if site.tolerations:
        found["tolerations"] = [names.toleration(text) for text in site.tolerations]
    if site.pull_secrets:
        found["imagePullSecrets"] = [{"name": name} for name in site.pull_secrets]
    if site.service_account:
        found["serviceAccountName"] = site.service_account
    return found


def _own(
    plan: RunPlan, site: Kubernetes, name: str, *, secrets: bool
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """What the pod has for itself: temporary files, shared memory, secrets in memory."""
    found: list[dict[str, Any]] = [
        {"name": "tmp", "emptyDir": {}},
        {
            "name": "shm",
            "emptyDir": {"medium": "Memory", "sizeLimit": names.quantity(plan.access.shm_size)},
        },
    ]
    mounts: list[dict[str, Any]] = [
        {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - inside the container
        {"name": "shm", "mountPath": "/dev/shm"},  # noqa: S108
    ]
    if secrets:
        sources: list[dict[str, Any]] = []
        if plan.secrets:
            items = [{"key": key, "path": key} for key in plan.secrets]
            sources.append({"secret": {"name": name, "items": items}})
        if site.secret:
            sources.append({"secret": {"name": site.secret}})
        # Readable by whom the recipe runs as: the files are root's, and the pod has this one container.
        found.append({"name": "secrets", "projected": {"defaultMode": 0o444, "sources": sources}})
        mounts.append({"name": "secrets", "mountPath": str(SECRETS), "readOnly": True})
    return found, mounts
