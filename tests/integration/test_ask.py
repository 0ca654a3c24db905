"""Adapters merged and asked through ``launch``: a base that has moved, answers side by side, a real chat."""

import json
import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.conftest import Launch, result_of

SUPPORT = Path(__file__).resolve().parents[1] / "support"


@pytest.fixture(scope="module")
def made(environment: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny language model (``tiny/model``), rows for it, and adapters on it (``lora``)."""
    folder = tmp_path_factory.mktemp("llm")
    python = str(environment / "bin" / "python")
    given = ("--hidden", "256", "--layers", "12")  # slow enough that somebody can interrupt an answer
    for program in (
        ("tiny_llm.py", folder / "tiny", *given),
        ("tiny_adapter.py", folder / "tiny" / "model", folder / "lora"),
    ):
        subprocess.run(
            [python, SUPPORT / program[0], *map(str, program[1:])], check=True, capture_output=True
        )
    return folder


@pytest.fixture(autouse=True)
def nothing_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """No container and no folder of a question may stay."""
    before = set(Path("/tmp").glob("launch-????????"))
    yield
    assert set(Path("/tmp").glob("launch-????????")) <= before
    if "docker" in request.node.name:
        engine = request.getfixturevalue("engine")
        assert (
            engine.containers.list(all=True, filters={"label": "launch.session"}, ignore_removed=True) == []
        )


@pytest.mark.environment
def test_merge_and_ask_with_a_base_that_has_moved(
    on: tuple[str, ...], launch: Launch, workspace: Path, made: Path
) -> None:
    moved, lora = workspace / "moved", workspace / "lora"
    shutil.copytree(made / "tiny" / "model", moved)
    shutil.copytree(made / "lora", lora)
    config = json.loads((lora / "adapter_config.json").read_text())
    gone = str(workspace / "gone")
    (lora / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": gone}))

    lost = launch("run", "llm-merge", "--model", lora, *on)
    assert lost.code == 78
    assert gone in lost.err
    assert "--base" in lost.err
    assert launch("ask", lora, "hello", *on).code == 78
    assert not (workspace / "runs").exists()

    done = launch("run", "llm-merge", "--model", lora, "--base", moved, "--output", "merged", *on)
    assert done.code == 0, done.err
    assert "greedy tokens are equal" in done.out + done.err
    plan = json.loads(next((workspace / "runs").glob("*/plan.json")).read_text())
    assert dict(plan["models"])["base"]["path"] == str(moved)
    assert result_of(workspace)["exit_code"] == 0

    both = launch("ask", lora, "what size has it ?", "--base", moved, "--before-after", "--json", *on)
    assert both.code == 0, both.err
    (row,) = json.loads(both.out)["answers"]
    alone = launch("ask", "last", "what size has it ?", "--json", *on)
    assert alone.code == 0, alone.err
    (whole,) = json.loads(alone.out)["answers"]
    assert row["before"]["text"] != row["answer"]["text"]
    assert whole["answer"]["text"][:4] == row["answer"]["text"][:4]  # rounding tells in the end
    assert len(list((workspace / "runs").iterdir())) == 1


@pytest.mark.environment
def test_a_wrong_base_stops_a_merge_with_nothing_in_the_output(
    on: tuple[str, ...], launch: Launch, workspace: Path, made: Path, environment: Path
) -> None:
    other = workspace / "other"
    program = [
        str(environment / "bin" / "python"),
        str(SUPPORT / "tiny_llm.py"),
        str(other),
        "--hidden",
        "64",
    ]
    subprocess.run(program, check=True, capture_output=True)
    done = launch(
        *("run", "llm-merge", "--model", made / "lora", "--base", other / "model", "--output", "out", *on)
    )
    assert done.code == 1
    assert "is not the base of these adapters" in done.out + done.err
    assert not list((workspace / "out").glob("[!.]*"))


@pytest.mark.environment
def test_a_file_of_prompts_side_by_side(
    on: tuple[str, ...], launch: Launch, workspace: Path, made: Path
) -> None:
    rows = (made / "tiny" / "held-out.jsonl").read_text().splitlines()[:3]
    (workspace / "rows.jsonl").write_text("\n".join(rows) + "\n")
    short = ("--max-new-tokens", "8", *on)
    done = launch(
        *("ask", made / "lora", "--file", "rows.jsonl", "--before-after", "--output", "out", *short)
    )
    assert done.code == 0, done.err
    assert re.search(r"base +\| tuned", done.out)
    assert "3 of 3 answered; base: 0 of 3 exactly as expected" in done.out
    kept = [json.loads(line) for line in (workspace / "out" / "answers.jsonl").read_text().splitlines()]
    assert [row["place"] for row in kept] == [f"rows.jsonl:{number}" for number in (1, 2, 3)]
    assert all(row["expected"] and row["before"] and row["answer"]["tokens"] <= 8 for row in kept)
    assert not (workspace / "runs").exists()
    again = launch("ask", made / "lora", "--file", "rows.jsonl", "--output", "out", *short)
    assert again.code == 1
    assert "exists" in again.err

    (workspace / "long.txt").write_text("red " * 400 + "\n")
    long = launch("ask", made / "lora", "--file", "long.txt", *short)
    assert long.code == 1
    assert re.search(r"long.txt:1: the prompt has \d+ tokens, the model 256 positions", long.err)


@pytest.mark.environment
def test_the_recipe_by_itself_is_recorded(
    on: tuple[str, ...], launch: Launch, workspace: Path, made: Path
) -> None:
    (workspace / "rows.jsonl").write_text('{"prompt": "what size has it ?"}\n')
    done = launch("run", "llm-ask", "--data", "rows.jsonl", "--model", made / "lora", *on)
    assert done.code == 0, done.err
    (kept,) = (workspace / "runs").glob("*/output/answers.jsonl")
    assert json.loads(kept.read_text())["messages"][0]["content"] == "what size has it ?"


@pytest.mark.environment
def test_standard_input_is_a_prompt(on: tuple[str, ...], workspace: Path, made: Path) -> None:
    command = [sys.executable, "-m", "launcher", "ask", str(made / "lora"), "--max-new-tokens", "8", *on]
    done = subprocess.run(
        command, cwd=workspace, input="what size\nhas it ?\n", capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    assert re.search(
        r"\[8 tokens, cut off at its limit, the first after [\d.]+ s, [\d.]+ tokens/s", done.stderr
    )


@pytest.mark.environment
def test_a_real_chat(on: tuple[str, ...], workspace: Path, made: Path) -> None:
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(workspace)
        argv = [sys.executable, "-m", "launcher", "ask", str(made / "lora"), "--output", "out", *on]
        os.execv(sys.executable, argv)  # noqa: S606

    def until(text: str) -> str:
        said, deadline = "", time.monotonic() + 180
        while not re.search(text, said) and time.monotonic() < deadline:
            if select.select([terminal], [], [], 0.2)[0]:
                said += os.read(terminal, 4096).decode(errors="replace")
        assert re.search(text, said), said
        return said

    until(r"Ctrl-D or /exit ends the chat.*\s> ")
    os.write(terminal, b"\x03")  # nothing is answered yet: the chat goes on
    until(r"Ctrl-D or /exit ends the chat.*\s> ")
    os.write(terminal, b"what size has it ?\r")
    until(r"has it \?\s+\S")
    os.write(terminal, b"\x03")
    until(r"tokens, interrupted, .*peak memory [\d.]+ GB\]\s+> ")
    os.write(terminal, b"/reset\rwhat colour has it ?\r")
    until(r"\[\d+ tokens.*, peak memory [\d.]+ GB\]\s+> ")
    os.write(terminal, b"\x04")
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    kept = [json.loads(line) for line in (workspace / "out" / "answers.jsonl").read_text().splitlines()]
    assert [row["answer"]["stop"] == "interrupted" for row in kept] == [True, False]
    assert [len(row["messages"]) for row in kept] == [1, 1]
    assert not (workspace / "runs").exists()
