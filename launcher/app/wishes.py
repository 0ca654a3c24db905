"""Which GPUs somebody wishes for: by an option, a variable of the vendor's, or the settings."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from itertools import takewhile
from typing import TypeVar

from launcher import cuda
from launcher.errors import UsageError
from launcher.host import Host
from launcher.plan import MASK, VISIBLE
from launcher.settings import Setting

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the command line says of accelerators; None: nothing.

    Attributes:
        gpus: ``--gpus``: ``auto``, ``all`` or a list.
        visible: the same in CUDA's words, ``--env CUDA_VISIBLE_DEVICES=…``; not for other devices.
        mask: the same in Level Zero's words, ``--env ZE_AFFINITY_MASK=…``; for Intel's devices alone.
        nproc: processes on this machine.
    """

    gpus: str | None = None
    visible: str | None = None
    mask: str | None = None
    nproc: int | None = None


def hidden(asked: Asked, setting: Setting[str], machine: Host) -> str:
    """What hides every NVIDIA GPU from a run, e.g. ``CUDA_VISIBLE_DEVICES``; empty: nothing does."""
    origin, text = said(asked, setting)
    return origin if machine.nvidia and text is None else ""


def said(asked: Asked, setting: Setting[str]) -> tuple[str, str | None]:
    """Where the wish for NVIDIA's GPUs comes from, and its text; None: every GPU is hidden."""
    return _wish(asked.gpus, asked.visible, setting, VISIBLE, _as_cuda_reads)


def mask(asked: Asked, setting: Setting[str]) -> tuple[str, str]:
    """Where the wish for Intel's GPUs comes from, and its text.

    An empty mask is taken for none: all devices (a guess, the Level Zero specification was not at hand).
    """
    return _wish(asked.gpus, asked.mask, setting, MASK, lambda text: text.strip() or "all")


def _wish(
    option: str | None, given: str | None, setting: Setting[str], variable: str, read: Callable[[str], T]
) -> tuple[str, str | T]:
    """Where a wish comes from, and its text.

    Without one, the vendor's own variable is asked: a batch system, or the user's habit, speaks through it.

    Args:
        option: ``--gpus``.
        given: the variable, by ``--env``.
        setting: ``auto``, ``all`` or a list.
        variable: its name.
        read: what the vendor's libraries read in it.
    """
    text: str | T
    if option is not None:
        origin, text = "--gpus", option
    elif given is not None:
        origin, text = f"--env {variable}", read(given)
    else:
        origin, text = f"gpus (from {setting.origin})", setting.value
    if text == "auto" and variable in os.environ:
        return variable, read(os.environ[variable])
    return origin, text


def wanted(asked: Asked, setting: Setting[str]) -> tuple[str, tuple[str, ...] | None]:
    """Where the wish comes from, and the GPUs that it names; None: all of them.

    Raises:
        UsageError: no list of GPUs, or one that no process can use.
    """
    origin, text = said(asked, setting)
    if text is None:
        return origin, ()
    if text in ("auto", "all"):
        return origin, None
    try:
        names = cuda.names(text)
    except ValueError as error:
        raise UsageError(f"{origin}: {error}", hint="auto, all, or a list such as 0,1") from None
    if len(names) > 1 and any(name.startswith("MIG-") for name in names):
        # Source: NVIDIA Multi-Instance GPU User Guide, "CUDA Device Enumeration".
        raise UsageError(
            f"{origin}: a MIG instance can only be used alone",
            why="a process sees one MIG instance at most, whatever it is given",
            hint="one run per instance",
        )
    return origin, names


def _as_cuda_reads(text: str) -> str | None:
    """The list up to the first -1; None: nothing is left. NoDevFiles is what Slurm says when it gave none."""
    return (
        ",".join(takewhile(lambda part: part.strip() not in ("", "-1", "NoDevFiles"), text.split(",")))
        or None
    )
