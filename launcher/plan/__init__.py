"""The plan of a run, and what a recipe sees of it.

``make`` puts a plan together from what was asked and what was found; ``environment`` and ``mounts`` say
what a recipe will see, for an engine that mounts (containers) and for one that does not (venv).
"""

from launcher.plan.hostfile import hostfile
from launcher.plan.model import (
    CHOICES,
    DRI,
    GPU_VARIABLES,
    MASK,
    SCHEMA,
    VISIBLE,
    Access,
    EngineName,
    File,
    Model,
    RunPlan,
    from_json,
    make,
    to_json,
    with_output,
)
from launcher.plan.places import (
    ENVIRONMENT,
    Folders,
    Mount,
    Places,
    Start,
    command,
    environment,
    in_container,
    mounts,
    on_host,
)
from launcher.plan.sites import Hosts, HostsRuntime, Kubernetes, Slurm, SlurmRuntime

__all__ = [
    "CHOICES",
    "DRI",
    "ENVIRONMENT",
    "GPU_VARIABLES",
    "MASK",
    "SCHEMA",
    "VISIBLE",
    "Access",
    "EngineName",
    "File",
    "Folders",
    "Hosts",
    "HostsRuntime",
    "Kubernetes",
    "Model",
    "Mount",
    "Places",
    "RunPlan",
    "Slurm",
    "SlurmRuntime",
    "Start",
    "command",
    "environment",
    "from_json",
    "hostfile",
    "in_container",
    "make",
    "mounts",
    "on_host",
    "to_json",
    "with_output",
]
