"""Made-up records of runs, as a launcher and its trainer leave them."""

import json
import math
from pathlib import Path
from typing import Any

from launcher import plan as plans
from launcher import runs
from launcher.data import DataFile
from launcher.plan import Access, Model, RunPlan
from launcher.runs import Attempt

#: What a recipe may print, and what a page must show as text.
HOSTILE = (
    "</script><script>document.title='taken'</script><img src=http://example.invalid/x onerror=alert(1)>"
)


def plan(parent: Path, **changes: Any) -> RunPlan:
    """A plan of two processes; it is read, never run."""
    data = DataFile(path=parent / "train.jsonl", sha256="d" * 64, size=1 << 20, rows=1000)
    values: dict[str, Any] = {
        "launcher": "1.2.3",
        "recipe": "bge-m3-unified",
        "recipe_path": parent / "bge-m3-unified.sh",
        "recipe_sha256": "a" * 64,
        "runtime_sha256": "b" * 64,
        "recipes": parent,
        "target": "cpu",
        "engine": "venv",
        "image": None,
        "lock_digest": "c" * 64,
        "world_size": 2,
        "nproc": 2,
        "inputs": (data.path,),
        "data": (data,),
        "model": Model(name="tiny", path=parent / "tiny", root=parent / "tiny"),
        "output": None,
        "parameters": (("learning_rate", "0.002"), ("seed", "42")),
        "arguments": (),
        "env": (("OMP_NUM_THREADS", "1"),),
        "secrets": ("HF_TOKEN",),
        "uid": 0,
        "gid": 0,
        "access": Access(),
    }
    return RunPlan(**values | changes)


def events(steps: int, *, of: int = 100, first: int = 1, pace: float = 0.2) -> list[dict[str, Any]]:
    """What two ranks report of steps ``first`` to ``steps`` of ``of``."""
    found: list[dict[str, Any]] = []
    if first == 1:
        for rank in (0, 1):
            found.append({"event": "begin", "rank": rank, "world_size": 2, "device": "cpu", "max_steps": of})
    for step in range(first, steps + 1):
        norm = 50.0 if step == 40 else 4 + math.sin(7 * step)  # rough, as a training's
        logged = {"loss": 3 / step + 0.5, "grad_norm": norm, "learning_rate": 2e-5 * (1 - step / of)}
        found.append({"event": "step", "rank": 0, "step": step, "epoch": step / of, **logged})
        used = {"steps": 1, "seconds": pace, "tokens": 4000, "padded": 5000}
        for rank in (0, 1):
            memory = {"ram": 1 << 30, "ram_peak": 2 << 30}
            found.append({"event": "usage", "rank": rank, "step": step, **used, **memory})
    return found


def write_events(folder: Path, found: list[dict[str, Any]]) -> None:
    """Append to a run's metrics."""
    lines = [json.dumps({"schema": 1, "time": 0.0, **event}) + "\n" for event in found]
    with (folder / "metrics.jsonl").open("a", encoding="utf-8") as stream:
        stream.write("".join(lines))


def end(folder: Path, *, exit_code: int = 0, **changes: Any) -> None:
    """Write how a run ended."""
    result = {
        "schema": 1,
        "run": folder.name,
        "stage": "train" if exit_code else "done",
        "exit_code": exit_code,
        "error": "",
        "started": "2026-11-21T08:00:00+00:00",
        "seconds": 42.5,
        "model": {"name": "tiny", "weights_sha256": "e" * 64},
        "versions": {"launcher": "1.2.3", "python": "3.11.7", "venv": "3.11.7"},
        "host": {"cpus": 2, "memory": 24 << 30, "kernel": "6.1"},
        "runtime": {"patches": [{"name": "prompts", "version": 1}], "off": [], "options": {}},
    }
    (folder / "result.json").write_text(json.dumps(result | changes), encoding="utf-8")


def make(
    parent: Path,
    name: str = "20261121-080000-bge-m3-unified-aaaa",
    *,
    steps: int = 100,
    of: int = 100,
    pace: float = 0.2,
    ended: int | None = 0,
    log: str = "{'loss': 0.5}\n",
    cause: str = "",
    **changes: Any,
) -> Path:
    """A record with its events; ``ended`` is the exit code, None for one that goes on, on another machine."""
    folder = parent / name
    (folder / "output").mkdir(parents=True)
    made = plan(parent.parent, **changes)
    (folder / "plan.json").write_text(plans.to_json(made), encoding="utf-8")
    (folder / "command").write_text("env … bash bge-m3-unified.sh\n", encoding="utf-8")
    (folder / "log.txt").write_text(log, encoding="utf-8")
    if made.world_size:
        write_events(folder, events(steps, of=of, pace=pace))
        if ended == 0:
            summed = {"event": "step", "rank": 0, "step": steps, "train_loss": 0.7}
            ends = [{"event": "end", "rank": rank, "step": steps} for rank in (0, 1)]
            write_events(folder, [summed, *ends])
    attempt = Attempt(
        number=1,
        where="elsewhere",  # so that no engine of this machine is asked about it
        image_digest=None,
        engine_version="3.11.7",
        began="2026-11-21T08:00:00+00:00",
        cause=cause,
    )
    runs.write_attempt(folder, attempt)
    if ended is not None:
        end(folder, exit_code=ended)
    return folder


def fail(folder: Path, message: str = HOSTILE) -> None:
    """The failure that a rank reported before a run ended with 1."""
    traceback = f'Traceback (most recent call last):\n  File "x.py", line 1\nRuntimeError: {message}\n'
    failed = {
        "event": "failure",
        "rank": 1,
        "type": "RuntimeError",
        "message": message,
        "traceback": traceback,
    }
    write_events(folder, [failed])


def evaluate(parent: Path, name: str, model: Path, ndcg: float, **more: Any) -> Path:
    """A record of the recipe ``evaluate`` that measured a model."""
    found = Model(name=str(model), path=model, root=model)
    folder = make(parent, name, recipe="evaluate", world_size=0, model=found, parameters=())
    heads = {"heads": {"dense": {"ndcg@10": ndcg, "recall@10": ndcg + 0.1}}}
    report = {"schema": 2, "model": str(model), "queries": 300, "passages": 2791, **heads, **more}
    (folder / "output" / "metrics.json").write_text(json.dumps(report), encoding="utf-8")
    return folder
