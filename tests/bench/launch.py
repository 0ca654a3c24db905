"""How much the launcher adds to a bare Click program (``--help``) and to ``docker run`` (``launch run``).

Both sides of a pair are run in turn, so that whatever else the machine does falls on both; medians are
printed.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

_BARE = """
import click

@click.group()
@click.version_option("1")
def root():
    "A program."

for name in ("run", "recipe", "image", "demo", "completion"):
    root.command(name)(lambda: None)
root()
"""

_RECIPE = """#!/usr/bin/env bash
# /// recipe
# summary = { en = "nothing", zh = "无" }
# targets = ["cpu"]
# launch = "python"
# [outputs]
# help = { en = "nothing", zh = "无" }
# ///
exec true
"""


def seconds(action: Callable[[], object]) -> float:
    """How long one call takes."""
    begun = time.perf_counter()
    action()
    return time.perf_counter() - begun


def compare(title: str, ours: Callable[[], object], theirs: Callable[[], object], *, rounds: int) -> None:
    """Run both in turn and print medians, ratio and difference."""
    ours(), theirs()  # the first round warms the page cache for both
    pairs = [(seconds(ours), seconds(theirs)) for _ in range(rounds)]
    mine, bare = (statistics.median(side) for side in zip(*pairs, strict=True))
    print(f"{title}: {mine:.3f} s against {bare:.3f} s: ratio {mine / bare:.2f}, added {mine - bare:+.3f} s")


def quiet(argv: list[str], **more: object) -> Callable[[], object]:
    """A program to time; its output is thrown away, a failure is not."""
    return lambda: subprocess.run(argv, check=True, capture_output=True, **more)  # type: ignore[call-overload]


def compare_help(folder: Path) -> None:
    """The launcher's help against Click's own, same interpreter."""
    program = folder / "bare.py"
    program.write_text(_BARE)
    launch = str(Path(sys.executable).with_name("launch"))
    compare(
        "launch --help against a bare Click program",
        quiet([launch, "--help"]),
        quiet([sys.executable, str(program), "--help"]),
        rounds=15,
    )


def compare_run(folder: Path) -> None:
    """A recipe that does nothing, in the cpu image, against the very line that a dry run prints."""
    recipe = folder / "nothing.sh"
    recipe.write_text(_RECIPE)
    argv = [sys.executable, "-m", "launcher", "run", str(recipe), "--target", "cpu", "--engine", "docker"]
    dry = subprocess.run(
        [*argv, "--dry-run", "--json"], check=True, capture_output=True, text=True, cwd=folder
    )
    line = json.loads(dry.stdout)["command"].replace("docker run ", "docker run --rm ", 1)
    (folder / "runs/RUN_ID/output").mkdir(parents=True)
    compare(
        "launch run against the same docker run",
        quiet(argv, cwd=folder),
        quiet(["bash", "-c", line]),
        rounds=7,
    )


def main() -> None:
    """Both comparisons; the second one needs an engine with the cpu image."""
    from launcher.errors import EngineError
    from launcher.image.client import connect

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        compare_help(folder)
        try:
            connect().close()
        except EngineError as error:
            print(f"launch run: not measured, {error.message}")
            return
        subprocess.run([sys.executable, "-m", "launcher", "image", "build", "cpu"], check=True)
        compare_run(folder)


if __name__ == "__main__":
    main()
