"""Texts as vectors, and a query tried out on them: what a trained model makes of them.

Runs inside an environment, started by ``recipes/encode.sh``. Texts are encoded in blocks, and the vectors go
to the disk block by block.
"""

import argparse
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import block_search
import models
import numpy as np
import rows
from block_search import Best, Encoded, Progress

FIELDS = ("text", "query", "pos", "neg")
SHOWN = 100  # characters of a passage in the log


def texts_of(row: object) -> list[str]:
    """The texts of a row: ``text`` behind its ``title``; or ``query``, ``pos`` and ``neg``."""
    if not isinstance(row, dict):
        return []
    found = []
    for name in FIELDS:
        value = row.get(name)
        title = row.get("title") if name == "text" else None
        for text in value if isinstance(value, list) else [value]:
            if isinstance(text, str) and (rows.is_text(text) or rows.is_text(title)):
                found.append(text if not title or text.startswith(title) else f"{title} {text}".strip())
    return found


def distinct(given: Sequence[Path]) -> Iterator[str]:
    """Every text once, in the order of the data; of each one only a digest is remembered."""
    seen: set[bytes] = set()
    for path in given:
        for _, row in rows.read(path):
            for text in texts_of(row):
                digest = hashlib.blake2b(text.encode(), digest_size=16).digest()
                if digest not in seen:
                    seen.add(digest)
                    yield text


def count(given: Sequence[Path]) -> int:
    """The number of texts; judges the rows before a model is loaded.

    Raises:
        SystemExit: a row without a text, or no rows.
    """
    problems = [
        f"{path}:{number}: no text under any of {', '.join(FIELDS)}"
        for path in given
        for number, row in rows.read(path)
        if not texts_of(row)
    ]
    rows.refuse(problems)
    total = sum(1 for _ in distinct(given))
    if not total:
        rows.refuse([f"there is no text in {', '.join(map(str, given))}"])
    return total


def blocks(texts: Iterator[str], size: int) -> Iterator[list[str]]:
    """The texts, ``size`` at a time."""
    block: list[str] = []
    for text in texts:
        block.append(text)
        if len(block) == size:
            yield block
            block = []
    if block:
        yield block


def sparse_lines(encoded: Encoded) -> Iterator[str]:
    """The sparse head's weights, a line per text: token id and weight, as FlagEmbedding has them."""
    if encoded.sparse is None:
        return
    for row in encoded.sparse:
        weights = zip(row.indices.tolist(), row.data.tolist(), strict=True)
        yield rows.as_line({str(token): round(weight, 6) for token, weight in weights})


def write(
    output: Path, given: Sequence[Path], total: int, loaded: models.Embedder, query: Encoded | None, top: int
) -> tuple[dict[str, Best], int]:
    """Encode every text and write ``texts.jsonl``, ``dense.npy`` and, with that head, ``sparse.jsonl``.

    Returns:
        The best passages for the query by head (none without a query), and the width of a vector.
    """
    best: dict[str, Best] = {}
    progress = Progress(total, "texts encoded")
    done, width = 0, 0
    with ExitStack() as stack:
        names = stack.enter_context(rows.written(output / "texts.jsonl"))
        dense = stack.enter_context(rows.written(output / "dense.npy", "wb"))
        weights = None
        for block in blocks(distinct(given), loaded.block):
            encoded = loaded.passages(block)
            if not np.isfinite(encoded.dense).all():
                block_search.refuse_scores("dense")
            if not done:
                width = encoded.dense.shape[1]
                header = {"descr": "<f4", "fortran_order": False, "shape": (total, width)}
                np.lib.format.write_array_header_2_0(dense, header)
                if encoded.sparse is not None:
                    weights = stack.enter_context(rows.written(output / "sparse.jsonl"))
            dense.write(np.ascontiguousarray(encoded.dense, "<f4").tobytes())
            names.writelines(rows.as_line({"row": done + i, "text": text}) for i, text in enumerate(block))
            if weights is not None:
                weights.writelines(sparse_lines(encoded))
            if query is not None:
                for head, scores in block_search.score(query, encoded, loaded.device).items():
                    if not np.isfinite(scores).all():
                        block_search.refuse_scores(head)
                    best.setdefault(head, Best(top, [()])).add(done, scores)
            done += len(block)
            progress.at(done)
    return best, width


def show(output: Path, query: str, best: dict[str, Best]) -> dict[str, Any]:
    """Print the best passages of each head for a query, and give them as data."""
    rankings = {head: found.rankings()[0] for head, found in best.items()}
    wanted = {passage for found in rankings.values() for passage, _ in found}
    texts: dict[int, str] = {}
    with (output / "texts.jsonl").open(encoding="utf-8") as lines:
        for number, line in enumerate(lines):
            if number in wanted:
                texts[number] = json.loads(line)["text"]
    result: dict[str, Any] = {}
    for head, found in rankings.items():
        print(f"\n{head}: {query}")
        for rank, (passage, score) in enumerate(found, 1):
            text = " ".join(texts[passage].split())
            print(f"{rank:>4}  {score:8.4f}  {text[:SHOWN]}{'…' if len(text) > SHOWN else ''}")
        result[head] = [{"row": p, "score": round(score, 6), "text": texts[p]} for p, score in found]
    return result


def main() -> None:
    """Judge the rows, encode, try the query out."""
    given = _arguments()
    folder = models.locate(given.model)
    if models.kind(folder) == "reranker":
        raise rows.stop(f"{given.model}: a cross-encoder makes no vectors: give an embedder")
    # ColBERT's vectors are not written (a vector per token); they are needed for the query alone.
    chosen = models.options(given, colbert=given.colbert and bool(given.query))
    data = rows.files(given.data)
    total = count(data)
    with models.embedder(folder, chosen) as loaded:
        query = loaded.queries([given.query]) if given.query else None
        best, width = write(given.output, data, total, loaded, query, given.top)
    print(f"{total} texts, vectors of {width} numbers, {os.fspath(given.output / 'dense.npy')}")
    if given.query:
        rows.write_json(given.output / "search.json", show(given.output, given.query, best))


def _arguments() -> argparse.Namespace:
    """The command line, as the recipe gives it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, nargs="+", required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--query", default="")
    parser.add_argument("--top", type=models.positive, default=10)
    parser.add_argument("--colbert", type=models.boolean, default=True)
    models.arguments(parser)
    return parser.parse_args()


if __name__ == "__main__":
    main()
