"""launch data: what is printed, as text and as JSON, and how it ends."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from launcher import cli
from launcher.app.rules import rules_of
from launcher.data import RULES, Rules
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
    assert rules_of("embedder", values) == Rules(
        format="embedder", scores=True, unified=True, same_dataset=False, group_size=8
    )
    assert rules_of("texts", {"length_bucketing": "true"}).same_dataset


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
