"""launch ask: what a name means, the request that is made of it, and what does not go together."""

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from launcher import paths, runs, settings
from launcher import plan as plans
from launcher.app import ask, preflight, session, shell
from launcher.app.ask import Question
from launcher.app.plan import Request
from launcher.cli import root
from launcher.engines import venv
from launcher.engines.interactive import InteractiveRequest
from launcher.errors import LaunchError, OutOfMemoryError, UsageError
from launcher.progress import Silent
from tests.conftest import ROOT

Golden = Callable[[str, str], None]


@pytest.fixture(autouse=True)
def callers_environment(bench: Any) -> None:
    for name in (*venv._INHERITED, "COLORTERM"):
        bench.patch.delenv(name, raising=False)
    bench.patch.setenv("PATH", "/usr/bin:/bin")
    bench.patch.setenv("TERM", "xterm-256color")
    bench.patch.setattr(session.runs, "new_id", lambda kind: f"ID-{kind}")
    (bench.folder / "tmp").mkdir()
    bench.patch.setattr(session, "PARENT", bench.folder / "tmp")


def adapted(bench: Any) -> Path:
    folder: Path = bench.folder / "lora"
    folder.mkdir()
    text = json.dumps({"peft_type": "LORA", "base_model_name_or_path": str(bench.model())})
    (folder / "adapter_config.json").write_text(text)
    return folder


def made(bench: Any, **asked: Any) -> session.Session:
    request = Request(**{"recipe": "llm-ask", "target": "cpu", "engine": "docker", **asked})
    return ask.make(request, settings.load(), dry_run=True, progress=Silent())


def test_golden_request(bench: Any, golden: Golden) -> None:
    asked = made(bench, model=str(adapted(bench)), parameters={"before_after": "true", "system": "be brief"})
    folders = session.folders(asked, bench.folder / "SESSION")
    found = ask.request(asked, folders, Question(prompt="a secret question"), terminal=True)
    assert isinstance(found, InteractiveRequest)
    line = found.printed().replace(str(bench.folder), "/fake").replace(str(paths.assets()), "/checkout")
    assert "secret question" not in line
    assert "--network none" in line
    golden("session/ask-cpu.txt", line.replace(" --", " \\\n    --") + "\n")


@pytest.mark.parametrize("adapters", [False, True])
def test_what_cannot_fit_is_refused_before_anything_is_loaded(bench: Any, adapters: bool) -> None:
    folder = adapted(bench) if adapters else bench.model()
    whole = bench.folder / "models" / "tiny"
    shape = json.loads((ROOT / "tests/support/models.json").read_text())["Llama-3.1-405B"]["config"]
    (whole / "config.json").write_text(json.dumps(shape))
    asked = made(bench, model=str(folder))
    with pytest.raises(OutOfMemoryError, match=r"does not fit: about \d{4}\.\d of") as refused:
        preflight.fitting(asked.planned, dry_run=False)
    assert "--load-in-4bit true" in refused.value.hint or "launch fit" in refused.value.hint
    (note,) = preflight.fitting(asked.planned, dry_run=True)
    assert note.startswith("memory: does not fit")


def test_a_chat_has_no_prompt_and_json_is_passed_on(bench: Any) -> None:
    asked = made(bench, model=str(bench.model()))
    folders = session.folders(asked, bench.folder / "SESSION")
    chat = ask.request(asked, folders, Question(chat=True), terminal=True).printed()
    assert shlex.split(chat)[-2:] == ["bash", "/launch/recipes/llm-ask.sh"]
    other = ask.request(asked, folders, Question(as_json=True), terminal=False).printed()
    assert shlex.split(other)[-1] == "--json"


