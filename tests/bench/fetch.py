"""How fast a target's files come: `launch image fetch` beside `pip download` and `uv pip install`.

One run each, every program with an empty cache, all from the same lock and the user's own indexes; what a
find-links folder holds (torch's wheel, it may be) is copied by all of them. pip's time is for files on the
disk, without an installation; uv's includes unpacking, which it cannot leave out.

Run: python tests/bench/fetch.py [TARGET]
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from launcher import lock, manifest, paths, settings


def seconds(argv: list[str], **variables: str) -> float:
    """Wall time of a program that must succeed."""
    start = time.monotonic()
    subprocess.run(
        argv,
        check=True,
        env={**os.environ, **variables},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    return time.monotonic() - start


def main(name: str) -> None:
    """Print the three times and the ratios."""
    target = manifest.load(paths.images() / "manifest.toml").target(name)
    files = [str(paths.images() / "locks" / file) for file in lock.file_names(target) if "build" not in file]
    requirements = [part for file in files for part in ("--requirement", file)]
    programs = Path(sys.executable).parent
    own = [str(programs / "launch"), "image", "fetch", name]
    pip = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-cache-dir",
        "--no-deps",
        "--require-hashes",
    ]
    uv = [str(programs / "uv"), "pip", "install", "--quiet", "--no-cache", "--no-deps", "--require-hashes"]
    with tempfile.TemporaryDirectory(prefix="launch-bench-") as temporary:
        times = {
            "launch image fetch": seconds(own, LAUNCH_CACHE_DIR=f"{temporary}/launch"),
            "pip download": seconds([*pip, "--dest", f"{temporary}/pip", *requirements]),
            "uv pip install": seconds(
                [*uv, *settings.indexes().uv_arguments(), "--target", f"{temporary}/uv", *requirements]
            ),
        }
        size = sum(path.stat().st_size for path in Path(temporary, "launch", "wheels").rglob("*.whl"))
        again = seconds(own, LAUNCH_CACHE_DIR=f"{temporary}/launch")
    print(f"{name}: {len(lock.load(paths.images(), target).packages)} files, {size / 1e6:.0f} MB")
    ours = times["launch image fetch"]
    for program, taken in times.items():
        print(f"  {program:<20} {taken:6.1f} s  {size / 1e6 / taken:6.1f} MB/s  {taken / ours:5.2f} x launch")
    print(f"  nothing to do        {again:6.2f} s")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "cpu")
