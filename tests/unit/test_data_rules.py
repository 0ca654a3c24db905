"""launcher.data: every rule is found where it should be, by the careful and by the quick judge alike."""

import gzip
import json
import tracemalloc
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher import data
from launcher.app.rules import rules_of
from launcher.data import RULES, Report, Rules, Wanted, inspection, rules, streams
from launcher.data.blocks import blocks
from launcher.data.columns import TEXTS
from launcher.data.duplicates import Keys
from launcher.data.inspection import inspect
from launcher.data.rows import judge_row
from launcher.data.scan import Job, Part, scan
from tests.data_cases import any_line, any_rules, rows_nearby

GOOD: dict[str, Any] = {"query": "q", "pos": ["p"], "neg": ["n1", "n2"]}
EMBEDDER = Rules(format="embedder")
SFT = Rules(format="sft")
GRPO = Rules(format="grpo")
SYSTEM = {"role": "system", "content": "s"}
USER, ASSISTANT = {"role": "user", "content": "u"}, {"role": "assistant", "content": "a"}


def said(*messages: Any) -> dict[str, Any]:
    return {"messages": list(messages)}


def line(row: Any) -> bytes:
    return row if isinstance(row, bytes) else json.dumps(row, ensure_ascii=False).encode()


def lines(*rows: Any) -> bytes:
    return b"".join(line(row) + b"\n" for row in rows)


