"""launcher.app.batches: which rows upstream's batches leave out, compared with upstream's own steps."""

import gzip
import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher import data
from launcher.app import batches
from launcher.app.batches import Limits, Rows
from launcher.errors import DataError

Folders = Sequence[tuple[Path, Sequence[Rows]]]


def used_upstream(files: Sequence[Rows], folders: Folders, limits: Limits) -> set[Path]:
    """FlagEmbedding 1.4.2, AbsEmbedderSameDatasetTrainDataset: __init__ and refresh_epoch, step by step."""
    datasets: list[tuple[list[Path], int, int]] = []
    for file in files:
        if file.count == 0 or file.count < limits.small:
            continue
        datasets.append(([file.path], file.count, file.batch_size))
    for _, inside in folders:
        small: list[Rows] = []
        small_batch_size = math.inf
        for file in inside:
            if file.count == 0:
                continue
            if file.count < limits.small:
                small.append(file)
                small_batch_size = min(small_batch_size, file.batch_size)
            else:
                datasets.append(([file.path], file.count, file.batch_size))
        total = sum(file.count for file in small)
        if small and total >= limits.drop:
            datasets.append(([file.path for file in small], total, int(small_batch_size)))
    used = set()
    for paths, count, batch_size in datasets:
        step = batch_size * limits.processes
        for start in range(0, count, step):
            if count - start < step:
                break
            used |= set(paths)
    return used


def rows(names: str) -> st.SearchStrategy[list[Rows]]:
    return st.lists(
        st.builds(
            Rows,
            path=st.sampled_from(names).map(Path),
            count=st.integers(1, 12),
            batch_size=st.integers(1, 4),
        ),
        max_size=4,
        unique_by=lambda file: file.path,
    )


@given(
    files=rows("abcd"),
    one=rows("efgh"),
    two=rows("ijkl"),
    limits=st.builds(
        Limits, small=st.integers(0, 8), drop=st.integers(0, 12), processes=st.sampled_from([1, 2, 4])
    ),
)
def test_what_upstream_never_uses(
    files: list[Rows], one: list[Rows], two: list[Rows], limits: Limits
) -> None:
    folders = [(Path("one"), one), (Path("two"), two)]
    used = used_upstream(files, folders, limits)
    problems = batches.unused(files, folders, limits)
    named = {name for problem in problems for name in re.findall(r"\b([a-l])(?::| \(\d)", problem)}
    assert {Path(name) for name in named} == {file.path for file in (*files, *one, *two)} - used


LIMITS = Limits(small=0, drop=0, processes=1)


@pytest.mark.parametrize(
    ("files", "folders", "limits", "problem"),
    [
        ([3], [], LIMITS, "a0: 3 rows, fewer than one batch of 4"),
        (
            [1],
            [],
            Limits(small=0, drop=0, processes=2),
            "a0: 1 row, fewer than one batch of 8 (2 processes with 4 each)",
        ),
        (
            [9],
            [],
            Limits(small=10, drop=0, processes=1),
            "a0: 9 rows, fewer than --small-threshold 10: "
            "only files in a folder are merged, others are left out",
        ),
        (
            [],
            [3, 4],
            Limits(small=10, drop=8, processes=1),
            "f: b0 (3), b1 (4): merged they have 7 rows, fewer than --drop-threshold 8",
        ),
        (
            [],
            [3, 4],
            Limits(small=10, drop=0, processes=2),
            "f: b0 (3), b1 (4): merged they have 7 rows, fewer than one batch of 8 (2 processes with 4 each)",
        ),
    ],
)
def test_what_is_said(files: list[int], folders: list[int], limits: Limits, problem: str) -> None:
    def made(name: str, counts: list[int]) -> list[Rows]:
        return [Rows(path=Path(f"{name}{at}"), count=count, batch_size=4) for at, count in enumerate(counts)]

    assert batches.unused(made("a", files), [(Path("f"), made("b", folders))], limits) == [problem]


def test_a_batch_size_of_nothing() -> None:
    (problem,) = batches.unused([Rows(path=Path("a"), count=3, batch_size=0)], [], LIMITS)
    assert problem == "a: 3 rows and, by the first one's keys, a batch size of 0"


@pytest.mark.parametrize(
    ("row", "size"),
    [
        ({}, 8),
        ({"batch_size": 3}, 3),
        ({"batch_size": 3, "type": "symmetric_sts"}, 3),
        ({"type": "symmetric_sts"}, 4),
        ({"type": "normal"}, 8),
        ({"type": None, "batch_size": None}, 8),
    ],
)
def test_batch_size_of_a_file(row: dict[str, Any], size: int) -> None:
    assert batches.file_batch_size(row, 8) == size


# ---------------------------------------------------------------------------------------- from the options
ON = {"same_dataset_within_batch": "true", "per_device_train_batch_size": "4"}


def written(path: Path, count: int, **first: Any) -> Path:
    path.parent.mkdir(exist_ok=True)
    row = {"query": "q", "pos": ["p"], "neg": ["n"]}
    lines = [json.dumps({**row, **first}), *(json.dumps(row) for _ in range(count - 1))]
    path.write_text("\n" + "\n\n".join(lines), encoding="utf-8-sig")
    return path


def refused(given_: tuple[Path, ...], values: dict[str, str], processes: int = 1) -> DataError | None:
    files = data.check(given_, data.Rules(format="embedder"))
    try:
        batches.refuse_unused(given_, files, values, processes)
    except DataError as error:
        return error
    return None


