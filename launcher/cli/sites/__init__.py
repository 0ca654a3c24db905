"""The options of a run on several machines, and what they ask for."""

from collections.abc import Mapping
from typing import Any

import rich_click as click

from launcher.cli.sites import hosts, kubernetes, slurm
from launcher.errors import UsageError
from launcher.plan import Hosts, Kubernetes, Slurm

_SITES = {"slurm": slurm, "kubernetes": kubernetes}


def options() -> list[click.Parameter]:
    """Those of every site's engine, and of hosts reached by ssh."""
    return [*(option for site in _SITES.values() for option in site.options()), *hosts.options()]


def machines(given: Mapping[str, Any]) -> tuple[Slurm | Kubernetes | Hosts | None, int, int | None]:
    """How the run is handed over, on how many machines, and with how many processes on each.

    Returns:
        None in the first place: it takes place on this machine; in the last: nobody but ``--nproc`` says.

    Raises:
        UsageError: options of an engine that was not asked for, or several machines without one.
    """
    if given["hostfile"] is None:
        return _wanted(given), given["nodes"], None
    found, slots = hosts.wanted(given)
    return found, len(found.names), slots


def _wanted(given: Mapping[str, Any]) -> Slurm | Kubernetes | None:
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
            hint="--engine slurm or kubernetes; --hostfile FILE for hosts over ssh; by hand: docs/nodes.md",
        )
    return None
