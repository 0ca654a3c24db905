"""launcher.data: repairs, conversions, divisions, profiles; what is written is new, whole, and checked."""

import errno
import gzip
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.data import RULES, Rules, Wanted, fixing
from launcher.data import convert as conversion
from launcher.data import split as splitting
from launcher.data.convert import Choices
from launcher.data.inspection import inspect
from launcher.data.profile import profile, wilson
from launcher.data.repair import repair
from launcher.data.shapes import detect
from launcher.data.streams import shares
from launcher.data.tokens import counter
from launcher.data.write import new_file, new_folder
from launcher.errors import DataError, ModelNotFoundError, OutputError, UsageError
from launcher.progress import Silent

GOOD: dict[str, Any] = {"query": "q", "pos": ["p"], "neg": ["n1", "n2"]}
EMBEDDER = Rules(format="embedder")
SYSTEM = {"role": "system", "content": "s"}
ANSWER = {"role": "assistant", "content": "a"}
ASKED = [{"role": "user", "content": "u"}, ANSWER]


def write(path: Path, *rows: Any) -> Path:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


def read(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()]


# ------------------------------------------------------------------------------------------ new files
@pytest.mark.parametrize("links", [True, False])
def test_nothing_is_overwritten_and_nothing_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")  # as exFAT says it

    if not links:
        monkeypatch.setattr(os, "link", refuse)
    path = tmp_path / "deep" / "a.jsonl"
    with new_file(path) as stream:
        stream.write(b"first")
        assert not path.exists()
    with pytest.raises(OutputError, match="there already"), new_file(path):
        pass
    with pytest.raises(ZeroDivisionError), new_file(tmp_path / "deep" / "b") as stream:
        stream.write(b"half" * (1 // 0))
    with pytest.raises(OutputError), new_file(tmp_path / "late"):
        (tmp_path / "late").write_text("somebody was faster")
    assert (tmp_path / "late").read_text() == "somebody was faster"
    assert path.read_text() == "first"
    (tmp_path / "empty").mkdir()
    with new_folder(tmp_path / "empty") as folder:
        (folder / "x").write_text("x")
    with pytest.raises(OutputError), new_folder(tmp_path / "empty"):
        pass
    with pytest.raises(ZeroDivisionError), new_folder(tmp_path / "never") as folder:
        (folder / "x").write_text("x" * (1 // 0))
    assert sorted(each.name for each in tmp_path.rglob("*")) == ["a.jsonl", "deep", "empty", "late", "x"]


# ------------------------------------------------------------------------------------------ repairs
@pytest.mark.parametrize(
    ("row", "repaired"),
    [
        ({**GOOD, "pos": "p"}, GOOD),
        ({**GOOD, "pos": "p\0"}, GOOD),
        ({**GOOD, "neg": ["n1", None, "", "n2", "p", "n1"]}, GOOD),
        (
            {**GOOD, "neg": ["n1", None, "n2"], "pos_scores": [1], "neg_scores": [3, 4, 5]},
            {**GOOD, "pos_scores": [1], "neg_scores": [3, 5]},
        ),
        ({**GOOD, "neg": ["p"]}, None),
        ({**GOOD, "neg": "\ufeff"}, None),
        ({**GOOD, "query": 1}, None),
        ({**GOOD, "neg": [None]}, None),
        (
            {**GOOD, "pos_scores": None, "a.b": [None, {"x": [None, None]}, None], "c": [[None, 1]]},
            {**GOOD, "pos_scores": None, "a.b": [{"x": []}, None], "c": [[1]]},
        ),
    ],
)
def test_repairs(row: dict[str, Any], repaired: dict[str, Any] | None) -> None:
    before = json.dumps(row)
    assert repair(row, EMBEDDER)[0] == repaired
    assert json.dumps(row) == before


values = st.none() | st.integers() | st.sampled_from(["a", "b", " ", "c\0", "\ufeff", "\0"])
rows = st.fixed_dictionaries(
    {},
    optional={name: values | st.lists(values, max_size=4) for name in ("query", "pos", "neg", "neg_scores")},
)


@given(row=rows, format_=st.sampled_from(["embedder", "retrieval", "plain", "texts", "sft", "llm"]))
def test_what_was_repaired_has_no_errors(row: dict[str, Any], format_: str) -> None:
    from launcher.data.rows import judge_row

    repaired, changes = repair(row, Rules(format=format_))
    if repaired is not None:
        left = list(judge_row(repaired, Rules(format=format_)))
        assert not [
            issue for issue in left if RULES[issue.rule].severity == "error" or RULES[issue.rule].repair
        ]
        assert bool(changes) == (repaired != row)


def test_a_repaired_copy_with_its_log(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    good = b'{"query":  "q", "pos": ["p"],"neg": ["n1"]}'
    bad = b'{"query": "r", "pos": "p", "neg": ["n1"]}'
    (folder / "a.jsonl").write_bytes(b"\xef\xbb\xbf" + good + b"\r\n\n" + bad + b"\n{oops\n" + good)
    (folder / "b.json").write_bytes(b"[" + good + b",\n" + bad.replace(b'"r"', b'"s"') + b"]")
    (folder / "c.jsonl.gz").write_bytes(gzip.compress(good.replace(b'"q"', b'"t"')))
    done = fixing.fix((folder,), EMBEDDER, tmp_path / "out", progress=Silent())
    assert (done.kept, done.changed, done.left_out) == (4, 3, 3)
    assert (tmp_path / "out" / "a.jsonl").read_bytes().startswith(good + b"\n")  # its bytes, but for the BOM
    assert read(tmp_path / "out" / "a.jsonl")[1]["pos"] == ["p"]
    assert sorted(each.name for each in (tmp_path / "out").iterdir()) == [
        *("a.jsonl", "b.jsonl", "c.jsonl", "fix.log")
    ]
    log = (tmp_path / "out" / "fix.log").read_text()
    for text in (
        "a.jsonl:1: bom: removed",
        "a.jsonl:2: blank-line",
        "a.jsonl:3: pos-string",
        "a.jsonl:4: not-json",
    ):
        assert text in log
    assert "a.jsonl:5: row-repeated: dropped" in log
    assert not inspect((tmp_path / "out",), EMBEDDER, Wanted()).count(errors=True)
    with pytest.raises(OutputError):
        fixing.fix((folder,), EMBEDDER, tmp_path / "out", progress=Silent())


@pytest.mark.parametrize("packed", [False, True])
def test_a_line_that_is_too_long_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, packed: bool
) -> None:
    monkeypatch.setattr("launcher.data.blocks.LONGEST", 1000)
    content = b"".join(
        json.dumps(row).encode() + b"\n"
        for row in (GOOD, {**GOOD, "query": "x" * 1000}, {**GOOD, "query": "r"})
    )
    path = tmp_path / ("a.jsonl.gz" if packed else "a.jsonl")
    path.write_bytes(gzip.compress(content) if packed else content)
    done = fixing.fix((path,), EMBEDDER, tmp_path / "out", progress=Silent())
    assert (done.kept, done.left_out) == (2, 1)
    assert [row["query"] for row in read(tmp_path / "out" / "a.jsonl")] == ["q", "r"]
    assert f"{path}:2: line-long" in (tmp_path / "out" / "fix.log").read_text()
    with pytest.raises(DataError, match=r":2: a line of more than"):
        divided([path], tmp_path / "divided")


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    """Not an error of the output, as other errors of the system are."""
    path = tmp_path / "a.jsonl"
    path.symlink_to("/proc/self/mem")
    for use in (
        lambda: fixing.fix((path,), EMBEDDER, tmp_path / "out", progress=Silent()),
        lambda: converted(tmp_path, path),
        lambda: divided([path], tmp_path / "divided"),
    ):
        with pytest.raises(DataError, match=r"a\.jsonl cannot be read"):
            use()
    assert sorted(each.name for each in tmp_path.iterdir()) == ["a.jsonl"]


def test_names_of_copies() -> None:
    paths = [
        Path(name) for name in ("a/x.jsonl", "b/x.json", "c/x.jsonl.gz", "c/x.parquet", "d/qrels/test.tsv")
    ]
    names = [str(each) for each in fixing.targets(paths)]
    assert names == ["x.jsonl", "b_x.jsonl", "c_x.jsonl", "2_x.jsonl", "qrels/test.tsv"]


# ------------------------------------------------------------------------------------------ streams
@given(
    elements=st.lists(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
            lambda inner: (
                st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
            ),
            max_leaves=5,
        ),
        max_size=6,
    ),
    indent=st.none() | st.integers(0, 2),
    piece=st.integers(1, 50),
)
def test_elements_of_an_array(
    tmp_path_factory: pytest.TempPathFactory, elements: list[Any], indent: int | None, piece: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "array.json"
    path.write_text(f" {json.dumps(elements, indent=indent)}\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("launcher.data.streams.is_array", lambda path: True)
        patch.setattr("launcher.data.streams._PIECE", piece)
        lines = b"".join(share for share in shares(path) if share is not None).splitlines()
    assert [json.loads(line) for line in lines] == elements


@pytest.mark.parametrize(
    "content", ['[\n{}\n]\n{"a": 1}', "[{}]]", '[{}, {"a": 2', "[{} {}]", '[{"a": }]', "[{},,{}]"]
)
def test_a_broken_array(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.json").write_text(content)
    assert inspect((tmp_path / "a.json",), EMBEDDER, Wanted()).groups[0].rule == "file-damaged"


def test_zstandard_and_parquet(tmp_path: Path) -> None:
    import pyarrow
    import zstandard
    from pyarrow import parquet

    row = json.dumps(GOOD).encode()
    (tmp_path / "a.jsonl.zst").write_bytes(zstandard.compress(row) + zstandard.compress(b"\n" + row))
    parquet.write_table(pyarrow.Table.from_pylist([GOOD, {**GOOD, "neg": None}]), tmp_path / "b.parquet")
    (tmp_path / "c.parquet").write_bytes(b"PAR1 no")
    (tmp_path / "d.jsonl.zst").write_bytes(zstandard.compress(row)[:-3])
    report = inspect((tmp_path,), EMBEDDER, Wanted())
    assert [file.rows for file in report.files] == [2, 2, 0, 0]
    found = {group.rule: group.count for group in report.groups if group.error}
    assert found == {"file-damaged": 2, "neg-type": 1}


# ------------------------------------------------------------------------------------------ conversions
def converted(tmp_path: Path, given_: Path, **choices: Any) -> list[Any]:
    out = tmp_path / "out.jsonl"
    conversion.convert([given_], Choices(**{"format": "embedder", **choices}), out, progress=Silent())
    found = read(out)
    out.unlink()
    return found


@pytest.mark.parametrize(
    ("records", "row"),
    [
        ([{"anchor": "q", "positive": "p", "negative": "n"}], {"query": "q", "pos": ["p"], "neg": ["n"]}),
        ([["q", "p", "n1", "n2"]], GOOD),
        ([{"set": ["q", "p"]}], {"query": "q", "pos": ["p"]}),
        ([{"query": "q", "pos": "p", "neg": ["n1", "n2"]}], GOOD),
        ([{"question": "q", "answer": ["p"], "hard_neg_1": "n1", "hard_neg_2": "n2"}], GOOD),
        (
            [
                {
                    "query": "q",
                    "positive_passages": [{"docid": "1", "title": "T", "text": "p"}],
                    "negatives": [],
                }
            ],
            {"query": "q", "pos": ["T p"], "neg": []},
        ),
        (
            [
                {"text1": "q", "text2": "n1", "label": 0},
                {"text1": "q", "text2": "p", "label": 1},
                {"text1": "q", "text2": "n2", "label": 0.1},
            ],
            GOOD,
        ),
        (
            [{**GOOD, "pos_scores": [1], "neg_scores": [2, 3], "score": 5}],
            {**GOOD, "pos_scores": [1], "neg_scores": [2, 3]},
        ),
    ],
)
def test_shapes_of_pairs(tmp_path: Path, records: list[Any], row: dict[str, Any]) -> None:
    assert converted(tmp_path, write(tmp_path / "in.jsonl", *records)) == [row]
    (tmp_path / "in.json").write_text(json.dumps(records))
    assert converted(tmp_path, tmp_path / "in.json") == [row]


def test_dialogues_and_texts(tmp_path: Path) -> None:
    told = {"conversations": [{"from": "human", "value": "u"}, {"from": "gpt", "value": "a"}]}
    messages = [{"role": "user", "content": "u"}, {"role": "assistant", "content": "a"}]
    assert converted(tmp_path, write(tmp_path / "a.jsonl", told), format="sft") == [{"messages": messages}]
    asked = write(tmp_path / "b.jsonl", {"question": "u", "answer": "a"})
    assert converted(tmp_path, asked, format="sft") == [{"instruction": "u", "output": "a"}]
    assert converted(tmp_path, write(tmp_path / "c.jsonl", {"content": "x"}), format="plain") == [
        {"text": "x"}
    ]
    both = write(tmp_path / "d.jsonl", told, {"text": "x"}, {"question": "u", "answer": "a", "text": "x"})
    assert converted(tmp_path, both, format="llm") == [
        *({"messages": messages}, {"text": "x"}, {"instruction": "u", "output": "a"})
    ]


def test_tables(tmp_path: Path) -> None:
    path = tmp_path / "a.csv.gz"
    path.write_bytes(gzip.compress('\ufeffquestion,right,wrong\n"a\n""b""",p,"[""n1"", ""n2""]"\n'.encode()))
    (row,) = converted(tmp_path, path, columns={"pos": ["right"], "neg": ["wrong"]})
    assert row == {**GOOD, "query": 'a\n"b"'}
    (tmp_path / "b.tsv").write_text("query\tpositive\nq\tp\nonly one\n")
    assert converted(tmp_path, tmp_path / "b.tsv") == [{"query": "q", "pos": ["p"]}]


def test_a_folder_of_beir(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    write(folder / "corpus.jsonl", {"_id": "1", "title": "T", "text": "p"}, {"_id": "2", "text": "n"})
    write(folder / "queries.jsonl", {"_id": "a", "text": "q"}, {"_id": "b", "text": "unjudged"})
    for name in ("train", "test"):
        (folder / f"qrels.{name}.tsv").write_text(
            "query-id\tcorpus-id\tscore\na\t1\t2\na\t2\t0\na\tlost\t1\n"
        )
    assert converted(tmp_path, folder, split="test") == [{"query": "q", "pos": ["T p"], "neg": ["n"]}]
    with pytest.raises(UsageError, match="judgements of test, train"):
        converted(tmp_path, folder)
    assert not (tmp_path / "out.jsonl").exists()


@pytest.mark.parametrize(
    ("records", "rows_"),
    [
        # messages beside an empty question
        (
            [{"messages": ASKED, "question": None}, {"messages": ASKED, "prompt": ""}],
            [{"messages": ASKED}] * 2,
        ),
        ([{"messages": [], "instruction": "u", "output": "a"}], [{"instruction": "u", "output": "a"}]),
        # what comes before the question
        (
            [
                {
                    "system": "s",
                    "conversations": [{"from": "human", "value": "u"}, {"from": "gpt", "value": "a"}],
                }
            ],
            [{"messages": [SYSTEM, *ASKED]}],
        ),
        ([{"system": "other", "messages": [SYSTEM, *ASKED]}], [{"messages": [SYSTEM, *ASKED]}]),
        ([{"system": "", "instruction": "u", "output": "a"}], [{"instruction": "u", "output": "a"}]),
        (
            [{"instruction": "u", "input": "i", "output": "a", "system": "s", "history": [["u", "a"]]}],
            [{"messages": [SYSTEM, *ASKED, {"role": "user", "content": "u\ni"}, ANSWER]}],
        ),
    ],
)
def test_dialogues_keep_all_that_is_said(tmp_path: Path, records: list[Any], rows_: list[Any]) -> None:
    assert converted(tmp_path, write(tmp_path / "in.jsonl", *records), format="sft") == rows_


def test_an_answer_of_nothing_is_no_row(tmp_path: Path) -> None:
    path = write(
        tmp_path / "in.jsonl",
        *({"instruction": "u", "input": "i", "output": each} for each in ("", " ", "a")),
    )
    assert converted(tmp_path, path, format="sft") == [{"instruction": "u", "input": "i", "output": "a"}]


def test_keys_that_a_trainer_reads_are_kept(tmp_path: Path) -> None:
    own = {"prompt": "p", "type": "normal", "batch_size": 4, "query_prompt": "a", "passage_prompt": "b"}
    path = write(tmp_path / "in.jsonl", {**GOOD, **own, "source": "x"})
    assert converted(tmp_path, path) == [{**GOOD, **own}]
    labelled = write(
        tmp_path / "pairs.jsonl",
        {"text1": "q", "text2": "p", "label": 1, **own},
        {"text1": "q", "text2": "n", "label": 0, "prompt": "another"},
    )
    out = tmp_path / "out.jsonl"
    done = conversion.convert([labelled, path], Choices(format="embedder"), out, progress=Silent())
    assert read(out)[0] == {"query": "q", "pos": ["p"], "neg": ["n"], **own}
    assert "in.jsonl: not used: source" in done.why


def outcome(tmp_path: Path, given_: Path) -> conversion.Converted:
    out = tmp_path / "out.jsonl"
    return conversion.convert([given_], Choices(format="embedder"), out, progress=Silent())


def test_labels_and_texts_that_are_none(tmp_path: Path) -> None:
    good = {"text1": "q", "text2": "p", "label": 1}
    bad = [
        {"text1": {"x": 1}},
        {"text1": "\ud800"},
        {"text2": ["p", 1]},
        {"label": 10**400},
        {"label": "nan"},
    ]
    path = write(
        tmp_path / "in.jsonl", good, *({**good, **each} for each in bad), {**good, "text1": "r", "label": 0}
    )
    done = outcome(tmp_path, path)
    assert (done.rows, done.skipped) == (1, 6)
    assert [problem.removeprefix(f"{path}:").partition(",")[0] for problem in done.problems] == [
        "2: query: not only text",
        "3: query: not only text",
        "4: pos: not only text",
        "5: label: a finite number",
        "6: label: a finite number",
        "7: no text of this query has a label of 0.5 or more",
    ]


def test_a_cell_of_endless_brackets(tmp_path: Path) -> None:
    deep = "[" * 100_000 + "]"
    (tmp_path / "a.csv").write_text(f"query,positive\n{deep},p\n")
    assert converted(tmp_path, tmp_path / "a.csv") == [{"query": deep, "pos": ["p"]}]


def test_judgements_that_are_none(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    write(folder / "corpus.jsonl", {"_id": "1", "text": "p"}, {"_id": "2", "text": "\ud800"}, {"text": "n"})
    write(
        folder / "queries.jsonl",
        *({"_id": name, "text": name} for name in "abc"),
        {"_id": "d", "text": ["q"]},
    )
    judgements = folder / "qrels.test.tsv"
    judgements.write_text("query-id\tcorpus-id\tscore\na\t1\t1\na\t1\tnan\nb\t1\t0\n")
    done = outcome(tmp_path, folder)
    assert [row["query"] for row in read(done.output)] == ["a"]
    assert sorted(problem.rpartition("/")[2] for problem in done.problems) == [
        "corpus.jsonl:2: no text, or no _id",
        "corpus.jsonl:3: no text, or no _id",
        "qrels.test.tsv:3: query-id, corpus-id and a finite score are needed",
        "queries.jsonl:2: no passage was judged right",
        "queries.jsonl:4: no text, or no _id",
    ]
    done.output.unlink()
    judgements.write_text("query_id\tcorpus_id\tscore\na\t1\t1\n")
    with pytest.raises(DataError, match="no columns query-id, corpus-id, score"):
        outcome(tmp_path, folder)


def test_what_stands_behind_an_array_is_not_lost(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(f"[\n{json.dumps(GOOD)}\n]\n{json.dumps(GOOD)}\n")
    with pytest.raises(DataError, match="cannot be read to its end") as caught:
        converted(tmp_path, path)
    assert "something follows the array" in caught.value.problems[0]


def test_what_cannot_be_converted(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no query and pos among the columns") as caught:
        converted(tmp_path, write(tmp_path / "a.jsonl", {"x": "1", "y": "2"}))
    assert caught.value.hint == "say where they are: --map query=COLUMN"
    with pytest.raises(UsageError, match="no column z"):
        detect(["x"], "embedder", {"query": ["z"]})
    with pytest.raises(UsageError, match="no field x"):
        detect(["x"], "embedder", {"x": ["x"]})
    with pytest.raises(DataError, match="no records"):
        converted(tmp_path, write(tmp_path / "b.jsonl", 1, "two"))
    with pytest.raises(DataError, match="no row could be made") as caught:
        converted(tmp_path, write(tmp_path / "c.jsonl", {"query": None, "pos": []}))
    assert caught.value.problems == (f"{tmp_path}/c.jsonl:1: no query and no pos",)


# ------------------------------------------------------------------------------------------ divisions
def divided(files: Sequence[Path], out: Path, **more: Any) -> splitting.Split:
    asked = {"share": 0.2, "seed": 1, "format_": "embedder", **more}
    return splitting.split(files, out, progress=Silent(), **asked)


def test_no_text_is_on_both_sides(tmp_path: Path) -> None:
    rows_ = [
        {"query": f"Q{n // 2}", "pos": [f"p{n}", f"p {n % 97 if n < 50 else n}"], "neg": ["n"]}
        for n in range(400)
    ]
    rows_[301]["query"] = "  q7 "
    path = write(tmp_path / "rows.jsonl", *rows_)
    done = divided([path], tmp_path / "out")
    sides = {name: read(tmp_path / "out" / f"{name}.jsonl") for name in ("train", "dev")}
    assert (len(sides["train"]), len(sides["dev"])) == (done.train, done.dev)
    assert done.train + done.dev == 400
    assert 60 <= done.dev <= 100
    texts = {
        name: {" ".join(text.casefold().split()) for row in rows_ for text in (row["query"], *row["pos"])}
        for name, rows_ in sides.items()
    }
    assert not texts["train"] & texts["dev"]


def test_the_same_division_again_and_in_any_order(tmp_path: Path) -> None:
    rows_ = [{"query": f"q{n}", "pos": [f"p{n}"], "neg": ["n"]} for n in range(200)]
    one, other = write(tmp_path / "a.jsonl", *rows_[:100]), write(tmp_path / "b.jsonl", *rows_[100:])
    divided([one, other], tmp_path / "first")
    divided([other, one], tmp_path / "again")
    for side in ("train", "dev"):
        for name in ("a.jsonl", "b.jsonl"):
            assert (tmp_path / "first" / side / name).read_bytes() == (
                tmp_path / "again" / side / name
            ).read_bytes()
    divided([one, other], tmp_path / "seed", seed=2)
    assert (tmp_path / "seed" / "dev" / "a.jsonl").read_bytes() != (
        tmp_path / "first" / "dev" / "a.jsonl"
    ).read_bytes()


def test_a_division_that_cannot_be(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", *({"query": f"q{n}", "pos": ["yes"], "neg": ["no"]} for n in range(9)))
    with pytest.raises(DataError, match="all 9 rows would go to one side") as caught:
        divided([path], tmp_path / "out")
    assert "the largest group has 9 rows" in caught.value.problems[0]
    assert not (tmp_path / "out").exists()
    (tmp_path / "b.jsonl").write_text("{oops")
    with pytest.raises(DataError, match=r"b\.jsonl:1: not JSON"):
        divided([tmp_path / "b.jsonl"], tmp_path / "out")


def test_dialogues_are_divided_by_what_is_asked(tmp_path: Path) -> None:
    def told(asked: str, answer: str) -> dict[str, Any]:
        return {"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]}

    path = write(tmp_path / "a.jsonl", *(told(f"u{n % 30}", f"a{n}") for n in range(90)))
    assert divided([path], tmp_path / "out", format_="sft").groups == 30


@pytest.mark.parametrize(
    ("format_", "row"),
    [
        ("llm", lambda asked: {"text": asked}),
        ("llm", lambda asked: {"instruction": asked, "output": "a"}),
        ("sft", lambda asked: {"conversations": [{"role": "user", "content": asked}, ANSWER]}),
        ("sft", lambda asked: {"messages": [{"role": "user", "content": [{"text": asked}]}, ANSWER]}),
        ("sft", lambda asked: {"prompt": [{"role": "user", "content": asked}], "completion": [ANSWER]}),
        ("sft", lambda asked: {"messages": [{"role": "assistant", "content": asked}]}),
        ("texts", lambda asked: {"title": asked, "body": "b"}),
        ("retrieval", lambda asked: {"_id": asked, "title": asked, "text": ""}),
    ],
)
def test_what_passes_the_check_can_be_divided(
    tmp_path: Path, format_: str, row: Callable[[str], dict[str, Any]]
) -> None:
    path = write(tmp_path / "a.jsonl", *(row(f"u{n % 30}") for n in range(90)))
    assert not inspect((path,), Rules(format=format_), Wanted()).count(errors=True)
    assert divided([path], tmp_path / "out", format_=format_).groups == 30


# ------------------------------------------------------------------------------------------ profiles
def test_lengths_and_scripts() -> None:
    rows_ = [{"query": "abc", "pos": ["при", "х" * n], "neg": ["漢字"]} for n in range(1, 21)]
    found = profile(rows_)
    assert {each.field: (each.texts, each.most, each.unit) for each in found.lengths} == {
        "query": (20, 3, "characters"),
        "pos": (20, 20, "characters"),
        "neg": (20, 2, "characters"),
    }
    assert dict(found.scripts).keys() == {"Latin", "Cyrillic", "Han"}
    tokens = profile(rows_, count=lambda texts: [*map(len, texts)], limits={"pos": 3})
    (pos,) = [each for each in tokens.lengths if each.field == "pos"]
    assert pos.longer is not None
    assert pos.interval is not None
    assert pos.interval[0] < pos.longer < pos.interval[1]


def test_wilsons_interval() -> None:
    """Figures of Newcombe (1998), Statistics in Medicine 17:857, table I."""
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=1e-4)
    assert wilson(29, 29)[1] == pytest.approx(1.0)


def test_token_lengths_by_the_models_own_tokenizer(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel({"a": 0, "[UNK]": 1}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.enable_truncation(2)
    tokenizer.enable_padding()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    assert counter(tmp_path)(["a", "a b c d"]) == [1, 4]
    with pytest.raises(ModelNotFoundError, match=r"no tokenizer\.json"):
        counter(tmp_path / "nowhere")
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(ModelNotFoundError, match="is not a tokenizer"):
        counter(tmp_path / "other.json")
