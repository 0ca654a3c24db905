"""A shell, or a command, in the place of a recipe."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from launcher import process, secretfile
from launcher.app import session
from launcher.app.session import Session
from launcher.engines import interactive
from launcher.engines.container import ContainerRequest
from launcher.engines.docker import DockerEngine
from launcher.engines.interactive import InteractiveRequest
from launcher.engines.venv import ProcessRequest
from launcher.errors import UsageError
from launcher.plan import Folders

#: Without the user's own start files, which are not in an image; the prompt says where one is.
_SHELL = ("bash", "--norc")

#: What a program has to know of the terminal that it draws on.
_OF_TERMINALS = ("TERM", "COLORTERM")


def has_terminal() -> bool:
    """Whether people sit at both ends."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def request(
    shell: Session, folders: Folders, command: Sequence[str], *, terminal: bool
) -> InteractiveRequest | ProcessRequest:
    """The engine's request.

    Args:
        command: instead of a shell.
        terminal: there is one.
    """
    known = {name: os.environ[name] for name in _OF_TERMINALS if terminal and name in os.environ}
    prompt = {} if command else {"PS1": f"({shell.target.name}) \\w\\$ "}
    found = shell.request(folders, command or _SHELL, {**known, **prompt})
    return (
        InteractiveRequest(container=found, terminal=terminal)
        if isinstance(found, ContainerRequest)
        else found
    )


def printed(shell: Session, command: Sequence[str], parent: Path) -> str:
    """The request as a line to paste; ``parent`` stands for the session's own folder."""
    return request(
        shell, session.folders(shell, parent), command, terminal=not command or has_terminal()
    ).printed()


def run(shell: Session, command: Sequence[str]) -> int:
    """Run it to its end on this process's streams; returns its exit code.

    Raises:
        UsageError: there is neither a terminal nor a command.
        LaunchError: see launcher.app.session.opened and the engines.
    """
    terminal = has_terminal()
    if not terminal and not command:
        raise UsageError(
            "there is no terminal for a shell",
            why="standard input or output is a file or a pipe",
            hint=f"launch shell {shell.target.name} -- COMMAND",
        )
    planned = shell.planned
    with session.opened(shell) as folders:
        found = request(shell, folders, command, terminal=terminal)
        if isinstance(found, InteractiveRequest):
            assert isinstance(planned.engine, DockerEngine)  # noqa: S101 - it made the request
            return interactive.run(planned.engine, found, planned.secrets)
        with secretfile.handed(found.secrets, planned.secrets):
            return process.attached(found.argv(), env=dict(found.environment), cwd=found.folder)
