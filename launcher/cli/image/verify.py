"""``launch image verify``: what arrived is the target's image, said without a container engine."""

import rich_click as click
from rich.filesize import decimal

from launcher.cli import ui
from launcher.cli.image import options


@click.command()
@click.argument("source", metavar="FILE|REFERENCE")
@click.argument("target")
@click.option("--digest", default="", metavar="sha256:…", help="Also: what the image shall be called.")
@options.plain_http
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def command(source: str, target: str, digest: str, plain_http: bool, as_json: bool) -> None:
    """Check that a file or a registry's image arrived whole, and is that of TARGET, built from the lock here.

    A file: its sha256 beside it, every layer, the labels. A reference: manifest and labels, by their digests.
    No container engine is needed. Exit code 0: it is.
    """
    from launcher.app import shipping
    from launcher.image.saved import FileImage

    with ui.TerminalProgress() as progress:
        found = shipping.verify(source, target, digest=digest, plain_http=plain_http, progress=progress)
    file = found if isinstance(found, FileImage) else None
    reference = None if isinstance(found, FileImage) else str(found.reference)
    if as_json:
        result = {
            "schema": 1,
            "target": target,
            "file": str(file.path) if file else None,
            "sha256": file.sha256 if file else None,
            "layouts": list(file.layouts) if file else None,
            "reference": reference,
            "manifest": found.manifest or None,
            "config": found.config,
            "bytes": found.size,
            "labels": dict(found.labels),
        }
        ui.print_json(result)
        return
    ui.out.print(f"{file.path if file else reference} is the image of {target}", soft_wrap=True)
    name = found.manifest or found.config
    ui.out.print(f"image {name}, {decimal(found.size)}, as its digests say", soft_wrap=True)
