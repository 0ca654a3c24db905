"""Runs on hosts reached by ssh, without a scheduler: DeepSpeed's own launcher goes to them.

It starts one script on each host (:mod:`script`), which starts the recipe there as on a node of Slurm. What
its launcher does at an end, and why it is not asked to do it, docs/nodes.md says.
"""

from launcher.engines.hosts.engine import HostsEngine, HostsHandle
from launcher.engines.hosts.request import HostsRequest

__all__ = ["HostsEngine", "HostsHandle", "HostsRequest"]
