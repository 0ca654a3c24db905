"""The recipes that are broken: they note what they do, on the disk, before they go on."""

_HEADER = """#!/usr/bin/env bash
# /// recipe
# summary = {{ en = "{name}", zh = "{name}" }}
# targets = ["cpu"]
# launch = "{launch}"
# [outputs]
# help = {{ en = "its own notes", zh = "记录" }}
# ///
set -uo pipefail
"""

_PLAIN = """
cd "$OUTPUT" || exit 5
note() { printf '%s\\n' "$*" >>progress && sync progress; }
note "start $$"
if [[ ${DAEMONS:-0} != 0 ]]; then
  setsid bash -c 'trap "" TERM HUP INT; while :; do sleep 1; done' &
  (setsid bash -c 'trap "" TERM; (exec sleep 300) & sleep 300' &)
  nohup sleep 300 >/dev/null 2>&1 &
fi
for ((i = 1; i <= STEPS; i++)); do
  sleep "$PACE"
  echo "line $i"
  if [[ ${FILL:-0} == "$i" ]]; then head -c 4000000 /dev/zero >filling; fi
  echo "part $FAULT_MARK $i" >"part-$i" && sync "part-$i" && note "step $i"
done
note "finished $CODE"
exit "$CODE"
"""

#: A trainer as the launcher sees it: events, checkpoints with complete.json; goes on from LAUNCH_RESUME.
_TRAINER = """
exec python -IS - <<'PY'
import hashlib, json, os, pathlib, signal, time
output, mark = pathlib.Path(os.environ["OUTPUT"]), os.environ["FAULT_MARK"]
attempt = int(os.environ.get("LAUNCH_ATTEMPT", "1"))
steps, every = int(os.environ["STEPS"]), 2

def durable(file, data, how="wb"):
    with open(file, how) as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())

def note(text):
    durable(output / "progress", (text + "\\n").encode(), "ab")

def report(event, **fields):
    line = {"schema": 1, "event": event, "rank": 0, "time": time.time(), **fields}
    if attempt > 1:
        line["attempt"] = attempt
    with open(os.environ["LAUNCH_RUN_DIR"] + "/metrics.jsonl", "ab", 0) as stream:
        stream.write((json.dumps(line) + "\\n").encode())

def weights(step):
    return hashlib.sha256(f"{mark} {step}".encode()).digest() * 64

def save(step):
    folder = output / f"checkpoint-{step}"
    folder.mkdir()
    parts = {"state.json": json.dumps({"step": step}).encode(), "weights.bin": weights(step)}
    for name, data in parts.items():
        durable(folder / name, data)
    files = {
        name: {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()} for name, data in parts.items()
    }
    text = json.dumps({"schema": 1, "step": step, "world_size": 1, "files": files})
    durable(folder / ".complete.json.new", text.encode())
    os.rename(folder / ".complete.json.new", folder / "complete.json")
    report("checkpoint", step=step, name=folder.name, bytes=1, seconds=0.0)

begun = 0
if os.environ.get("LAUNCH_RESUME"):
    folder = pathlib.Path(os.environ["LAUNCH_RESUME"])
    begun = json.loads((folder / "state.json").read_bytes())["step"]
    good = (folder / "weights.bin").read_bytes() == weights(begun)
    note(f"resumed {begun} {'good' if good else 'bad'}")
note(f"start {os.getpid()}")
report("begin", world_size=1, device="cpu", max_steps=steps, epochs=1)
for step in range(begun + 1, steps + 1):
    time.sleep(float(os.environ["PACE"]))
    print("line", step, flush=True)
    report("step", step=step, epoch=0.0, loss=1 / step)
    note(f"step {step}")
    if step % every == 0:
        save(step)
    if step == int(os.environ.get("CRASH", "0")) and attempt <= int(os.environ.get("CRASHES", "1")):
        note(f"crash {step}")
        os.kill(os.getpid(), signal.SIGKILL)
report("end", step=steps)
note("finished 0")
PY
"""


def plain() -> str:
    """Steps with a durable part and a durable note each; its exit code is a variable."""
    return _HEADER.format(name="steps", launch="python") + _PLAIN


def trainer() -> str:
    """The same with checkpoints, and with a crash where a variable says so."""
    return _HEADER.format(name="trainer", launch="torchrun") + _TRAINER
