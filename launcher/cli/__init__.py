"""The command line: Click only, one file per verb, each imported when it is asked for."""

import importlib
import sys

import rich_click as click

#: verb -> module that holds a click command of the name ``command``, and its one-line help.
VERBS = {
    "run": ("launcher.cli.run", "Run a recipe in the image that matches the accelerator."),
    "sweep": ("launcher.cli.sweep", "Run a recipe with every combination of some values."),
    "export": (
        "launcher.cli.export",
        "Write a run's request as files: Slurm, Kubernetes, Compose, a script.",
    ),
    "fit": ("launcher.cli.fit", "Say whether a training fits into memory."),
    "ask": ("launcher.cli.ask", "Ask a language model, or the result of a run: a prompt, a file, a chat."),
    "runs": ("launcher.cli.runs", "Look at runs, stop, resume, repeat and compare them."),
    "recipe": ("launcher.cli.recipe", "List, show, copy and check recipes."),
    "shell": ("launcher.cli.shell", "Open a shell that sees what a run sees."),
    "notebook": ("launcher.cli.notebook", "Serve JupyterLab from the image, to this machine alone."),
    "env": ("launcher.cli.env", "Make the embedded environment, and a Jupyter kernel of it."),
    "image": ("launcher.cli.image", "Lock, fetch, build and check the images."),
    "data": ("launcher.cli.data", "Check, convert and split training data."),
    "doctor": ("launcher.cli.doctor", "Check this machine for a run: what is missing, and what fixes it."),
    "demo": ("launcher.cli.demo", "Fine-tune a tiny BGE-M3 on real data, end to end."),
    "accept": ("launcher.cli.accept", "Prove a target on this machine's card, with one report to show."),
    "completion": ("launcher.cli.completion", "Print the completion script of a shell."),
}

_LISTING = "launcher.cli.listing"


class LazyGroup(click.RichGroup):
    """Imports a verb's module only when that verb is used: ``launch --help`` stays fast."""

    verbs = VERBS

    def get_help(self, ctx: click.Context) -> str:
        """The group's help, for which a verb's one line is enough."""
        ctx.meta[_LISTING] = ctx.command_path
        return super().get_help(ctx)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The verbs, in the order of a first use."""
        return list(self.verbs)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The verb's command; a stand-in with its help while only the list is shown."""
        if cmd_name not in self.verbs:
            return None
        module, help_text = self.verbs[cmd_name]
        if ctx.meta.get(_LISTING) == ctx.command_path:
            return click.RichCommand(name=cmd_name, help=help_text)
        command = importlib.import_module(module).command
        assert isinstance(command, click.Command)  # noqa: S101 - a slip of ours, not of the user's
        return command


@click.command(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="finetune-launch", prog_name="launch")
@click.option("-v", "--verbose", is_flag=True, help="Print every program before it runs.")
def root(verbose: bool) -> None:
    """Reproducible fine-tuning: one manifest, one image per accelerator, one command."""
    if verbose:
        from launcher import process

        process.announce = lambda line: click.echo(f"+ {line}", err=True)


def main() -> None:
    """Entry point: the one place where errors become text and an exit code."""
    from launcher.errors import LaunchError, OutputError

    try:
        root.main(standalone_mode=True)
        return
    except LaunchError as error:
        failed: LaunchError = error
    except OSError as error:  # a full disk, a folder of somebody else: no code of ours can know them all
        failed = OutputError(
            f"{error.filename or 'a file'}: {error.strerror or error}",
            hint="--output, LAUNCH_RUNS_DIR and LAUNCH_CACHE_DIR name other places",
        )
    from launcher.cli.ui import print_error

    print_error(failed)
    sys.exit(failed.exit_code)
