"""The site's Slurm as an engine."""

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from launcher import paths, runs, secretfile
from launcher.engines.base import Description
from launcher.engines.slurm import client, request, state
from launcher.engines.slurm.handle import SlurmHandle
from launcher.engines.slurm.options import job_name
from launcher.engines.slurm.request import SlurmRequest
from launcher.engines.slurm.script import traces
from launcher.errors import EngineGoneError
from launcher.plan import EngineName, Folders, RunPlan, Start

#: Where nodes look for programs in any case.
_PATH = "/usr/local/bin:/usr/bin:/bin"


class SlurmEngine:
    """The site's Slurm.

    Args:
        environment: the embedded environment, for a run without a container; a dry run may name one that does
            not exist yet.
    """

    name: EngineName = "slurm"

    def __init__(self, environment: Path | None = None) -> None:
        self._environment = environment

    def check(self, plan: RunPlan) -> None:
        """See base.Engine.check: Slurm itself is asked whether such a job can ever run.

        Raises:
            EngineError: its programs are not here, it does not answer, or it refuses.
            UsageError: an option of ``--sbatch`` is the plan's to say.
        """
        start = Start(run="check")
        wanted = self.render(plan, runs.folders(start.run, plan), start)
        client.present()
        client.config()
        client.submit(wanted.text, given=wanted.given, test=True)

    def describe(self, plan: RunPlan) -> Description:
        """See base.Engine.describe; an image's digest is known where its reference has it."""
        _, sign, digest = (plan.image or "").partition("@")
        return Description(
            image_digest=digest if sign else None, version=client.version(), where=self.where()
        )

    def where(self) -> str:
        """See base.Engine.where: any machine that submits to the cluster will do."""
        return f"slurm:{state.cluster(client.config())}"

    def render(self, plan: RunPlan, folders: Folders, start: Start) -> SlurmRequest:
        """See base.Engine.render."""
        own = [part for part in os.environ.get("PATH", "").split(":") if part.startswith("/")]
        path = ":".join(dict.fromkeys([*own, *_PATH.split(":")]))
        shell = [("PATH", path)]
        # A socket of each node's own, e.g. of Docker without root; another address would be one machine's.
        if (address := os.environ.get("DOCKER_HOST", "")).startswith("unix://"):
            shell.append(("DOCKER_HOST", address))
        return request.render(plan, folders, start, self._environment, tuple(shell))

    def start(self, submission: SlurmRequest, secrets: Mapping[str, str]) -> SlurmHandle:
        """See base.Engine.start.

        Raises:
            EngineError: Slurm refused it.
            EngineGoneError: it did not answer, and has no such job.
        """
        left = submission.traces
        paths.write_atomic(left.script, submission.text)
        with secretfile.handed(submission.secrets, secrets, read=True):
            try:
                number = client.submit(left.script, given=submission.given)
            except EngineGoneError:  # it may have the job all the same
                client.forget()
                number = ""
                with suppress(EngineGoneError):
                    number = client.number_of(submission.name)
                if not number:
                    raise
        with suppress(OSError):  # a full disk: it is found by its name
            paths.write_atomic(left.job, f"{number}\n")
        return SlurmHandle(submission.folders, submission.start, number)

    def find(self, folders: Folders, start: Start) -> SlurmHandle | None:
        """See base.Engine.find: by the number that was noted; otherwise by its name, while Slurm has it."""
        left = traces(folders, start)
        with suppress(OSError):
            if noted := left.job.read_text(errors="replace").strip():
                return SlurmHandle(folders, start, noted)
        if not left.script.exists():
            return None
        number = client.number_of(job_name(start))
        if not number:
            with suppress(OSError):
                said = state.end(left.end.read_text(errors="replace"))
                number = said.job if said is not None else ""
        return SlurmHandle(folders, start, number) if number else None
