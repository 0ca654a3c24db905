"""``launch recipe``: the catalogue is a folder; list it, read it, copy from it, check a file of your own."""

import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import rich_click as click

from launcher import paths, recipe
from launcher.cli import ui
from launcher.errors import OutputError, RecipeError, UsageError
from launcher.recipe import Recipe

if TYPE_CHECKING:
    from launcher.recipe.translate import Translation


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def command() -> None:
    """List, show, copy and check recipes; translate old commands."""


def _lang_option() -> click.Option:
    return click.RichOption(
        ("--lang",), type=click.Choice(["en", "zh"]), help="Language; default: the locale's."
    )


@command.command("list", params=[_lang_option()])
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_(lang: str | None, as_json: bool) -> None:
    """All recipes that ship."""
    from rich.table import Table

    language = lang or ui.language()
    found = [recipe.load(path) for path in recipe.catalogue(paths.recipes())]
    if as_json:
        ui.print_json({"schema": 1, "recipes": [_as_data(item, language) for item in found]})
        return
    table = Table(box=None, pad_edge=False)
    for title in ("recipe", "targets", "summary"):
        table.add_column(title)
    for item in found:
        table.add_row(item.name, " ".join(item.targets), item.summary.in_language(language))
    ui.out.print(table)


@command.command("show", params=[click.Argument(("name",)), _lang_option()])
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show(name: str, lang: str | None, as_json: bool) -> None:
    """What a recipe reads, writes and can be told."""
    from rich.padding import Padding
    from rich.text import Text

    language = lang or ui.language()
    found = recipe.load(recipe.find(name, paths.recipes()))
    if as_json:
        ui.print_json({"schema": 1, **_as_data(found, language)})
        return
    ui.out.print(f"[bold]{found.name}[/]  {found.summary.in_language(language)}")
    ui.out.print(f"file     {found.path}\ntargets  {' '.join(found.targets)}", markup=False)
    for title, given in (("--data", found.data), ("--model", found.model)):
        if given:
            default = f" [{given.default}]" if given.default else ""
            ui.out.print(f"{title:<8} {given.help.in_language(language)}{default}", markup=False)
    ui.out.print(f"--output {found.outputs.in_language(language)}\n", markup=False)
    for item in found.parameters:
        kind, default = "|".join(item.choices) or item.type, item.default_text()
        said = f" [dim]\\[{default}][/]" if default else ""
        ui.out.print(f"[bold]{item.option}[/] {kind}{said}", highlight=False)
        ui.out.print(Padding(Text(item.help.in_language(language)), (0, 0, 0, 4), expand=False))
    if found.refusals:
        ui.out.print("\n[bold]refused[/]")
    for refusal in found.refusals:
        ui.out.print(f"{refusal.condition()}: {refusal.why.in_language(language)}", markup=False)


@command.command("copy")
@click.argument("name")
@click.argument("destination", type=click.Path(path_type=Path))
def copy(name: str, destination: Path) -> None:
    """Copy a recipe to change it; `launch run` takes the copy's path."""
    source = recipe.find(name, paths.recipes())
    target = destination / source.name if destination.is_dir() else destination
    if target.suffix != ".sh":
        raise UsageError(f"{target} must end in .sh", why="a recipe is a bash script")
    if target.exists():
        raise OutputError(f"{target} exists", hint="choose another name")
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    target.chmod(0o755)
    ui.note(f"{target}; try: launch run {target} --help")


@command.command("check")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
def check(file: Path) -> None:
    """Whether a file is a recipe: header, bash syntax, every parameter used."""
    from launcher.app import recipes

    problems = recipes.check(file)
    if problems:
        raise RecipeError(f"{file} is not a good recipe", problems)
    ui.note(f"{file}: good")


@command.command(
    "from-command",
    params=[
        click.Argument(("text",), metavar="[COMMAND|-]", required=False),
        click.RichOption(
            ("--file",),
            type=click.Path(path_type=Path, exists=True, dir_okay=False),
            help="Shell script or notebook that holds the command.",
        ),
        _lang_option(),
    ],
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def from_command(text: str | None, file: Path | None, lang: str | None, as_json: bool) -> None:
    """Translate an old FlagEmbedding command into `launch run …`, and say what changed.

    COMMAND is the whole command in single quotes, or - for standard input. The translation goes to standard
    output, what is said about it to standard error. Nothing is run.
    """
    from launcher.recipe import translate

    language = lang or ui.language()
    found = translate.translate(_given_text(text, file), paths.recipes(), os.environ)
    if as_json:
        ui.print_json({"schema": 1, "commands": [item.as_data(language) for item in found]})
        return
    for item in found:
        click.echo(item.printed())
        _print_changes(item, language)


def _given_text(text: str | None, file: Path | None) -> str:
    """The text of the command line, of a file, or of standard input."""
    if (text is None) == (file is None):
        raise UsageError(
            "one command is needed: as an argument, as - for standard input, or by --file",
            hint="launch recipe from-command 'torchrun … -m FlagEmbedding.BGE_M3.run …'",
        )
    try:
        if file is not None:
            return file.read_bytes().decode("utf-8-sig")
        return sys.stdin.read() if text == "-" else str(text)
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file or 'standard input'} cannot be read", why=str(error)) from None


def _print_changes(found: "Translation", language: str) -> None:
    """What is not as it was, on standard error; options that only changed their dashes are counted."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for title in ("", "before", "now", "why"):
        table.add_column(title, overflow="fold")
    kept = [item for item in found.changes if item.kind == "kept"]
    for item in (*found.changes, *found.dropped):
        if item.kind != "kept":
            cells = (item.kind, item.old, item.new, item.why.in_language(language))
            table.add_row(*map(_plain, cells))
    ui.note(f"{found.program} → {found.recipe}; {len(kept)} options keep their names")
    ui.err.print(table)
    for text in found.notes:
        ui.note(f"! {text.in_language(language)}")
    if found.unknown:
        ui.note(f"? {', '.join(found.unknown)}")


def _plain(text: str) -> str:
    from rich.markup import escape

    return escape(text)


def _as_data(found: Recipe, language: str) -> dict[str, object]:
    """A recipe as plain data for programs."""
    return {
        "name": found.name,
        "path": str(found.path),
        "summary": found.summary.in_language(language),
        "targets": list(found.targets),
        "launch": found.launch,
        "data": found.data.format if found.data else None,
        "model": found.model.default if found.model else None,
        "refusals": [
            {"when": item.condition(), "why": item.why.in_language(language)} for item in found.refusals
        ],
        "parameters": [
            {
                "name": item.name,
                "type": item.type,
                "choices": list(item.choices),
                "default": dict(item.defaults),
                "help": item.help.in_language(language),
            }
            for item in found.parameters
        ],
    }
