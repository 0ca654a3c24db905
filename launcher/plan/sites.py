"""How a run is handed to the site's own engine: it schedules the run, and starts it on its nodes."""

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
