"""Runs on the site's Slurm: one sbatch script, which starts the recipe once on each node.

Everything that the script says follows from the plan (:mod:`script`, :mod:`runtimes`); what Slurm answers is
read in :mod:`state`; programs are started by :mod:`client`, and only there.
"""

from launcher.engines.slurm.engine import SlurmEngine
from launcher.engines.slurm.request import SlurmRequest

__all__ = ["SlurmEngine", "SlurmRequest"]
