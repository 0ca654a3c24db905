"""What tests of runs on a cluster share: a fake one, and ``launch`` as a user calls it."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import PROBE
from tests.kubernetes.cluster import Cluster
from tests.kubernetes.kubelet import Kubelet, Script, real

IMAGE = "registry.example/finetune@sha256:" + "a1" * 32


@dataclass(frozen=True)
class Done:
    """A finished ``launch``."""

    code: int
    out: str
    err: str


@dataclass
class Site:
    """A user's machine, and a cluster."""

    folder: Path
    cluster: Cluster
    kubelet: Kubelet
    token: Path
    variables: dict[str, str]

    @property
    def options(self) -> tuple[str, ...]:
        """Those that every run here has; the cluster's nodes have this machine's own folders."""
        return ("--engine", "kubernetes", "--target", "cpu", "--k8s-image", IMAGE, "--k8s-volume", "/=host:/")

    def probe(self, body: str) -> Path:
        """A recipe of a few bash lines."""
        file = self.folder / "probe.sh"
        file.write_text(PROBE.format(body=body), encoding="utf-8")
        return file

    def start(self, *arguments: object, **more: Any) -> "subprocess.Popen[str]":
        """A ``launch`` that goes on."""
        return subprocess.Popen(
            [sys.executable, "-m", "launcher", *map(str, arguments)],
            cwd=self.folder,
            env={**os.environ, **self.variables, **more},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def launch(self, *arguments: object, timeout: float = 120, **more: str) -> Done:
        """A ``launch`` to its end."""
        started = self.start(*arguments, **more)
        try:
            out, err = started.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            started.kill()
            out, err = started.communicate()
            raise AssertionError(f"it does not end:\n{out}\n{err}") from None
        return Done(started.returncode, out, err)

    def run(self, body: str, *more: object, **settings: Any) -> Done:
        """Run a recipe of a few lines on the cluster."""
        return self.launch("run", self.probe(body), *self.options, *more, **settings)

    def record(self) -> Path:
        """The only run's."""
        (found,) = [path for path in (self.folder / "runs").iterdir() if not path.name.startswith(".")]
        return found

    def log(self) -> str:
        """The only run's output."""
        return (self.record() / "log.txt").read_text()

    def wait_for(self, condition: Callable[[], Any], seconds: float = 60) -> Any:
        """Whatever it gives as soon as that is true."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            try:
                if found := condition():
                    return found
            except (OSError, ValueError, LookupError):
                pass
            time.sleep(0.1)
        raise AssertionError("it never came to that")

    def wait_for_log(self, text: str) -> None:
        """Until the run has said something."""
        self.wait_for(lambda: text in self.log())

    def nothing_left(self) -> bool:
        """The cluster has nothing any more."""
        kinds = ("jobs", "trainjobs", "services", "secrets", "pods")
        return not any(self.cluster.all(kind) for kind in kinds)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A cluster without Trainer, whose pods really start their commands."""
    cluster = Cluster()
    token, config = tmp_path / "credential.json", tmp_path / "kubeconfig"
    write_token(token, cluster.token)
    config.write_text(cluster.kubeconfig(str(token)))
    variables = {
        "KUBECONFIG": str(config),
        "HOME": str(tmp_path / "home"),
        "LAUNCH_CACHE_DIR": str(tmp_path / "cache"),
        "LAUNCH_RUNS_DIR": str(tmp_path / "runs"),
        "LAUNCH_LANG": "en",
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "COLUMNS": "200",
    }
    kubelet = Kubelet(cluster, real(None), tmp_path)
    yield Site(tmp_path, cluster, kubelet, token, variables)
    cluster.close()


def write_token(file: Path, token: str) -> None:
    """What a login program says."""
    file.write_text(
        '{"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", '
        f'"status": {{"token": "{token}"}}}}'
    )


__all__ = ["Done", "Script", "Site", "write_token"]
