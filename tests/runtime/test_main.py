"""``python -m runtime``: the trainer is run as if alone, and the record says what was done to it."""

import json
import runpy
import sys
from pathlib import Path

import pytest
from torch import distributed
from transformers import trainer


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
        "MetricsCallback",
        "MemoryCallback",
    ]
    (event,) = map(json.loads, (tmp_path / "metrics.jsonl").read_text().splitlines())
    assert (event["event"], event["patches"], event["off"]) == ("runtime", [], [])
    assert event["options"]["patches"] == "all"


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


def test_the_process_group_ends_with_the_trainer(module: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Left to the interpreter's end, a thread of Gloo that still holds a tensor aborts the process."""
    assert distributed.is_initialized()
    run(monkeypatch, "-m", "trainer_of_tests.main")
    assert not distributed.is_initialized()


def test_a_probe_that_is_done_is_a_good_end(module: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module.write_text("from runtime.memory import Probed\nraise Probed\n")
    run(monkeypatch, "-m", "trainer_of_tests.main")
