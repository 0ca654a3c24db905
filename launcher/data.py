"""Training data, checked before anything starts: the keys and types that a recipe's format requires.

Streaming: a line is read, judged, hashed and forgotten; a data set is never held in memory.
"""

import codecs
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launcher.errors import DataError

#: Problems that are listed in full; the rest is counted.
SHOWN = 20

#: No teacher's score is beyond this; NaN and infinity are not below it either.
_LARGEST = 1e300

_SUFFIXES = (".jsonl", ".json")

#: BEIR's judgements are a table; recipes of the format retrieval read them beside the rows.
_TABLE = ".tsv"
_HEADER = [b"query-id", b"corpus-id", b"score"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DataFile:
    """One file of a data set as it was when it was checked.

    Attributes:
        size: bytes.
        rows: lines that are not blank.
    """

    path: Path
    sha256: str
    size: int
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What one run asks of its rows.

    Attributes:
        format: the recipe's data format: embedder, reranker, retrieval or texts.
        scores: every row must carry teacher scores (distillation is on).
        unified: all heads of BGE-M3 are trained together, which rules out folders without
            in-batch negatives.
    """

    format: str
    scores: bool = False
    unified: bool = False


def check(given: tuple[Path, ...], rules: Rules) -> tuple[DataFile, ...]:
    """Check every row of every file.

    Args:
        given: files, or folders of ``.jsonl``/``.json`` files; of the format retrieval also judgements
            (``.tsv``) and folders in BEIR's layout.
        rules: what is required of a row.

    Returns:
        The files in a stable order, with hash, size and number of rows.

    Raises:
        DataError: all problems at once, each with file, line and field (the first ones in full).
    """
    problems = _Problems()
    files = []
    for path in _expand(given, rules, problems):
        if rules.unified and any(part.endswith("no_in_batch_neg") for part in (path.stem, path.parent.name)):
            problems.add(f"{path}: unified fine-tuning trains on a constant loss without in-batch negatives; "
                         "rename the file or folder, or use --unified-finetuning false")  # fmt: skip
        files.append(_check_file(path, rules, problems))
    if problems.count:
        raise DataError(
            f"the data cannot be trained on ({problems.count} problem{'s' if problems.count > 1 else ''})",
            listed(problems.shown, problems.count),
            why="the trainer would stop at these rows in the middle of the run, or learn from wrong text",
            hint=f"format {rules.format!r}: {_EXPECTED[rules.format]}",
        )
    return tuple(files)


def listed(problems: Sequence[str], count: int) -> list[str]:
    """The first :data:`SHOWN` problems, and how many more of them there are.

    Args:
        count: of all problems, those included that nobody kept.
    """
    shown = list(problems[:SHOWN])
    return shown if count <= len(shown) else [*shown, f"… and {count - len(shown)} more"]


def fingerprint(path: Path) -> str:
    """sha256 of a file; empty when there is none."""
    if not path.is_file():
        return ""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


class _Problems:
    """Counts everything, keeps the first ones."""

    def __init__(self) -> None:
        self.count = 0
        self.shown: list[str] = []

    def add(self, problem: str) -> None:
        self.count += 1
        if len(self.shown) < SHOWN:
            self.shown.append(problem)


def _expand(given: tuple[Path, ...], rules: Rules, problems: _Problems) -> list[Path]:
    files: list[Path] = []
    suffixes = (*_SUFFIXES, _TABLE) if rules.format == "retrieval" else _SUFFIXES
    for path in given:
        if ":" in str(path.absolute()):  # the recipe gets the whole path, the working folder's included
            problems.add(f"{path}: a colon separates paths, rename the file or folder")
        elif path.is_dir():
            inside = sorted(item for item in path.iterdir() if item.suffix in _SUFFIXES and item.is_file())
            if not inside:
                problems.add(f"{path}: no .jsonl or .json file in this folder")
            if rules.format == "retrieval":
                inside += _judgements_of(path)
            for item in inside:
                if path.resolve() not in item.resolve().parents:
                    problems.add(
                        f"{item}: a link out of the folder, which no container can follow; name the file"
                    )
            files += inside
        elif not path.is_file():
            problems.add(f"{path}: does not exist")
        elif path.suffix not in suffixes:
            what = " and .tsv judgements" if _TABLE in suffixes else ""
            problems.add(f"{path}: the trainer reads .jsonl and .json files{what} only")
        else:
            files.append(path)
    return files


def _judgements_of(folder: Path) -> list[Path]:
    """The judgements of a folder in BEIR's layout: ``qrels/test.tsv``, or ``qrels.test.tsv`` in it."""
    found = [*folder.glob(f"qrels.*{_TABLE}"), *folder.glob(f"qrels/*{_TABLE}")]
    return sorted(path for path in found if path.is_file())


def _check_file(path: Path, rules: Rules, problems: _Problems) -> DataFile:
    digest, size, rows = hashlib.sha256(), 0, 0
    judge = _JUDGES[rules.format]
    try:
        with path.open("rb") as stream:
            for number, line in enumerate(stream, start=1):
                digest.update(line)
                size += len(line)
                if number == 1:
                    line = line.removeprefix(codecs.BOM_UTF8)  # the trainer passes over it too
                if not line.strip():
                    continue
                rows += 1
                if path.suffix == _TABLE:
                    for problem in _judge_judgement(line, header=rows == 1):
                        problems.add(f"{path}:{number}: {problem}")
                    continue
                if rows == 1 and line.lstrip().startswith(b"["):
                    problems.add(f"{path}: a JSON array; one object per line: jq -c '.[]' {path.name}")
                    break
                for problem in _judge_line(line, judge, rules):
                    problems.add(f"{path}:{number}: {problem}")
    except OSError as error:
        problems.add(f"{path}: cannot be read: {error.strerror}")
        return DataFile(path=path, sha256="", size=size, rows=rows)
    if path.suffix == _TABLE:
        rows = max(0, rows - 1)  # without the header
    if not rows:
        problems.add(f"{path}: no rows")
    return DataFile(path=path, sha256=digest.hexdigest(), size=size, rows=rows)


def _judge_line(
    line: bytes, judge: Callable[[dict[str, Any], Rules], Iterator[str]], rules: Rules
) -> Iterator[str]:
    try:
        row = json.loads(line.decode())  # decoded here: json would guess UTF-16, the trainer does not
    except UnicodeDecodeError as error:
        yield f"not UTF-8: {error.reason}"
        return
    except json.JSONDecodeError as error:
        yield f"not JSON: {error.msg} (column {error.colno})"
        return
    except (ValueError, RecursionError):  # thousands of digits, or of brackets
        yield "not JSON that a trainer reads: a number too long, or too deep a nesting"
        return
    if b"\\ud" in line.lower() and _has_half_character(row):
        yield "half a surrogate pair (\\ud800 to \\udfff alone is no character)"
        return
    if not isinstance(row, dict):
        yield f"a row is an object, not {_kind(row)}"
        return
    yield from judge(row, rules)


def _judge_pairs(row: dict[str, Any], rules: Rules) -> Iterator[str]:
    """Embedder and reranker rows: query, pos, neg, and their scores."""
    yield from _text_problems(row, "query")
    for field in ("pos", "neg"):
        yield from _texts_problems(row, field)
    for field in ("pos", "neg"):
        yield from _scores_problems(row, field, required=rules.scores)
    for key in ("prompt", "query_prompt", "passage_prompt"):
        if key in row and not isinstance(row[key], str | None):
            yield f"{key}: a text, not {_kind(row[key])}"


def _judge_retrieval(row: dict[str, Any], rules: Rules) -> Iterator[str]:
    """Search: a query with its right answers, or a text (of the corpus, or of BEIR's queries)."""
    if "query" in row:
        yield from _text_problems(row, "query")
        yield from _texts_problems(row, "pos")
        if row.get("neg") not in (None, []):  # what has no negatives yet may get them from a search
            yield from _texts_problems(row, "neg")
    elif "text" in row:
        if not isinstance(row.get("title"), str | None):
            yield f"title: a text, not {_kind(row['title'])}"
        elif not (row.get("title") or "").strip() or not isinstance(row["text"], str):
            yield from _text_problems(row, "text")  # some corpora have passages of nothing but a title
    else:
        yield "neither query nor text"
    if isinstance(row.get("_id", ""), bool) or not isinstance(row.get("_id", ""), str | int):
        yield f"_id: a text, not {_kind(row['_id'])}"


def _judge_judgement(line: bytes, *, header: bool) -> Iterator[str]:
    """A line of BEIR's judgements: query-id, corpus-id and score, separated by tabs, below a header."""
    columns = [column.strip() for column in line.split(b"\t")]
    if header:
        if columns != _HEADER:
            yield "the first line is query-id, corpus-id, score, separated by tabs"
    elif len(columns) != len(_HEADER) or not all(columns):
        yield f"{len(columns)} columns: query-id, corpus-id and score are needed, separated by tabs"
    elif not columns[2].removeprefix(b"-").isdigit():
        yield f"score: a whole number, not {columns[2].decode(errors='replace')!r}"
    try:
        line.decode()
    except UnicodeDecodeError as error:
        yield f"not UTF-8: {error.reason}"


def _judge_texts(row: dict[str, Any], rules: Rules) -> Iterator[str]:
    """Any row that holds text."""
    if not any(isinstance(value, str) or (isinstance(value, list) and value) for value in row.values()):
        yield "holds no text"


def _text_problems(row: dict[str, Any], field: str) -> Iterator[str]:
    if field not in row:
        yield f"{field}: missing"
    elif not isinstance(row[field], str):
        yield f"{field}: a text, not {_kind(row[field])}"
    elif not row[field].strip():
        yield f"{field}: empty"


def _texts_problems(row: dict[str, Any], field: str) -> Iterator[str]:
    texts = row.get(field)
    if field not in row:
        yield f"{field}: missing"
    elif isinstance(texts, str):
        yield f'{field}: a list of texts, not one text: write ["…"]'
    elif not isinstance(texts, list):
        yield f"{field}: a list of texts, not {_kind(texts)}"
    elif not texts:
        yield f"{field}: an empty list"
    else:
        for position, text in enumerate(texts):
            if not isinstance(text, str):
                yield f"{field}[{position}]: a text, not {_kind(text)}"
            elif not text.strip():
                yield f"{field}[{position}]: empty"


def _scores_problems(row: dict[str, Any], field: str, *, required: bool) -> Iterator[str]:
    name = f"{field}_scores"
    scores = row.get(name)
    if scores is None:
        if required:
            yield f"{name}: missing, and distillation is on"
        return
    texts = row.get(field)
    if not isinstance(scores, list):
        yield f"{name}: a list of numbers, not {_kind(scores)}"
        return
    for position, score in enumerate(scores):
        if isinstance(score, bool) or not isinstance(score, int | float):
            yield f"{name}[{position}]: a number, not {_kind(score)}"
        elif not -_LARGEST < score < _LARGEST:  # Python's JSON reader and the trainer's take NaN and Infinity
            yield f"{name}[{position}]: a finite number, not {score}"
    if isinstance(texts, list) and len(scores) != len(texts):
        yield f"{name}: {len(scores)} scores for {len(texts)} texts"


def _has_half_character(row: object) -> bool:
    try:
        json.dumps(row, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return True
    return False


def _kind(value: object) -> str:
    names = {
        bool: "true/false",
        int: "a number",
        float: "a number",
        str: "a text",
        list: "a list",
        dict: "an object",
    }
    return "null" if value is None else names.get(type(value), type(value).__name__)


_JUDGES = {
    "embedder": _judge_pairs,
    "reranker": _judge_pairs,
    "retrieval": _judge_retrieval,
    "texts": _judge_texts,
}
_EXPECTED = {
    "embedder": '{"query": "…", "pos": ["…"], "neg": ["…"]}, one object per line',
    "reranker": '{"query": "…", "pos": ["…"], "neg": ["…"]}, one object per line',
    "retrieval": '{"query": "…", "pos": ["…"]} rows, and {"id": "…", "text": "…"} rows of the corpus; '
    "or BEIR: corpus.jsonl, queries.jsonl, qrels/SPLIT.tsv (query-id, corpus-id, score)",
    "texts": "objects that hold text, one per line",
}
