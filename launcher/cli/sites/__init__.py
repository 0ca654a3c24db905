"""The options of a run that a site's own engine schedules, and what they ask for."""

from collections.abc import Mapping
from typing import Any

import rich_click as click

from launcher.cli.sites import kubernetes, slurm
from launcher.errors import UsageError
from launcher.plan import Kubernetes, Slurm

_SITES = {"slurm": slurm, "kubernetes": kubernetes}


def options() -> list[click.Parameter]:
    """Those of every site's engine."""
    return [option for site in _SITES.values() for option in site.options()]


def wanted(given: Mapping[str, Any]) -> Slurm | Kubernetes | None:
    """How the run is handed over; None: it takes place on this machine.

    Raises:
        UsageError: options of an engine that was not asked for, or several machines without one.
    """
    engine = given["engine"]
    for name, site in _SITES.items():
        foreign = [option for option in site.options() if name != engine and given[option.name or ""]]
        if foreign:
            raise UsageError(f"{foreign[0].opts[0]} goes with --engine {name}")
    if engine in _SITES:
        found: Slurm | Kubernetes = _SITES[engine].wanted(given)
        return found
    if given["nodes"] > 1:
        raise UsageError(
            f"--nodes {given['nodes']} needs an engine that has several machines",
            why="starting processes on other machines is a scheduler's work",
            hint="--engine slurm or kubernetes; by hand: launch export RECIPE --to script, and docs/nodes.md",
        )
    return None
