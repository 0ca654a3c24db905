"""``launch image push``: a target's image into a registry, and what the registry then has."""

import rich_click as click
from rich.filesize import decimal

from launcher.cli import ui
from launcher.cli.image import options


@click.command()
@click.argument("target")
@click.argument("registry")
@options.base
@options.without
@options.plain_http
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def command(
    target: str, registry: str, base: str | None, without: tuple[str, ...], plain_http: bool, as_json: bool
) -> None:
    """Push the image of TARGET below REGISTRY, e.g. registry.example.org/team, under its own name and tag.

    Prints the reference by digest, which the registry itself was asked for: what Slurm and Kubernetes take.
    The login is the one of `docker login`; no option takes a user or a password.
    """
    from launcher.app import shipping

    with ui.TerminalProgress() as progress:
        done = shipping.push(
            target, registry, base=base, without=without, plain_http=plain_http, progress=progress
        )
    remote, image = done.remote, done.image
    if as_json:
        result = {
            "schema": 1,
            "target": target,
            "reference": str(remote.reference),
            "tag": image.reference.partition(":")[2],
            "digest": remote.digest,
            "manifest": remote.manifest,
            "config": remote.config,
            "bytes": remote.size,
            "media_types": list(remote.media_types),
            "image": image.reference,
            "id": image.id,
            "left_out": list(image.left_out),
            "labels": dict(remote.labels),
        }
        ui.print_json(result)
        return
    click.echo(str(remote.reference))
    ui.note(f"{decimal(remote.size)} of packed layers; the registry has what {image.reference} is here")
    if image.left_out:
        ui.err.print(f"partial: built without {', '.join(image.left_out)}")