#: Rule -> content of a file, rules, and where it is found. Rules about paths and whole runs are tested below.
CASES: dict[str, tuple[bytes, Rules, str]] = {
    "file-empty": (b"\n", EMBEDDER, " no rows"),
    "json-array": (b"[" + line(GOOD) + b"]", EMBEDDER, " a JSON array"),
    "not-utf8": (lines(GOOD, b'{"query": "\xe9"}'), EMBEDDER, "2: not UTF-8"),
    "not-json": (lines(GOOD, b"{"), EMBEDDER, "2: not JSON"),
    "not-object": (lines(GOOD, [1]), EMBEDDER, "2: a row is an object"),
    "half-character": (lines(b'{"query": "\\udc00", "pos": ["p"], "neg": ["n"]}'), EMBEDDER, "1: half"),
    "key-repeated": (
        lines(b'{"query": "a", "query": "q", "pos": ["p"], "neg": ["n"]}'),
        EMBEDDER,
        "1: query",
    ),
    "number-range": (
        lines(b'{"query": "q", "pos": ["p"], "neg": ["n"], "x": [{"y": 1e999}]}'),
        EMBEDDER,
        "1: a number beyond",
    ),
    "blank-line": (lines(GOOD, b" \t\r", {**GOOD, "query": "r"}), EMBEDDER, "2: a blank line"),
    "bom": (b"\xef\xbb\xbf" + lines(GOOD), EMBEDDER, "1: a byte order mark"),
    "row-repeated": (
        lines(GOOD, {**GOOD, "query": "r"}, {**GOOD, "id": 1}),
        EMBEDDER,
        "3: the same row as line 1",
    ),
    "text-as-time": (lines({**GOOD, "query": "2020-01-01"}), EMBEDDER, " query: only dates"),
    "list-null-first": (
        lines(GOOD, {**GOOD, "query": "r", "x": {"y": [None, "a"]}}),
        EMBEDDER,
        "2: x.y: begins with null",
    ),
    "column-mixed": (lines({**GOOD, "x": 1}, {**GOOD, "query": "r", "x": "a"}), EMBEDDER, "2: x: "),
    "query-missing": (lines({"pos": ["p"], "neg": ["n"]}), EMBEDDER, "1: query: missing"),
    "query-type": (lines({**GOOD, "query": 1}), EMBEDDER, "1: query: a text, not a number"),
    "query-empty": (lines({**GOOD, "query": "\u3000"}), EMBEDDER, "1: query: empty"),
    "pos-missing": (lines({"query": "q", "neg": ["n"]}), EMBEDDER, "1: pos: missing"),
    "pos-string": (lines({**GOOD, "pos": "p"}), EMBEDDER, "1: pos: a list of texts, not one"),
    "pos-type": (lines({**GOOD, "pos": None}), EMBEDDER, "1: pos: a list of texts, not null"),
    "pos-empty": (lines({**GOOD, "pos": []}), EMBEDDER, "1: pos: an empty list"),
    "neg-missing": (lines({"query": "q", "pos": ["p"]}), EMBEDDER, "1: neg: missing"),
    "neg-string": (lines({**GOOD, "neg": "p"}), EMBEDDER, "1: neg: a list of texts, not one"),
    "neg-type": (lines({**GOOD, "neg": {}}), EMBEDDER, "1: neg: a list of texts, not an object"),
    "neg-empty": (lines({**GOOD, "neg": []}), EMBEDDER, "1: neg: an empty list"),
    "neg-few": (lines(GOOD), Rules(format="embedder", group_size=4), "1: neg: 2, and a group takes 3"),
    "text-null": (lines({**GOOD, "neg": ["n", None]}), EMBEDDER, "1: neg[1]: a text, not null"),
    "text-type": (lines({**GOOD, "pos": [["p"]]}), EMBEDDER, "1: pos[0]: a text, not a list"),
    "text-empty": (lines({**GOOD, "pos": ["p", ""]}), EMBEDDER, "1: pos[1]: empty"),
    "pos-in-neg": (lines({**GOOD, "neg": ["n", "p"]}), EMBEDDER, "1: neg[1]: the same text as pos[0]"),
    "text-repeated": (lines({**GOOD, "neg": ["n", "n"]}), EMBEDDER, "1: neg[1]: the same text as neg[0]"),
    "prompt-type": (lines({**GOOD, "prompt": ["p"]}), EMBEDDER, "1: prompt: a text"),
    "scores-missing": (
        lines({**GOOD, "pos_scores": [1]}),
        Rules(format="embedder", scores=True),
        "1: neg_scores",
    ),
    "scores-mixed": (
        lines(GOOD, {**GOOD, "query": "r"}, {**GOOD, "query": "s", "pos_scores": [1], "neg_scores": [0, 0]}),
        EMBEDDER,
        "3: 1 rows with teacher scores, 2 without",
    ),
    "scores-type": (lines({**GOOD, "pos_scores": 1}), EMBEDDER, "1: pos_scores: a list"),
    "scores-number": (lines({**GOOD, "pos_scores": ["1"]}), EMBEDDER, "1: pos_scores[0]: a number"),
    "scores-finite": (lines({**GOOD, "pos_scores": [float("nan")]}), EMBEDDER, "1: pos_scores[0]: a finite"),
    "scores-length": (lines({**GOOD, "neg_scores": [1]}), EMBEDDER, "1: neg_scores: 1 scores for 2"),
    "batch-size": (lines({**GOOD, "batch_size": 0}), EMBEDDER, "1: batch_size: a whole number"),
    "first-row": (lines(GOOD, {**GOOD, "query": "r", "type": "normal"}), EMBEDDER, " type: a text in other"),
    "row-unknown": (lines({"x": "y"}), SFT, "1: neither messages"),
    "passage-empty": (lines({"text": " "}), Rules(format="plain"), "1: text: empty"),
    "field-type": (lines({"text": 1}), Rules(format="plain"), "1: text: a text"),
    "messages-type": (lines({"messages": "hi"}), SFT, "1: messages: a list of messages"),
    "messages-empty": (lines(said()), SFT, "1: messages: an empty list"),
    "role-unknown": (lines(said({"role": "robot", "content": "x"})), SFT, "1: messages[0].role: a role"),
    "content-type": (lines(said({**USER, "content": 1}, ASSISTANT)), SFT, "1: messages[0].content: a text"),
    "answer-empty": (lines(said(USER, {**ASSISTANT, "content": ""})), SFT, "1: messages[1].content: empty"),
    "answer-missing": (lines(said(USER)), SFT, "1: messages: no message of the assistant"),
    "question-empty": (lines({"instruction": "", "output": "a"}), SFT, "1: instruction: empty"),
    "answer-not-last": (lines(said(USER, ASSISTANT, USER)), SFT, "1: messages[2]: the last message"),
    "roles-order": (lines(said(USER, USER, ASSISTANT)), SFT, "1: messages[1]: user twice"),
    "prompt-missing": (lines({"question": "q"}), GRPO, "1: prompt: missing"),
    "prompt-empty": (lines({"prompt": [SYSTEM]}), GRPO, "1: prompt: no message of the user"),
    "reference-missing": (
        lines({"prompt": "q", "answer": ["a", " "]}),
        Rules(format="grpo", reference="answer"),
        "1: answer: empty",
    ),
    "prompt-answered": (lines({"prompt": [USER, ASSISTANT]}), GRPO, "1: prompt[1]: the last message"),
    "column-taken": (lines({"prompt": "q", "completions": 1}), GRPO, "1: completions: a name"),
    "nul": (lines({**GOOD, "query": "a\0"}), EMBEDDER, "1: query: holds a NUL"),
    "replacement-character": (lines({**GOOD, "query": "a\ufffd"}), EMBEDDER, "1: query: holds U+FFFD"),
    "mojibake": (lines({**GOOD, "pos": ["cafÃ©"]}), EMBEDDER, "1: pos[0]: 'Ã©'"),
    "bom-inside": (lines({**GOOD, "query": "\ufeffq"}), EMBEDDER, "1: query: holds a byte order"),
}
#: Rules that no single row or file shows: paths, several files, large files, runs; tested one by one.
ELSEWHERE = {
    *(
        "path-missing",
        "path-colon",
        "path-link",
        "link-outside",
        "file-kind",
        "convert-first",
        "file-unreadable",
    ),
    *("file-damaged", "file-changed", "no-in-batch-unified", "never-trained", "line-long", "column-late"),
    *("column-files", "too-long", "judgement"),
}


