"""``python -m runtime``: the trainer is run as if alone, and the record says what was done to it."""

import atexit
import contextlib
import json
import os
import runpy
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from runtime import peers
from torch import distributed
from transformers import trainer


@pytest.fixture(autouse=True)
def ended(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The exit codes of processes that are said to end, and go on here."""
    codes: list[int] = []
    monkeypatch.setattr(os, "_exit", codes.append)
    monkeypatch.setattr(threading, "_shutdown", lambda: None)
    monkeypatch.setattr(atexit, "_run_exitfuncs", lambda: None)
    return codes


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A trainer that prints how it was started."""
    package = tmp_path / "trainer_of_tests"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "main.py").write_text("import sys\nprint(__name__, sys.argv[0], sys.argv[1:])\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(trainer, "DEFAULT_CALLBACKS", [])
    monkeypatch.setenv("LAUNCH_RUN_DIR", str(tmp_path))
    return package / "main.py"


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    monkeypatch.setattr(sys, "argv", ["runtime", *words])
    runpy.run_module("runtime", run_name="__main__", alter_sys=False)


def test_the_trainer_is_run_as_if_alone(
    module: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    run(monkeypatch, "--patches", "all", "-m", "trainer_of_tests.main", "--x", "a b", "-m", "y")
    assert capsys.readouterr().out == f"__main__ {module} ['--x', 'a b', '-m', 'y']\n"
    assert [callback.__name__ for callback in trainer.DEFAULT_CALLBACKS] == [
        "CheckpointCallback",
        "UsageCallback",
        "MetricsCallback",
        "LossCallback",
        "MemoryCallback",
    ]
    (event,) = map(json.loads, (tmp_path / "metrics.jsonl").read_text().splitlines())
    assert (event["event"], event["patches"], event["off"]) == ("runtime", [], [])
    assert event["options"]["patches"] == "all"


@pytest.mark.parametrize(("end", "told"), [("", 0), ("raise SystemExit(0)", 0), ("1 / 0", 1), ("exit(3)", 1)])
def test_a_rank_that_fails_tells_the_others(
    module: Path, monkeypatch: pytest.MonkeyPatch, end: str, told: int
) -> None:
    calls: list[int] = []
    monkeypatch.setattr(peers, "tell", lambda: calls.append(1))
    monkeypatch.delitem(sys.modules, "trainer_of_tests", raising=False)  # another test's folder
    module.write_text(end)
    with contextlib.suppress(SystemExit, ZeroDivisionError):
        run(monkeypatch, "-m", "trainer_of_tests.main")
    assert len(calls) == told


def test_a_rank_ends_when_another_has_failed() -> None:
    """Also one that waits, where no connection of its own can close."""
    store = distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    program = "import time; from runtime import peers; peers._EVERY = peers._GRACE = 0.1; peers.attach(); "
    of_torchrun = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port), "TORCHELASTIC_RUN_ID": "x"}
    environment = {**os.environ, **of_torchrun, "LAUNCH_NODES": "2"}

    def rank(number: int, then: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-c", f"{program}print('on', flush=True); {then}"],
            env={**environment, "RANK": str(number)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    waiting = rank(0, "time.sleep(60)")
    assert waiting.stdout is not None
    assert waiting.stdout.readline() == "on\n"
    failing = rank(5, "peers.tell(); time.sleep(1)")
    assert failing.wait(60) == 0  # it ends with its own words
    assert "rank 5 has failed, and this one ends with it" in waiting.communicate(timeout=30)[1]
    assert waiting.returncode == 1


def test_only_rank_0_writes_the_record(module: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RANK", "1")
    run(monkeypatch, "-m", "trainer_of_tests.main")
    assert not (tmp_path / "metrics.jsonl").exists()


def test_an_option_that_a_trainer_cannot_follow(module: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit, match=r"length bucketing: trainer_of_tests\.main is not one of"):
        run(monkeypatch, "--length-bucketing", "true", "-m", "trainer_of_tests.main")


@pytest.mark.parametrize("words", [(), ("-m",), ("trainer.py", "x")])
def test_usage(monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]) -> None:
    with pytest.raises(SystemExit, match="usage: python -m runtime"):
        run(monkeypatch, *words)


#: Rank 1 ends while a thread of Gloo waits for the interpreter's lock, to free what Python knows of a tensor.
LEAVING = """
import atexit, os, sys, time
import torch
from torch import distributed

rank = int(os.environ["RANK"])
distributed.init_process_group("gloo", init_method="file://" + sys.argv[1], rank=rank, world_size=2)
if rank == 0:
    time.sleep(1)
    distributed.all_reduce(torch.ones(1))
    time.sleep(3)
    os._exit(0)


def hold():
    os.write(1, b"exit functions ran")
    until = time.monotonic() + 2.5
    while time.monotonic() < until:
        pass


class Late:
    def __del__(self, sleep=time.sleep):
        sleep(1)


sys.modules["late"] = Late()
group = distributed.group.WORLD
tensor = torch.ones(1)
tensor.known_to_python = object()
distributed.all_reduce(tensor, async_op=True)
del tensor
sys.setswitchinterval(1000)  # seconds: from here on the lock is given away by waiting only
atexit._clear()  # others might wait after this one
atexit.register(hold)
"""


def test_a_thread_that_waits_does_not_abort_a_finished_training(module: Path, tmp_path: Path) -> None:
    module.write_text(LEAVING)
    path = os.pathsep.join([str(tmp_path), *sys.path])
    both = [
        subprocess.Popen(
            [sys.executable, "-m", "runtime", "-m", "trainer_of_tests.main", str(tmp_path / "store")],
            env={**os.environ, "PYTHONPATH": path, "RANK": str(rank), "LAUNCH_RUN_DIR": ""},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in (0, 1)
    ]
    said = [each.communicate(timeout=120)[0] for each in both]
    assert [each.returncode for each in both] == [0, 0], said
    assert said[1].endswith("exit functions ran")


def test_the_group_ends_with_the_trainer_and_the_process_with_the_group(
    module: Path, monkeypatch: pytest.MonkeyPatch, ended: list[int]
) -> None:
    assert distributed.is_initialized()
    run(monkeypatch, "-m", "trainer_of_tests.main")
    assert not distributed.is_initialized()
    assert ended == [0]
    run(monkeypatch, "-m", "trainer_of_tests.main")
    assert ended == [0]  # without a group the interpreter ends as it does


def test_a_probe_that_is_done_is_a_good_end(module: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module.write_text("from runtime.memory import Probed\nraise Probed\n")
    run(monkeypatch, "-m", "trainer_of_tests.main")
