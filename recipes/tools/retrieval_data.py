"""Queries, passages and what is right, from rows or from a folder in BEIR's layout.

Everything is read and judged before a model is loaded. Standard library only.

Two ways to say what is right, told apart by the rows themselves:

* rows ``{"query", "pos", ["neg"]}``, and corpus lines ``{"text", ["title"]}``;
* BEIR (Thakur et al., 2021): ``corpus.jsonl`` with ``_id``, ``title``, ``text``; ``queries*.jsonl`` with
  ``_id``, ``text``; judgements as TSV with the header ``query-id corpus-id score``.
"""

from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import rows

HEADER = ("query-id", "corpus-id", "score")


@dataclass(frozen=True, slots=True, kw_only=True)
class Collection:
    """What is searched; a passage is known by its number.

    Attributes:
        queries: texts.
        query_ids: one per query, unique.
        grades: for each query the right passages and their grade (at least 1), in the order of the data.
        passages: texts, a title in front.
        passage_ids: one per passage, unique.
        bare: where in a passage the text begins, behind its title.
        candidates: for each query the passages of its row, right ones first; of BEIR's queries none.
        rows: the rows that the queries come from; empty ones for BEIR's queries.
    """

    queries: list[str] = field(default_factory=list)
    query_ids: list[str] = field(default_factory=list)
    grades: list[dict[int, int]] = field(default_factory=list)
    passages: list[str] = field(default_factory=list)
    passage_ids: list[str] = field(default_factory=list)
    bare: list[int] = field(default_factory=list)
    candidates: list[list[int]] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """The files of a data set by what they hold: rows and passages, BEIR's queries, judgements."""

    lines: list[Path]
    queries: list[Path]
    judgements: list[Path]


def read(given: Sequence[Path], *, split: str = "", limit: int = 0, candidates: bool = False) -> Collection:
    """Read a data set, and say what was left out.

    Without a corpus the passages are the ``pos`` and ``neg`` of the rows. A right answer that the corpus
    lacks is added to it. Equal texts are one passage, except where judgements name passages by id.

    Args:
        given: files and folders.
        split: the part of a BEIR folder to use, such as ``dev``; empty: the only one.
        limit: use the first so many queries; 0 for all of them.
        candidates: the passages of each row are wanted; without it the ``neg`` of rows with a corpus beside
            them are left out, since they would be searched too.

    Raises:
        SystemExit: rows that cannot be used, each with file and line; unknown ids; no queries.
    """
    found = sources(given, split)
    reader = _Reader(by_id=bool(found.judgements))
    for path in found.lines:
        reader.lines(path)
    for path in found.queries:
        reader.beir_queries(path)
    if found.queries and not found.judgements and reader.asked:
        reader.problems.append(
            f"{found.queries[0]}: queries, but no judgements (.tsv with query-id, corpus-id, score): "
            "which passages are right?"
        )
    for path in found.judgements:
        reader.judgements(path)
    if not reader.problems and not (reader.asked or reader.pending):
        names = ", ".join(map(str, given))
        reader.problems.append(f"there is no row with query and pos, and no queries.jsonl, in {names}")
    rows.refuse(reader.problems)
    collection = reader.collection(limit, candidates=candidates)
    if not collection.queries:
        rows.refuse(["no query has a right passage (a score of 1 or more): there is nothing to measure"])
    return collection


def sources(given: Sequence[Path], split: str) -> Sources:
    """Sort files and the files of folders by what they hold.

    A folder with judgements is BEIR's: of it corpus, queries and judgements of one split are used, and
    nothing else.

    Raises:
        SystemExit: a path that does not exist, a folder without data, a split that is not there or not named.
    """
    if split and not any(path.is_dir() and _splits(path) for path in given):
        raise rows.stop(f"--split {split}: for folders with judgements; of files, give the right ones")
    lines: list[Path] = []
    queries: list[Path] = []
    judgements: list[Path] = []
    for path in given:
        if path.is_dir() and (splits := _splits(path)):
            name = _chosen(path, splits, split)
            judgements.append(splits[name])
            lines += [item for item in rows.files([path]) if item.stem == "corpus"]
            queries.append(_queries_of(path, name))
        elif path.suffix == ".tsv":
            judgements.append(path)
        else:
            for item in rows.files([path]):
                (queries if item.stem.split(".")[0] == "queries" else lines).append(item)
    return Sources(lines=lines, queries=queries, judgements=judgements)


