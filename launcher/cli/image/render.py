"""``launch image render``: generate the Dockerfiles, or check that they are fresh."""

import rich_click as click

from launcher.cli import ui


@click.command()
@click.argument("targets", nargs=-1)
@click.option("--check", is_flag=True, help="Only say whether the Dockerfiles are what the manifest says.")
def command(targets: tuple[str, ...], check: bool) -> None:
    """Generate images/TARGET/Dockerfile of TARGETS (default: all) from the manifest and the template."""
    from launcher.app import images

    changed = images.render(targets, check=check)
    for file in changed:
        ui.out.print(f"wrote {file}")
    if not changed:
        ui.out.print("the Dockerfiles are what the manifest and the template say")
