"""``launch image convert``: the command that makes an image into another runtime's file, printed or run."""

from pathlib import Path

import rich_click as click

from launcher.cli import ui
from launcher.cli.image import options


@click.command()
@click.argument("source", metavar="TARGET|FILE|REFERENCE")
@click.option(
    "--to",
    "runtime",
    required=True,
    type=click.Choice(["apptainer", "singularity", "enroot"]),
    help="Whose file: .sif of Apptainer and Singularity, .sqsh of enroot.",
)
@click.option(
    "--output",
    type=click.Path(dir_okay=False, resolve_path=True, path_type=Path),
    metavar="FILE",
    help="The file to write; without it finetune-TARGET-BUILD.sif or .sqsh here.",
)
@click.option("--run", is_flag=True, help="Run the command, and not only print it.")
@click.option("--user", default="", metavar="NAME", help="Whom enroot looks up in its file of credentials.")
@options.base
@options.without
@options.plain_http
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def command(
    source: str,
    runtime: str,
    output: Path | None,
    run: bool,
    user: str,
    base: str | None,
    without: tuple[str, ...],
    plain_http: bool,
    as_json: bool,
) -> None:
    """Print the command that makes a runtime's file of an image, or run it.

    The image is a target's on this engine, a file, or a reference. The last two are verified first, and a
    reference is converted by its digest, whatever its tag says later.
    """
    from launcher.app import shipping

    with ui.TerminalProgress() as progress:
        planned = shipping.plan_conversion(
            source,
            runtime,
            output,
            base=base,
            without=without,
            user=user,
            plain_http=plain_http,
            progress=progress,
        )
    commands = [each.printed for each in (*planned.conversion.before, planned.conversion.command)]
    for note in planned.conversion.notes:
        ui.note(note)
    if not (as_json or run):
        click.echo("\n".join(commands))
    if run:
        shipping.run_conversion(planned)
    if as_json:
        result = {
            "schema": 1,
            "runtime": runtime,
            "digest": planned.digest,
            "output": str(planned.output),
            "commands": commands,
            "notes": list(planned.conversion.notes),
            "run": run,
        }
        ui.print_json(result)
    elif run:
        ui.out.print(f"wrote {planned.output}", soft_wrap=True)
