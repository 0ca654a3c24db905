"""Training rows that are the same bytes everywhere: made-up sentences over eight topics.

Nothing of the machine goes into them, and of Python's generator only what its documentation promises to stay
the same (``random.Random(seed).random()``), so that a loss curve recorded on one machine holds on another.
"""

import json
import random
from typing import Any

_TOPICS = (
    "bread flour oven dough crust yeast bake loaf butter salt",
    "harbour ship sail anchor captain tide wave rope deck storm",
    "garden rose seed soil spade root bloom leaf rain summer",
    "train station ticket rail engine whistle platform signal wagon bridge",
    "doctor fever medicine nurse patient pulse clinic bandage cough rest",
    "music violin concert singer rhythm drum chorus stage melody string",
    "planet star orbit moon telescope comet gravity rocket sky night",
    "market coin merchant price cloth spice barter silver trade ledger",
)
_PLAIN = "the a of with and near old new small great under over every slow quick quiet"

#: Rows of the trainings whose losses are compared. A batch holds all of them, and a group all negatives of a
#: row: then neither the order of rows nor the draw of negatives, which versions of the libraries do in their
#: own way, changes a loss.
ROWS = 8
NEGATIVES = 7

#: Words of the texts that fill every length: a word is at least one token, the trainer of rerankers cuts a
#: query to 640 tokens and a pair to 1024 (FlagEmbedding, ``create_one_example``), so every pair has 1024.
QUERY_WORDS, PASSAGE_WORDS = 520, 780


def short(seed: int = 11) -> str:
    """JSON lines: ``ROWS`` rows, one a topic; a passage shares its topic's words with its query."""
    draw = random.Random(seed).random  # noqa: S311 - texts, not secrets
    lines = []
    for topic in range(ROWS):
        others = [(topic + step) % len(_TOPICS) for step in range(1, NEGATIVES + 1)]
        row = {
            "query": _text(draw, topic, 6),
            "pos": [_text(draw, topic, 14)],
            "neg": [_text(draw, other, 14) for other in others],
        }
        lines.append(_line(row))
    return "".join(lines)


def long(rows: int, seed: int = 13) -> str:
    """JSON lines: so many rows whose every pair of query and passage is as long as it may be."""
    draw = random.Random(seed).random  # noqa: S311 - texts, not secrets
    lines = []
    for number in range(rows):
        topic = number % len(_TOPICS)
        row = {
            "query": _text(draw, topic, QUERY_WORDS),
            "pos": [_text(draw, topic, PASSAGE_WORDS)],
            "neg": [_text(draw, (topic + step) % len(_TOPICS), PASSAGE_WORDS) for step in range(1, 8)],
        }
        lines.append(_line(row))
    return "".join(lines)


def _text(draw: Any, topic: int, words: int) -> str:
    """So many words: two of a topic, then a plain one."""
    own, plain = _TOPICS[topic].split(), _PLAIN.split()
    picked = []
    for number in range(words):
        pool = plain if number % 3 == 2 else own
        picked.append(pool[int(draw() * len(pool))])
    return " ".join(picked)


def _line(row: dict[str, Any]) -> str:
    return json.dumps(row) + "\n"
