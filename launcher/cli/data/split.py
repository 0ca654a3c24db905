"""``launch data split``: train and dev without a leak."""

from dataclasses import asdict
from pathlib import Path

import rich_click as click

from launcher.cli import ui
from launcher.cli.data import options
from launcher.data.rules import FORMATS


@click.command()
@options.paths
@click.option(
    "--output", type=click.Path(path_type=Path), required=True, metavar="FOLDER", help="A new folder."
)
@click.option(
    "--dev",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.1,
    show_default=True,
    help="Share of the rows for dev, about: groups of rows are not divided.",
)
@click.option("--seed", type=int, default=42, show_default=True, help="Another seed, another division.")
@click.option(
    "--format",
    "format_",
    type=click.Choice([*FORMATS]),
    default="embedder",
    show_default=True,
    help="The rows' format.",
)
@options.as_json
def command(
    paths: tuple[Path, ...], output: Path, dev: float, seed: int, format_: str, as_json: bool
) -> None:
    """Divide rows into train and dev.

    Rows that share a query or a right answer stay on one side (of dialogues: what is asked first). The same
    rows and seed give the same division, in any order of files.
    """
    from launcher.app import data

    with ui.TerminalProgress() as progress:
        done = data.split(paths, output, share=dev, seed=seed, format_=format_, progress=progress)
    if as_json:
        ui.print_json({"schema": 1, **asdict(done)})
        return
    share = done.dev / (done.dev + done.train)
    ui.out.print(
        f"{done.folder}: {done.train} rows for train, {done.dev} for dev ({share:.1%}), "
        f"from {done.groups} groups, the largest of {done.largest} rows",
        soft_wrap=True,
    )
