"""What looking at many runs costs: the board's list and a run's curves, beside reading every record whole.

    python tests/bench/board.py [RUNS] [STEPS]

Made-up records of so many runs (100) with so many logged steps (10,000) of two ranks.
"""

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from launcher import metrics
from launcher.app.board import Board
from launcher.report.curves import thin


def events(steps: int) -> str:
    """metrics.jsonl of a run: what the trainer logged and what both ranks used, at every step."""
    lines: list[dict[str, object]] = [
        {"event": "begin", "rank": rank, "world_size": 2, "max_steps": steps} for rank in (0, 1)
    ]
    for step in range(1, steps + 1):
        logged = {"loss": 3 / step + 0.5, "grad_norm": 4.2, "learning_rate": 1e-5, "epoch": step / steps}
        lines.append({"event": "step", "rank": 0, "step": step, **logged})
        used = {
            "steps": 1,
            "seconds": 0.2,
            "tokens": 4000,
            "padded": 5000,
            "ram": 1 << 30,
            "ram_peak": 1 << 30,
        }
        lines += [{"event": "usage", "rank": rank, "step": step, **used} for rank in (0, 1)]
    return "".join(json.dumps({"schema": 1, "time": 0.0, **line}) + "\n" for line in lines)


def timed(work: Callable[[], object]) -> float:
    """Wall seconds, the better of two."""
    found = []
    for _ in range(2):
        started = time.perf_counter()
        work()
        found.append(time.perf_counter() - started)
    return min(found)


def main(runs: int = 100, steps: int = 10_000) -> None:
    """Print seconds, and how many times less than reading everything."""
    with tempfile.TemporaryDirectory() as name:
        parent = Path(name)
        shared = parent / "metrics.jsonl"
        shared.write_text(events(steps), encoding="utf-8")
        for number in range(runs):
            folder = parent / f"20261121-{number:06d}-bench-0000"
            folder.mkdir()
            (folder / "plan.json").write_text('{"schema": 1, "recipe": "bench"}')
            os.link(shared, folder / "metrics.jsonl")
        size = shared.stat().st_size / 1e6
        print(f"{runs} runs, {steps:,} steps each, {size:.1f} MB of metrics each")
        whole = timed(lambda: metrics.read(shared)) * runs
        print(f"  reading all events       {whole:8.3f} s  (of one run, times {runs})")
        first = timed(lambda: Board(parent).runs())
        print(f"  first list               {first:8.3f} s  1/{whole / first:.0f}")
        board = Board(parent)
        board.runs()
        again = timed(board.runs)
        print(f"  list, nothing new        {again:8.3f} s  1/{whole / again:.0f}")
        known = metrics.read(shared)
        print(f"  curves of one run        {timed(lambda: metrics.curves(known)):8.3f} s")
        curve = metrics.curves(known)["loss"]
        print(f"  thinning one curve       {timed(lambda: thin(curve)):8.3f} s  to {len(thin(curve))} points")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
