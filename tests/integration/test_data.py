"""Ten thousand random data sets: each has a named outcome, and what is said to be fine really trains."""

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from launcher import process
from launcher.data import RULES, Report, Rules, Wanted
from launcher.data.inspection import inspect
from tests.data_cases import any_file
from tests.integration.conftest import Launch

#: Files that are really loaded: each takes FlagEmbedding a quarter of a second.
TRIED = 80

SUPPORT = Path(__file__).resolve().parents[1] / "support"


def without_errors(path: Path, *, scores: bool) -> tuple[Report, bool]:
    report = inspect((path,), Rules(format="embedder", scores=scores), Wanted())
    return report, not report.count(errors=True)


@pytest.mark.environment
def test_what_is_said_to_be_fine_trains(environment: Path, tmp_path: Path) -> None:
    path, fine = tmp_path / "rows.jsonl", tmp_path / "fine"
    fine.mkdir()
    outcomes: Counter[str] = Counter()

    @settings(
        max_examples=10_000,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(content=any_file)
    def each_has_an_outcome(content: bytes) -> None:
        path.write_bytes(content)
        scores = len(content) % 2 == 0
        report, passed = without_errors(path, scores=scores)
        assert {group.rule for group in report.groups} <= set(RULES)
        outcomes["files"] += 1
        outcomes.update({group.rule for group in report.groups} if not passed else {"ok"})
        if passed and outcomes["ok"] % 20 == 1 and outcomes["ok"] <= 20 * TRIED:
            name = f"{outcomes['ok']}{'-scored' if scores else ''}.jsonl"
            (fine / name).write_bytes(content)

    each_has_an_outcome()
    print(dict(outcomes))
    assert outcomes["files"] >= 9_000
    assert len([rule for rule in outcomes if rule in RULES]) > 25
    tried, failed = load(environment, fine, tmp_path)
    assert tried > 50
    assert failed == {}


@pytest.mark.environment
def test_what_is_refused_would_not_have_trained(environment: Path, tmp_path: Path) -> None:
    """Rules that were found by trying: the loader stops at what they refuse, and not without it."""
    good = {"query": "q", "pos": ["p"], "neg": ["n"]}
    folder = tmp_path / "rows"
    folder.mkdir()
    long = [{**good, "query": f"q{n}", "t": "x" * 1000} for n in range(11_000)]
    cases = {
        "column-late": [*long, {**good, "t": "u", "new": "column"}],
        "text-as-time": [{**good, "query": "2020-01-01"}],
        "list-null-first": [{**good, "t": [None, "a"]}],
        "fine": [*long, {**good, "t": "u"}],
    }
    for name, rows in cases.items():
        (folder / f"{name}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    # One number without a place in a float, and lists of one text come out as texts.
    (folder / "number-range.jsonl").write_text('{"query": "q", "pos": ["p"], "neg": ["n"], "x": 1e999}\n')
    (folder / "key-repeated.jsonl").write_text('{"query": "a", "query": "q", "pos": ["p"], "neg": ["n"]}\n')
    found = {}
    for path in folder.iterdir():
        report, _ = without_errors(path, scores=False)
        found[path.name] = [group.rule for group in report.groups if group.error]
    _, failed = load(environment, folder, tmp_path)
    assert {name: rules for name, rules in found.items() if rules} == {
        name: [name.removesuffix(".jsonl")] for name in failed
    }
    assert len(failed) == 5


WORKING = """
import itertools, os, time
from launcher import workers

def slow(number):
    os.write(1, b"%d\\n" % os.getpid())  # in one piece
    time.sleep(0.5)

with workers.crew(2, workers.WORTH_IT) as work:
    for _ in work(slow, itertools.count()):
        pass
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_processes_end_with_the_one_that_started_them(number: signal.Signals) -> None:
    parent = subprocess.Popen([sys.executable, "-c", WORKING], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    found: set[int] = set()
    while len(found) < 2:
        found.add(int(parent.stdout.readline()))
    assert all(map(runs, found))
    parent.send_signal(number)
    assert parent.wait(20) == (143 if number == signal.SIGTERM else -number)
    until = time.monotonic() + 5
    while any(map(runs, found)) and time.monotonic() < until:
        time.sleep(0.05)
    left = [pid for pid in found if runs(pid)]
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert not left


def runs(pid: int) -> bool:
    """Whether a process is there, and not only its exit code."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def load(environment: Path, folder: Path, home: Path) -> tuple[int, dict[str, str]]:
    """What FlagEmbedding's loaders make of a folder of files: how many were tried, and which failed."""
    variables = {
        "PATH": f"{environment / 'bin'}:{os.environ['PATH']}",
        "HOME": str(home),
        "OMP_NUM_THREADS": "1",
        "OMP_WAIT_POLICY": "PASSIVE",
        "TOKENIZERS_PARALLELISM": "false",
    }
    child = process.Child(
        [str(environment / "bin/python"), str(SUPPORT / "load_rows.py"), str(folder)], env=variables
    )
    lines = list(child.lines())
    assert child.wait() == 0, "\n".join(lines[-30:])
    result = json.loads(lines[-1])
    return result["tried"], result["failed"]


def test_processes_find_what_one_finds(launch: Launch, workspace: Path) -> None:
    rows = [
        {"query": f"question {n}", "pos": ["a" * 700, "b"], "neg": [f"{n} wrong", "c" * 300]}
        for n in range(40_000)
    ]
    rows[30_000]["query"] = None
    rows[39_999] = rows[20_000]
    path = workspace / "rows.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    (workspace / "rows.jsonl.gz").write_bytes(gzip.compress(path.read_bytes(), 1))
    results = []
    for name, jobs in (("rows.jsonl", 1), ("rows.jsonl", 3), ("rows.jsonl.gz", 3)):
        done = launch("data", "check", name, "--format", "embedder", "--json", "--jobs", jobs)
        assert done.code == 67, done.err
        result = json.loads(done.out)
        results.append(
            [(each["rule"], each["count"], each["places"][0]["line"]) for each in result["findings"]]
        )
    assert results[0] == results[1] == [("query-type", 1, 30_001), ("row-repeated", 1, 40_000)]
    assert results[2] == [("query-type", 1, 30_001), ("convert-first", 1, None), ("row-repeated", 1, 40_000)]
