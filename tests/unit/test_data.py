"""launcher.data: what the trainer would trip over, or silently learn from, is a problem with its place."""

import contextlib
import hashlib
import json
import string
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher import data
from launcher.data import Rules
from launcher.data.values import leading_null
from launcher.errors import DataError

GOOD: dict[str, Any] = {"query": "q", "pos": ["p"], "neg": ["n1", "n2"]}
SCORED: dict[str, Any] = {**GOOD, "pos_scores": [1.5], "neg_scores": [0.5, 0]}

EMBEDDER = Rules(format="embedder")
DISTILL = Rules(format="embedder", scores=True)


def without(row: dict[str, Any], *fields: str) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key not in fields}


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    def file(*rows: Any, name: str = "train.jsonl") -> Path:
        path = tmp_path / name
        lines = (
            row if isinstance(row, bytes) else json.dumps(row, ensure_ascii=False).encode() for row in rows
        )
        path.write_bytes(b"".join(line + b"\n" for line in lines))
        return path

    return file


def problems_of(path: Path, rules: Rules = EMBEDDER) -> list[str]:
    with pytest.raises(DataError) as caught:
        data.check((path,), rules)
    return [problem.removeprefix(f"{path}:") for problem in caught.value.problems]


# What upstream does with each of these: an exception in the middle of the training, or nothing at all.
BAD: dict[str, tuple[Any, Rules, str]] = {
    "neg missing": (without(GOOD, "neg"), EMBEDDER, "2: neg: missing"),
    "neg empty": ({**GOOD, "neg": []}, EMBEDDER, "2: neg: an empty list"),
    "neg null": ({**GOOD, "neg": None}, EMBEDDER, "2: neg: a list of texts, not null"),
    "pos missing": (without(GOOD, "pos"), EMBEDDER, "2: pos: missing"),
    "pos empty": ({**GOOD, "pos": []}, EMBEDDER, "2: pos: an empty list"),
    "pos a string": ({**GOOD, "pos": "p"}, EMBEDDER, '2: pos: a list of texts, not one text: write ["…"]'),
    "null inside neg": ({**GOOD, "neg": ["n", None]}, EMBEDDER, "2: neg[1]: a text, not null"),
    "empty text inside neg": ({**GOOD, "neg": ["n", " "]}, EMBEDDER, "2: neg[1]: empty"),
    "number inside pos": ({**GOOD, "pos": [7]}, EMBEDDER, "2: pos[0]: a text, not a number"),
    "query missing": (without(GOOD, "query"), EMBEDDER, "2: query: missing"),
    "query empty": ({**GOOD, "query": "\t"}, EMBEDDER, "2: query: empty"),
    "query a list": ({**GOOD, "query": ["q"]}, EMBEDDER, "2: query: a text, not a list"),
    "prompt a number": ({**GOOD, "prompt": 1}, EMBEDDER, "2: prompt: a text, not a number"),
    "distillation, no pos_scores": (
        without(SCORED, "pos_scores"),
        DISTILL,
        "2: pos_scores: missing, and distillation is on",
    ),
    "distillation, no neg_scores": (
        without(SCORED, "neg_scores"),
        DISTILL,
        "2: neg_scores: missing, and distillation is on",
    ),
    "scores shorter than texts": (
        {**SCORED, "neg_scores": [0.5]},
        DISTILL,
        "2: neg_scores: 1 scores for 2 texts",
    ),
    "scores longer, distillation off": (
        {**SCORED, "pos_scores": [1, 2]},
        EMBEDDER,
        "2: pos_scores: 2 scores for 1 texts",
    ),
    "scores are strings": (
        {**SCORED, "pos_scores": ["1.5"]},
        DISTILL,
        "2: pos_scores[0]: a number, not a text",
    ),
    "a score is true": (
        {**SCORED, "pos_scores": [True]},
        DISTILL,
        "2: pos_scores[0]: a number, not true/false",
    ),
    "scores not a list": (
        {**SCORED, "pos_scores": 1},
        DISTILL,
        "2: pos_scores: a list of numbers, not a number",
    ),
    "a score is NaN": (
        {**SCORED, "pos_scores": [float("nan")]},
        DISTILL,
        "2: pos_scores[0]: a finite number, not nan",
    ),
    "a score is infinite": (
        {**SCORED, "neg_scores": [1, float("-inf")]},
        DISTILL,
        "2: neg_scores[1]: a finite number, not -inf",
    ),
    "truncated JSON": (b'{"query": "q", "pos": ["p"', EMBEDDER, "2: not JSON: "),
    "not an object": ([GOOD], EMBEDDER, "2: a row is an object, not a list"),
    "not UTF-8": (b'{"query": "caf\xe9"}', EMBEDDER, "2: not UTF-8: "),
    "half a character": (
        b'{"query": "\\ud800", "pos": ["p"], "neg": ["n"]}',
        EMBEDDER,
        "2: half a surrogate",
    ),
    "a number without end": (
        b'{"query": ' + b"1" * 5000 + b"}",
        EMBEDDER,
        "2: not JSON that a trainer reads",
    ),
    "brackets without end": (b"[" * 100_000, EMBEDDER, "2: not JSON that a trainer reads"),
    "retrieval: neither": ({"x": "y"}, Rules(format="retrieval"), "2: neither query nor text"),
    "retrieval: no answer": ({"query": "q"}, Rules(format="retrieval"), "2: pos: missing"),
    "retrieval: empty text": ({"text": ""}, Rules(format="retrieval"), "2: text: empty"),
    "retrieval: neg a text": (
        {"query": "q", "pos": ["p"], "neg": "n"},
        Rules(format="retrieval"),
        '2: neg: a list of texts, not one text: write ["…"]',
    ),
    "retrieval: title a list": (
        {"_id": "1", "title": [], "text": "t"},
        Rules(format="retrieval"),
        "2: title: a text, not a list",
    ),
    "retrieval: neither title nor text": (
        {"_id": "1", "title": " ", "text": ""},
        Rules(format="retrieval"),
        "2: text: empty",
    ),
    "retrieval: an id that is none": (
        {"_id": None, "text": "t"},
        Rules(format="retrieval"),
        "2: _id: a text, not null",
    ),
    "texts: none": ({"n": 1, "l": []}, Rules(format="texts"), "2: holds no text"),
}


