"""``launch runs replay RUN|FILE``."""

import sys
from pathlib import Path

import rich_click as click

from launcher.cli import ui, variables, watching
from launcher.errors import UsageError


@click.command()
@click.argument("run", metavar="RUN|FILE")
@click.option(
    "--allow",
    multiple=True,
    metavar="KIND|all",
    help="Repeat it although this differs: image, lock, recipe, runtime, data, model, launcher; repeatable.",
)
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    multiple=True,
    help="Where the data is now: files or folders; files are found by their sha256. May be repeated.",
)
@click.option(
    "--model",
    multiple=True,
    metavar="PATH|NAME=PATH",
    help="Where the model is now; NAME is a parameter that names one.",
)
@click.option("--output", type=click.Path(path_type=Path), help="Folder of the result; must be empty or new.")
@click.option("--env", multiple=True, metavar="K=V|K", help="The secrets that the plan names.")
@click.option("--env-file", type=click.Path(path_type=Path), multiple=True, help="A file of them.")
@click.option(
    "--compare", is_flag=True, help="Start nothing: RUN is a repetition that ended without its comparison."
)
@click.option("--json", "as_json", is_flag=True, help="Print result and comparison as JSON.")
@click.option("--show-output", is_flag=True, help="Show the recipe's own output, not only its progress.")
def command(
    run: str,
    allow: tuple[str, ...],
    data: tuple[Path, ...],
    model: tuple[str, ...],
    output: Path | None,
    env: tuple[str, ...],
    env_file: tuple[Path, ...],
    compare: bool,
    as_json: bool,
    show_output: bool,
) -> None:
    """Run the plan of a record again, and say whether the same came out.

    Image, lock, recipe, runtime, data and models must be what the record says; all differences are said at
    once, and each kind can be allowed. FILE is what `launch runs export` made, here or on another machine.
    Afterwards the loss curve is compared step by step, and the weights bit by bit.

    Exit code 0 when the repetition ran well, equal or not; 82 when it was refused.
    """
    from launcher import runs
    from launcher.app import replay
    from launcher.replay.differences import allowed

    if compare:
        if allow or data or model or output or env or env_file:
            raise UsageError("--compare starts nothing: it takes no options of a run")
        _compare(runs.find(run), as_json=as_json)
        return
    given = variables.read(env, env_file)
    asked = replay.Asked(
        data=data,
        models=dict(_named(text) for text in model),
        output=output,
        secrets=given.all,
        allowed=allowed(allow),
    )
    with ui.TerminalProgress() as progress:
        ready = replay.prepare(replay.load(run), asked, progress)
    for line in (*given.notes, *replay.said(ready), *ready.planned.notes):
        ui.note(line)
    begun = replay.begin(ready)
    code = watching.watch(begun, as_json=False, show_output=show_output)
    equality = replay.conclude(ready, begun.place.run)
    if as_json:
        result = runs.load(begun.place.run).result
        ui.print_json({"schema": 1, "result": result, "replay": replay.summary(ready, equality)})
    elif equality is not None:
        click.echo(equality)
    sys.exit(code)


def _compare(folder: Path, *, as_json: bool) -> None:
    from launcher import runs
    from launcher.app import replay

    noted, equality = replay.conclude_later(folder)
    if as_json:
        ui.print_json({"schema": 1, "result": runs.load(folder).result, "replay": noted})
    else:
        click.echo(equality)


def _named(text: str) -> tuple[str, Path]:
    """``PATH``, or ``NAME=PATH``; a path with an equals sign in it stays one."""
    name, separator, path = text.partition("=")
    if separator and name.isidentifier() and not Path(text).exists():
        return name, Path(path)
    return "model", Path(text)
