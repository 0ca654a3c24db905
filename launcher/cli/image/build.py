"""``launch image build``: a target's image, from fetched files, bit-reproducible."""

from pathlib import Path

import rich_click as click
from rich.filesize import decimal

from launcher.cli import ui
from launcher.cli.image import options


@click.command()
@click.argument("target")
@options.base
@options.without
@click.option("--no-cache", is_flag=True, help="Run every step anew.")
@click.option("--verify", is_flag=True, help="Build once more without the cache and compare the digests.")
@options.secrets
@click.option(
    "--from",
    "carried",
    type=click.Path(exists=True, file_okay=False, resolve_path=True, path_type=Path),
    metavar="DIR",
    help="Take all files from a folder that `launch image fetch --to DIR` made. Nothing is downloaded but "
    "the system packages, where those were not fetched with --system.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def command(
    target: str,
    base: str | None,
    without: tuple[str, ...],
    no_cache: bool,
    verify: bool,
    secrets: tuple[str, ...],
    carried: Path | None,
    as_json: bool,
) -> None:
    """Build the image of TARGET; does nothing when the engine has it already.

    Its files are fetched first; the Python packages are then installed with the network off.
    """
    from launcher.app import images

    with ui.TerminalProgress() as progress:
        report = images.build(
            target,
            base=base,
            without=without,
            no_cache=no_cache,
            verify=verify,
            secrets=secrets,
            carried=carried,
            progress=progress,
        )
    image = report.image
    if as_json:
        result = {
            "schema": 1,
            "reference": image.reference,
            "id": image.id,
            "bytes": image.size,
            "built": report.built,
            "left_out": list(image.left_out),
            "cached": list(report.cached),
            "run": list(report.run),
            "verified": report.verified,
            "labels": dict(image.labels),
        }
        ui.print_json(result)
        return
    done = "built" if report.built else "nothing to do, the engine has"
    ui.out.print(f"{done} {image.reference}, {decimal(image.size)}, {image.id}", soft_wrap=True)
    if image.left_out:
        ui.err.print(f"partial: built without {', '.join(image.left_out)}")
    if report.verified:
        ui.out.print("verified: a second build without the cache gave the same digest")
    elif report.built and not image.reproducible:
        ui.err.print(f"not bit-reproducible: {image.labels.get('launch.reproducible', '')}", soft_wrap=True)
