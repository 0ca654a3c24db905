"""launch data: what is printed, as text and as JSON, and how it ends."""

import json
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from launcher import cli, data
from launcher.app import crews
from launcher.app.rules import rules_of
from launcher.cli import ui
from launcher.data import RULES, Rules
from launcher.diagnosis.facts import Cpu
from launcher.errors import DataError, LaunchError, OutputError, UsageError

Launch = Callable[..., Result]
GOOD: dict[str, Any] = {"query": "q", "pos": ["p"], "neg": ["n1", "n2"]}


@pytest.fixture
def launch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Launch:
    """``launch(*arguments)`` in this process and an empty folder; an error comes with what was printed."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> Result:
        result = CliRunner().invoke(cli.root, list(arguments), prog_name="launch")
        if isinstance(result.exception, LaunchError):
            result.exception.add_note(result.stdout)
            raise result.exception
        return result

    return run


def write(name: str, *rows: Any) -> str:
    Path(name).write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return name


def printed(caught: "pytest.ExceptionInfo[LaunchError]") -> str:
    return caught.value.__notes__[0]


def test_errors_by_rule_and_the_exit_code(launch: Launch) -> None:
    name = write("rows.jsonl", GOOD, *({**GOOD, "query": f"q{n}", "neg": []} for n in range(9)))
    with pytest.raises(DataError, match="9 errors in the data") as caught:
        launch("data", "check", name, "--format", "embedder", "--limit", "2")
    assert caught.value.exit_code == 67
    out = printed(caught)
    assert "error neg-empty (9 times)" in out
    assert "rows.jsonl:2: neg: an empty list" in out
    assert "… and 7 more" in out
    assert RULES["neg-empty"].fix in out
    assert "1 file, 10 rows: 9 errors, 0 warnings" in out


def test_warnings_alone_are_no_failure(launch: Launch) -> None:
    name = write("rows.jsonl", {**GOOD, "query": "a\0"})
    result = launch("data", "check", name, "--format", "embedder", "--json")
    found = json.loads(result.stdout)
    assert (result.exit_code, found["schema"], found["errors"], found["warnings"]) == (0, 1, 0, 1)
    (finding,) = found["findings"]
    assert finding == {
        "rule": "nul",
        "severity": "warning",
        "count": 1,
        "without": RULES["nul"].without,
        "fix": RULES["nul"].fix,
        "places": [
            {"path": name, "line": 1, "field": "query", "text": "holds a NUL character (\\u0000)"},
        ],
    }
    assert found["files"] == [{"path": name, "bytes": Path(name).stat().st_size, "rows": 1}]
    assert {each["field"] for each in found["profile"]["lengths"]} == {"query", "pos", "neg"}


def test_a_recipe_decides_what_is_asked(launch: Launch) -> None:
    name = write("rows.jsonl", *({**GOOD, "query": f"q{n}"} for n in range(3)))
    asked = ("data", "check", name, "--recipe", "bge-m3-unified")
    assert "neg-few (3 times)" in launch(*asked).stdout
    assert "neg-few" not in launch(*asked, "--set", "train_group_size=3").stdout
    with pytest.raises(DataError) as caught:
        launch(*asked, "--distillation", "--nproc", "2")
    assert "scores-missing (6 times)" in printed(caught)
    assert "never-trained: " in printed(caught)
    assert "fewer than one batch of 4" in printed(caught)
    with pytest.raises(UsageError, match="no parameter"):
        launch(*asked, "--set", "nothing=1")
    with pytest.raises(UsageError, match="takes NAME=VALUE"):
        launch(*asked, "--set", "nothing")
    with pytest.raises(UsageError, match="say what the rows are for"):
        launch("data", "check", name)


def test_rules_of_parameters() -> None:
    values = {"knowledge_distillation": "true", "unified_finetuning": "true", "train_group_size": "8"}
    assert rules_of("embedder", values, launch="torchrun") == Rules(
        format="embedder", scores=True, unified=True, same_dataset=False, group_size=8
    )
    tool = rules_of("texts", {"length_bucketing": "true"}, launch="python")
    assert tool.same_dataset
    assert not tool.trained


def test_tools_read_lines_and_not_columns(launch: Launch) -> None:
    """What stops a trainer's reader, or is about scores, stops no tool that reads line by line."""
    stale = {**GOOD, "pos_scores": [1, 2], "neg_scores": "old", "batch_size": 0}
    one = write("one.jsonl", {**GOOD, "query": "2020-01-01", "x": 1}, stale)
    other = write("other.jsonl", {**GOOD, "query": "r", "x": "a"})
    for recipe in ("score-with-teacher", "split-by-length"):
        assert launch("data", "check", one, other, "--recipe", recipe).exit_code == 0
    with pytest.raises(DataError) as caught:
        launch("data", "check", one, other, "--format", "embedder")
    for rule in ("column-files", "scores-length", "scores-type", "batch-size"):
        assert f"error {rule}" in printed(caught)


