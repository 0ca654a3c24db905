"""``launch image``: from the manifest to a checked image, one file per verb."""

import rich_click as click

from launcher.cli import LazyGroup

VERBS = {
    "lock": ("launcher.cli.image.lock", "Resolve the targets' packages into hash locks."),
    "render": ("launcher.cli.image.render", "Generate the Dockerfiles from the manifest."),
    "fetch": ("launcher.cli.image.fetch", "Download a target's wheels into the cache."),
    "build": ("launcher.cli.image.build", "Build a target's image, hermetic and reproducible."),
    "check": ("launcher.cli.image.check", "Run the checks inside a built image."),
    "push": ("launcher.cli.image.push", "Push a target's image to a registry, and read back what it has."),
    "save": ("launcher.cli.image.save", "Save a target's image to a file, with its checksum."),
    "verify": ("launcher.cli.image.verify", "Check an image that arrived: a file, or a registry's."),
    "convert": ("launcher.cli.image.convert", "Make an image into a file for Apptainer or enroot."),
    "diff": ("launcher.cli.image.diff", "What changed between two images or locks."),
    "list": ("launcher.cli.image.list", "Targets: built or not, size, lock digest."),
}


class _ImageGroup(LazyGroup):
    verbs = VERBS


@click.command(cls=_ImageGroup)
def command() -> None:
    """Lock, fetch, build, check and pass on the images."""
