"""Options for Kubernetes."""

from collections.abc import Mapping
from typing import Any

import rich_click as click

from launcher.errors import UsageError
from launcher.plan import Kubernetes

_PANEL = "Kubernetes options"


def options() -> list[click.Parameter]:
    """What a run on Kubernetes takes beside the others; none has a default."""

    def option(*names: str, help: str, **more: Any) -> click.RichOption:
        return click.RichOption(names, help=help, panel=_PANEL, **more)

    return [
        option("--k8s-image", metavar="NAME@DIGEST", help="The image, as the nodes pull it."),
        option("--k8s-kind", type=click.Choice(["job", "trainjob"]), help="What is made of the run."),
    ]


def wanted(given: Mapping[str, Any]) -> Kubernetes:
    """The run's part of the plan.

    Raises:
        UsageError: there is no image.
    """
    if not given["k8s_image"]:
        raise UsageError("--engine kubernetes needs --k8s-image", hint="launch image push says which")
    return Kubernetes(kind=given["k8s_kind"] or "job", image=given["k8s_image"])
