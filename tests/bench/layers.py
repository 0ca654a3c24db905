"""What another version of one trainer costs: bytes and seconds that are built again, beside a whole build.

In a second working tree of the last commit the pin is changed, locked, rendered, fetched and built, as a user
would do it. Layers below the changed one must be the same; the image's size is given per layer.

Run: python tests/bench/layers.py [TARGET] [PIN]     (LAUNCH_WITHOUT and LAUNCH_BASE apply)
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import docker

from launcher import dockerfile
from launcher.image.client import connect

ROOT = Path(__file__).resolve().parents[2]
GOAL_BYTES, GOAL_SECONDS = 0.05, 0.10

#: Another version of a trainer per target, one that the other pins agree with.
PINS = {"cpu": "pytrec-eval-terrier==0.5.10", "cuda": "trl==1.1.0", "cuda-vllm": "trl==1.1.0"}


def launch(tree: Path, *arguments: str) -> str:
    """The launcher of a working tree."""
    argv = [sys.executable, "-m", "launcher", *arguments]
    return subprocess.run(argv, check=True, stdout=subprocess.PIPE, text=True, cwd=tree).stdout


def built(tree: Path, *arguments: str) -> tuple[float, dict[str, Any]]:
    """Wall seconds and result of one ``launch image build``."""
    start = time.monotonic()
    result = json.loads(launch(tree, "image", "build", *arguments, "--json"))
    return time.monotonic() - start, result


def changed(tree: Path, pin: str) -> None:
    """Put a pin in place of the manifest's own of that name."""
    manifest = tree / "images" / "manifest.toml"
    name = re.split(r"[=<>]", pin)[0]
    text, count = re.subn(rf'"{re.escape(name)}==[^"]+"', f'"{pin}"', manifest.read_text(encoding="utf-8"))
    if not count:
        raise SystemExit(f"the manifest pins no {name}")
    manifest.write_text(text, encoding="utf-8")


def layers(client: docker.DockerClient, reference: str) -> list[tuple[str, str, int]]:
    """Digest, name and bytes of each layer, the lowest first."""
    image = client.images.get(reference)
    steps = [step for step in reversed(image.history()) if int(step["Size"])]
    names = []
    for step in steps:
        seal = re.search(r"site-packages (\S+?)(?: --keep-headers)?;", step["CreatedBy"])
        system = "system packages" if "apt" in step["CreatedBy"] else step["CreatedBy"][:20]
        names.append((seal.group(1) if seal else system, int(step["Size"])))
    digests = image.attrs["RootFS"]["Layers"]
    return [(digest, *named) for digest, named in zip(digests, names, strict=False)]


def main(target: str, pin: str) -> None:
    """Build both, compare."""
    client = connect(timeout=600)
    launch(ROOT, "image", "fetch", target)
    cold, whole = built(ROOT, target, "--no-cache")
    with tempfile.TemporaryDirectory() as temporary:
        tree = Path(temporary) / "tree"
        git = ["git", "-C", str(ROOT), "worktree"]
        subprocess.run([*git, "add", "--quiet", "--detach", str(tree)], check=True)
        try:
            changed(tree, pin)
            launch(tree, "image", "lock", target)
            launch(tree, "image", "render")
            launch(tree, "image", "fetch", target)
            again, other = built(tree, target)
        finally:
            subprocess.run([*git, "remove", "--force", str(tree)], check=True)
    before, after = layers(client, whole["reference"]), layers(client, other["reference"])
    client.images.get(whole["reference"]).tag(*dockerfile.alias(target).split(":"))
    client.images.remove(other["reference"], force=True)
    if report(target, pin, before, after, cold, again) > GOAL_BYTES and target != "cpu":
        raise SystemExit("more bytes than the goal are built again")


def report(
    target: str,
    pin: str,
    before: list[tuple[str, str, int]],
    after: list[tuple[str, str, int]],
    cold: float,
    again: float,
) -> float:
    """Print sizes, what moved, and the ratios; returns the part of the bytes that was built again."""
    total = sum(size for *_, size in after)
    first = next((i for i, (a, b) in enumerate(zip(before, after, strict=False)) if a[0] != b[0]), len(after))
    print(f"{target}, {pin} instead of the manifest's")
    for position, (_, name, size) in enumerate(after):
        print(f"  {name:18} {size / 1e6:9.1f} MB  {'built again' if position >= first else 'the same'}")
    rebuilt = sum(size for *_, size in after[first:])
    print(f"  all                {total / 1e6:9.1f} MB")
    print(
        f"  built again        {rebuilt / 1e6:9.1f} MB  {rebuilt / total:7.2%} of it  goal {GOAL_BYTES:.0%}"
    )
    print(f"  every step anew    {cold:9.1f} s")
    print(f"  the changed pin    {again:9.1f} s   {again / cold:7.2%} of it  goal {GOAL_SECONDS:.0%}")
    return rebuilt / total


if __name__ == "__main__":
    os.environ.setdefault("PYTHONDONTWRITEBYTECODE", "1")
    chosen = sys.argv[1] if len(sys.argv) > 1 else "cpu"
    if len(sys.argv) < 3 and chosen not in PINS:
        raise SystemExit(f"name a pin for {chosen}, e.g. trl==1.1.0")
    main(chosen, sys.argv[2] if len(sys.argv) > 2 else PINS[chosen])
