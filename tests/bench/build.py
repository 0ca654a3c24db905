"""How long an image takes: every step anew, from the cache, and when there is nothing to do.

The wheels are fetched before the clock starts (tests/bench/fetch.py measures that), the base image is here.

Run: python tests/bench/build.py [TARGET]
"""

import json
import subprocess
import sys
import time
from pathlib import Path

LAUNCH = str(Path(sys.executable).parent / "launch")
GOAL_BYTES, GOAL_NO_OP_S = 1.5e9, 2.0


def timed(*arguments: str) -> tuple[float, dict[str, object]]:
    """Wall time and result of one `launch image build`."""
    start = time.monotonic()
    done = subprocess.run(
        [LAUNCH, "image", "build", *arguments, "--json"], check=True, stdout=subprocess.PIPE, text=True
    )
    return time.monotonic() - start, json.loads(done.stdout)


def main(name: str) -> None:
    """Print the times side by side, and the image's size."""
    subprocess.run([LAUNCH, "image", "fetch", name], check=True, stdout=subprocess.DEVNULL)
    cold, result = timed(name, "--no-cache")
    no_op = min(timed(name)[0] for _ in range(3))
    size = float(str(result["bytes"]))
    print(f"{result['reference']}")
    print(f"  every step anew   {cold:8.1f} s")
    print(f"  nothing to do     {no_op:8.2f} s   {no_op / cold:8.2%} of it   goal {GOAL_NO_OP_S:g} s")
    print(f"  size              {size / 1e9:8.2f} GB  {size / GOAL_BYTES:8.2%} of the goal")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "cpu")
