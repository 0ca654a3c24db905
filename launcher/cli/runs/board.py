"""``launch runs board``: runs and their live curves in a browser."""

import rich_click as click

from launcher.cli import ui


@click.command()
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=0,
    metavar="N",
    help="Port of 127.0.0.1; 0: a free one.",
)
def command(port: int) -> None:
    """Show all runs and their live curves in a browser, until Ctrl-C.

    Only this machine can ask, and only with the address that is printed: it holds a random token. From
    elsewhere: ssh -L N:127.0.0.1:N HOST, with the same N as --port. Nothing can be changed by it; only a
    run that has ended unobserved is concluded (its result is recorded, its container removed).
    """
    from launcher.app import serving
    from launcher.app.board import Board

    with serving.serve(Board(), port) as server:
        click.echo(server.gate.url)
        ui.note("runs, live; Ctrl-C ends it. Who has this address sees logs and parameters.")
        try:
            server.serve_forever(poll_interval=0.2)
        except KeyboardInterrupt:
            ui.note("the board has ended; runs go on")
