"""``launch ask RUN|MODEL "…"``: one prompt, a file of them, or a chat."""

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from launcher import paths, recipe, settings
from launcher.cli import sessions, ui
from launcher.errors import UsageError
from launcher.recipe import Parameter, Recipe

if TYPE_CHECKING:
    from launcher.app.ask import Question


#: The recipe that answers.
RECIPE = "llm-ask"


def _described() -> Recipe:
    return recipe.load(recipe.find(RECIPE, paths.recipes()))


def _recipe_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The parameters of the recipe that answers, the truth values as flags."""
    for item in reversed(_described().parameters):
        command = _option(item)(command)
    return command


def _option(item: Parameter) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    text, default = item.help.in_language(ui.language()), item.default_text() or False
    if item.type == "bool":
        return click.option(item.option, item.name, is_flag=True, help=text)
    kind = "ID_OR_PATH" if item.type == "model" else item.type.upper()
    metavar = "|".join(item.choices) or kind
    return click.option(item.option, item.name, metavar=metavar, help=text, show_default=default)


@click.command()
@click.argument("what", metavar="RUN|MODEL")
@click.argument("prompt", metavar="[PROMPT]", required=False)
@click.option(
    "--file",
    "file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Prompts: .txt, one per line, or .jsonl, as recipe llm-ask has them.",
)
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    help="Folder that gets answers.jsonl: questions, answers, figures. Without it nothing is kept.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the answers as one JSON document.")
@_recipe_options
@click.option("--target", metavar="auto|cpu|cuda|cuda-vllm|xpu", help="The accelerator's environment.")
@sessions.machine_options
def command(what: str, prompt: str | None, **given: Any) -> None:
    """Ask a language model, or what a run has made of one.

    RUN is an id, a part of one, or last; MODEL a folder or an id on the hub, adapters included: their base
    is found, or named by --base. Without PROMPT and --file it is a chat in the terminal, or standard input is
    the prompt. There is no network, and nothing of it gets into runs/: questions and answers are kept in
    --output alone. For a recorded run of a file of prompts: launch run llm-ask.

    Exit codes: 0 answered; 1 refused in the container (a prompt too long, a wrong base); 130 ended by Ctrl-C;
    64 and above are the launcher's.
    """
    from launcher.app import ask, preflight

    question = _question(prompt, given)
    asked = sessions.request(RECIPE, given["target"], given["output"], _as_request(what, given))
    with ui.TerminalProgress() as progress:
        made = ask.make(asked, settings.load(), dry_run=given["dry_run"], progress=progress)
    for note in (*made.planned.notes, *preflight.fitting(made.planned, dry_run=given["dry_run"])):
        ui.note(note)
    if given["dry_run"]:
        parent = Path(tempfile.gettempdir()) / "SESSION"
        click.echo(f"# {parent} stands for the session's own folder")
        click.echo(ask.printed(made, question, parent))
        return
    sys.exit(ask.run(made, question))


def _question(prompt: str | None, given: dict[str, Any]) -> "Question":
    """What is asked; standard input is the prompt where nobody types.

    Raises:
        UsageError: a prompt and a file, or nothing at all.
    """
    from launcher.app import shell
    from launcher.app.ask import Question

    file, as_json = given["file"], given["as_json"]
    if prompt is not None and file is not None:
        raise UsageError("a prompt and --file: one of them")
    if file is None and prompt is None and not sys.stdin.isatty() and not given["dry_run"]:
        prompt = sys.stdin.read()
    if prompt is not None and not prompt.strip():
        raise UsageError("the prompt is empty", hint='launch ask RUN "what is …"')
    chat = prompt is None and file is None
    if chat and as_json:
        raise UsageError("--json goes with a prompt or a file, not with a chat")
    if chat and given["before_after"]:
        raise UsageError("--before-after goes with a prompt or a file, not with a chat")
    if chat and not given["dry_run"] and not shell.has_terminal():
        raise UsageError("there is no terminal for a chat", hint='launch ask RUN "what is …"')
    return Question(prompt=prompt or "", chat=chat, as_json=as_json)


def _as_request(what: str, given: dict[str, Any]) -> dict[str, Any]:
    """The options as a session's request reads them."""
    from launcher.app import ask

    names = [item.name for item in _described().parameters]
    texts = {name: _text(given[name]) for name in names if given[name] not in (None, False)}
    data = (given["file"],) if given["file"] else ()
    return given | {"model": ask.subject(what), "data": data, "network": "none", "parameters": texts}


def _text(value: object) -> str:
    return "true" if value is True else str(value)
