"""What must be true after a fault: by disk, process table and engine, not by the launcher's word alone."""

import json
import re
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from tests.faults.world import Case, Done

#: Codes that docs/exit-codes.md names, beside the recipe's own.
_DOCUMENTED = {0, 1, *range(64, 84), 129, 130, 143}

#: Before the launcher's first line runs, Python itself answers a Ctrl-C.
_TOO_EARLY = re.compile(r"KeyboardInterrupt\s*$")


def judge(case: Case, seen: dict[str, Any] | None) -> Iterator[str]:
    """Everything that is wrong.

    Args:
        case: after its fault, when all of its programs have ended.
        seen: its run as ``launch runs list --json`` has it; None: there is none.
    """
    yield from case.problems
    for done in case.said():
        yield from _ended_well(case, done)
    yield from _nothing_left(case)
    record = case.record
    if case.unreadable or (case.removed and record is None):
        return
    if record is None:
        yield from _never_was(case)
        return
    if seen is None:
        yield "the run is not in the list"
        return
    yield from _true_state(case, seen["state"], str(seen["why"]))
    yield from _whole_record(case, seen["state"])
    yield from _nothing_lost(case)


def _ended_well(case: Case, done: Done) -> Iterator[str]:
    verb = " ".join(done.arguments[:2])
    if "Traceback" in done.err:
        early = "launcher/app" not in done.err and _TOO_EARLY.search(done.err)
        if not early:
            yield f"launch {verb} ended with a traceback: {done.err[-1500:]}"
    injected = {
        -signal.SIGKILL,
        -signal.SIGTERM,
        -signal.SIGINT,
        -signal.SIGHUP,
        -signal.SIGUSR1,
        -signal.SIGUSR2,
    }
    recipes = {case.code, 137, *(128 + number for number in (1, 2, 10, 12, 14))}
    if done.code not in _DOCUMENTED | recipes | injected | ({1} if case.full else set()):
        yield f"launch {verb} ended with {done.code}: {done.err[-600:]}"


def _nothing_left(case: Case) -> Iterator[str]:
    deadline = time.monotonic() + 3
    while (left := case.left()) and time.monotonic() < deadline:
        time.sleep(0.05)
    if left:
        yield f"processes are left: {left}"
    if case.engine == "docker" and (names := containers(case)):
        yield f"containers are left: {names}"


def containers(case: Case) -> list[str]:
    """Containers of the case's runs, as the engine's own command has them."""
    import subprocess

    command = ["docker", "ps", "-a", "--filter", "label=launch.run", "--format", "{{.Names}}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    own = [folder.name for folder in case.runs.iterdir()] if case.runs.is_dir() else []
    return [name for name in done.stdout.split() if any(run in name for run in own)]


def _never_was(case: Case) -> Iterator[str]:
    if case.noted("start"):
        yield "a recipe ran without a record"
    if case.output.is_dir() and any(case.output.iterdir()):
        yield f"no run, and the output is taken: {[file.name for file in case.output.iterdir()]}"


def _true_state(case: Case, state: str, why: str) -> Iterator[str]:
    finished = next((int(line[1]) for line in case.notes() if line[0] == "finished"), None)
    said = f"{state} ({why}); it noted {[' '.join(line) for line in case.notes()[-3:]]}"
    if state not in ("done", "failed", "stopped"):
        yield f"its end is not on the record: {said}"
    elif state == "done" and finished != 0:
        yield f"done, and it never finished: {said}"
    elif state == "stopped" and not case.asked:
        yield f"stopped, and nobody asked: {said}"
    elif finished == 0 and state == "failed" and not case.hit:
        yield f"failed, and it had finished: {said}"
    elif finished is None and state == "failed" and not (case.hit or case.asked or _never_started(case)):
        yield f"failed, and nothing had happened to it: {said}"
    elif finished and state == "failed" and not case.hit and why != f"exit code {finished}":
        yield f"another end than its own: {said}"


def _never_started(case: Case) -> bool:
    return not case.noted("start")


def _whole_record(case: Case, state: str) -> Iterator[str]:
    record = case.record
    if record is None:
        return
    try:
        result = json.loads((record / "result.json").read_bytes())
        starts = [json.loads(file.read_bytes()) for file in sorted(record.glob("attempts/*[0-9].json"))]
    except (OSError, ValueError) as error:
        yield f"the record is not whole: {error}"
        return
    code = result["exit_code"]
    if (state == "done") != (code == 0) or not result["ended"]:
        yield f"{state} with code {code}, ended {result['ended']!r}"
    if open_starts := [start["number"] for start in starts if not start["ended"]]:
        yield f"starts without an end: {open_starts}"
    if len(result["attempts"]) != len(starts):
        yield f"{len(result['attempts'])} starts in the result, {len(starts)} on the disk"
    hidden = [file.name for pattern in (".*.json.*", "attempts/.*") for file in record.glob(pattern)]
    if hidden or (record / "scratch").exists() or (record / ".reserve").exists():
        yield f"left in the record: {hidden or 'scratch or .reserve'}"
    launcher = next((done for done in case.said() if done.arguments[0] == "run"), None)
    if launcher and len(starts) == 1 and launcher.code >= 0 and "--detach" not in launcher.arguments:
        # Its own word and the record's are one, unless it could not write, was interrupted beyond its end,
        # came second, or the engine was gone and it could only say that.
        excused = case.full or case.asked or launcher.code == 77 or "does not answer" in launcher.err
        if launcher.code != code and not excused:
            yield f"the launcher ended with {launcher.code}, the record says {code}"


def _nothing_lost(case: Case) -> Iterator[str]:
    steps = [line[1] for line in case.notes() if line[0] == "step"]
    log = ""
    with suppress(OSError):
        log = (case.record / "log.txt").read_text(errors="replace") if case.record else ""
    for step in steps:
        part = case.output / f"part-{step}"
        if part.exists() and part.read_text() != f"part {case.mark} {step}\n":
            yield f"{part.name} is not what the recipe wrote"
        if (
            not part.exists()
            and not list(case.output.glob("*checkpoint*"))
            and (case.output / "part-1").exists()
        ):
            yield f"{part.name} is gone"
        if not (case.full or case.lost_log) and f"line {step}\n" not in log:
            yield f"'line {step}' is not in the log"
