"""``launch runs export RUN``."""

from pathlib import Path

import rich_click as click

from launcher.cli import ui


@click.command()
@click.argument("run", metavar="RUN")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="The file; without it RUN.tar.gz, here."
)
@click.option("--no-log", is_flag=True, help="Leave out what the recipe printed.")
@click.option("--json", "as_json", is_flag=True, help="Print what is in it as JSON.")
def command(run: str, output: Path | None, no_log: bool, as_json: bool) -> None:
    """Put a run into one file, from which `launch runs replay FILE` repeats it on another machine.

    It holds record, recipe, runtime and locks, and the sha256 of data and models; not data and models
    themselves, and no values of secrets. The same record gives the same bytes.
    """
    import hashlib

    from launcher import paths, runs
    from launcher.app import export
    from launcher.errors import OutputError

    folder = runs.find(run)
    file = output or Path(f"{folder.name}.tar.gz")
    if file.exists():
        raise OutputError(f"{file} exists", why="nothing is ever overwritten", hint="give another --output")
    made = export.export(folder, log=not no_log)
    paths.write_atomic(file, made.content)
    for note in made.notes:
        ui.note(note)
    if as_json:
        sha256 = hashlib.sha256(made.content).hexdigest()
        ui.print_json({"schema": 1, "run": folder.name, "file": file, "sha256": sha256, "files": made.names})
    else:
        click.echo(file)
