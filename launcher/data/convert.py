"""Other people's files as training rows: shapes found by their columns, joined and grouped on the disk."""

import json
import sqlite3
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from math import isfinite
from pathlib import Path
from typing import Any, TypeGuard

from launcher.data.files import PACKED, judgements_of
from launcher.data.fixing import packed
from launcher.data.records import ENDINGS, ending, records
from launcher.data.shapes import Shape, as_record, as_row, detect, fields_of, missing
from launcher.data.write import new_file
from launcher.errors import DataError, UsageError
from launcher.progress import Progress

#: Records whose columns say what a file is.
_LOOK = 50

_SHOWN = 20

#: What a query's row takes from its first pair.
_CARRIED = ("prompt", "type", "batch_size", "query_prompt", "passage_prompt")

_JUDGEMENT = ("query-id", "corpus-id", "score")


@dataclass(slots=True, kw_only=True)
class Converted:
    """What became of the records.

    Attributes:
        why: how the columns were understood, a line each.
        without_negatives: rows that a search has to give negatives to.
        skipped: records that no row could be made of, the first ones in ``problems``.
    """

    output: Path
    rows: int = 0
    skipped: int = 0
    without_negatives: int = 0
    why: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def skip(self, problem: str) -> None:
        """A record that is left out."""
        self.skipped += 1
        if len(self.problems) < _SHOWN:
            self.problems.append(problem)


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """What the user may say.

    Attributes:
        columns: field -> columns.
        threshold: a pair whose label is at least this is a positive one.
        split: of BEIR's judgements; empty when there is only one.
    """

    format: str
    columns: Mapping[str, Sequence[str]] = field(default_factory=dict)
    threshold: float = 0.5
    split: str = ""


def convert(given: Sequence[Path], choices: Choices, output: Path, *, progress: Progress) -> Converted:
    """Write the rows of all files into one.

    Raises:
        OutputError: the output is there already.
        DataError: nothing could be converted, or a file cannot be read.
        UsageError: ``choices`` do not fit the data.
    """
    result = Converted(output=output)
    with new_file(output) as stream:
        for path in given:
            progress.start(f"converting {path}", total=None)
            found = _beir(path, choices, result) if _is_beir(path) else _all(path, choices, result)
            for row in found:
                result.rows += 1
                result.without_negatives += "neg" in _wanted(choices.format) and not row.get("neg")
                stream.write(packed(row) + b"\n")
            progress.finish(f"converting {path}")
        if not result.rows:
            raise DataError("no row could be made", result.problems or ["there are no records"])
    return result


def _wanted(format_: str) -> tuple[str, ...]:
    return ("neg",) if format_ in ("embedder", "reranker") else ()


def _all(path: Path, choices: Choices, result: Converted) -> Iterator[dict[str, Any]]:
    if not path.is_dir():
        yield from _file(path, choices, result)
        return
    inside = sorted(item for item in path.iterdir() if item.is_file() and ending(item) in ENDINGS)
    if not inside:
        raise DataError(
            f"nothing to convert in {path}", [f"endings: {', '.join(ENDINGS)}, {', '.join(PACKED)}"]
        )
    for item in inside:
        yield from _file(item, choices, result)


def _file(path: Path, choices: Choices, result: Converted) -> Iterator[dict[str, Any]]:
    if not path.is_file():
        raise DataError(f"{path} does not exist", [])
    shape = _shape(path, choices)
    result.why += [f"{path.name}: {line}" for line in shape.why]
    rows = _rows(path, shape, choices, result)
    if shape.labelled:
        yield from _grouped(rows, path, choices.threshold, result)
    else:
        yield from (row for _, row in rows)


def _shape(path: Path, choices: Choices) -> Shape:
    first = [as_record(value) for _, value in islice(records(path), _LOOK)]
    columns = list(dict.fromkeys(str(name) for record in first if record for name in record))
    if not columns:
        raise DataError(f"{path} has no records", ["neither objects nor lists of texts at its beginning"])
    return detect(columns, choices.format, choices.columns)


def _rows(
    path: Path, shape: Shape, choices: Choices, result: Converted
) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, value in records(path):
        record = as_record(value)
        fields = fields_of(record, shape) if record is not None else {}
        if problem := "broken, or no object" if record is None else _problem(fields, shape):
            result.skip(f"{path}:{number}: {problem}")
        else:
            yield number, as_row(fields, choices.format)


def _problem(fields: dict[str, Any], shape: Shape) -> str:
    """Why no row can be made of a record; empty: one can."""
    if lacking := missing(fields, shape):
        return f"no {' and no '.join(lacking)}"
    if shape.labelled:
        if _as_number(fields.get("label")) is None:
            return f"label: a finite number, not {fields.get('label')!r:.30}"
        for field in ("query", "pos"):
            if not all(map(_is_text, fields[field] if field == "pos" else [fields[field]])):
                return f"{field}: not only text, or half a surrogate pair"
    return ""


def _grouped(
    rows: Iterator[tuple[int, dict[str, Any]]], path: Path, threshold: float, result: Converted
) -> Iterator[dict[str, Any]]:
    """Pairs with a label as rows: all texts of a query, those with a high label as positives.

    What else the first pair of a query has, a prompt for example, is the row's.
    """
    with _database() as database:
        database.execute("CREATE TABLE pair (query TEXT, number INTEGER, text TEXT, positive INTEGER, more)")
        database.executemany(
            "INSERT INTO pair VALUES (?, ?, ?, ?, ?)",
            (
                (row["query"], number, text, (_as_number(row["label"]) or 0) >= threshold, _more(row))
                for number, row in rows
                for text in row["pos"]
            ),
        )
        database.execute("CREATE INDEX by_query ON pair (query)")
        # SQLite takes a bare column beside min() from the row that has the minimum.
        order = "SELECT query, min(number) AS first, more FROM pair GROUP BY query ORDER BY first"
        for query, first, more in database.execute(order):
            texts: dict[bool, list[str]] = {True: [], False: []}
            wanted = "SELECT text, positive FROM pair WHERE query = ? ORDER BY number"
            for text, positive in database.execute(wanted, (query,)):
                texts[bool(positive)].append(text)
            if texts[True]:
                yield {"query": query, "pos": texts[True], "neg": texts[False], **json.loads(more)}
            else:
                result.skip(f"{path}:{first}: no text of this query has a label of {threshold:g} or more")


