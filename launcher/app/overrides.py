"""What the command line may not say of a run, because the plan says it, or must not."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from launcher import credentials, paths
from launcher import plan as plans
from launcher.errors import UsageError
from launcher.plan import RunPlan
from launcher.recipe import Recipe

if TYPE_CHECKING:
    from launcher.app.plan import Request


def refuse(request: "Request", found: Recipe) -> None:
    """Variables may not change what the plan says, and options may not carry what it must not say.

    Raises:
        UsageError: a variable that is the launcher's or a parameter's; a credential among the options;
            several nodes for a recipe that is one process.
    """
    shipped = found.path.parent == paths.recipes()  # somebody's own may share its work by LAUNCH_NODE_RANK
    if request.nodes > 1 and found.launch != "torchrun" and shipped:
        raise UsageError(
            f"{found.name} runs on one machine, not on {request.nodes}",
            why="it is one process, and every node would do the same work",
            hint="leave --nodes out",
        )
    owned = {"TARGET", "NPROC", "DATA", "MODEL", "OUTPUT", "HOME", *plans.GPU_VARIABLES}
    owned |= {p.name.upper() for p in found.parameters}
    recorded = set(request.env)
    if request.gpus is None:
        recorded -= set(plans.CHOICES)  # they stand for --gpus, and are not passed on; a secret would be
    given = {*recorded, *request.secrets}
    taken = sorted(name for name in given if name in owned or name.startswith("LAUNCH_"))
    if taken:
        raise UsageError(
            f"--env cannot set {', '.join(taken)}",
            why="the plan would say one thing and the run do another",
            hint="use the launcher's or the recipe's own option",
        )
    options = [*request.parameters.values(), *request.arguments]
    said = credentials.said(options, request.env.values(), request.secrets)
    if said or any(map(credentials.in_argument, request.arguments)):
        raise UsageError(
            f"{said or 'a credential among the arguments'} would be recorded",
            hint="give it as a variable alone, e.g. HF_TOKEN with --env HF_TOKEN or --env-file",
        )


def check_secrets(plan: RunPlan, given: Mapping[str, str]) -> None:
    """A plan that exists gets the values of its secrets, whatever their names look like, and nothing else.

    Raises:
        UsageError: a secret is missing, or a variable is none.
    """
    others = [name for name in given if name not in plan.secrets]
    if others:
        raise UsageError(
            f"--env and --env-file cannot set {', '.join(others)} here",
            why=f"the plan fixes the variables, and asks only for: {', '.join(plan.secrets) or 'none'}",
            hint="leave it out, or start a new run with it",
        )
    missing = [name for name in plan.secrets if name not in given]
    if missing:
        raise UsageError(
            f"the plan needs {', '.join(missing)}",
            why="secrets are not part of a plan",
            hint="--env NAME or --env-file",
        )
