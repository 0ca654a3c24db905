"""Many cases, several at a time; then what ``launch runs list`` says of them is held against the disk."""

import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.faults import disks, oracle
from tests.faults.containers import CONTAINERS
from tests.faults.kinds import PROCESSES, Kind, is_root
from tests.faults.trainings import TRAININGS
from tests.faults.world import Case

#: Cases that share a list.
_BATCH = 100


@dataclass
class Report:
    """What a campaign found.

    Attributes:
        outcomes: how often a kind led to a state.
        problems: what was wrong, with the seed that makes it again.
    """

    faults: int = 0
    seconds: float = 0.0
    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)

    def table(self) -> str:
        """Kinds with their outcomes."""
        states = sorted({state for _, state in self.outcomes})
        width = max((len(kind) for kind, _ in self.outcomes), default=4)
        lines = [" ".join([f"{'kind':<{width}}", *(f"{state:>10}" for state in states)])]
        for kind in sorted({kind for kind, _ in self.outcomes}):
            counts = (self.outcomes[kind, state] for state in states)
            lines.append(" ".join([f"{kind:<{width}}", *(f"{count or '':>10}" for count in counts)]))
        return "\n".join(lines)


def kinds(engine: str = "venv") -> dict[Kind, int]:
    """All kinds that this user can bring about on an engine, with their weights."""
    if engine == "docker":
        return CONTAINERS
    return {**PROCESSES, **TRAININGS, **(disks.DISKS if is_root() else {})}


def draw(weights: dict[Kind, int], count: int, seed: int) -> list[tuple[Kind, int]]:
    """So many kinds in the order of their seeds; each comes at least once when there is room for it."""
    chance = random.Random(seed)  # noqa: S311 - cases, not secrets
    total = sum(weights.values())
    chosen = [kind for kind, weight in weights.items() for _ in range(max(1, round(weight * count / total)))]
    while len(chosen) < count:
        chosen.append(chance.choice(list(weights)))
    chance.shuffle(chosen)
    return [(kind, chance.getrandbits(32)) for kind in chosen[:count]]


def run(
    drawn: Sequence[tuple[Kind, int]], folder: Path, *, engine: str = "venv", workers: int | None = None
) -> Report:
    """Run cases and judge them.

    Args:
        folder: their files; those of cases without a problem are deleted.
        workers: cases at a time; they mostly wait.
    """
    report, begun = Report(), time.monotonic()
    for number in range(0, len(drawn), _BATCH):
        place = folder / f"batch-{number // _BATCH}"
        _batch(drawn[number : number + _BATCH], place, engine, workers or 3 * (os.cpu_count() or 1), report)
    report.seconds = time.monotonic() - begun
    return report


def _batch(drawn: Sequence[tuple[Kind, int]], place: Path, engine: str, workers: int, report: Report) -> None:
    cases = [
        Case(
            folder=place / f"{number}",
            state_home=place / "state",
            kind=kind.__name__,
            seed=seed,
            engine=engine,
        )
        for number, (kind, seed) in enumerate(drawn)
    ]
    try:
        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(_one, cases, (kind for kind, _ in drawn)))
        seen = _settled(place, cases, report)
        before = dict(_results(cases))
        again = _listed(place, report)
        if changed := [str(file) for file, data in _results(cases) if before.get(file) != data]:
            report.problems.append(f"a second look changed {changed}")
        if differ := [run for run in seen if again.get(run, {}).get("state") != seen[run]["state"]]:
            report.problems.append(f"a second look saw another state: {differ}")
        for case in cases:
            _conclude(case, seen, report)
    finally:
        for case in cases:
            disks.unmount(case.runs) if case.runs.is_mount() else None


def _one(case: Case, kind: Kind) -> None:
    try:
        kind(case)
    except Exception as error:  # noqa: BLE001 - of this harness, or a program that hangs: it fails the case
        case.problems.append(f"{type(error).__name__}: {error}")
    finally:
        case.finish()


def _conclude(case: Case, seen: dict[str, dict[str, Any]], report: Report) -> None:
    record = case.record
    found = seen.get(str(record)) if record else None
    problems = list(oracle.judge(case, found))
    state = "damaged" if case.unreadable else found["state"] if found else "no record"
    report.faults += 1
    report.outcomes[case.kind, state] += 1
    report.problems += [
        f"{case.kind} seed={case.seed} {case.moment} {case.folder}: {one}" for one in problems
    ]
    if not problems and not case.runs.is_mount():
        shutil.rmtree(case.folder)


def _settled(place: Path, cases: Iterable[Case], report: Report) -> dict[str, dict[str, Any]]:
    """The list when nothing in it goes on any more; a start that never was is known after ten seconds."""
    deadline = time.monotonic() + 30
    while True:
        seen = _listed(place, report)
        going = [line for line in seen.values() if line["state"] in ("running", "starting", "unknown")]
        if not going or time.monotonic() > deadline:
            return seen
        time.sleep(1)


def _listed(place: Path, report: Report) -> dict[str, dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-m", "launcher", "runs", "list", "--all", "--json"],
        cwd=place,
        env={**os.environ, "XDG_STATE_HOME": str(place / "state"), "LAUNCH_RUNS_DIR": str(place / "none")},
        capture_output=True,
        text=True,
        timeout=180,
    )
    if done.returncode or done.stderr:
        report.problems.append(f"launch runs list: {done.returncode} {done.stderr[-2000:]}")
    return {line["folder"]: line for line in json.loads(done.stdout or '{"runs": []}')["runs"]}


def _results(cases: Iterable[Case]) -> Iterator[tuple[Path, bytes]]:
    for case in cases:
        for file in case.runs.glob("*/result.json"):
            yield file, file.read_bytes()