def test_each_small_file_is_named(tmp_path: Path) -> None:
    small, large = written(tmp_path / "a.jsonl", 3), written(tmp_path / "b.jsonl", 8)
    folder = written(tmp_path / "more" / "c.jsonl", 2).parent
    given_ = (small, large, folder)
    error = refused(given_, ON)
    assert error is not None
    assert error.exit_code == 67
    assert error.problems == (
        f"{small}: 3 rows, fewer than one batch of 4",
        f"{folder / 'c.jsonl'}: 2 rows, fewer than one batch of 4",
    )
    assert error.hint.split(", or ") == [
        "a smaller --per-device-train-batch-size",
        "fewer and larger files",
        "--same-dataset-within-batch false",
    ]
    assert refused((large,), ON, processes=2) is None
    assert refused((large,), ON, processes=3) is not None
    grouped = {**ON, "length_bucketing": "false"}
    error = refused(given_, grouped)
    assert error is not None
    assert "--length-bucketing true" in error.hint


@pytest.mark.parametrize(
    "more",
    [
        {"same_dataset_within_batch": "False"},
        {"length_bucketing": "true"},
        {"per_device_train_batch_size": "2"},
        {"per_device_train_batch_size": "many"},
    ],
)
def test_nothing_is_left_out(tmp_path: Path, more: dict[str, str]) -> None:
    assert refused((written(tmp_path / "a.jsonl", 3),), {**ON, **more}) is None


def test_with_length_bucketing_every_process_needs_a_row(tmp_path: Path) -> None:
    given_ = (written(tmp_path / "a.jsonl", 3),)
    by_length = {**ON, "length_bucketing": "true"}
    assert refused(given_, by_length, processes=3) is None
    error = refused(given_, by_length, processes=4)
    assert error is not None
    assert error.hint is not None
    assert "--length-bucketing" not in error.hint
    # thresholds leave files out in this mode too
    assert refused(given_, {**by_length, "small_threshold": "5"}) is not None


def test_recipes_that_batch_otherwise(tmp_path: Path) -> None:
    given_ = (written(tmp_path / "a.jsonl", 1),)
    assert refused(given_, {}) is None
    assert refused(given_, {"per_device_train_batch_size": "4"}) is None
    assert refused(given_, {"same_dataset_within_batch": "true"}) is None


def test_thresholds_and_the_rows_that_are_read(tmp_path: Path) -> None:
    folder = written(tmp_path / "more" / "c.jsonl", 3).parent
    written(folder / "d.jsonl", 3)
    assert refused((folder,), {**ON, "small_threshold": "5"}) is None
    assert refused((folder,), {**ON, "small_threshold": "5", "drop_threshold": "7"}) is not None
    assert refused((folder,), {**ON, "small_threshold": "5", "max_example_num_per_dataset": "1"}) is not None


def test_the_first_row_decides(tmp_path: Path) -> None:
    assert refused((written(tmp_path / "a.jsonl", 3, batch_size=3),), ON) is None
    assert refused((written(tmp_path / "b.jsonl", 3, type="symmetric_sts"),), ON) is None
    assert refused((written(tmp_path / "c.jsonl", 5, batch_size=6),), ON) is not None


def test_the_first_row_of_any_file(tmp_path: Path) -> None:
    row = {"query": "q", "pos": ["p"], "neg": ["n"], "batch_size": 1}
    (tmp_path / "a.json").write_text(json.dumps([row, {**row, "batch_size": 9}]))
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(b"\xef\xbb\xbf\n" + json.dumps(row).encode()))
    for name in ("a.json", "b.jsonl.gz"):
        file = data.DataFile(path=tmp_path / name, sha256="", size=9, rows=2)
        assert batches.never_trained([file.path], [file], ON, 2) == []
        assert batches.never_trained([file.path], [file], ON, 3) != []


@pytest.mark.parametrize("content", [b'{"x": ' + b"[" * 100_000, b"\xff", None])
def test_a_first_row_that_cannot_be_read(tmp_path: Path, content: bytes | None) -> None:
    """The check has said so, and its report is printed."""
    path = tmp_path / "a.jsonl"
    if content is None:
        path.symlink_to("/proc/self/mem")
    else:
        path.write_bytes(content)
    report = data.inspect((path,), data.Rules(format="embedder"), data.Wanted())
    assert report.count(errors=True)
    problems = batches.never_trained([path], report.files, ON, 1)
    assert problems == ([] if content is None else [f"{path}: 1 row, fewer than one batch of 4"])


def test_many_files_are_counted(tmp_path: Path) -> None:
    given_ = tuple(written(tmp_path / f"{number:02}.jsonl", 1) for number in range(25))
    error = refused(given_, ON)
    assert error is not None
    assert len(error.problems) == data.SHOWN + 1
    assert error.problems[-1] == "… and 5 more"


def test_a_plan_is_refused(bench: Any) -> None:
    path = bench.data()
    bench.plan(target="cuda", data=(path,))
    for asked in (
        {"parameters": {"per_device_train_batch_size": "4"}},
        {"arguments": ("--per_device_train_batch_size", "4")},
        {"parameters": {"small_threshold": "5"}},
    ):
        with pytest.raises(DataError, match="some of the data would never be trained on"):
            bench.plan(target="cuda", data=(path,), **asked)
    bench.plan(target="cuda", data=(path,), nproc=1, parameters={"per_device_train_batch_size": "4"})
