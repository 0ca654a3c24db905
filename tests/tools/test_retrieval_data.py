"""retrieval_data: rows and BEIR's layout become one collection; what is wrong has its file and line."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import retrieval_data

HEADER = "query-id\tcorpus-id\tscore\n"


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    def file(name: str, *lines: Any) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
        return path

    return file


@pytest.fixture
def beir(tmp_path: Path, write: Callable[..., Path]) -> Path:
    """Two splits in one folder, and a file that is none of BEIR's."""
    write("set/corpus.jsonl", {"_id": "a", "title": "T", "text": "one"}, {"_id": "b", "text": "two"})
    write(
        "set/queries.jsonl", {"_id": "1", "text": "x"}, {"_id": "2", "text": "y"}, {"_id": "3", "text": "z"}
    )
    write("set/train.jsonl", {"query": "q", "pos": ["elsewhere"], "neg": ["nowhere"]})
    (tmp_path / "set/qrels").mkdir()
    (tmp_path / "set/qrels/dev.tsv").write_text(f"{HEADER}1\ta\t2\n1\tb\t0\n2\tb\t1\n")
    (tmp_path / "set/qrels.test.tsv").write_text(f"{HEADER}3\ta\t1\n")
    return tmp_path / "set"


def test_rows_and_a_corpus(write: Callable[..., Path]) -> None:
    rows = write(
        "rows.jsonl",
        {"query": "q1", "pos": ["one", "two"], "neg": ["three"], "prompt": "p"},
        {"query": "q2", "pos": ["not in the corpus"]},
    )
    corpus = write(
        "corpus.jsonl",
        {"text": "two"},
        {"title": "T", "text": "one"},
        {"text": "two"},
        {"id": 7, "text": "x"},
    )
    found = retrieval_data.read([rows, corpus])
    # a title is put in front; a row names the passage by its text alone; equal texts are one
    assert found.passages == ["two", "T one", "x", "not in the corpus"]  # what is wrong is not searched
    assert found.passage_ids == ["p0", "p1", "7", "p3"]
    assert found.grades == [{1: 1, 0: 1}, {3: 1}]
    assert found.rows[0]["prompt"] == "p"
    assert found.passages[1][found.bare[1] :] == "one"
    found = retrieval_data.read([rows, corpus], candidates=True)
    assert found.passages == ["two", "T one", "x", "three", "not in the corpus"]
    assert found.candidates == [[1, 0, 3], [4]]


def test_rows_alone_are_searched_in_their_own_passages(write: Callable[..., Path]) -> None:
    first, second = (
        {"query": "q", "pos": ["a"], "neg": ["b", "a2"]},
        {"query": "r", "pos": ["b"], "neg": None},
    )
    rows = write("folder/rows.jsonl", first, second)
    found = retrieval_data.read([rows.parent], limit=1)  # a folder is its files
    assert (found.queries, found.passages) == (["q"], ["a", "b", "a2"])


def test_a_folder_in_the_layout_of_beir(beir: Path) -> None:
    found = retrieval_data.read([beir], split="dev")
    assert found.queries == ["x", "y"]  # the third one is of another split
    assert found.query_ids == ["1", "2"]
    assert found.passages == ["T one", "two"]
    assert found.grades == [{0: 2}, {1: 1}]
    assert retrieval_data.read([beir], split="test").queries == ["z"]


def test_files_in_the_layout_of_beir(beir: Path) -> None:
    files = [beir / "corpus.jsonl", beir / "queries.jsonl", beir / "qrels.test.tsv", beir / "qrels/dev.tsv"]
    assert sorted(retrieval_data.read(files).query_ids) == ["1", "2", "3"]


@pytest.mark.parametrize(
    ("split", "message"),
    [
        ("", "several splits (dev, test): name one"),
        ("train", "no judgements of the split 'train'; there are: dev"),
    ],
)
def test_a_split_must_be_there_and_named(
    beir: Path, capsys: pytest.CaptureFixture[str], split: str, message: str
) -> None:
    with pytest.raises(SystemExit) as caught:
        retrieval_data.read([beir], split=split)
    assert caught.value.code == 64
    assert message in capsys.readouterr().err


