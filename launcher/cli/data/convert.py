"""``launch data convert``: other people's files as training rows."""

from dataclasses import asdict
from pathlib import Path

import rich_click as click

from launcher.cli import ui
from launcher.cli.data import options
from launcher.data.rules import FORMATS


@click.command()
@options.paths
@click.option("--format", "format_", type=click.Choice([*FORMATS]), required=True, help="The rows' format.")
@click.option(
    "--output", type=click.Path(path_type=Path), required=True, metavar="FILE", help="A new .jsonl file."
)
@click.option(
    "--map",
    "columns",
    multiple=True,
    metavar="FIELD=COLUMN",
    help="Where a field is, e.g. query=question; several columns: neg=n1,n2.",
)
@click.option(
    "--threshold", type=float, default=0.5, show_default=True, help="Pairs with a label: from here on right."
)
@click.option("--split", default="", metavar="NAME", help="BEIR: which judgements, e.g. train.")
@options.as_json
def command(
    paths: tuple[Path, ...],
    format_: str,
    output: Path,
    columns: tuple[str, ...],
    threshold: float,
    split: str,
    as_json: bool,
) -> None:
    """Make training rows of files and folders in the usual layouts.

    BEIR folders, pairs and triplets of sentence-transformers, columns as on the hub (query, positive,
    negatives, anchor, text1, text2, label, …), old FlagEmbedding rows; in .jsonl, .json (arrays too), .csv,
    .tsv, .parquet, also as .gz and .zst. How the columns were understood is said.
    """
    from launcher.app import data
    from launcher.data.convert import Choices

    given = {name: text.split(",") for name, text in options.pairs(columns, "--map").items()}
    choices = Choices(format=format_, columns=given, threshold=threshold, split=split)
    with ui.TerminalProgress() as progress:
        done, report = data.convert(paths, choices, output, progress=progress)
    errors = report.count(errors=True)
    if as_json:
        ui.print_json({"schema": 1, **asdict(done), "errors": errors, "warnings": report.count(errors=False)})
        return
    for line in (*done.why, *done.problems):
        ui.note(line)
    skipped = f", {done.skipped} records left out" if done.skipped else ""
    ui.out.print(f"{done.output}: {done.rows} rows{skipped}", soft_wrap=True, markup=False)
    if done.without_negatives:
        ui.note(
            f"{done.without_negatives} rows have no negatives: launch run mine-hard-negatives finds them "
            "(its format is retrieval)"
        )
    if errors:
        ui.note(f"{errors} errors in it: launch data check {done.output} --format {format_}")
