"""What is done to trainings that go on from checkpoints, and to records."""

import json
import os
import signal
from pathlib import Path

from tests.faults.kinds import Kind
from tests.faults.world import Case, send


def _damage(case: Case, folder: Path) -> str:
    """Break a checkpoint in one of the ways in which checkpoints break."""
    how = case.chance.choice(
        ("truncated", "flipped", "missing", "unmarked", "half a marker", "another version")
    )
    file, marker = folder / case.chance.choice(("weights.bin", "state.json")), folder / "complete.json"
    data = bytearray(file.read_bytes())
    if how == "truncated":
        file.write_bytes(data[: case.chance.randrange(len(data))])
    elif how == "flipped":
        data[case.chance.randrange(len(data))] ^= 1 << case.chance.randrange(8)
        file.write_bytes(data)
    elif how == "missing":
        file.unlink()
    elif how == "unmarked":
        marker.unlink()
    elif how == "half a marker":
        text = marker.read_bytes()
        marker.write_bytes(text[: case.chance.randrange(len(text) - 1)])
    else:
        marker.write_text(marker.read_text().replace('"schema": 1', '"schema": 99'))
    return how


def _checkpoints(case: Case) -> list[Path]:
    found = [folder for folder in case.output.glob("checkpoint-*") if (folder / "complete.json").exists()]
    return sorted(found, key=lambda folder: int(folder.name.rpartition("-")[2]))


def damaged_checkpoint(case: Case) -> None:
    """The newest checkpoint breaks, then the run is resumed: from the one before it."""
    case.code, case.hit = 0, True
    case.run(trainer=True, steps=8, CRASH=5 + case.chance.randrange(2)).wait()
    newest = _checkpoints(case)[-1]
    _damage(case, newest)
    resumed = case.command("runs", "resume", case.record)
    if case.chance.random() < 0.3:
        case.until("running", resumed)
        send(resumed.pid, signal.SIGKILL)
        case.wait(lambda: "code" in case.process(2) or not case.left())
        return
    resumed.wait()
    if resumed.returncode or not case.noted("resumed", str(int(newest.name.rpartition("-")[2]) - 2), "good"):
        case.problems.append(f"resumed with {resumed.returncode}: {case.notes()[-12:]}")
    if not list(case.output.glob(f"incomplete-*-{newest.name}")):
        case.problems.append("the damaged checkpoint is gone")


def restarted(case: Case) -> None:
    """--max-restarts, with a fault while it starts again."""
    case.code = 0
    launcher = case.run("--max-restarts", "2", trainer=True, steps=8, CRASH=4, CRASHES=2)
    fault = case.chance.choice(("none", "killed", "asked", "stop"))
    case.wait(lambda: case.noted("crash"), unless=lambda: launcher.poll() is not None)
    if case.chance.random() < 0.5:
        case.wait(lambda: "code" in case.process(), unless=lambda: launcher.poll() is not None)
    if fault == "killed":
        case.hit = True
        send(launcher.pid, signal.SIGKILL)
        case.wait(lambda: not case.left())
    elif fault == "asked":
        case.asked = True
        send(launcher.pid, signal.SIGTERM)
    elif fault == "stop":
        case.asked = True
        case.command("runs", "stop", case.record)
    else:
        launcher.wait()
        if launcher.returncode or not case.noted("finished"):
            case.problems.append(f"two restarts were not enough: {launcher.returncode} {case.notes()[-12:]}")


def resumed_twice(case: Case) -> None:
    """Several `runs resume` at once, one of them perhaps killed: one goes on, and nothing is done twice."""
    case.code, case.hit = 0, True
    case.run(trainer=True, steps=8, CRASH=5).wait()
    resumed = [case.command("runs", "resume", case.record) for _ in range(case.chance.choice((2, 3)))]
    if case.chance.random() < 0.4:
        case.wait(
            lambda: case.noted("resumed"), unless=lambda: all(one.poll() is not None for one in resumed)
        )
        send(case.chance.choice(resumed).pid, signal.SIGKILL)
        case.wait(lambda: not case.left())
    for one in resumed:
        one.wait()
    if len(again := [line for line in case.notes() if line[0] == "resumed"]) > 1:
        case.problems.append(f"{len(again)} starts went on from one checkpoint")


def garbage(case: Case) -> None:
    """A record that is damaged: said, and not a word about its end; the others are listed as ever."""
    case.run(trainer=case.chance.random() < 0.3, steps=2).wait()
    record = case.record
    if record is None:
        case.problems.append("no record")
        return
    names = (
        "plan.json",
        "result.json",
        "attempts/1.json",
        "attempts/1.process",
        "metrics.jsonl",
        "models.json",
    )
    file = record / case.chance.choice(names)
    case.unreadable = True
    _spoil(case, file)
    if case.chance.random() < 0.3:
        (record / "result.json").unlink(missing_ok=True)
    for command in (("list", "--json"), ("list",), ("show", record), ("show", record, "--json")):
        done = case.call("runs", *command)
        if done.code not in ((0,) if command[0] == "list" else (0, 64, 82)):
            case.problems.append(f"{command[0]} of a damaged {file.name}: {done.code} {done.err[-400:]}")


def _spoil(case: Case, file: Path) -> None:
    data = file.read_bytes() if file.exists() else b"{}"
    how = case.chance.randrange(5)
    if how == 0:
        file.write_bytes(os.urandom(case.chance.randint(1, 2000)))
    elif how == 1:
        file.write_bytes(data[: case.chance.randrange(len(data))])
    elif how == 2:
        file.write_bytes(
            case.chance.choice((b"", b"null", b"[]", b'"x"', b"1", b"{}", b'{"schema": 1}', b"[" * 9000))
        )
    elif how == 3:
        file.write_bytes(data.replace(b'"schema": 1', b'"schema": 99'))
    else:
        _another_type(case, file, data)


def _another_type(case: Case, file: Path, data: bytes) -> None:
    """A key with a value that it cannot have."""
    lines = data.splitlines() if file.suffix == ".jsonl" else [data]
    try:
        raw = json.loads(lines[-1])
        raw[case.chance.choice(sorted(raw))] = case.chance.choice((None, [], {}, "x", -1, 10**40, True))
        file.write_bytes(b"\n".join([*lines[:-1], json.dumps(raw).encode()]) + b"\n")
    except (ValueError, IndexError, TypeError):
        file.write_bytes(b"\xff")


TRAININGS: dict[Kind, int] = {damaged_checkpoint: 5, restarted: 5, resumed_twice: 3, garbage: 9}
