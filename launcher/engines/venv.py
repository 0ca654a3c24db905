"""Runs without containers: the same lock in an environment of the user's cache, the same recipe."""

import os
import signal
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from launcher import plan as plans
from launcher import process
from launcher.engines.base import Exit
from launcher.errors import DeviceError
from launcher.host import nvidia
from launcher.plan import EngineName, Folders, RunPlan

#: What a run inherits of the caller's environment; everything else is in the plan.
_INHERITED = ("LANG", "LC_ALL", "LC_CTYPE", "TMPDIR", "TZ")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessRequest:
    """One process, as data."""

    command: tuple[str, ...]
    environment: tuple[tuple[str, str], ...]
    secrets: tuple[str, ...]
    folder: Path

    def printed(self) -> str:
        """The equivalent ``env`` line; secrets are left to the caller's shell."""
        variables = [f"{name}={value}" for name, value in self.environment]
        folder = process.printed([str(self.folder)])
        return f"cd {folder} && {process.printed(['env', *variables, *self.command])}"


class ProcessHandle:
    """A started process group."""

    def __init__(self, child: process.Child) -> None:
        self._child = child

    def lines(self) -> Iterator[str]:
        """See base.Handle.lines; a program that the recipe leaves behind does not hold them open."""
        threading.Thread(target=self._end_with_the_recipe, daemon=True).start()
        return self._child.lines()

    def _end_with_the_recipe(self) -> None:
        self._child.wait()
        self._child.signal_group(signal.SIGKILL)

    def wait(self) -> Exit:
        """See base.Handle.wait; a SIGKILL that nobody here sent is the kernel's out-of-memory killer."""
        code = self._child.wait() or 0
        self._child.signal_group(signal.SIGKILL)  # what the recipe may have left behind
        return Exit(code=128 - code if code < 0 else code, out_of_memory=code in (-signal.SIGKILL, 137))

    def stop(self, grace: float) -> None:
        """See base.Handle.stop."""

        def act() -> None:
            self._child.signal_group(signal.SIGTERM)
            if self._child.wait(grace) is None:
                self._child.signal_group(signal.SIGKILL)

        threading.Thread(target=act, daemon=True).start()

    def kill(self) -> None:
        """See base.Handle.kill."""
        self._child.signal_group(signal.SIGKILL)


class VenvEngine:
    """Processes in an embedded environment.

    Args:
        environment: the folder of the environment; a dry run may name one that does not exist yet.
    """

    name: EngineName = "venv"

    def __init__(self, environment: Path) -> None:
        self._environment = environment

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

    def describe(self, plan: RunPlan) -> tuple[str | None, str]:
        """See base.Engine.describe; the version is that of the environment's Python."""
        home = self._environment / "pyvenv.cfg"
        lines = home.read_text().splitlines() if home.is_file() else []
        found = [line.split("=", 1)[1].strip() for line in lines if line.startswith("version")]
        return None, found[0] if found else "unknown"

    def render(self, plan: RunPlan, folders: Folders, run_id: str) -> ProcessRequest:
        """See base.Engine.render."""
        places = plans.on_host(plan, folders)
        inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        path = f"{self._environment / 'bin'}:{os.environ.get('PATH', os.defpath)}"
        # What the target says of its environment's folder is of this one here.
        wanted = {
            name: value.replace(plans.ENVIRONMENT, str(self._environment))
            for name, value in plans.environment(plan, places)
        }
        variables = {**inherited, **wanted, **_gpus(plan), "PATH": path}
        return ProcessRequest(
            command=plans.command(plan, places),
            environment=tuple(
                sorted({**variables, "VIRTUAL_ENV": str(self._environment), "LAUNCH_RUN_ID": run_id}.items())
            ),
            secrets=plan.secrets,
            folder=folders.output,
        )

    def start(self, submission: ProcessRequest, secrets: Mapping[str, str]) -> ProcessHandle:
        """See base.Engine.start."""
        variables = {**dict(submission.environment), **{name: secrets[name] for name in submission.secrets}}
        return ProcessHandle(process.Child(submission.command, env=variables, cwd=submission.folder))


def _gpus(plan: RunPlan) -> dict[str, str]:
    """The plan's GPUs as CUDA takes them; numbers are those of nvidia-smi, not the fastest GPU first.

    What Level Zero takes is the same in containers, and in :func:`launcher.plan.environment`.
    """
    gpus = plan.access.nvidia
    order = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"} if gpus else {}
    return order if gpus in ("", "all") else {**order, plans.VISIBLE: gpus}
