"""Options for hosts reached by ssh, without a scheduler."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import rich_click as click

from launcher.errors import UsageError
from launcher.plan import Hosts, HostsRuntime, hostfile

_PANEL = "Options for hosts over ssh"


def options() -> list[click.Parameter]:
    """What a run on several hosts takes beside the others; it has no default."""
    return [
        click.RichOption(
            ("--hostfile",),
            type=click.Path(path_type=Path),
            metavar="FILE",
            help="Hosts that DeepSpeed's launcher reaches by ssh: NAME slots=N on each line.",
            panel=_PANEL,
        )
    ]


def wanted(given: Mapping[str, Any]) -> tuple[Hosts, int]:
    """The run's part of the plan, and how many processes each host has.

    Raises:
        UsageError: the file is none; other options contradict it; no runtime is named.
    """
    file = given["hostfile"]
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--hostfile {file} cannot be read", why=str(error)) from None
    names, slots = hostfile(text, str(file))
    if given["nodes"] not in (1, len(names)):
        raise UsageError(f"--nodes {given['nodes']}, but {file} names {len(names)} hosts")
    if given["nproc"] not in (None, "auto", str(slots)):
        raise UsageError(f"--nproc {given['nproc']}, but {file} says slots={slots}")
    runtimes = get_args(HostsRuntime)
    if given["engine"] not in runtimes:
        raise UsageError(
            f"--hostfile needs --engine {', '.join(runtimes[:-1])} or {runtimes[-1]}",
            why="it says what starts the recipe on each host",
        )
    return Hosts(runtime=given["engine"], names=names), slots
