"""One submission, as data."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from launcher.engines.shell import text_of
from launcher.engines.slurm import options, runtimes, script
from launcher.engines.slurm.script import Traces
from launcher.plan import Folders, RunPlan, Start
from launcher.secretfile import SecretFile


@dataclass(frozen=True, slots=True, kw_only=True)
class SlurmRequest:
    """A submission, as data.

    Attributes:
        folders: of its run.
        start: which one.
        name: of the job; nobody else's has it.
        text: the script.
        given: options of sbatch in it that ``--sbatch`` says.
        secrets: how the nodes get them; None: there are none.
        traces: where the job leaves its traces.
    """

    folders: Folders
    start: Start
    name: str
    text: str
    given: tuple[str, ...]
    secrets: SecretFile | None
    traces: Traces

    def printed(self) -> str:
        """The same as a command to paste; the values of secrets are left to the caller's shell."""
        line = text_of("script", self.text, mark="SCRIPT") + '\nsbatch <<<"$script"'
        return line if self.secrets is None else f"{self.secrets.made()} &&\n{line}"

    def files(self) -> Mapping[str, str]:
        """The same as files to keep: name and text of each."""
        return {"job.sbatch": self.text}


def render(
    plan: RunPlan,
    folders: Folders,
    start: Start,
    environment: Path | None,
    shell: tuple[tuple[str, str], ...],
) -> SlurmRequest:
    """The submission of a plan; pure.

    Args:
        plan: of the run.
        folders: the run's own.
        start: which one.
        environment: the embedded one, for a run without a container.
        shell: variables of the nodes' shells; PATH is one.

    Raises:
        UsageError: an option of ``--sbatch`` is the plan's to say; a path that cannot be told.
    """
    options.refuse(plan)
    how = runtimes.launched(plan, folders, start, environment, dict(shell)["PATH"])
    head = options.directives(options.options(plan, folders, start))
    return SlurmRequest(
        folders=folders,
        start=start,
        name=options.job_name(start),
        text=f"#!/bin/bash\n{head}{script.body(plan, folders, start, how, shell)}",
        given=tuple(key for key, _ in plan.slurm.options) if plan.slurm else (),
        secrets=how.secrets,
        traces=script.traces(folders, start),
    )