@pytest.mark.parametrize(("row", "rules", "problem"), BAD.values(), ids=BAD.keys())
def test_bad_row_is_found_with_line_and_field(
    write: Callable[..., Path], row: Any, rules: Rules, problem: str
) -> None:
    found = problems_of(write({**SCORED, "text": "t"}, row), rules)
    assert len(found) == 1
    assert found[0].startswith(problem)


@pytest.mark.parametrize("format_", ["embedder", "reranker"])
def test_good_rows(write: Callable[..., Path], format_: str) -> None:
    rows = [{**SCORED, "prompt": None, "type": "normal", "more": 1}, GOOD, {**GOOD, "pos_scores": None}]
    (file,) = data.check((write(*rows),), Rules(format=format_))
    assert file.rows == 3


def test_rows_of_other_formats(write: Callable[..., Path]) -> None:
    retrieval = write({"query": "q", "pos": ["p"]}, {"id": "1", "text": "t"}, name="r.jsonl")
    assert data.check((retrieval,), Rules(format="retrieval"))[0].rows == 2
    texts = write({"messages": [{"role": "user"}]}, {"text": "t"}, name="t.jsonl")
    assert data.check((texts,), Rules(format="texts"))[0].rows == 2


RETRIEVAL = Rules(format="retrieval")


@pytest.fixture
def beir(tmp_path: Path) -> Path:
    """A folder in BEIR's layout, with judgements in both places that are in use."""
    folder = tmp_path / "set"
    (folder / "qrels").mkdir(parents=True)
    (folder / "corpus.jsonl").write_text('{"_id": "d1", "title": "only a title", "text": ""}\n')
    (folder / "queries.jsonl").write_text('{"_id": "q1", "text": "what"}\n{"_id": 2, "text": "why"}\n')
    for name in ("qrels/test.tsv", "qrels.dev.tsv"):
        (folder / name).write_text("query-id\tcorpus-id\tscore\nq1\td1\t2\n2\td1\t0\n")
    (folder / "notes.tsv").write_text("not judgements")
    return folder


def test_a_folder_in_the_layout_of_beir(beir: Path) -> None:
    found = data.check((beir,), RETRIEVAL)
    assert [(str(file.path.relative_to(beir)), file.rows) for file in found] == [
        ("corpus.jsonl", 1),
        ("queries.jsonl", 2),
        ("qrels/test.tsv", 2),
        ("qrels.dev.tsv", 2),
    ]
    assert all(file.sha256 == data.fingerprint(file.path) for file in found)
    report = data.inspect((beir,), RETRIEVAL, data.Wanted())
    assert not report.groups  # numbers beside texts as ids: nobody makes columns of these rows
    files = (beir / "corpus.jsonl", beir / "queries.jsonl", beir / "qrels" / "test.tsv")
    assert [file.path for file in data.check(files, RETRIEVAL)] == list(files)
    # judgements mean nothing to a trainer
    assert len(data.check((beir,), Rules(format="texts"))) == 2
    with pytest.raises(DataError, match="cannot be trained on"):
        data.check(files, Rules(format="texts"))


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"q1\td1\t1\nq2\td1\t1\n", "1: the first line is query-id, corpus-id, score"),
        (b"query-id\tcorpus-id\tscore\nq1 d1 1\n", "2: 1 columns: query-id, corpus-id and score"),
        (b"query-id\tcorpus-id\tscore\nq1\t0\td1\t1\n", "2: 4 columns: query-id, corpus-id and score"),
        (b"query-id\tcorpus-id\tscore\nq1\t\t1\n", "2: 3 columns: query-id, corpus-id and score"),
        (b"query-id\tcorpus-id\tscore\nq1\td1\tgood\n", "2: score: a whole number, not 'good'"),
        (b"query-id\tcorpus-id\tscore\nq\xe9\td1\t1\n", "2: not UTF-8"),
        (b"query-id\tcorpus-id\tscore\n", " no rows"),
    ],
)
def test_bad_judgements_are_found_with_their_line(tmp_path: Path, content: bytes, problem: str) -> None:
    path = tmp_path / "qrels.tsv"
    path.write_bytes(content)
    (found,) = problems_of(path, RETRIEVAL)
    assert found.startswith(problem)


