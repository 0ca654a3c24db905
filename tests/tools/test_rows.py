"""Rows in, whole files out; what teacher scores, lengths and texts are made of them."""

import json
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

import encode_texts
import pytest
import rows
import score_with_teacher
import split_by_length

ROW = {"query": "q", "pos": ["aa"], "neg": ["b", "ccc"], "more": 1}


def write(path: Path, *lines: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return path


def words(texts: Sequence[str]) -> list[int]:
    return [len(text.split()) for text in texts]


def test_a_file_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    def fail() -> None:
        with rows.written(tmp_path / "made" / "x") as stream:
            stream.write("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert list((tmp_path / "made").iterdir()) == []
    with rows.written(tmp_path / "made" / "x") as stream:
        stream.write("ä")
        assert not (tmp_path / "made" / "x").exists()
    file = tmp_path / "made" / "x"
    assert file.read_text(encoding="utf-8") == "ä"
    assert stat.S_IMODE(file.stat().st_mode) == 0o644


def test_bad_lines_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b"\xef\xbb\xbf{}\n\n{oops\n")
    with pytest.raises(SystemExit, match=r"a\.jsonl:3: not JSON"):
        list(rows.read(tmp_path / "a.jsonl"))
    (tmp_path / "b.jsonl").write_bytes(b'{"a": "\xe9"}\n')
    with pytest.raises(SystemExit, match=r"b\.jsonl:1: not UTF-8"):
        list(rows.read(tmp_path / "b.jsonl"))
    with pytest.raises(SystemExit, match="does not exist"):
        rows.files([tmp_path / "none"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(SystemExit, match=r"no \.jsonl or \.json file"):
        rows.files([tmp_path / "empty"])


def test_training_rows_are_judged_all_at_once(tmp_path: Path) -> None:
    path = write(tmp_path / "r.jsonl", ROW, {**ROW, "neg": []}, {**ROW, "query": 1, "pos": "x"}, [])
    with pytest.raises(SystemExit) as caught:
        rows.check_pairs([path])
    lines = str(caught.value.code).splitlines()
    assert [line.rpartition("/")[2].partition(": ")[0] for line in lines] == [
        *("r.jsonl:2", "r.jsonl:3", "r.jsonl:3", "r.jsonl:4")
    ]
    with pytest.raises(SystemExit) as caught:
        rows.check_pairs([write(tmp_path / "many.jsonl", *[{}] * 100)])
    assert str(caught.value.code).endswith("… and 280 more")
    assert rows.check_pairs([write(tmp_path / "good.jsonl", ROW, ROW)]) == 2


def test_results_keep_the_names_that_mean_something(tmp_path: Path) -> None:
    write(tmp_path / "a" / "x.json", ROW)
    write(tmp_path / "b" / "x.jsonl", ROW)
    write(tmp_path / "c_no_in_batch_neg" / "y.jsonl", ROW)
    found = rows.outputs([tmp_path / "a", tmp_path / "b" / "x.jsonl", tmp_path / "c_no_in_batch_neg"])
    assert [name for _, name in found] == ["x.jsonl", "b_x.jsonl", "y_no_in_batch_neg.jsonl"]
    with pytest.raises(SystemExit):
        rows.outputs([tmp_path / "a", tmp_path / "b", tmp_path / "b"])


# ------------------------------------------------------------------------------------- teacher scores
def test_teacher_scores_keep_rows_and_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(score_with_teacher, "PAIRS", 4)
    given = [{**ROW, "query": "q" * n, "neg_scores": [9, 9]} for n in range(1, 6)]
    path = write(tmp_path / "r.jsonl", *given)

    def predict(pairs: Sequence[tuple[str, str]]) -> list[float]:
        assert len(pairs) <= 6
        return [len(query) * 10.0 + len(text) for query, text in pairs]

    told: list[int] = []
    found = list(score_with_teacher.scored(path, predict, 0.5, told.append))
    assert [row["query"] for row in found] == [row["query"] for row in given]
    assert found[1] == {**given[1], "pos_scores": [11.0], "neg_scores": [10.5, 11.5]}
    assert sum(told) == 5


def test_a_score_that_is_no_number_names_its_row(tmp_path: Path) -> None:
    path = write(tmp_path / "r.jsonl", ROW, ROW)
    values = iter([1.0, 1.0, 1.0, 1.0, float("nan"), 1.0])
    with pytest.raises(SystemExit, match=r"r\.jsonl:2: the teacher's score is not a finite number"):
        list(
            score_with_teacher.scored(path, lambda pairs: [next(values) for _ in pairs], 1.0, lambda n: None)
        )


# ---------------------------------------------------------------------------------------------- lengths
@pytest.mark.parametrize(
    ("length", "name"),
    [
        (0, "len-0-8"),
        (7, "len-0-8"),
        (8, "len-8-16"),
        (15, "len-8-16"),
        (16, "len-16-inf"),
        (99, "len-16-inf"),
    ],
)
def test_a_range_has_its_lower_end(length: int, name: str) -> None:
    assert split_by_length.range_name(split_by_length.boundaries("16,8"), length) == name


def test_names_of_ranges() -> None:
    name = split_by_length.file_name
    assert name("a.jsonl", "len-0-8", alone=True) == "len-0-8.jsonl"
    assert name("a.jsonl", "len-0-8", alone=False) == "a_len-0-8.jsonl"
    assert name("a_no_in_batch_neg.jsonl", "len-0-8", alone=False) == "a_len-0-8_no_in_batch_neg.jsonl"


def test_rows_go_to_their_range_byte_by_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(split_by_length, "ROWS", 2)
    lines = [
        '{"query": "a b c", "pos": ["a"],   "neg": ["a"]}',
        '{"neg": ["a"], "query": "a", "pos": ["a", "a b c d e"], "x": 1.50}',
        '{"query": "a", "pos": ["\\u00e4"], "neg": ["a", "a b"]}',
    ]
    path = tmp_path / "r.jsonl"
    path.write_text("\n\n".join(lines))  # no newline at the end
    out = tmp_path / "out"

    def target(length: int) -> Path:
        return out / f"{split_by_length.range_name([0, 3, 5], length)}.jsonl"

    found, longest = split_by_length.split(path, target, words)
    assert (dict(found), longest) == ({"len-3-5.jsonl": 1, "len-5-inf.jsonl": 1, "len-0-3.jsonl": 1}, 5)
    texts = [(out / f"len-{name}.jsonl").read_text() for name in ("3-5", "5-inf", "0-3")]
    assert texts == [f"{line}\n" for line in lines]


def test_ranges_are_written_together_or_not_at_all(tmp_path: Path) -> None:
    path = write(tmp_path / "r.jsonl", *[{**ROW, "query": "w " * n} for n in range(1, 9)])

    def broken() -> Iterator[int]:
        yield from [1, 5] * 8
        raise RuntimeError

    lengths = broken()
    with pytest.raises(RuntimeError):
        split_by_length.split(
            path, lambda n: tmp_path / "out" / f"{n}", lambda texts: [next(lengths) for _ in texts]
        )
    assert not (tmp_path / "out").exists() or not any((tmp_path / "out").iterdir())


# ------------------------------------------------------------------------------------------------ texts
def test_texts_of_rows(tmp_path: Path) -> None:
    assert encode_texts.texts_of({"_id": "1", "title": "T", "text": "x"}) == ["T x"]
    assert encode_texts.texts_of({"title": "T", "text": "T x"}) == ["T x"]
    assert encode_texts.texts_of({"title": "T", "text": ""}) == ["T"]
    assert encode_texts.texts_of({**ROW, "prompt": "p"}) == ["q", "aa", "b", "ccc"]
    assert encode_texts.texts_of({"text": " "}) == encode_texts.texts_of([1]) == []
    path = write(tmp_path / "t.jsonl", {"text": "a"}, ROW, {"text": "a"}, {"text": "q"})
    assert list(encode_texts.distinct([path])) == ["a", "q", "aa", "b", "ccc"]
    assert list(encode_texts.blocks(iter("abcde"), 2)) == [["a", "b"], ["c", "d"], ["e"]]
    with pytest.raises(SystemExit, match=r"u\.jsonl:2: no text under any of text, query, pos, neg"):
        encode_texts.count([write(tmp_path / "u.jsonl", ROW, {"answer": "x"})])
