"""Rows that a trainer would leave out without a word, found before it starts.

With ``same_dataset_within_batch`` FlagEmbedding makes each batch from one file, leaves out what does not fill
the last one, and leaves out small files (1.3.5 and 1.4.2: ``AbsEmbedderSameDatasetTrainDataset``, its
``__init__`` and ``refresh_epoch``).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launcher.data import DataFile, listed
from launcher.data.records import first
from launcher.errors import DataError
from launcher.recipe.refusals import says

#: Rows of a file that upstream reads unless ``--max_example_num_per_dataset`` says otherwise.
_MOST = 100_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """A file as upstream's batches see it.

    Attributes:
        count: rows that are read.
        batch_size: of each device, for rows of this file.
    """

    path: Path
    count: int
    batch_size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What decides whether a file is used.

    Attributes:
        small: files with fewer rows are merged when they are in a folder, and left out when they are not.
        drop: merged files with fewer rows are left out.
        processes: the world size: a batch is shared out to all of them.
    """

    small: int
    drop: int
    processes: int


def unused(
    files: Sequence[Rows], folders: Sequence[tuple[Path, Sequence[Rows]]], limits: Limits
) -> list[str]:
    """Files that no batch is ever made of, each with its numbers.

    Args:
        files: those that were given themselves.
        folders: those that were given as folders, with the files inside.
    """
    problems = []
    whole = list(files)
    for file in files:
        if file.count < limits.small:
            whole.remove(file)
            problems.append(
                f"{file.path}: {_rows(file.count)}, fewer than --small-threshold {limits.small}: "
                "only files in a folder are merged, others are left out"
            )
    for folder, inside in folders:
        merged = [file for file in inside if file.count < limits.small]
        whole += [file for file in inside if file.count >= limits.small]
        if merged:
            problems += _merged_problems(folder, merged, limits)
    for file in whole:
        if problem := _batch_problem(file.count, file.batch_size, limits.processes):
            problems.append(f"{file.path}: {problem}")
    return problems


def _merged_problems(folder: Path, merged: Sequence[Rows], limits: Limits) -> list[str]:
    """Small files of a folder: they count together, with the smallest of their batch sizes."""
    total = sum(file.count for file in merged)
    listed = ", ".join(f"{file.path.name} ({file.count})" for file in merged)
    if total < limits.drop:
        problem = f"{_rows(total)}, fewer than --drop-threshold {limits.drop}"
    else:
        problem = _batch_problem(total, min(file.batch_size for file in merged), limits.processes)
    return [f"{folder}: {listed}: merged they have {problem}"] if problem else []


def _batch_problem(rows: int, batch_size: int, processes: int) -> str:
    if batch_size < 1:  # upstream would stop: "range() arg 3 must not be zero"
        return f"{_rows(rows)} and, by the first one's keys, a batch size of {batch_size}"
    if rows >= batch_size * processes:
        return ""
    shares = f" ({processes} processes with {batch_size} each)" if processes > 1 else ""
    return f"{_rows(rows)}, fewer than one batch of {batch_size * processes}{shares}"


def _rows(count: int) -> str:
    return f"{count} row{'' if count == 1 else 's'}"


def refuse_unused(
    given: Sequence[Path], files: Sequence[DataFile], values: Mapping[str, str], processes: int
) -> None:
    """Refuse files that would never be trained on; see :func:`never_trained`.

    Raises:
        DataError: all such files.
    """
    problems = never_trained(given, files, values, processes)
    if problems:
        by_length = says(True, values.get("length_bucketing", ""))
        bucketing = ["--length-bucketing true"] if "length_bucketing" in values and not by_length else []
        ways = [
            "a smaller --per-device-train-batch-size",
            *bucketing,
            "fewer and larger files",
            "--same-dataset-within-batch false",
        ]
        raise DataError(
            "some of the data would never be trained on",
            listed(problems, len(problems)),
            why="each batch comes from one file, and the trainer leaves out what does not fill its last one",
            hint=", or ".join(ways),
        )


def never_trained(
    given: Sequence[Path], files: Sequence[DataFile], values: Mapping[str, str], processes: int
) -> list[str]:
    """Files that would never be trained on, each with its numbers.

    Args:
        given: files and folders, as the command line has them.
        files: every file of them.
        values: of the recipe's parameters, raw trainer arguments included. A recipe without
            ``same_dataset_within_batch`` has no such files. One that groups rows by length trains partial
            batches too, but still needs a row for every process.
        processes: the world size.
    """
    by_length = says(True, values.get("length_bucketing", ""))
    if not (by_length or says(True, values.get("same_dataset_within_batch", ""))):
        return []
    try:
        batch_size = 1 if by_length else int(values["per_device_train_batch_size"])
        most = int(values.get("max_example_num_per_dataset", _MOST))
        limits = Limits(
            small=int(values.get("small_threshold", 0)),
            drop=int(values.get("drop_threshold", 0)),
            processes=processes,
        )
    except (KeyError, ValueError):  # the trainer's parser says what is wrong with a raw argument
        return []
    rows = {
        file.path: Rows(
            path=file.path,
            count=min(file.rows, most),
            batch_size=1 if by_length else file_batch_size(first(file.path), batch_size),
        )
        for file in files
        if file.rows  # the check has something to say about the others
    }
    return unused(
        [rows[path] for path in given if path in rows],
        [(path, [rows[file] for file in rows if file.parent == path]) for path in given if path.is_dir()],
        limits,
    )


def file_batch_size(row: Mapping[str, Any], default: int) -> int:
    """The batch size of a file, by its first row: upstream reads no other."""
    own, kind = row.get("batch_size"), row.get("type")
    if isinstance(own, int):
        return own
    return default // 2 if isinstance(kind, str) and "symmetric" in kind else default
