"""``make chaos``: so many faults in real runs, and a table of what came of them.

python -m tests.faults [FAULTS] [--seed N] [--engine docker] [--only KIND]
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.faults import campaign


def main() -> int:
    """Print seed, duration, outcomes and problems; 1 when there was a problem."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("faults", nargs="?", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--engine", choices=("venv", "docker"), default="venv")
    parser.add_argument("--only", help="one kind")
    parser.add_argument("--case", type=int, help="with --only: the seed of one case")
    given = parser.parse_args()
    print(f"seed {given.seed}", flush=True)
    weights = {k: w for k, w in campaign.kinds(given.engine).items() if given.only in (None, k.__name__)}
    drawn = campaign.draw(weights, given.faults, given.seed)
    if given.case is not None:
        drawn = [(kind, given.case) for kind, _ in drawn]
    report = campaign.run(drawn, Path(tempfile.mkdtemp(prefix="launch-faults-")), engine=given.engine)
    print(report.table())
    print(f"{report.faults} faults in {report.seconds:.0f} s, {len(report.problems)} problems")
    for problem in report.problems:
        print("-", problem)
    return 1 if report.problems else 0


if __name__ == "__main__":
    sys.exit(main())
