"""What a record costs: all that is written from a run's begin to its end, beside the recipe that it is about.

Files are made durable by fsync, so the disk decides; one file with its fsync is measured beside it.

Run: python tests/bench/record.py [ROUNDS]
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from launcher import paths, runs
from launcher import plan as plans
from launcher.app import plan as planning
from launcher.app.recording import Recorder
from launcher.app.verdict import Outcome
from launcher.plan import Start
from launcher.progress import Silent
from launcher.runs import Attempt
from launcher.settings import load

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # as a program it sees its own folder alone
from tests.integration.conftest import PROBE

_synced = 0
_sync = os.fsync


def _counted(descriptor: int) -> None:
    global _synced
    _synced += 1
    _sync(descriptor)


def timed(action: Callable[[], object], rounds: int) -> tuple[float, float]:
    """Median wall time in ms, and calls of fsync in each."""
    before, times = _synced, []
    for _ in range(rounds):
        begun = time.perf_counter()
        action()
        times.append((time.perf_counter() - begun) * 1000)
    return statistics.median(times), (_synced - before) / rounds


def main(rounds: int) -> None:
    """Print them side by side."""
    os.fsync = _counted
    folder = Path(tempfile.mkdtemp(prefix="record-", dir="."))
    os.environ |= {"XDG_STATE_HOME": str(folder / "state"), "LAUNCH_RUNS_DIR": str(folder / "runs")}
    recipe = folder / "probe.sh"
    recipe.write_text(PROBE.format(body="true"), encoding="utf-8")
    request = planning.Request(recipe=str(recipe), target="cpu", engine="venv")
    planned = planning.make(request, load(), dry_run=False, progress=Silent())

    def record() -> None:
        start = Start(run=runs.new_id("probe"))
        place = runs.folders(start.run, planned.plan)
        line = planned.engine.render(planned.plan, place, start).printed()
        with runs.prepare(planned.plan, start.run, line, place):
            recorder = Recorder(planned, place, following=True)
            attempt = Attempt(number=1, where="here", image_digest=None, engine_version="3", began=runs.now())
            runs.write_attempt(place.run, attempt)
            outcome = Outcome(stage="done", exit_code=0, recipe_exit=0)
            recorder.end(attempt, outcome)
            recorder.close(outcome)

    def bare() -> None:
        subprocess.run(["bash", str(recipe)], check=True, stdin=subprocess.DEVNULL)

    text = plans.to_json(planned.plan)
    one, _ = timed(lambda: paths.write_atomic(folder / "one", text), rounds)
    cost, syncs = timed(record, rounds)
    alone, _ = timed(bare, rounds)
    python, _ = timed(lambda: subprocess.run([sys.executable, "-c", ""], check=True), rounds)
    print(f"begin, one start, its end   {cost:8.2f} ms   {syncs:g} fsyncs")
    print(f"one durable file            {one:8.2f} ms   the record is {cost / one:.1f} of them")
    print(f"the recipe by plain bash    {alone:8.2f} ms   the record is {cost / alone:.1f} of it")
    print(f"an empty Python             {python:8.2f} ms   the record is {cost / python:.1f} of it")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 30)