def test_what_only_a_recipe_has(launch: Launch) -> None:
    name = write("rows.jsonl", GOOD)
    for given in (("--set", "train_group_size=3"), ("--target", "cpu"), ("--nproc", "2")):
        with pytest.raises(UsageError, match="go with --recipe"):
            launch("data", "check", name, "--format", "embedder", *given)


def test_what_is_never_trained_is_found_behind_a_pattern(launch: Launch) -> None:
    write("one.jsonl", GOOD)
    asked = ("--recipe", "bge-m3-unified", "--nproc", "2")
    with pytest.raises(DataError) as caught:
        launch("data", "check", "on[e].jsonl", *asked)
    assert "one.jsonl: 1 row, fewer than one batch of" in printed(caught)


def test_a_repaired_copy_is_judged_like_any_data(launch: Launch) -> None:
    name = write("rows.jsonl", GOOD, {**GOOD, "query": 1})
    asked = ("data", "check", name, "--recipe", "bge-m3-unified", "--nproc", "2", "--fix", "out")
    with pytest.raises(DataError, match="1 error remains"):
        launch(*asked)
    with pytest.raises(DataError, match="cannot be repaired") as caught:
        launch("data", "check", name, "nowhere.jsonl", "--format", "embedder", "--fix", "more")
    assert caught.value.problems == ("nowhere.jsonl: does not exist",)
    assert not Path("more").exists()


