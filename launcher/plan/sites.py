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


@dataclass(frozen=True, slots=True, kw_only=True)
class Kubernetes:
    """A run on Kubernetes.

    Attributes:
        kind: Kubeflow's TrainJob, or an Indexed Job with a headless service.
        image: reference by digest.
        context: of the kubeconfig; empty: its current one.
        namespace: of all objects.
        volumes: (folder of this machine, what the nodes have for it) pairs.
    """

    kind: Literal["job", "trainjob"] = "job"
    image: str
    context: str = ""
    namespace: str = "default"
    volumes: tuple[tuple[str, str], ...] = ()
