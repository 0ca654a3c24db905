"""The quick judge of embedder and reranker rows: whole blocks decoded and typed in C, then one loop.

It answers one question, whether there is nothing to say about a block of lines; what it does not let pass is
judged again with care. It knows the columns that the beginning of the file has, with their kinds: a row that
brings another column or kind does not pass. (Of an object that has a key twice it sees the last one. That is
looked for in the beginning of each file, and in rows that did not pass.)
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import chain
from operator import add, attrgetter, itemgetter
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from launcher.data.model import Rules
from launcher.data.rows import LARGEST
from launcher.data.values import odd

_TEXT = Annotated[str, Meta(min_length=1)]
_TEXTS = Annotated[list[_TEXT], Meta(min_length=1)]
_FLOAT = Annotated[float, Meta(gt=-LARGEST, lt=LARGEST)]
_INT = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]  # no other bounds can be given
_SCALARS: dict[str, Any] = {"text": str, "bool": bool, "int": _INT, "float": _INT | float, "null": None}
_QUERY, _POS, _NEG = (attrgetter(name) for name in ("query", "pos", "neg"))
_POS_SCORES, _NEG_SCORES = attrgetter("pos_scores"), attrgetter("neg_scores")
_FIRST, _HEAD = itemgetter(0), itemgetter(slice(24))
_PROMPTS = ("prompt", "query_prompt", "passage_prompt")

#: Columns and their kinds, sorted: what a worker needs to know of a file.
Columns = tuple[tuple[str, tuple[str, ...]], ...]


def known(seen: Mapping[str, set[str]]) -> Columns:
    """The kinds that the beginning of a file has, as :class:`Quick` takes them."""
    return tuple(sorted((name, tuple(sorted(kinds))) for name, kinds in seen.items()))


def suits(columns: Columns, rules: Rules) -> bool:
    """Whether the quick judge can say anything about such rows."""
    kinds = dict(columns)
    if rules.format not in ("embedder", "reranker"):
        return False
    return all("text" in kinds.get(name, ()) for name in ("query", "pos[]", "neg[]"))


class Quick:
    """Judges blocks of lines.

    Args:
        columns: of the beginning of the file.
    """

    def __init__(self, columns: Columns, rules: Rules) -> None:
        kinds = dict(columns)
        top = [name for name in kinds if not name.endswith("]") and "." not in name]
        fields: list[Any] = [("query", _TEXT), ("pos", _TEXTS), ("neg", _TEXTS)]
        rename = {}
        self._prompts: list[str] = []
        for number, name in enumerate(name for name in top if name not in ("query", "pos", "neg")):
            form = _form(name, kinds)
            if form is None:
                continue  # rows that have it are judged with care
            field = name if name in ("pos_scores", "neg_scores") else f"more_{number}"
            rename[field] = name
            fields.append((field, form, None))
            if name in _PROMPTS:
                self._prompts.append(field)
        named = {item[0] for item in fields}
        fields += [(name, None, None) for name in ("pos_scores", "neg_scores") if name not in named]
        row = msgspec.defstruct("Row", fields, forbid_unknown_fields=True, gc=False, rename=rename)
        self._decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(row)
        self._least = max(1, rules.group_size - 1)
        self._scores = rules.scores

    def rows(self, block: bytes) -> Sequence[Any] | None:
        """The rows of a block of whole lines; None when not every line is one row of the known columns."""
        try:
            rows = self._decoder.decode_lines(block)
        except (ValueError, RecursionError):
            return None
        return rows if len(rows) == _lines(block, len(rows)) else None

    def keys(self, rows: Sequence[Any], block: bytes) -> tuple[list[int], int] | None:
        """A 64-bit key of each row's content, and how many rows have teacher scores.

        None when there is something to say about one of the rows. This is the hot spot of the whole check:
        it asks whole blocks where it can, in calls that loop in C.

        Args:
            block: what the rows were decoded from. ASCII without a backslash has no characters to look at.
        """
        queries, lefts, rights = [[*map(field, rows)] for field in (_QUERY, _POS, _NEG)]
        right, wrong = [*map(len, lefts)], [*map(len, rights)]
        if min(wrong) < self._least:
            return None
        scored = _scored(rows, right, wrong)
        if scored is None or (self._scores and scored < len(rows)):
            return None
        groups = [*map(add, lefts, rights)]
        texts = [*chain.from_iterable(groups)]
        for group in _alike(groups, texts):
            if len({*map(_HEAD, group)}) < len(group) and len({*group}) < len(group):
                return None
        texts += queries
        if True in map(str.isspace, texts):
            return None
        if not (block.isascii() and b"\\" not in block):
            for name in self._prompts:
                texts += [prompt for row in rows if (prompt := getattr(row, name))]
            if odd("".join(texts)):
                return None
        return [*map(hash, zip(queries, map(_FIRST, lefts), right, wrong, strict=True))], scored


def _alike(groups: list[list[str]], texts: list[str]) -> list[list[str]]:
    """The groups in which two texts are of one length: no others can hold a text twice."""
    count = len(groups[0])
    if count * len(groups) == len(texts) and {*map(len, groups)} == {count}:
        lengths = map(len, texts)
        distinct = map(len, map(set, zip(*[lengths] * count, strict=True)))
        return [group for group, found in zip(groups, distinct, strict=True) if found < count]
    return [group for group in groups if len({*map(len, group)}) < len(group)]


def _lines(block: bytes, rows: int) -> int:
    """Lines of a block; looking for the next newline outruns counting them where lines are long."""
    unfinished = not block.endswith(b"\n")
    if rows * 500 > len(block):
        return block.count(b"\n") + unfinished
    lines = at = 0
    while at := block.find(b"\n", at) + 1:
        lines += 1
    return lines + unfinished


def _scored(rows: Sequence[Any], right: list[int], wrong: list[int]) -> int | None:
    """How many rows have teacher scores; None when there are not as many as texts."""
    found = len(rows)
    for field, counts in ((_POS_SCORES, right), (_NEG_SCORES, wrong)):
        scores = [*map(field, rows)]
        if None in scores:
            there = [(each, count) for each, count in zip(scores, counts, strict=True) if each is not None]
            if any(len(each) != count for each, count in there):
                return None
            found = min(found, len(there))
        elif [*map(len, scores)] != counts:
            return None
    return found


def content(row: Any, rules: Rules) -> Any:
    """What makes two rows the same: all that is trained on, and nothing else."""
    if rules.format in ("embedder", "reranker") and isinstance(row, dict):
        return [row.get(name) for name in ("query", "pos", "neg")]
    return row


def key(row: dict[str, Any], rules: Rules) -> int:
    """A 64-bit key of a row's content, the same that :meth:`Quick.keys` has."""
    if rules.format in ("embedder", "reranker"):
        query, pos, neg = content(row, rules)
        try:
            return hash((query, pos[0], len(pos), len(neg)))
        except (TypeError, IndexError, KeyError):
            return 0  # no row that could be trained on
    return hash(msgspec.json.encode(content(row, rules), order="sorted"))