def found_in(path: Path, rules_: Rules = EMBEDDER, **wanted: Any) -> dict[str, list[str]]:
    report = inspect((path,), rules_, Wanted(**wanted))
    return {
        group.rule: [str(each).removeprefix(f"{path}:") for each in group.shown] for group in report.groups
    }


def test_every_rule_is_tested() -> None:
    assert set(CASES) | ELSEWHERE == set(RULES)
    assert not set(CASES) & ELSEWHERE


@pytest.mark.parametrize("rule", CASES)
def test_a_rule_and_no_other_error(tmp_path: Path, rule: str) -> None:
    content, rules_, place = CASES[rule]
    path = tmp_path / "rows.jsonl"
    path.write_bytes(content)
    found = found_in(path, rules_)
    assert found[rule][0].startswith(place)
    assert rules_.format in RULES[rule].formats
    others = {name for name in found if RULES[name].severity == "error"} - {rule}
    assert others <= {"file-empty"} if rule in ("not-json", "blank-line") else not others


#: Rules about the beginning of a file, or that only the careful judge sees.
NOT_QUICK = {"json-array", "bom", "text-as-time", "column-mixed", "key-repeated", "first-row"}


@pytest.mark.parametrize(
    "rule", [name for name, case in CASES.items() if case[1].format == "embedder" and name not in NOT_QUICK]
)
def test_the_quick_judge_leaves_it_to_the_careful_one(tmp_path: Path, rule: str) -> None:
    """The same findings in a file whose beginning is fine and known, where blocks are judged quickly."""
    content, rules_, _ = CASES[rule]
    scored = {"pos_scores": [1.5], "neg_scores": [0.5, 0]} if rules_.scores else {}
    first = lines(
        *(
            {**GOOD, **scored, "query": f"first {n}", "neg": ["a", "b", "c"][: 3 - len(scored) // 2]}
            for n in range(40)
        )
    )
    path = tmp_path / "rows.jsonl"
    path.write_bytes(first + content)
    part = Part(path=path, start=len(first), end=path.stat().st_size)
    careful = scan(Job(part=part, rules=rules_))
    quick = scan(
        Job(part=part, rules=rules_, known=inspection._peek(Part(path=path, start=0, end=len(first))))
    )
    assert quick.issues == careful.issues
    assert (quick.lines, quick.rows, quick.keys, quick.scored) == (
        careful.lines,
        careful.rows,
        careful.keys,
        careful.scored,
    )


@pytest.mark.parametrize("start", [1, 1.5])
def test_whole_numbers_beyond_64_bits(tmp_path: Path, start: float) -> None:
    """datasets 5.0 stops at one beside a column of several kinds; elsewhere it makes another number of it."""
    rows = [{**GOOD, "query": f"q{n}", "x": start} for n in range(20)]
    numbers = (2**63, 2**64 - 1, -(2**63), 2**64, -(2**63) - 1)
    path = tmp_path / "rows.jsonl"
    path.write_bytes(lines(*rows, *({**GOOD, "query": f"r{n}", "x": n} for n in numbers)))
    text = "a whole number beyond 64 bits"
    assert found_in(path)["number-range"] == [f"24: {text}", f"25: {text}"]
    part = Part(path=path, start=len(lines(*rows)), end=path.stat().st_size)
    known = inspection._peek(Part(path=path, start=0, end=part.start))
    assert scan(Job(part=part, rules=EMBEDDER, known=known)).issues["number-range"][0] == 2


@given(
    first=st.lists(rows_nearby, min_size=1, max_size=4),
    rest=st.lists(rows_nearby, max_size=6),
    rules_=st.builds(Rules, format=st.just("embedder"), scores=st.booleans(), group_size=st.integers(0, 4)),
)
def test_quick_and_careful_agree(
    tmp_path_factory: pytest.TempPathFactory, first: list[Any], rest: list[Any], rules_: Rules
) -> None:
    path = tmp_path_factory.getbasetemp() / "both.jsonl"
    start = lines(*first)
    path.write_bytes(start + lines(*rest))
    known = inspection._peek(Part(path=path, start=0, end=len(start)))
    part = Part(path=path, start=len(start), end=path.stat().st_size)
    quick, careful = scan(Job(part=part, rules=rules_, known=known)), scan(Job(part=part, rules=rules_))
    assert quick.issues == careful.issues
    assert quick.keys == careful.keys
    assert (quick.lines, quick.rows) == (careful.lines, careful.rows)
    # What the quick judge lets pass has columns and kinds that the beginning has too.
    seen = {(name, kind) for name, kinds in known for kind in kinds}
    assert set(careful.columns) - set(quick.columns) <= seen | {
        ("query", "text"),
        ("pos", "list"),
        ("neg", "list"),
    }


@pytest.mark.parametrize(
    ("row", "rule"),
    [
        ({"prompt": "q"}, None),
        ({"prompt": "q", "answer": 3, "tests": [{"x": None}]}, None),
        ({"prompt": [SYSTEM, USER], "answer": ["a", 1.5]}, None),
        ({"prompt": "  ", "answer": "a"}, "prompt-empty"),
        ({"prompt": None, "answer": "a"}, "prompt-missing"),
        ({"prompt": 7, "answer": "a"}, "content-type"),
        ({"prompt": [], "answer": "a"}, "messages-empty"),
        ({"prompt": ["q"], "answer": "a"}, "messages-type"),
        ({"prompt": [{"role": "robot", "content": "q"}], "answer": "a"}, "role-unknown"),
        ({"prompt": [{"role": "user", "content": None}], "answer": "a"}, "content-type"),
        ({"prompt": "q", "answer": None}, "reference-missing"),
        ({"prompt": "q", "answer": []}, "reference-missing"),
        ({"prompt": "q", "answer": True}, "reference-missing"),
    ],
)
def test_prompts_and_what_their_answers_are_compared_with(row: dict[str, Any], rule: str | None) -> None:
    exact = Rules(format="grpo", reference="answer")
    expected = ["reference-missing"] if rule is None and "answer" not in row else [rule] if rule else []
    assert [issue.rule for issue in judge_row(row, exact)] == expected
    assert [issue.rule for issue in judge_row(row, GRPO)] == [
        each for each in expected if each != "reference-missing"
    ]


@pytest.mark.parametrize(
    ("values", "column"),
    [
        ({"rewards": "", "reward_file": ""}, "answer"),  # what is on by itself
        ({"rewards": "", "reward_file": "mine.py"}, ""),
        ({"rewards": "format:0.5, exact:2", "reward_file": ""}, "answer"),
        ({"rewards": "format,exactly", "reward_file": "mine.py"}, ""),
        ({}, ""),
    ],
)
def test_which_column_the_rewards_need(values: dict[str, str], column: str) -> None:
    parameters = {**values, "answer_column": "answer"}
    assert rules_of("grpo", parameters, launch="torchrun").reference == column


# ------------------------------------------------------------------------------------------ files
def test_the_same_part_by_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However a file is divided, findings, lines and hash are the same."""
    path = tmp_path / "rows.jsonl"
    rows = [{**GOOD, "query": f"question {n}"} for n in range(300)]
    rows[150], rows[299] = {**GOOD, "query": 5}, rows[7]
    path.write_bytes(lines(*rows[:100], b"", *rows[100:])[:-1])
    whole = found_in(path)
    assert whole["row-repeated"] == ["301: the same row as line 8"]
    assert whole["query-type"] == ["152: query: a text, not a number"]
    monkeypatch.setattr(inspection, "HEAD", 700)
    monkeypatch.setattr(inspection, "STEP", 1111)
    monkeypatch.setattr(inspection, "_PEEK", 400)
    assert found_in(path) == whole
    report = inspect((path,), EMBEDDER, Wanted(hashes=True))
    assert report.files[0].rows == 300
    assert report.files[0].sha256 == data.fingerprint(path)


@given(
    content=st.lists(st.binary(max_size=9).map(lambda piece: piece.replace(b"\n", b"")), max_size=9),
    cuts=st.sets(st.integers(1, 60), max_size=4),
    size=st.integers(1, 20),
)
def test_blocks_give_every_line_once(
    tmp_path_factory: pytest.TempPathFactory, content: list[bytes], cuts: set[int], size: int
) -> None:
    text = b"\n".join(content)
    path = tmp_path_factory.getbasetemp() / "lines"
    path.write_bytes(text)
    edges = [0, *sorted(cut for cut in cuts if cut < len(text)), len(text)]
    with pytest.MonkeyPatch.context() as patch, path.open("rb") as stream:
        patch.setattr("launcher.data.blocks.BLOCK", size)
        found = []
        for start, end in pairwise(edges):
            stream.seek(0)
            found += [block for block in blocks(stream, start, end) if block is not None]
    assert b"".join(found) == text
    assert all(block.endswith(b"\n") for block in found[:-1])


def test_a_line_that_is_too_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("launcher.data.blocks.LONGEST", 300_000)
    path = tmp_path / "rows.jsonl"
    path.write_bytes(lines(GOOD, {**GOOD, "query": "long" * 200_000}, {**GOOD, "query": 1}))
    found = found_in(path)
    assert found["line-long"] == ["2: a line of more than 64 MiB"]
    assert found["query-type"] == ["3: query: a text, not a number"]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("before", [0, 1, 5])
def test_the_limit_of_a_line_is_exact(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: int, packed: bool
) -> None:
    monkeypatch.setattr("launcher.data.blocks.LONGEST", 1000)
    monkeypatch.setattr("launcher.data.blocks.BLOCK", 300)
    filled = [{**GOOD, "query": "x" * (size - len(line({**GOOD, "query": ""})))} for size in (1000, 1001)]
    first = [{**GOOD, "query": f"q{n}"} for n in range(before)]
    content = lines(*first, *filled)[:-1]
    path = tmp_path / ("rows.jsonl.gz" if packed else "rows.jsonl")
    path.write_bytes(gzip.compress(content) if packed else content)
    found = found_in(path)
    assert [each.partition(":")[0] for each in found["line-long"]] == [f"{before + 2}"]
    assert not {"column-late", "file-damaged"} & set(found)


def test_nothing_follows_from_a_beginning_that_was_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inspection, "HEAD", 2000)
    monkeypatch.setattr("launcher.data.blocks.LONGEST", 1500)
    path = tmp_path / "rows.jsonl"
    path.write_bytes(lines({**GOOD, "query": "x" * 3000}, *({**GOOD, "query": f"q{n}"} for n in range(40))))
    assert list(found_in(path)) == ["line-long"]


def test_columns_that_change_after_the_beginning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What datasets decides by the first 10 MiB: here by 2,000 bytes."""
    monkeypatch.setattr(inspection, "HEAD", 2000)
    start = [{**GOOD, "query": f"{n}", "x": 1, "y": None, "f": 1.5, "s": "a"} for n in range(40)]
    late = {**GOOD, "query": "late", "x": 1.5, "y": "a", "z": [1], "f": 2, "s": "2020-01-01"}
    path = tmp_path / "rows.jsonl"
    path.write_bytes(lines(*start, late))
    found = found_in(path)["column-late"]
    assert [each.partition(":")[2] for each in found] == [
        " x: a number here, and a whole number in the first 10 MiB",
        " y: a text here, and not there, or null or empty in the first 10 MiB",
        " z: a list here, and not there, or null or empty in the first 10 MiB",
    ]
    assert all(each.startswith("41:") for each in found)


def test_files_that_do_not_go_together(tmp_path: Path) -> None:
    one, other = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    one.write_bytes(lines({**GOOD, "x": 1, "pos_scores": [1], "neg_scores": [1, 2]}))
    other.write_bytes(
        lines({**GOOD, "query": "r", "x": "1", "pos_scores": [1.5], "neg_scores": [1, 2], "only": True})
    )
    report = inspect((one, other), EMBEDDER, Wanted())
    (group,) = [each for each in report.groups if each.error]
    assert [str(each) for each in group.shown] == [f"{other}:1: x: a text, and in {one} a whole number"]
    scored = inspect((one, other), Rules(format="embedder", scores=True), Wanted())
    assert {each.issue.field for group in scored.groups for each in group.shown if group.error} == {
        *("x", "pos_scores[]")
    }


def test_paths_for_a_run_and_for_a_check(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl.gz").write_bytes(gzip.compress(lines(GOOD)))
    (tmp_path / "broken.jsonl.gz").write_bytes(gzip.compress(lines(GOOD))[:-4])
    report = inspect((tmp_path / "rows.jsonl.gz",), EMBEDDER, Wanted())
    assert [group.rule for group in report.groups] == ["convert-first"]
    assert report.rows == 1
    for_run = inspect((tmp_path / "rows.jsonl.gz", tmp_path / "no*.jsonl"), EMBEDDER, Wanted(for_run=True))
    assert [group.rule for group in for_run.groups] == ["path-missing", "file-kind"]
    assert "launch data convert" in str(for_run.groups[1].shown[0])
    pattern = inspect((tmp_path / "*.gz",), EMBEDDER, Wanted())
    assert [group.rule for group in pattern.groups] == ["file-damaged", "convert-first"]


def test_what_is_no_file(tmp_path: Path) -> None:
    """Links to nothing and pipes, by name, behind a pattern and in a folder."""
    import os

    (tmp_path / "*.jsonl").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe.jsonl")
    (tmp_path / "rows.jsonl").write_bytes(lines(GOOD))
    for given_ in (tmp_path, tmp_path / "*.jsonl", tmp_path / "**" / "*.jsonl"):
        report = inspect((given_,), EMBEDDER, Wanted())
        assert {group.rule: str(group.shown[0]) for group in report.groups} == {
            "path-missing": f"{tmp_path}/*.jsonl: a link to nothing",
            "file-unreadable": f"{tmp_path}/pipe.jsonl: no regular file: "
            "write what comes out of it to a .jsonl file",
        }
        assert report.rows == 1
    for name in ("*.jsonl", "pipe.jsonl"):
        assert inspect((tmp_path / name,), EMBEDDER, Wanted(for_run=True)).count(errors=True) == 1


def test_a_file_that_changes_meanwhile(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(lines(GOOD))

    def work(function: Callable[[Any], Any], jobs: Any) -> Any:
        for job in jobs:
            yield function(job)
            with path.open("ab") as stream:
                stream.write(lines({**GOOD, "query": "r"}))

    report = inspect((path,), EMBEDDER, Wanted(repeated=False), work=work)  # type: ignore[arg-type]
    assert [group.rule for group in report.groups] == ["file-changed"]


def test_repeated_rows_in_several_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    from array import array

    monkeypatch.setattr("launcher.data.duplicates.PASS", 10)
    monkeypatch.setattr("launcher.data.duplicates._BLOCK", 7)
    values = [*range(-40, 40), 0, 5, 0, -3, 5]
    with Keys() as keys:
        for start in range(0, len(values), 9):
            keys.add(array("q", values[start : start + 9]))
        assert keys.repeated() == [37, 45, 81, 83, 84]


def test_many_findings_are_counted_and_the_first_kept(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(lines(*[{**GOOD, "neg": []}] * 50))
    (group, *_) = inspect((path,), EMBEDDER, Wanted(limit=3)).groups
    assert (group.rule, group.count, len(group.shown)) == ("neg-empty", 50, 3)
    assert inspect((path,), EMBEDDER, Wanted(limit=3)).count(errors=True) == 50


def test_warnings_are_a_few_notes(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    odd = {"query": "a\0 \ufffd \ufeff", "pos": ["Ã©"], "neg": ["n", "n"]}
    path.write_bytes(lines(odd, {**odd, "query": "b\0"}))
    notes: list[str] = []
    assert data.check((path,), EMBEDDER, notes=notes)[0].rows == 2
    assert len(notes) == 4
    assert notes[0] == f"data: {path}:1: neg[1]: the same text as neg[0], and 1 more (text-repeated)"
    assert notes[-1].startswith("data: also ")


def test_every_format_has_rules_and_an_example() -> None:
    assert set(TEXTS) <= set(rules.FORMATS)
    for name in rules.FORMATS:
        assert [rule for rule in RULES.values() if name in rule.formats]


# ------------------------------------------------------------------------------------------ any input
@given(content=st.lists(any_line, max_size=4), rules_=any_rules)
def test_any_input_has_an_outcome(
    tmp_path_factory: pytest.TempPathFactory, content: list[bytes], rules_: Rules
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.jsonl"
    path.write_bytes(b"\n".join(content))
    report: Report = inspect((path,), rules_, Wanted(sample=5))
    assert {group.rule for group in report.groups} <= set(RULES)
    assert all(group.count >= len(group.shown) > 0 for group in report.groups)


def test_of_a_packed_file_little_is_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "SHARE", 1 << 20)
    path, filler = tmp_path / "rows.jsonl.gz", "x" * 10_000
    rows = [*range(2_000), 1_234]
    with gzip.open(path, "wb", compresslevel=1) as packed:
        for number in rows:
            packed.write(lines({**GOOD, "query": f"{number} {filler}"}))
    tracemalloc.start()
    report = inspect((path,), EMBEDDER, Wanted(repeated=True))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert [
        str(finding) for group in report.groups for finding in group.shown if "same row" in str(finding)
    ] == [f"{path}:2001: the same row as line 1235"]
    assert most < len(filler) * len(rows) / 2
