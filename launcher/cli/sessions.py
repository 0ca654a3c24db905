"""What the verbs of sessions share: the options that a run has, too, and how they are read."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import rich_click as click

if TYPE_CHECKING:
    from launcher.app.plan import Request

CommandT = TypeVar("CommandT", bound=Callable[..., Any])

_OPTIONS = (
    click.option(
        "--engine",
        type=click.Choice(["auto", "docker", "podman", "venv"]),
        help="Container or embedded environment.",
    ),
    click.option(
        "--data",
        type=click.Path(path_type=Path),
        multiple=True,
        help="File or folder, read-only; may be repeated.",
    ),
    click.option("--model", metavar="ID_OR_PATH", help="Model, read-only."),
    click.option(
        "--gpus",
        metavar="auto|all|0,1",
        help="GPUs; auto: CUDA_VISIBLE_DEVICES (Intel: ZE_AFFINITY_MASK), or all.",
    ),
    click.option(
        "--env",
        multiple=True,
        metavar="K=V|K",
        help="Variable; K alone is a secret: of the shell, .env or keyring.",
    ),
    click.option(
        "--env-file", type=click.Path(path_type=Path), multiple=True, help="Secrets, unseen in --dry-run."
    ),
    click.option("--memory", metavar="SIZE", default="", help="Limit of RAM, e.g. 16g (containers)."),
    click.option("--shm-size", metavar="SIZE", default="", help="Size of /dev/shm, e.g. 8g (containers)."),
    click.option(
        "--network", type=click.Choice(["none", "bridge"]), default="none", help="Network of the container."
    ),
    click.option("--dry-run", is_flag=True, help="Print the request; start nothing."),
)


def options(command: CommandT) -> CommandT:
    """The options of every session."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def request(kind: str, target: str, output: Path | None, given: dict[str, Any]) -> "Request":
    """What was asked for, as a run asks.

    Args:
        kind: of the session.
        output: its writable folder; None: one that goes with it.
        given: the values of :func:`options`.
    """
    from launcher.app.plan import Request
    from launcher.cli import variables

    found = variables.read(given["env"], given["env_file"])
    return Request(
        recipe=kind,
        target=target,
        engine=given["engine"],
        data=given["data"],
        model=given["model"],
        output=output,
        gpus=given["gpus"],
        memory=given["memory"],
        shm_size=given["shm_size"],
        network=given["network"],
        env=found.plain,
        secrets=found.secrets,
        said=found.notes,
    )
