"""Runs without containers: the same lock in an environment of the user's cache, the same recipe.

A supervisor (:mod:`launcher.supervisor`) is the recipe's parent and writes its log and its end, so that a run
is found again, and its end is known, whatever becomes of the launcher.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from launcher import plan as plans
from launcher import process, secretfile
from launcher.engines import supervised
from launcher.engines.base import Description
from launcher.engines.supervised import ProcessHandle
from launcher.errors import DeviceError
from launcher.host import nvidia
from launcher.plan import EngineName, Folders, RunPlan, Start
from launcher.secretfile import SecretFile

#: What a run inherits of the caller's environment; everything else is in the plan.
_INHERITED = ("LANG", "LC_ALL", "LC_CTYPE", "TMPDIR", "TZ")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessRequest:
    """One process, as data.

    Attributes:
        command: without what gives it its secrets.
        secrets: how it gets them; None: it has none.
    """

    command: tuple[str, ...]
    environment: tuple[tuple[str, str], ...]
    secrets: SecretFile | None
    folder: Path
    log: Path
    trace: Path

    def argv(self) -> tuple[str, ...]:
        """What is started."""
        return self.command if self.secrets is None else self.secrets.command(self.command)

    def printed(self) -> str:
        """The equivalent ``env`` line; the values of secrets are left to the caller's shell."""
        variables = [f"{name}={value}" for name, value in self.environment]
        folder = process.printed([str(self.folder)])
        line = f"cd {folder} && {process.printed(['env', *variables, *self.argv()])}"
        return line if self.secrets is None else self.secrets.around(line)


class VenvEngine:
    """Processes in an embedded environment.

    Args:
        environment: the folder of the environment; a dry run may name one that does not exist yet.
    """

    name: EngineName = "venv"

    def __init__(self, environment: Path) -> None:
        self.environment = environment

    def check(self, plan: RunPlan) -> None:
        """See base.Engine.check.

        Raises:
            DeviceError: the target's device is not on this machine.
        """
        if plan.access.nvidia and not nvidia.may_be_there():
            raise DeviceError("there is no NVIDIA GPU on this machine", hint="choose another --target")
        for device in plan.access.devices:
            if not Path(device).exists():
                raise DeviceError(f"{device} is not on this machine", hint="choose another --target")

    def describe(self, plan: RunPlan) -> Description:
        """See base.Engine.describe; the version is that of the environment's Python."""
        home = self.environment / "pyvenv.cfg"
        lines = home.read_text().splitlines() if home.is_file() else []
        found = [line.split("=", 1)[1].strip() for line in lines if line.startswith("version")]
        return Description(image_digest=None, version=found[0] if found else "unknown", where=self.where())

    def where(self) -> str:
        """See base.Engine.where."""
        return supervised.where()

    def render(self, plan: RunPlan, folders: Folders, start: Start) -> ProcessRequest:
        """See base.Engine.render."""
        places = plans.on_host(plan, folders)
        inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        path = f"{self.environment / 'bin'}:{os.environ.get('PATH', os.defpath)}"
        # What the target says of its environment's folder is of this one here.
        wanted = {
            name: value.replace(plans.ENVIRONMENT, str(self.environment))
            for name, value in plans.environment(plan, places, start)
        }
        variables = {**inherited, **wanted, **_gpus(plan), "PATH": path}
        return ProcessRequest(
            command=plans.command(plan, places),
            environment=tuple(sorted({**variables, "VIRTUAL_ENV": str(self.environment)}.items())),
            secrets=secretfile.on_host(plan, start, self.environment),
            folder=folders.output,
            log=folders.run / "log.txt",
            trace=supervised.trace(folders, start),
        )

    def start(self, submission: ProcessRequest, secrets: Mapping[str, str]) -> ProcessHandle:
        """See base.Engine.start."""
        variables = dict(submission.environment)
        with secretfile.handed(submission.secrets, secrets, read=True):
            return supervised.begin(
                submission.argv(),
                trace=submission.trace,
                log=submission.log,
                env=variables,
                cwd=submission.folder,
            )

    def find(self, folders: Folders, start: Start) -> ProcessHandle | None:
        """See base.Engine.find."""
        return supervised.found(supervised.trace(folders, start))


def _gpus(plan: RunPlan) -> dict[str, str]:
    """The plan's GPUs as CUDA takes them; numbers are those of nvidia-smi, not the fastest GPU first.

    What Level Zero takes is the same in containers, and in :func:`launcher.plan.environment`.
    """
    gpus = plan.access.nvidia
    order = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"} if gpus else {}
    return order if gpus in ("", "all") else {**order, plans.VISIBLE: gpus}
