"""``launch image list``: the targets, built or not."""

import rich_click as click
from rich.filesize import decimal
from rich.table import Table

from launcher.cli import ui
from launcher.cli.image import licences as shown
from launcher.cli.image import options


@click.command()
@options.base
@options.without
@click.option("--licences", is_flag=True, help="Show what the images ship, under which licences.")
@click.option("--json", "as_json", is_flag=True, help="Print the list as JSON.")
def command(base: str | None, without: tuple[str, ...], licences: bool, as_json: bool) -> None:
    """Show all targets: built or not, size, lock digest; or the licences of what is in them."""
    from launcher.app import images

    if licences:
        shown.show(base, without, as_json=as_json)
        return

    rows = images.listing(base=base, without=without)
    if as_json:
        result = [
            {
                "target": row.target,
                "reference": row.reference,
                "lock_digest": row.lock_digest,
                "built": row.image is not None if row.known else None,
                "image": row.image.reference if row.image else None,
                "id": row.image.id if row.image else None,
                "left_out": list(row.image.left_out) if row.image else None,
                "bytes": row.image.size if row.image else None,
            }
            for row in rows
        ]
        ui.print_json({"schema": 1, "targets": result})
        return
    table = Table("target", "built", "size", "lock", "image", "for")
    for row in rows:
        size = decimal(row.image.size) if row.image else ""
        built = "yes" if row.image else "no" if row.known else "no engine"
        if row.image and row.image.left_out:
            built = f"without {', '.join(row.image.left_out)}"
        name = row.image.reference if row.image else row.reference
        table.add_row(row.target, built, size, row.lock_digest[:12], name, row.summary)
    ui.out.print(table)
