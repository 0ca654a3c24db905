"""``launch completion``: the script that teaches a shell the launcher's verbs and options."""

import rich_click as click
from click.shell_completion import get_completion_class


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print the completion script of SHELL.

    bash: launch completion bash > ~/.local/share/bash-completion/completions/launch
    """
    from launcher.cli import root

    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"no completion for {shell}")
    click.echo(kind(root, {}, "launch", "_LAUNCH_COMPLETE").source())
