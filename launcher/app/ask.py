"""Questions to a model, or to what a run has made: a session whose program answers.

It sees what a run of the recipe ``llm-ask`` sees, without a network. There is no record: what is asked and
answered goes with the session, but for the file in the output that was asked for.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from launcher import model, paths, recipe, runs
from launcher.app import session, shell
from launcher.app.plan import Request
from launcher.app.session import Session
from launcher.engines.interactive import InteractiveRequest
from launcher.engines.venv import ProcessRequest
from launcher.errors import UsageError
from launcher.plan import Folders
from launcher.progress import Progress
from launcher.runs import Record, checkpoints
from launcher.settings import Settings

#: In the session's own folder; in no argument list and no variable, which others can see.
_PROMPT = "prompt.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked, beside the recipe's parameters.

    Attributes:
        prompt: one text; empty: the request's data, or else a chat.
        chat: somebody types.
        as_json: answers as one JSON document.
    """

    prompt: str = ""
    chat: bool = False
    as_json: bool = False


def subject(name: str) -> str:
    """The model that a name means: a folder, what a run has made, or an id on the hub.

    Raises:
        UsageError: there is no such run, or it has made no model.
    """
    if model.is_folder(name) and not (model.folder_of(name) / "plan.json").is_file():
        return name
    if model.may_be_id(name) and not model.is_folder(name):
        return name
    return str(_made_by(runs.load(runs.find(name))))


def _made_by(record: Record) -> Path:
    """The model in a run's output; of a run that broke off, the adapters that it merged, or a checkpoint."""
    for folder in (record.output, record.output / "adapter", *checkpoints.closed(record.output)):
        if (folder / "config.json").is_file() or model.holds_adapters(folder):
            return folder
    raise UsageError(
        f"{record.id} has made no model that can be asked",
        why=f"{record.output} holds neither config.json nor adapter_config.json",
        hint=f"launch runs show {record.id}   says what became of it",
    )


def make(request: Request, chosen: Settings, *, dry_run: bool, progress: Progress) -> Session:
    """Plan the session of the recipe that answers.

    Raises:
        LaunchError: see launcher.app.session.make.
    """
    found = recipe.load(recipe.find(request.recipe, paths.recipes()))
    return session.make("ask", request, chosen, dry_run=dry_run, progress=progress, of=found)


def request(
    asked: Session, folders: Folders, question: Question, *, terminal: bool
) -> InteractiveRequest | ProcessRequest:
    """The engine's request."""
    return shell.request(asked, folders, _command(asked, folders, question), terminal=terminal)


def _command(asked: Session, folders: Folders, question: Question) -> Sequence[str]:
    places = asked.places(folders)
    prompt = ("--data", f"{places.run}/{_PROMPT}") if question.prompt else ()
    return ("bash", places.recipe, *prompt, *(("--json",) if question.as_json else ()))


def printed(asked: Session, question: Question, parent: Path) -> str:
    """The request as a line to paste; ``parent`` stands for the session's own folder."""
    folders = session.folders(asked, parent)
    return request(asked, folders, question, terminal=question.chat).printed()


def run(asked: Session, question: Question) -> int:
    """Ask, on this process's streams; returns the exit code of the program that answers.

    Raises:
        LaunchError: see launcher.app.session.opened and the engines.
    """
    terminal = shell.has_terminal() and not question.as_json
    with session.opened(asked) as folders:
        if question.prompt:
            file = folders.run / _PROMPT
            paths.write_atomic(
                file, json.dumps({"prompt": question.prompt}, ensure_ascii=False) + "\n", mode=0o600
            )
            session.hand_over(asked, [file])
        return shell.attached(asked, request(asked, folders, question, terminal=terminal))