def _more(row: Mapping[str, Any]) -> bytes:
    return packed({name: value for name, value in row.items() if name in _CARRIED})


def _is_text(value: Any) -> TypeGuard[str]:
    """Whether a value is a text that can be written as UTF-8."""
    if not isinstance(value, str):
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _as_number(value: Any) -> float | None:
    """A finite number; None for anything else."""
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if isfinite(number) else None


def _is_beir(path: Path) -> bool:
    return path.is_dir() and bool(judgements_of(path)) and _part(path, "corpus") is not None


def _part(folder: Path, name: str) -> Path | None:
    found = [folder / f"{name}{ending}{packing}" for ending in ENDINGS for packing in ("", *PACKED)]
    return next((path for path in found if path.is_file()), None)


def _beir(folder: Path, choices: Choices, result: Converted) -> Iterator[dict[str, Any]]:
    """Queries with the passages that were judged right, and those that were judged wrong as negatives."""
    corpus = _part(folder, "corpus")
    judgements, split = _judgements(folder, choices.split)
    queries = _part(folder, "queries") or _part(folder, f"queries.{split}")
    if corpus is None or queries is None:
        raise DataError(f"{folder} is not whole", [f"no queries.jsonl or queries.{split}.jsonl"])
    result.why.append(
        f"{folder.name}: BEIR's layout, judgements of {judgements.name}: a score above 0 is right"
    )
    with _database() as database:
        database.execute("CREATE TABLE passage (id TEXT PRIMARY KEY, text TEXT) WITHOUT ROWID")
        database.execute("CREATE TABLE judged (query TEXT, passage TEXT, score REAL)")
        database.executemany("INSERT OR REPLACE INTO passage VALUES (?, ?)", _passages(corpus, result))
        database.executemany("INSERT INTO judged VALUES (?, ?, ?)", _scores(judgements, result))
        database.execute("CREATE INDEX by_query ON judged (query)")
        wanted = "SELECT passage, text, score FROM judged LEFT JOIN passage ON passage = id WHERE query = ?"
        for number, value in records(queries):
            if not isinstance(value, dict) or not _is_text(value.get("text")) or not _is_id(value.get("_id")):
                result.skip(f"{queries}:{number}: no text, or no _id")
                continue
            row: dict[str, Any] = {"query": value["text"], "pos": [], "neg": []}
            for passage, text, score in database.execute(wanted, (str(value["_id"]),)):
                if text is None:
                    result.skip(f"{judgements}: passage {passage} is not in {corpus.name}")
                else:
                    row["pos" if score > 0 else "neg"].append(text)
            if row["pos"]:
                yield row
            elif row["neg"]:
                result.skip(f"{queries}:{number}: no passage was judged right")


def _judgements(folder: Path, split: str) -> tuple[Path, str]:
    found = {path.stem.removeprefix("qrels."): path for path in judgements_of(folder)}
    if (split and split not in found) or (not split and len(found) > 1):
        raise UsageError(
            f"{folder} has judgements of {', '.join(sorted(found))}", hint="--split NAME says which ones"
        )
    name = split or next(iter(found))
    return found[name], name


def _passages(corpus: Path, result: Converted) -> Iterator[tuple[str, str]]:
    for number, value in records(corpus):
        if not isinstance(value, dict) or not _is_text(value.get("text")) or not _is_id(value.get("_id")):
            result.skip(f"{corpus}:{number}: no text, or no _id")
        else:
            title = value.get("title")
            text = f"{title} {value['text']}" if _is_text(title) and title.strip() else value["text"]
            yield str(value["_id"]), text.strip()


def _scores(judgements: Path, result: Converted) -> Iterator[tuple[str, str, float]]:
    for number, value in records(judgements):
        if isinstance(value, dict) and not value.keys() >= set(_JUDGEMENT):
            raise DataError(
                f"{judgements} has no columns {', '.join(_JUDGEMENT)}",
                [f"columns: {', '.join(map(str, value))}"],
                why="BEIR's judgements have these names in their first line, separated by tabs",
            )
        query, passage, score = (
            (value[name] for name in _JUDGEMENT) if isinstance(value, dict) else [None] * 3
        )
        score = _as_number(score)
        if not _is_id(query) or not _is_id(passage) or score is None:
            result.skip(f"{judgements}:{number}: query-id, corpus-id and a finite score are needed")
        else:
            yield str(query), str(passage), score


def _is_id(value: Any) -> bool:
    return _is_text(value) or (isinstance(value, int) and not isinstance(value, bool))


class _database:  # noqa: N801 - used like a function
    """A database of the time of one conversion, on the disk; a context manager."""

    def __enter__(self) -> sqlite3.Connection:
        self._folder = tempfile.TemporaryDirectory(prefix="launch-data-")
        self._open = sqlite3.connect(Path(self._folder.name) / "rows", isolation_level=None)
        for line in ("PRAGMA journal_mode = OFF", "PRAGMA synchronous = OFF", "BEGIN"):
            self._open.execute(line)
        return self._open

    def __exit__(self, *about: object) -> None:
        self._open.close()
        self._folder.cleanup()