def _splits(folder: Path) -> dict[str, Path]:
    """The judgements of a BEIR folder by split: ``qrels/dev.tsv`` or ``qrels.dev.tsv``."""
    inside = {path.stem: path for path in (folder / "qrels").glob("*.tsv")}
    return inside | {path.stem.removeprefix("qrels."): path for path in folder.glob("qrels.*.tsv")}


def _chosen(folder: Path, splits: dict[str, Path], wanted: str) -> str:
    names = ", ".join(sorted(splits))
    if wanted and wanted not in splits:
        raise rows.stop(f"{folder}: no judgements of the split {wanted!r}; there are: {names}")
    if not wanted and len(splits) > 1:
        raise rows.stop(f"{folder}: judgements of several splits ({names}): name one, --split {min(splits)}")
    return wanted or next(iter(splits))


def _queries_of(folder: Path, split: str) -> Path:
    for name in (f"queries.{split}.jsonl", "queries.jsonl"):
        if (folder / name).is_file():
            return folder / name
    raise rows.stop(f"{folder}: neither queries.{split}.jsonl nor queries.jsonl")


class _Reader:
    """Collects passages, queries and judgements, and everything that is wrong with them."""

    def __init__(self, *, by_id: bool) -> None:
        self.by_id = by_id  # judgements name passages: equal texts stay apart
        self.problems: list[str] = []
        self.pending: list[dict[str, Any]] = []  # rows with query and pos
        self.asked: dict[str, str] = {}  # BEIR's queries: id and text
        self.graded: dict[str, dict[int, int]] = {}
        self.result = Collection()
        self.ids: dict[str, int] = {}
        self.texts: dict[str, int] = {}

    def lines(self, path: Path) -> None:
        """Rows and corpus lines, told apart by their keys."""
        for number, row in rows.read(path):
            if isinstance(row, dict) and "query" in row:
                self._pair(f"{path}:{number}", row)
            elif isinstance(row, dict) and "text" in row:
                self._corpus_line(f"{path}:{number}", row)
            else:
                self.problems.append(f"{path}:{number}: neither a row with query and pos, nor a text")

    def beir_queries(self, path: Path) -> None:
        """``{"_id", "text"}``; a file of this name may hold rows with query and pos instead."""
        for number, row in rows.read(path):
            place = f"{path}:{number}"
            if isinstance(row, dict) and "query" in row:
                self._pair(place, row)
            elif not isinstance(row, dict) or not rows.is_text(row.get("text")) or "_id" not in row:
                self.problems.append(f"{place}: a query has _id and text")
            elif str(row["_id"]) in self.asked:
                self.problems.append(f"{place}: the id {row['_id']!r} was given before")
            else:
                self.asked[str(row["_id"])] = row["text"]

    def judgements(self, path: Path) -> None:
        """``query-id<TAB>corpus-id<TAB>score`` below a header; a score of 1 or more is right."""
        header = True
        for number, columns in _table(path):
            place = f"{path}:{number}"
            if header:
                header = False
                if tuple(columns) != HEADER:
                    self.problems.append(f"{place}: the first line is query-id, corpus-id, score, by tabs")
                    return
                continue
            if len(columns) != len(HEADER) or not _is_whole(columns[2]):
                self.problems.append(f"{place}: query-id, corpus-id and a whole number, by tabs")
                continue
            query, passage, score = columns[0], columns[1], int(columns[2])
            if query not in self.asked:
                self.problems.append(f"{place}: no query has the id {query!r}")
            if passage not in self.ids:
                self.problems.append(f"{place}: no passage of the corpus has the id {passage!r}")
            elif score > 0:
                self.graded.setdefault(query, {})[self.ids[passage]] = score

    def collection(self, limit: int, *, candidates: bool) -> Collection:
        """What was read, as one collection of queries with at least one right passage."""
        found = self.result
        if not found.passages:
            for row in self.pending:
                for text in [*row["pos"], *(row.get("neg") or [])]:
                    self._passage(text)
        known = len(found.passages)
        for row in self.pending[: limit or None]:
            right = [self._passage(text) for text in row["pos"]]
            others = [self._passage(text) for text in row.get("neg") or [] if candidates]
            name = _new(f"r{len(found.queries)}", self.asked)
            self._query(name, row["query"], dict.fromkeys(right, 1), row)
            found.candidates.append(list(dict.fromkeys([*right, *others])))
        if len(found.passages) > known:
            print(f"{len(found.passages) - known} passages of the rows were not in the corpus and were added")
        judged = [name for name in self.asked if name in self.graded]
        if len(judged) < len(self.asked):
            print(f"{len(self.asked) - len(judged)} queries have no right passage and are left out")
        for name in judged[: limit or None]:
            self._query(name, self.asked[name], self.graded[name], {})
            found.candidates.append([])
        for index, given in enumerate(found.passage_ids):
            found.passage_ids[index] = given or _new(f"p{index}", self.ids)
        return found

    def _query(self, name: str, text: str, grades: dict[int, int], row: dict[str, Any]) -> None:
        self.result.queries.append(text)
        self.result.query_ids.append(name)
        self.result.grades.append(grades)
        self.result.rows.append(row)

    def _pair(self, place: str, row: dict[str, Any]) -> None:
        found = [f"{place}: {problem}" for problem in rows.pair_problems(row, negatives=False)]
        self.problems += found
        if not found:
            self.pending.append(row)

    def _corpus_line(self, place: str, row: dict[str, Any]) -> None:
        title, text = row.get("title") or "", row["text"]
        if not isinstance(title, str) or not isinstance(text, str) or not (title + text).strip():
            self.problems.append(f"{place}: text: a text is needed")
            return
        name = row.get("_id", row.get("id"))
        if self.by_id and name is None:
            self.problems.append(f"{place}: _id: missing, and the judgements name passages by it")
            return
        if name is not None and str(name) in self.ids:
            self.problems.append(f"{place}: the id {name!r} was given before")
            return
        if not text.strip():
            self._passage(title, name)
            return
        # BEIR keeps the title apart, and often repeats it in the text.
        joined = text if not title or text.startswith(title) else f"{title} {text}"
        index = self._passage(joined, name, bare=len(joined) - len(text))
        self.texts.setdefault(text, index)

    def _passage(self, text: str, name: object = None, *, bare: int = 0) -> int:
        """The number of a passage, a new one for a new text (or for a new id)."""
        found = self.result
        if text in self.texts and not (self.by_id and name is not None):
            if name is not None:
                self.ids[str(name)] = self.texts[text]
            return self.texts[text]
        index = len(found.passages)
        if name is not None:
            self.ids[str(name)] = index
        self.texts.setdefault(text, index)
        found.passages.append(text)
        found.passage_ids.append("" if name is None else str(name))
        found.bare.append(bare)
        return index


def _table(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Line number and columns of every line of a TSV file that is not blank."""
    try:
        with path.open(encoding="utf-8-sig") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield number, [column.strip() for column in line.rstrip("\n").split("\t")]
    except (OSError, UnicodeDecodeError) as error:
        raise rows.stop(f"{path}: cannot be read: {error}") from None


def _new(name: str, taken: Container[str]) -> str:
    """A name that the data does not use."""
    while name in taken:
        name += "-"
    return name


def _is_whole(text: str) -> bool:
    try:
        int(text)
    except ValueError:
        return False
    return True
