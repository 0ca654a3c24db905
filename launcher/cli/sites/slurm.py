"""Options for Slurm."""

from collections.abc import Mapping
from typing import Any, get_args

import rich_click as click

from launcher.errors import UsageError
from launcher.plan import Slurm, SlurmRuntime

_PANEL = "Slurm options"


def options() -> list[click.Parameter]:
    """What a run on Slurm takes beside the others; none has a default."""

    def option(*names: str, help: str, **more: Any) -> click.RichOption:
        return click.RichOption(names, help=help, panel=_PANEL, **more)

    return [
        option(
            "--sbatch",
            multiple=True,
            metavar="KEY=VALUE",
            help="Option of sbatch, e.g. account=team; may be repeated.",
        ),
        option(
            "--slurm-runtime",
            type=click.Choice(get_args(SlurmRuntime)),
            help="What starts the recipe on a node.",
        ),
        option("--slurm-image", metavar="IMAGE", help="What the runtime starts, as the nodes find it."),
    ]


def wanted(given: Mapping[str, Any]) -> Slurm:
    """The run's part of the plan.

    Raises:
        UsageError: an option is no KEY=VALUE.
    """
    pairs = [text.partition("=") for text in given["sbatch"]]
    for text, (key, sign, _) in zip(given["sbatch"], pairs, strict=True):
        if not (key and sign):
            raise UsageError(f"--sbatch takes KEY=VALUE, not {text!r}")
    return Slurm(
        runtime=given["slurm_runtime"] or "none",
        image=given["slurm_image"] or "",
        options=tuple((key, value) for key, _, value in pairs),
    )
