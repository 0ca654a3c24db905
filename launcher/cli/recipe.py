"""``launch recipe``: the catalogue is a folder; list it, read it, copy from it, check a file of your own."""

import shutil
from pathlib import Path

import rich_click as click

from launcher import paths, recipe
from launcher.cli import ui
from launcher.errors import OutputError, RecipeError, UsageError
from launcher.recipe import Recipe


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def command() -> None:
    """List, show, copy and check recipes."""


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
    from rich.table import Table

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
    table = Table(box=None, pad_edge=False)
    for title in ("parameter", "type", "default", "help"):
        table.add_column(title)
    for item in found.parameters:
        kind = "|".join(item.choices) or item.type
        table.add_row(item.option, kind, item.default_text(), item.help.in_language(language))
    ui.out.print(table)


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
