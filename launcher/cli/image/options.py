"""Options that several of ``launch image``'s verbs share; --base and --without are settings, too."""

import rich_click as click

from launcher import settings


def _base(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    return value or settings.load().base.value


def _without(_: click.Context, __: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...]:
    return value or settings.load().without.value


base = click.option(
    "--base",
    metavar="REF",
    callback=_base,
    help="Base image instead of the manifest's (LAUNCH_BASE).",
)

without = click.option(
    "--without",
    metavar="PKG",
    multiple=True,
    callback=_without,
    help="Leave out an optional package, e.g. flash-attn (LAUNCH_WITHOUT); the image is labelled as partial.",
)

plain_http = click.option(
    "--plain-http",
    is_flag=True,
    help="The registry has no TLS. Without it only one on this machine is asked without TLS.",
)

secrets = click.option(
    "--secret",
    "secrets",
    multiple=True,
    metavar="id=ca|apt-sources,src=FILE",
    help="A CA bundle or a sources.list for the system packages' step; never ends up in the image.",
)
