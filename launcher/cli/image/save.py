"""``launch image save``: a target's image as one file, and its checksum beside it."""

from pathlib import Path

import rich_click as click
from rich.filesize import decimal

from launcher.cli import ui
from launcher.cli.image import options


@click.command()
@click.argument("target")
@click.argument("file", type=click.Path(dir_okay=False, resolve_path=True, path_type=Path))
@options.base
@options.without
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def command(target: str, file: Path, base: str | None, without: tuple[str, ...], as_json: bool) -> None:
    """Save the image of TARGET to FILE, as `docker save` does, and its sha256 to FILE.sha256.

    Nothing is overwritten. The file is read once more before it gets its name.
    """
    from launcher.app import shipping

    with ui.TerminalProgress() as progress:
        done = shipping.save(target, file, base=base, without=without, progress=progress)
    saved, image = done.file, done.image
    if as_json:
        result = {
            "schema": 1,
            "target": target,
            "file": str(saved.path),
            "sha256": saved.sha256,
            "bytes": saved.size,
            "layouts": list(saved.layouts),
            "manifest": saved.manifest or None,
            "config": saved.config,
            "image": image.reference,
            "id": image.id,
            "left_out": list(image.left_out),
            "labels": dict(saved.labels),
        }
        ui.print_json(result)
        return
    ui.out.print(f"saved {image.reference} to {saved.path}, {decimal(saved.size)}", soft_wrap=True)
    ui.out.print(f"image {image.id}", soft_wrap=True)
    ui.out.print(f"file sha256:{saved.sha256}, {' and '.join(saved.layouts)}", soft_wrap=True)
    if image.left_out:
        ui.err.print(f"partial: built without {', '.join(image.left_out)}")
