"""How fast ``launch data check`` reads rows, beside a plain loop of ``json.loads`` over the same file.

    tests/bench/data.py                   100,000 rows, less than a minute
    tests/bench/data.py --rows 1000000    about 2 GB

Both sides are processes of their own, run in turn, from a warm page cache. Memory is the largest sum over all
processes of the check of what each has for itself plus its share of what is common (PSS).
"""

import argparse
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

_PLAIN = "import json, sys\nfor line in open(sys.argv[1], 'rb'): json.loads(line)"


def generate(path: Path, rows: int) -> None:
    """Rows as hard-negative mining leaves them: a query, one positive, seven negatives, teacher scores."""
    draw = random.Random(1)  # noqa: S311 - the same file each time, not a secret
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = ["".join(draw.choices(letters, k=draw.randint(2, 10))) for _ in range(5000)]
    texts = [" ".join(draw.choices(words, k=draw.randint(20, 50))) for _ in range(20_000)]
    with path.open("w") as stream:
        for number in range(rows):
            passages = draw.sample(texts, 8)
            row = {
                "query": f"{number} {passages[0][:60]}",
                "pos": passages[:1],
                "neg": passages[1:],
                "pos_scores": [1.5],
                "neg_scores": [round(draw.random(), 4) for _ in range(7)],
            }
            stream.write(json.dumps(row) + "\n")


def memory(root: int) -> int:
    """Bytes of a process and all below it."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
    family, before = {root}, 0
    while len(family) > before:
        before = len(family)
        family |= {pid for pid, parent in parents.items() if parent in family}
    total = 0
    for pid in family:
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) << 10 for line in lines if line.startswith("Pss:"))
    return total


def run(argv: list[str]) -> tuple[float, float]:
    """Seconds by the clock, and of all cores together."""
    begun, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(argv, check=True, capture_output=True)
    seconds, after = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def most_memory(argv: list[str]) -> int:
    """The largest memory of a run of its own, because asking costs time."""
    most = 0
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as child:
        while child.poll() is None:
            most = max(most, memory(child.pid))
            time.sleep(0.02)
    return most


def main() -> None:
    """Print medians, ratio and memory."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        generate(path, options.rows)
        size = path.stat().st_size
        plain = [sys.executable, "-c", _PLAIN, str(path)]
        ours = [sys.executable, "-m", "launcher", "data", "check", str(path), "--recipe", "bge-m3-unified"]
        run(plain), run(ours)
        rounds = [(*run(ours), *run(plain)) for _ in range(options.rounds)]
        mine, cores, theirs, core = (statistics.median(each) for each in zip(*rounds, strict=True))
        most = most_memory(ours)
    print(
        f"launch data check, {options.rows} rows, {size / 1e6:.0f} MB, {os.cpu_count()} cores: "
        f"{mine:.2f} s against {theirs:.2f} s of plain json.loads: {theirs / mine:.2f} times as fast; "
        f"{size / mine / 1e6:.0f} MB/s; at most {most / 1e6:.0f} MB of memory\n"
        f"of all cores together {cores:.2f} s against {core:.2f} s: on two idle cores at most "
        f"{2 * core / cores:.2f} times as fast, whatever else runs here"
    )


if __name__ == "__main__":
    main()
