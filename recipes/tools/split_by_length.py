"""Training rows by length: a file for each range of the longest text of a row, in tokens.

Runs inside an environment, started by ``recipes/split-by-length.sh``. As FlagEmbedding's
``split_data_by_length``: the longest of query, pos and neg counts, special tokens included, and a range has
its lower end and not its upper one. Rows go through as they are, byte by byte.
"""

import argparse
import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import models
import rows

ROWS = 256  # rows tokenized at a time
#: Gives the number of tokens of each text.
Count = Callable[[Sequence[str]], list[int]]


def boundaries(text: str) -> list[int]:
    """``"512,1024"`` as [0, 512, 1024]: where the ranges begin."""
    words = text.replace(",", " ").split()
    if not words or not all(word.isdecimal() and int(word) for word in words):
        raise argparse.ArgumentTypeError(f"{text!r}: whole numbers from 1 on, such as 512,1024")
    return sorted({0, *map(int, words)})


def range_name(starts: Sequence[int], length: int) -> str:
    """The range that a length is in: ``len-0-512``, the last one ``len-512-inf``."""
    place = bisect_right(starts, length)
    end = starts[place] if place < len(starts) else "inf"
    return f"len-{starts[place - 1]}-{end}"


def file_name(source: str, range_: str, *, alone: bool) -> str:
    """The name of a range's file: the range, behind its source's name when there are several sources.

    Each stays a data set of its own, and keeps what its name tells FlagEmbedding.
    """
    stem = source.removesuffix(".jsonl")
    end = f"_{rows.ALONE}" if stem.endswith(rows.ALONE) else ""
    start = "" if alone else f"{stem.removesuffix(rows.ALONE).removesuffix('_')}_"
    return f"{start}{range_}{end}.jsonl"


def measured(path: Path, count: Count) -> Iterator[tuple[str, int]]:
    """Each line of a file, and the tokens of its longest text."""
    waiting: list[tuple[str, list[str]]] = []
    for _, line, row in rows.raw(path):
        waiting.append((line if line.endswith("\n") else line + "\n", _texts(row)))
        if len(waiting) == ROWS:
            yield from _measure(waiting, count)
            waiting = []
    yield from _measure(waiting, count)


def _texts(row: dict[str, Any]) -> list[str]:
    return [row["query"], *row["pos"], *row["neg"]]


def _measure(waiting: Sequence[tuple[str, list[str]]], count: Count) -> Iterator[tuple[str, int]]:
    if not waiting:
        return
    lengths = iter(count([text for _, texts in waiting for text in texts]))
    for line, texts in waiting:
        yield line, max(next(lengths) for _ in texts)


def split(path: Path, name: Callable[[int], Path], count: Count) -> tuple[Counter[str], int]:
    """Write the rows of one file to the files of their ranges, all of them whole or none.

    Returns:
        Rows by file, and the longest length.
    """
    written: Counter[str] = Counter()
    longest = 0
    with ExitStack() as stack:
        streams: dict[Path, Any] = {}
        for line, length in measured(path, count):
            target = name(length)
            if target not in streams:
                streams[target] = stack.enter_context(rows.written(target))
            streams[target].write(line)
            written[target.name] += 1
            longest = max(longest, length)
    return written, longest


def counter(folder: Path) -> Count:
    """The number of tokens of texts, special tokens included, by a model's own tokenizer."""
    from transformers import AutoTokenizer
    from transformers.utils import logging

    tokenizer = AutoTokenizer.from_pretrained(str(folder))
    logging.set_verbosity_error()  # it warns of texts longer than its model, which are what is looked for

    def count(texts: Sequence[str]) -> list[int]:
        return [len(ids) for ids in tokenizer(list(texts))["input_ids"]]

    return count


def main() -> None:
    """Judge the rows, load the tokenizer, write a file per range, say how many rows each has."""
    given = _arguments()
    named = rows.outputs(given.data)
    rows.check_pairs([path for path, _ in named])
    count = counter(models.locate(given.model))
    for path, name in named:

        def target(length: int, name: str = name) -> Path:
            range_ = range_name(given.boundaries, length)
            return Path(given.output / file_name(name, range_, alone=len(named) == 1))

        written, longest = split(path, target, count)
        print(f"{path.name}: {sum(written.values())} rows, the longest text has {longest} tokens")
        ordered = sorted(written.items(), key=lambda item: _first(item[0]))
        print("\n".join(f"  {rows_:>9}  {file}" for file, rows_ in ordered))


def _first(name: str) -> float:
    """Where a file's range begins."""
    start = name.rpartition("len-")[2].split("-")[0]
    return float(start) if start.isdecimal() else math.inf


def _arguments() -> argparse.Namespace:
    """The command line, as the recipe gives it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, nargs="+", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--boundaries", type=boundaries, default=[0, 512, 1024, 2048, 4096])
    return parser.parse_args()


if __name__ == "__main__":
    main()