def test_processes_are_forked_before_anything_is_drawn(
    launch: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Drawing takes a thread, and a fork beside a thread may never end."""
    drawn: list[ui.TerminalProgress] = []
    forked = []

    def crew(size: int, work: int) -> AbstractContextManager[Any]:
        forked.append(size)
        assert not drawn
        return nullcontext(map)

    def start(self: ui.TerminalProgress, task: str, **more: Any) -> None:
        drawn.append(self)

    def leave(self: ui.TerminalProgress, *about: object) -> None:
        drawn.clear()

    monkeypatch.setattr("launcher.workers.crew", crew)
    monkeypatch.setattr(ui.TerminalProgress, "start", start)
    monkeypatch.setattr(ui.TerminalProgress, "__exit__", leave)
    for name in ("advance", "finish"):
        monkeypatch.setattr(ui.TerminalProgress, name, lambda *about: None)
    name = write("rows.jsonl", GOOD)
    launch("data", "check", name, "--format", "embedder", "--fix", "out", "--jobs", "3")
    launch("data", "convert", name, "--format", "embedder", "--output", "more.jsonl")
    assert forked == [3, 3, crews.cores()]


def test_processes_for_the_time_that_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    for cores, quota, wanted in ((8, None, 8), (8, 1.5, 2), (8, 0.1, 1), (2, 6.0, 2)):
        found = Cpu(name="", flags=frozenset(), cores=cores, quota=quota)
        monkeypatch.setattr("launcher.host.cpu.facts", lambda found=found: found)
        assert crews.cores() == wanted


def test_token_lengths_against_the_recipe(launch: Launch) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel({"a": 0, "[UNK]": 1}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save("tokenizer.json")
    name = write("rows.jsonl", *({**GOOD, "query": f"{n}", "pos": ["a " * (n * 10)]} for n in range(1, 21)))
    asked = (
        "--recipe",
        "bge-m3-unified",
        "--model",
        "tokenizer.json",
        "--set",
        "passage_max_len=100",
        "--json",
    )
    result = json.loads(launch("data", "check", name, *asked).stdout)
    (pos,) = [each for each in result["profile"]["lengths"] if each["field"] == "pos"]
    assert (pos["unit"], pos["limit"], pos["most"], pos["longer"]) == ("tokens", 100, 200, 0.5)
    (finding,) = [each for each in result["findings"] if each["rule"] == "too-long"]
    assert finding["places"][0]["text"] == "50.0% have more than 100 tokens (95 %: 29.9% to 70.1%)"


def test_a_repaired_copy(launch: Launch) -> None:
    name = write("rows.jsonl", GOOD, {**GOOD, "query": "r", "pos": "p"}, {**GOOD, "query": 1})
    result = launch("data", "check", name, "--format", "embedder", "--fix", "out")
    assert result.exit_code == 0
    assert "out: 2 rows, 1 of them changed, 1 left out; fix.log says which" in result.stdout
    assert launch("data", "check", "out", "--format", "embedder").exit_code == 0
    before = Path("out/rows.jsonl").read_bytes()
    with pytest.raises(OutputError, match="there already"):
        launch("data", "check", name, "--format", "embedder", "--fix", "out")
    assert Path("out/rows.jsonl").read_bytes() == before


def test_what_no_row_can_mend_remains(launch: Launch) -> None:
    name = write("rows.jsonl", GOOD, {**GOOD, "query": "r", "type": "normal"})
    with pytest.raises(DataError, match="1 error remains"):
        launch("data", "check", name, "--format", "embedder", "--fix", "out")
    assert Path("out/fix.log").is_file()


def test_convert_says_how_it_understood_the_columns(launch: Launch) -> None:
    name = write("pairs.jsonl", {"anchor": "a", "positive": "p"}, {"anchor": "b"})
    result = launch("data", "convert", name, "--format", "embedder", "--output", "rows.jsonl")
    assert "rows.jsonl: 1 rows, 1 records left out" in result.stdout
    for text in ("query is anchor: a usual name of it", "pairs.jsonl:2: no pos", "mine-hard-negatives"):
        assert text in result.stderr
    with pytest.raises(OutputError):
        launch("data", "convert", name, "--format", "embedder", "--output", "rows.jsonl")
    mapped = ("--map", "query=positive", "--map", "pos=anchor", "--json")
    result = launch("data", "convert", name, "--format", "retrieval", "--output", "more.jsonl", *mapped)
    found = json.loads(result.stdout)
    assert (found["schema"], found["rows"], found["skipped"], found["errors"]) == (1, 1, 1, 0)
    assert json.loads(Path("more.jsonl").read_text()) == {"query": "p", "pos": ["a"]}


def test_split(launch: Launch) -> None:
    name = write("rows.jsonl", *({**GOOD, "query": f"q{n}", "pos": [f"p{n}"]} for n in range(50)))
    result = launch("data", "split", name, "--output", "out", "--dev", "0.2")
    assert "out: 40 rows for train, 10 for dev (20.0%), from 50 groups" in result.stdout
    found = json.loads(launch("data", "split", name, "--output", "more", "--json").stdout)
    assert (found["train"], found["dev"]) == (45, 5)
    with pytest.raises(DataError, match="these cannot be split"):
        launch("data", "split", "nowhere.jsonl", "--output", "never")


def test_split_of_a_folder_of_links(launch: Launch) -> None:
    """As the caches of model hubs have them: no container could follow them, and no container has to."""
    blob = Path(
        write("blob.jsonl", *({"messages": [{"role": "user", "content": f"u{n}"}]} for n in range(9)))
    )
    folder = Path("snapshot")
    folder.mkdir()
    (folder / "rows.jsonl").symlink_to(blob.absolute())
    asked = ("data", "split", str(folder), "--output", "out", "--dev", "0.3", "--format", "sft")
    assert launch(*asked).exit_code == 0
    out = launch("data", "check", str(folder), "--format", "texts").stdout
    assert "warning link-outside" in out
    with pytest.raises(DataError, match="cannot be trained on"):
        data.check((folder,), Rules(format="texts"))


def test_no_split_of_a_set_in_beirs_layout(launch: Launch) -> None:
    folder = Path("set")
    folder.mkdir()
    write("set/corpus.jsonl", {"_id": "1", "text": "p"})
    write("set/queries.jsonl", {"_id": "a", "text": "q"})
    (folder / "qrels.test.tsv").write_text("query-id\tcorpus-id\tscore\na\t1\t1\n")
    with pytest.raises(DataError, match="BEIR's layout cannot be split") as caught:
        launch("data", "split", "set", "--output", "out", "--format", "retrieval")
    assert caught.value.hint is not None
    assert "launch data convert" in caught.value.hint