@lru_cache(maxsize=64)
def quick(columns: Columns, rules: Rules) -> Quick | None:
    """The quick judge of such rows, made once per process; None where there is none."""
    return Quick(columns, rules) if suits(columns, rules) else None


def _form(name: str, kinds: Mapping[str, tuple[str, ...]]) -> Any:
    """The type of a column by the kinds that were seen; None: not to be judged quickly."""
    own = kinds[name]
    if name in ("pos_scores", "neg_scores"):
        items = kinds.get(f"{name}[]", ())
        if not set(own) <= {"list", "null"} or not items or not set(items) <= {"int", "float"}:
            return None
        number: Any = Annotated[int, Meta(ge=-(2**53), le=2**53)]
        if "float" in items:  # once there is one, whole numbers are read as such too
            number = number | _FLOAT
        return list[number] | None
    if name == "batch_size":
        return Annotated[int, Meta(ge=1)] if own == ("int",) else None
    if name in _PROMPTS and not set(own) <= {"text", "null"}:
        return None
    if own == ("list", "null") or own == ("list",):
        items = kinds.get(f"{name}[]", ())
        return list[str] | None if items == ("text",) else None
    some = set(own) - {"null"}
    some = {"text"} if some == {"text", "time"} else some  # with one text among them, dates stay texts
    if len(some) != 1 or not some <= set(_SCALARS):
        return None
    return _SCALARS[some.pop()] | (None if "null" in own else msgspec.UnsetType)
