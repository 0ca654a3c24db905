"""How a run of several machines is handed over: to the site's scheduler, or to hosts reached by ssh."""

from dataclasses import dataclass
from typing import Literal

#: What starts the recipe on a node of Slurm; ``none``: the environment, which lies on a shared file system.
SlurmRuntime = Literal["none", "docker", "podman", "apptainer", "pyxis", "oci"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Slurm:
    """A run on Slurm.

    Attributes:
        runtime: what starts the recipe on each node.
        image: what the runtime starts, as the nodes find it: a reference, a file or a folder; empty without.
        options: of sbatch, by their long names without dashes: account, qos, partition, …
    """

    runtime: SlurmRuntime = "none"
    image: str = ""
    options: tuple[tuple[str, str], ...] = ()


#: What starts the recipe on a host reached by ssh; ``venv``: the environment, on a shared file system.
HostsRuntime = Literal["docker", "podman", "venv"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Hosts:
    """A run on machines that DeepSpeed's launcher reaches by ssh.

    Attributes:
        runtime: what starts the recipe on each host.
        names: of the hosts, as ssh takes them; the first is node 0.
    """

    runtime: HostsRuntime
    names: tuple[str, ...]


#: What is made of a run; ``auto`` is settled while it is planned.
KubernetesKind = Literal["auto", "job", "trainjob"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kubernetes:
    """A run on Kubernetes.

    Attributes:
        kind: Kubeflow's TrainJob, or an Indexed Job with a headless service.
        image: reference by digest.
        context: of the kubeconfig; empty: its current one.
        namespace: of all objects; empty: the context's own, until the run is planned.
        volumes: (folder of this machine, what the nodes have for it) pairs.
        gpu_resource: what a device is called there; empty: by the target.
        cpu: cores of each node, e.g. ``8`` or ``500m``; empty: no request.
        selectors: labels that a node must have.
        tolerations: of taints, as ``KEY[=VALUE][:EFFECT]``.
        queue: of Kueue; empty: none.
        priority: name of a priority class; empty: none.
        pull_secrets: names of secrets by which the image is pulled.
        service_account: of the pods; empty: the namespace's default.
        runtime: what a TrainJob is made by.
        secret: name of a secret of the cluster, whose keys become variables of the run; empty: none.
        groups: further group ids of the recipe's processes.
        grace: seconds between SIGTERM and SIGKILL.
    """

    kind: KubernetesKind = "auto"
    image: str
    context: str = ""
    namespace: str = ""
    volumes: tuple[tuple[str, str], ...] = ()
    gpu_resource: str = ""
    cpu: str = ""
    selectors: tuple[tuple[str, str], ...] = ()
    tolerations: tuple[str, ...] = ()
    queue: str = ""
    priority: str = ""
    pull_secrets: tuple[str, ...] = ()
    service_account: str = ""
    runtime: str = "torch-distributed"
    secret: str = ""
    groups: tuple[int, ...] = ()
    grace: int = 20
