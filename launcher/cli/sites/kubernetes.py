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
        option(
            "--k8s-volume",
            multiple=True,
            metavar="FOLDER=SOURCE",
            help="What the nodes have for a folder of this machine: pvc:NAME[/SUBPATH] or host:PATH.",
        ),
        option("--k8s-namespace", metavar="NAME", help="Default: the context's own."),
        option("--k8s-context", metavar="NAME", help="Of the kubeconfig; default: its current one."),
        option(
            "--k8s-kind",
            type=click.Choice(["auto", "job", "trainjob"]),
            help="What is made of the run; auto: a TrainJob where the cluster has it.",
        ),
        option("--k8s-runtime", metavar="NAME", help="Of a TrainJob; default: torch-distributed."),
        option(
            "--k8s-gpu-resource",
            metavar="NAME",
            help="What a device is called; default: nvidia.com/gpu, gpu.intel.com/xe.",
        ),
        option("--k8s-cpu", metavar="CORES", help="Cores of each node, e.g. 8 or 500m."),
        option("--k8s-selector", multiple=True, metavar="KEY=VALUE", help="Label that a node must have."),
        option(
            "--k8s-toleration", multiple=True, metavar="KEY[=VALUE][:EFFECT]", help="Taint that is accepted."
        ),
        option("--k8s-queue", metavar="NAME", help="Kueue's local queue that the run waits in."),
        option("--k8s-priority", metavar="NAME", help="Priority class of the pods."),
        option("--k8s-pull-secret", multiple=True, metavar="NAME", help="Secret with the registry's login."),
        option("--k8s-service-account", metavar="NAME", help="Of the pods; its token is not mounted."),
        option(
            "--k8s-secret",
            metavar="NAME",
            help="Secret of the cluster; its keys become variables of the run.",
        ),
        option(
            "--k8s-group",
            multiple=True,
            type=click.IntRange(0),
            metavar="GID",
            help="Further group of the run.",
        ),
    ]


def wanted(given: Mapping[str, Any]) -> Kubernetes:
    """The run's part of the plan.

    Raises:
        UsageError: there is no image, or an option is malformed.
    """
    from launcher.engines.kubernetes import names, volumes

    if not given["k8s_image"]:
        raise UsageError("--engine kubernetes needs --k8s-image", hint="launch image push says which")
    pairs = [text.partition("=") for text in given["k8s_selector"]]
    for text, (key, sign, _) in zip(given["k8s_selector"], pairs, strict=True):
        if not (key and sign):
            raise UsageError(f"--k8s-selector takes KEY=VALUE, not {text!r}")
    for text in given["k8s_toleration"]:
        names.toleration(text)
    return Kubernetes(
        kind=given["k8s_kind"] or "auto",
        image=names.by_digest(given["k8s_image"]),
        context=given["k8s_context"] or "",
        namespace=given["k8s_namespace"] or "",
        volumes=tuple(map(volumes.parsed, given["k8s_volume"])),
        gpu_resource=given["k8s_gpu_resource"] or "",
        cpu=given["k8s_cpu"] or "",
        selectors=tuple((key, value) for key, _, value in pairs),
        tolerations=given["k8s_toleration"],
        queue=given["k8s_queue"] or "",
        priority=given["k8s_priority"] or "",
        pull_secrets=given["k8s_pull_secret"],
        service_account=given["k8s_service_account"] or "",
        runtime=given["k8s_runtime"] or "torch-distributed",
        secret=given["k8s_secret"] or "",
        groups=given["k8s_group"],
    )
