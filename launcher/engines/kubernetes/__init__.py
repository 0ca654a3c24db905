"""Runs on Kubernetes: a Kubeflow TrainJob, or an Indexed Job with a headless service.

Manifests (``manifests``, ``pod``, ``volumes``, ``names``, ``yaml``) and what is read from the cluster's
answers (``reading``) are pure; ``api`` asks, ``objects`` makes and removes, ``handle`` follows, with ``logs``
and ``ledger``.
"""

from launcher.engines.kubernetes.engine import KubernetesEngine, settled
from launcher.engines.kubernetes.manifests import KubernetesRequest

__all__ = ["KubernetesEngine", "KubernetesRequest", "settled"]