def test_a_prompt_reaches_the_session_in_a_file_and_goes_with_it(bench: Any) -> None:
    seen = {}

    def attached(asked: session.Session, found: InteractiveRequest) -> int:
        (mount,) = (each for each in found.container.mounts if str(each.target) == "/launch/run")
        seen.update(json.loads((mount.source / "prompt.jsonl").read_text()))
        seen["folder"] = mount.source
        return 7

    bench.patch.setattr(shell, "attached", attached)
    asked = made(bench, model=str(bench.model()))
    bench.patch.setattr(asked.planned.engine, "check", lambda plan: None)
    bench.patch.setattr(session.leftovers, "sweep", lambda *_: None)
    assert ask.run(asked, Question(prompt="why?\nreally")) == 7
    assert seen.pop("folder").exists() is False
    assert seen == {"prompt": "why?\nreally"}
    assert not paths.runs().exists()


def run_of(bench: Any, name: str, *files: str) -> Path:
    plan = bench.plan(target="cpu", data=(bench.data(),), model=str(bench.folder / "models" / "tiny")).plan
    place = runs.folders(name, plan)
    runs.prepare(plan, name, "command", place).release()
    for file in files:
        path = place.output / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
    return place.output


def test_what_a_name_means(bench: Any) -> None:
    folder = bench.model()
    whole = [f"checkpoint-{step}/{file}" for step in (9, 10) for file in ("config.json", "complete.json")]
    first = run_of(bench, "20260101-000000-llm-sft-aaaa", "adapter_config.json", *whole)
    second = run_of(bench, "20260102-000000-llm-sft-bbbb", *whole, "checkpoint-11/config.json")
    third = run_of(bench, "20260102-000000-llm-sft-dddd", *whole, "adapter/adapter_config.json")
    run_of(bench, "20260103-000000-encode-cccc", "dense.npy")
    assert ask.subject(str(folder)) == str(folder)
    assert ask.subject("org/model") == "org/model"
    assert ask.subject("aaaa") == ask.subject(str(first.parent)) == str(first)
    assert ask.subject("bbbb") == str(second / "checkpoint-10")  # 11 was still being written
    assert ask.subject("dddd") == str(third / "adapter")  # merging them broke off
    with pytest.raises(UsageError, match="has made no model"):
        ask.subject("last")
    with pytest.raises(UsageError, match="there is no run 'nothing'"):
        ask.subject("nothing")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("hello", "--file", "FILE"), "one of them"),
        (("  ",), "the prompt is empty"),
        (("--dry-run", "--json"), "not with a chat"),
        (("--dry-run", "--before-after"), "not with a chat"),
        (("hello", "--target", "cpu", "--precision", "fp16", "--dry-run"), "do not run|does not run"),
        (("hello", "--target", "cpu", "--temperature", "warm", "--dry-run"), "takes a number"),
        (("hello", "--target", "cpu", "--env", "SEED=3", "--dry-run"), "cannot set SEED"),
    ],
)
def test_what_does_not_go_together(bench: Any, arguments: tuple[str, ...], message: str) -> None:
    file = bench.folder / "prompts.txt"
    file.write_text("one\n")
    given = [str(file) if each == "FILE" else each for each in arguments]
    done = CliRunner().invoke(root, ["ask", str(bench.model()), *given])
    assert isinstance(done.exception, LaunchError)
    with pytest.raises(UsageError, match=message):
        raise done.exception


def test_dry_run_prints_flags_as_the_recipe_reads_them(bench: Any) -> None:
    options = (
        "--before-after",
        "--max-new-tokens",
        "8",
        "--target",
        "cpu",
        "--engine",
        "docker",
        "--dry-run",
    )
    done = CliRunner().invoke(root, ["ask", str(adapted(bench)), "hello", *options])
    assert done.exit_code == 0, done.output
    for part in ("BEFORE_AFTER=true", "MAX_NEW_TOKENS=8", "THINKING=false", "BASE=/models/base/tiny"):
        assert part in done.output
    assert "hello" not in done.output


def test_the_base_is_among_the_mounts(bench: Any) -> None:
    asked = made(bench, model=str(adapted(bench)))
    found = plans.mounts(asked.planned.plan, session.folders(asked, bench.folder))
    assert bench.folder / "models" / "tiny" in {each.source for each in found if each.read_only}
