"""Runs on Kubernetes."""

from collections.abc import Mapping
from dataclasses import dataclass

from launcher.engines.base import Description, Handle
from launcher.plan import EngineName, Folders, RunPlan, Start


@dataclass(frozen=True, slots=True, kw_only=True)
class KubernetesRequest:
    """A submission, as data."""

    def printed(self) -> str:
        """The same as a command line to paste."""
        raise NotImplementedError

    def files(self) -> Mapping[str, str]:
        """The same as files to keep: name and text of each."""
        raise NotImplementedError


class KubernetesEngine:
    """The site's Kubernetes."""

    name: EngineName = "kubernetes"

    def __init__(self, context: str, namespace: str) -> None:
        self._context, self._namespace = context, namespace

    def check(self, plan: RunPlan) -> None:
        """See base.Engine.check."""
        raise NotImplementedError

    def describe(self, plan: RunPlan) -> Description:
        """See base.Engine.describe."""
        raise NotImplementedError

    def where(self) -> str:
        """See base.Engine.where."""
        raise NotImplementedError

    def render(self, plan: RunPlan, folders: Folders, start: Start) -> KubernetesRequest:
        """See base.Engine.render."""
        raise NotImplementedError

    def start(self, submission: KubernetesRequest, secrets: Mapping[str, str]) -> Handle:
        """See base.Engine.start."""
        raise NotImplementedError

    def find(self, folders: Folders, start: Start) -> Handle | None:
        """See base.Engine.find."""
        raise NotImplementedError