def test_a_link_out_of_a_folder_of_judgements(beir: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere.tsv").write_text("query-id\tcorpus-id\tscore\nq1\td1\t1\n")
    (beir / "qrels" / "train.tsv").symlink_to(tmp_path / "elsewhere.tsv")
    with pytest.raises(DataError) as caught:
        data.check((beir,), RETRIEVAL)
    assert "a link out of the folder" in caught.value.problems[0]


def test_rows_to_mine_from_need_no_negatives(write: Callable[..., Path]) -> None:
    rows = [{"query": "q", "pos": ["p"]}, {"query": "q", "pos": ["p"], "neg": []}, GOOD]
    assert data.check((write(*rows),), RETRIEVAL)[0].rows == 3


def test_hash_size_and_rows(write: Callable[..., Path]) -> None:
    path = write(GOOD, b"", b"  ", GOOD)
    (file,) = data.check((path,), EMBEDDER)
    content = path.read_bytes()
    assert (file.rows, file.size) == (2, len(content))
    assert file.sha256 == hashlib.sha256(content).hexdigest() == data.fingerprint(path)


def test_last_line_without_newline_counts(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps(GOOD))
    assert data.check((path,), EMBEDDER)[0].rows == 1


def test_mark_at_the_start_is_passed_over_and_hashed(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(GOOD).encode() + b"\n")
    (file,) = data.check((path,), EMBEDDER)
    assert file.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_utf_16_is_not_guessed(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(json.dumps(GOOD).encode("utf-16"))
    assert problems_of(path)[0].startswith("1: not UTF-8")


def test_folder_in_stable_order(write: Callable[..., Path], tmp_path: Path) -> None:
    for name in ("b.jsonl", "a.json", "notes.txt", "c.jsonl"):
        write(GOOD, name=name)
    (tmp_path / "d.jsonl").mkdir()
    assert [file.path.name for file in data.check((tmp_path,), EMBEDDER)] == ["a.json", "b.jsonl", "c.jsonl"]


def test_a_colon_in_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a:b").mkdir()
    (tmp_path / "a:b" / "rows.jsonl").write_text("{}\n")
    monkeypatch.chdir(tmp_path / "a:b")
    with pytest.raises(DataError) as caught:
        data.check((Path("rows.jsonl"),), EMBEDDER)
    assert "colon" in caught.value.problems[0]


def test_files_that_cannot_be_data(write: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "with:colon").mkdir()
    given_ = (
        tmp_path / "nowhere.jsonl",
        write(GOOD, name="a.csv"),
        write(GOOD, name="a:b.jsonl"),
        tmp_path / "with:colon",
        tmp_path / "empty",
        write(name="nothing.jsonl"),
        write(b"", b"   ", name="blank.jsonl"),
    )
    with pytest.raises(DataError) as caught:
        data.check(given_, EMBEDDER)
    expected = [
        "does not exist",
        ".jsonl and .json files only",
        "colon",
        "colon",
        "no .jsonl",
        "no rows",
        "no rows",
    ]
    assert len(caught.value.problems) == len(expected)
    for path, text, problem in zip(given_, expected, caught.value.problems, strict=True):
        assert problem.startswith(f"{path}: ")
        assert text in problem


def test_unreadable_file(write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(GOOD)

    def refuse(*args: object, **kwargs: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(DataError) as caught:
        data.check((path,), EMBEDDER)
    assert caught.value.problems == (f"{path}: cannot be read: Permission denied",)


def test_problems_are_cut_and_counted(write: Callable[..., Path]) -> None:
    path = write(*[{**GOOD, "neg": []}] * (data.SHOWN + 30))
    with pytest.raises(DataError) as caught:
        data.check((path,), EMBEDDER)
    assert len(caught.value.problems) == data.SHOWN + 1
    assert caught.value.problems[-1] == "… and 30 more"
    assert f"({data.SHOWN + 30} problems)" in caught.value.message
    assert "embedder" in caught.value.hint


def test_all_problems_of_a_row_and_of_all_files(write: Callable[..., Path]) -> None:
    first, second = write({"query": ""}, name="a.jsonl"), write({**GOOD, "pos": "p"}, name="b.jsonl")
    with pytest.raises(DataError) as caught:
        data.check((first, second), EMBEDDER)
    assert [problem.rsplit("/", 1)[1] for problem in caught.value.problems] == [
        "a.jsonl:1: query: empty",
        "a.jsonl:1: pos: missing",
        "a.jsonl:1: neg: missing",
        'b.jsonl:1: pos: a list of texts, not one text: write ["…"]',
    ]


@pytest.mark.parametrize("name", ["x_no_in_batch_neg.jsonl", "x_no_in_batch_neg/a.jsonl"])
def test_unified_refuses_files_without_in_batch_negatives(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(GOOD))
    assert data.check((path,), EMBEDDER)[0].rows == 1
    with pytest.raises(DataError, match="1 problem\\)") as caught:
        data.check((path,), Rules(format="embedder", unified=True))
    assert "constant loss" in caught.value.problems[0]


def test_fingerprint_of_nothing(tmp_path: Path) -> None:
    assert data.fingerprint(tmp_path / "nowhere") == ""
    assert data.fingerprint(tmp_path) == ""


# ------------------------------------------------------------------------------------------ properties
def json_of(texts: st.SearchStrategy[str], integers: st.SearchStrategy[int]) -> st.SearchStrategy[Any]:
    return st.recursive(
        st.none() | st.booleans() | integers | st.floats() | texts,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
        max_leaves=8,
    )


json_values = json_of(st.text(max_size=5), st.integers())
fields = ("query", "pos", "neg", "pos_scores", "neg_scores", "prompt", "text")
rows_of_anything = st.dictionaries(st.sampled_from(fields) | st.text(max_size=5), json_values, max_size=7)
all_rules = st.builds(
    Rules,
    format=st.sampled_from(["embedder", "reranker", "retrieval", "texts"]),
    scores=st.booleans(),
    unified=st.booleans(),
)


@given(lines=st.lists(json_values | rows_of_anything, max_size=4), rules=all_rules)
def test_any_json_is_judged_without_another_exception(
    tmp_path_factory: pytest.TempPathFactory, lines: list[Any], rules: Rules
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.jsonl"
    path.write_text("\n".join(json.dumps(line) for line in lines))
    _check_or_data_error(path, rules)


@given(content=st.binary(max_size=60), rules=all_rules)
def test_any_bytes_are_judged_without_another_exception(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, rules: Rules
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.jsonl"
    path.write_bytes(content)
    _check_or_data_error(path, rules)


def _check_or_data_error(path: Path, rules: Rules) -> None:
    with contextlib.suppress(DataError):
        (file,) = data.check((path,), rules)
        assert file.rows > 0
        assert file.sha256 == data.fingerprint(path)


characters = st.characters(exclude_categories=["Cs"])  # halves of surrogate pairs are refused
words = st.text(characters, min_size=1, max_size=8).filter(str.strip)
extra_columns = st.dictionaries(
    st.text(string.ascii_uppercase, min_size=1),
    json_of(st.text(characters, max_size=5), st.integers(-(2**63), 2**63 - 1)),
    max_size=2,
).filter(lambda row: not leading_null(row, ()))
scores = st.floats(-1e6, 1e6) | st.integers(-1000, 1000)


@st.composite
def good_rows(draw: st.DrawFn) -> dict[str, Any]:
    row: dict[str, Any] = {"query": draw(words)}
    texts = draw(st.lists(words, min_size=2, max_size=8, unique=True))
    half = draw(st.integers(1, len(texts) - 1))
    for field in ("pos", "neg"):
        row[field] = texts[:half] if field == "pos" else texts[half:]
        size = len(row[field])
        row[f"{field}_scores"] = draw(st.lists(scores, min_size=size, max_size=size))
    return row | draw(extra_columns)


@given(rows=st.lists(good_rows(), min_size=1, max_size=5), ascii_only=st.booleans())
def test_every_valid_row_is_accepted(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]], ascii_only: bool
) -> None:
    path = tmp_path_factory.getbasetemp() / "good.jsonl"
    path.write_text(
        "".join(json.dumps(row, ensure_ascii=ascii_only) + "\n" for row in rows), encoding="utf-8"
    )
    (file,) = data.check((path,), DISTILL)
    assert file.rows == len(rows)
