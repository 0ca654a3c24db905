"""The demo's data set: the documentation strings of this machine's own Python standard library.

Real text, real retrieval, nothing to download and nothing foreign in the repository: the query is the
name of a documented object and its summary line, the positive is the rest of its docstring, the
negatives are the rest of other docstrings. The sources are parsed, never imported.

The settings below belong to this data: they were chosen by measurement, see the comments there.
"""

import ast
import json
import random
import re
import sysconfig
import warnings
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launcher.errors import DataError
from launcher.paths import write_atomic

# Tests and tools that nobody imports, other people's packages, and tables without prose.
_SKIPPED = frozenset(
    "__phello__ dist-packages ensurepip idle_test idlelib lib2to3 pydoc_data site-packages test tests"
    " turtledemo".split()
)
_MIN_SUMMARY_WORDS = 3
_MIN_BODY_WORDS = 8
_SHINGLE = 3  # words; bodies that share half of their three-word runs say the same thing
_NEAR_DUPLICATE = 0.5
_MIN_NEGATIVES = 7  # the recipe's train_group_size of 8 draws one positive and seven negatives
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z\"'`(])")

# What the demo's recipes are told, beside their defaults. Measured on two cores with the 2,491 training rows
# of Python 3.11 (300 steps: 44 s of 94 s in all, the environment being there); held-out recall@10 over 2,791
# passages rises from 0.07 to 0.37 for the dense head, from 0.29 to 0.52 for the sparse one and from 0.33 to
# 0.51 for ColBERT (BM25: 0.60). 500 steps take 23 s more and bring nothing.
# One process of two threads with 16 rows learns as much in the same time, but suffers more from whatever else
# runs on the machine.
TINY_PARAMETERS = (("vocab_size", "2000"), ("layers", "1"), ("hidden_size", "128"), ("heads", "2"))
RECIPE_PARAMETERS = (
    ("per_device_train_batch_size", "8"),
    ("query_max_len", "32"),
    ("passage_max_len", "48"),
    ("learning_rate", "2e-3"),
    ("max_steps", "300"),
)
EVALUATION_PARAMETERS = (("max_length", "128"),)
NPROC = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """One documented object: its module, the words of its name, its summary and the rest."""

    module: str
    name: str
    summary: str
    body: str

    @property
    def query(self) -> str:
        """What a person would ask: the name in words, and the summary line."""
        return f"{self.name}: {self.summary}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """The data set in memory: FlagEmbedding rows, held-out rows and every passage."""

    train: tuple[dict[str, Any], ...]
    dev: tuple[dict[str, Any], ...]
    corpus: tuple[dict[str, Any], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoData:
    """The written data set: three files, and how many lines each of them has."""

    train: Path
    dev: Path
    corpus: Path
    rows: int
    held_out: int
    passages: int


def write(
    folder: Path,
    *,
    held_out: int = 300,
    negatives: int = 15,
    seed: int = 7,
    root: Path | None = None,
) -> DemoData:
    """Write ``train.jsonl``, ``dev.jsonl`` and ``corpus.jsonl`` from the standard library's docstrings.

    The same Python gives the same bytes every time; each file appears whole or not at all.

    Args:
        folder: where the three files go; made when missing.
        held_out: how many documents are only ever asked for, never trained on.
        negatives: how many negatives each training row has, at least 7.
        seed: of the held-out choice and of the negatives.
        root: a folder of Python sources instead of the standard library.

    Raises:
        DataError: the sources hold too little documentation, e.g. a Python whose library is zipped.
    """
    root = root or Path(sysconfig.get_path("stdlib"))
    documents = distinct(parse(sources(root)))
    if len(documents) < held_out + negatives + 1:
        raise DataError(
            "no demo data set can be made here",
            [f"{root}: {len(documents)} documented objects, {held_out + negatives + 1} needed"],
            why="this Python keeps its library without sources or documentation strings",
            hint="run the demo with another Python, or train on your own rows with --data",
        )
    rows = build(documents, held_out=held_out, negatives=negatives, seed=seed)
    paths = [folder / f"{name}.jsonl" for name in ("train", "dev", "corpus")]
    for path, part in zip(paths, (rows.train, rows.dev, rows.corpus), strict=True):
        write_atomic(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in part))
    return DemoData(
        train=paths[0],
        dev=paths[1],
        corpus=paths[2],
        rows=len(rows.train),
        held_out=len(rows.dev),
        passages=len(rows.corpus),
    )


def sources(root: Path) -> Iterator[tuple[str, bytes]]:
    """Every library module below ``root`` in a fixed order: its dotted name and its source."""
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        if _SKIPPED.isdisjoint(parts):
            dotted = parts[:-1] if parts[-1] == "__init__" else parts
            yield ".".join(dotted), path.read_bytes()


def parse(modules: Iterable[tuple[str, bytes]]) -> Iterator[Document]:
    """The documented objects of some modules, in source order; sources that do not parse are left out.

    Args:
        modules: pairs of dotted name and source.
    """
    for module, source in modules:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # invalid escapes in old sources are not ours to report
                tree = ast.parse(source)
        except (SyntaxError, ValueError):
            continue
        yield from _documents(module, (module,), tree)


def distinct(documents: Iterable[Document]) -> list[Document]:
    """Leave out a document whose body says mostly what an earlier one says, or whose query is taken.

    Overridden methods repeat their docstrings almost word for word. Kept, they would be negatives that
    are right answers, and a held-out text could be learned from its twin in the training part. The
    measure is the containment of w-shingles (Broder, "On the resemblance and containment of
    documents", 1997), through an inverted index.
    """
    kept: list[Document] = []
    queries: set[str] = set()
    owners: defaultdict[tuple[str, ...], list[int]] = defaultdict(list)
    for document in documents:
        shingles = _shingles(document.body)
        shared: defaultdict[int, int] = defaultdict(int)
        for shingle in shingles:
            for owner in owners[shingle]:
                shared[owner] += 1
        if document.query in queries or max(shared.values(), default=0) >= _NEAR_DUPLICATE * len(shingles):
            continue
        for shingle in shingles:
            owners[shingle].append(len(kept))
        queries.add(document.query)
        kept.append(document)
    return kept


def build(documents: Sequence[Document], *, held_out: int, negatives: int, seed: int) -> Rows:
    """Split the documents and give each training row its negatives.

    Negatives come from the training part alone, up to half of them from the row's own module (the hard
    ones), so that no held-out text is seen in training in any role.

    Args:
        documents: distinct documents; more than ``held_out + negatives``.
        held_out: number of documents in the held-out part.
        negatives: negatives per training row, at least 7.
        seed: of the split and of the negatives.

    Raises:
        ValueError: fewer negatives than the recipe draws, or too few documents for them.
    """
    if negatives < _MIN_NEGATIVES or len(documents) <= held_out + negatives:
        raise ValueError(f"{negatives} negatives of {len(documents)} documents, {held_out} held out")
    rng = random.Random(seed)  # noqa: S311 - a split, not a secret
    chosen = set(rng.sample(range(len(documents)), held_out))
    training = [document for i, document in enumerate(documents) if i not in chosen]
    siblings: defaultdict[str, list[str]] = defaultdict(list)
    for document in training:
        siblings[document.module].append(document.body)
    bodies = [document.body for document in training]
    train = []
    for document in training:
        hard = [body for body in siblings[document.module] if body != document.body]
        picked = rng.sample(hard, min(len(hard), (negatives + 1) // 2))
        seen = {document.body, *picked}
        # one spare draw for each text that must not come again: enough, whatever was picked
        spare = rng.sample(bodies, min(len(bodies), negatives + len(seen)))
        picked += [body for body in spare if body not in seen][: negatives - len(picked)]
        train.append({"query": document.query, "pos": [document.body], "neg": picked})
    dev = [{"query": documents[i].query, "pos": [documents[i].body]} for i in sorted(chosen)]
    corpus = [{"id": str(i), "text": document.body} for i, document in enumerate(documents)]
    return Rows(train=tuple(train), dev=tuple(dev), corpus=tuple(corpus))


def _documents(module: str, scope: tuple[str, ...], node: ast.AST) -> Iterator[Document]:
    """The documents of one scope and of the scopes in it."""
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        split = _split(ast.get_docstring(node) or "")
        if split:
            yield Document(module=module, name=_words(scope), summary=split[0], body=split[1])
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _documents(module, (*scope, child.name), child)
        elif isinstance(child, ast.stmt | ast.excepthandler | ast.match_case):
            yield from _documents(module, scope, child)  # definitions under if, try, with ...


def _split(docstring: str) -> tuple[str, str] | None:
    """A docstring's summary and body, or None when one of them is missing or too short.

    The summary ends at the first blank line (PEP 257), or earlier where its first sentence ends.
    """
    paragraph, _, rest = docstring.strip().partition("\n\n")
    summary, *more = _SENTENCE_END.split(paragraph, maxsplit=1)
    summary, body = " ".join(summary.split()), " ".join(" ".join([*more, rest]).split())
    if len(summary.split()) < _MIN_SUMMARY_WORDS or len(body.split()) < _MIN_BODY_WORDS:
        return None
    return summary, body


def _words(scope: tuple[str, ...]) -> str:
    """A qualified name as words: ``("zipfile", "ZipFile", "__init__")`` is "zipfile zip file init"."""
    return " ".join(word.lower() for part in scope for word in _WORD.findall(part))


def _shingles(text: str) -> set[tuple[str, ...]]:
    """The three-word runs of a text, without case and punctuation; never empty."""
    words = re.findall(r"\w+", text.casefold())
    return {tuple(words[i : i + _SHINGLE]) for i in range(max(1, len(words) - _SHINGLE + 1))}