def test_a_split_means_nothing_for_files(beir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        retrieval_data.read([beir / "train.jsonl"], split="dev")
    assert "for folders with judgements" in capsys.readouterr().err


def test_equal_texts_stay_apart_where_ids_name_them(write: Callable[..., Path], tmp_path: Path) -> None:
    corpus = write("corpus.jsonl", {"_id": "a", "text": "same"}, {"_id": "b", "text": "same"})
    queries = write("queries.jsonl", {"_id": "1", "text": "x"})
    (tmp_path / "qrels.tsv").write_text(f"{HEADER}1\tb\t1\n")
    found = retrieval_data.read([corpus, queries, tmp_path / "qrels.tsv"])
    assert found.grades == [{1: 1}]
    assert found.passages == ["same", "same"]


def problems(paths: list[Path]) -> list[str]:
    with pytest.raises(SystemExit) as caught:
        retrieval_data.read(paths)
    return [line.rpartition("/")[2] for line in str(caught.value.code).splitlines()]


def test_everything_that_is_wrong_is_said_at_once(write: Callable[..., Path], tmp_path: Path) -> None:
    corpus = write("corpus.jsonl", {"_id": "a", "text": "t"}, {"_id": "a", "text": "u"}, {"text": "v"}, 5)
    queries = write("queries.jsonl", {"_id": "1", "text": "x"}, {"_id": "1", "text": "y"}, {"text": "z"})
    qrels = tmp_path / "qrels.tsv"
    qrels.write_text(f"{HEADER}1\tnone\t1\n9\ta\t1\n1 a 1\n1\ta\tgood\n")
    assert problems([corpus, queries, qrels]) == [
        "corpus.jsonl:2: the id 'a' was given before",
        "corpus.jsonl:3: _id: missing, and the judgements name passages by it",
        "corpus.jsonl:4: neither a row with query and pos, nor a text",
        "queries.jsonl:2: the id '1' was given before",
        "queries.jsonl:3: a query has _id and text",
        "qrels.tsv:2: no passage of the corpus has the id 'none'",
        "qrels.tsv:3: no query has the id '9'",
        "qrels.tsv:4: query-id, corpus-id and a whole number, by tabs",
        "qrels.tsv:5: query-id, corpus-id and a whole number, by tabs",
    ]


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"query": "q"}, "pos: a list of texts is needed, none of them empty"),
        ({"query": "q", "pos": "p"}, "pos: a list of texts is needed, none of them empty"),
        ({"query": "q", "pos": ["p"], "neg": [" "]}, "neg: a list of texts is needed, none of them empty"),
        ({"query": "", "pos": ["p"]}, "query: a text is needed"),
        ({"text": ""}, "text: a text is needed"),
        ({"text": 1}, "text: a text is needed"),
    ],
)
def test_a_bad_row_is_named(write: Callable[..., Path], row: Any, problem: str) -> None:
    assert problems([write("rows.jsonl", {"query": "q", "pos": ["p"]}, row)]) == [f"rows.jsonl:2: {problem}"]


def test_queries_need_judgements_and_judgements_a_header(write: Callable[..., Path], tmp_path: Path) -> None:
    queries = write("queries.dev.jsonl", {"_id": "1", "text": "x"})
    assert "queries, but no judgements" in problems([queries])[0]
    (tmp_path / "q.tsv").write_text("1\ta\t1\n")
    assert "q.tsv:1: the first line is query-id" in problems([queries, tmp_path / "q.tsv"])[0]


def test_nothing_to_measure_is_said(write: Callable[..., Path]) -> None:
    with pytest.raises(SystemExit, match="there is no row with query and pos"):
        retrieval_data.read([write("corpus.jsonl", {"text": "t"})])


def test_a_passage_may_be_nothing_but_a_title(write: Callable[..., Path]) -> None:
    corpus = write("corpus.jsonl", {"title": "T", "text": ""}, {"title": "U", "text": " "})
    found = retrieval_data.read([write("rows.jsonl", {"query": "q", "pos": ["T"]}), corpus])
    assert (found.passages, found.bare, found.grades) == (["T", "U"], [0, 0], [{0: 1}])
