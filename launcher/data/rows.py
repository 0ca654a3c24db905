"""A line, judged with care: every rule about a row, and which kinds of values its columns have.

This is the slow and complete judge. ``quick`` passes over the lines that have nothing to say.
"""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

from launcher.data.dialogues import KEYS as DIALOGUE_KEYS
from launcher.data.dialogues import judge_dialogue
from launcher.data.model import Issue, Rules
from launcher.data.rules import LOADED
from launcher.data.values import kind, leading_null, text_issues

#: No teacher's score is beyond this; NaN and infinity are not below it either.
LARGEST = 1e300

#: Spaces by JSON's own grammar. Others, e.g. a form feed, are no blank line to a trainer, but a broken one.
BLANK = b" \t\r\n"

#: Lists in which null has a rule of its own.
NULL_JUDGED = frozenset("pos neg pos_scores neg_scores messages conversations".split())

_JUDGEMENT = [b"query-id", b"corpus-id", b"score"]


def parsed(line: bytes) -> tuple[Any, list[Issue]]:
    """A line's value, and what is wrong with the line itself; the value is None when there is none.

    As strict as the trainer's reader, and as lenient: NaN and Infinity are numbers to it.
    """
    issues: list[Issue] = []
    repeated: list[str] = []

    def keep(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            keys = [key for key, _ in pairs]
            repeated.append(next(key for key in found if keys.count(key) > 1))
        return found

    try:
        value = json.loads(line.decode(), object_pairs_hook=keep)
        beyond = _beyond(value, infinity=b"Infinity" in line)
        half = b"\\ud" in line.lower() and _has_half_character(value)
    except UnicodeDecodeError as error:
        return None, [Issue("not-utf8", "", f"not UTF-8: {error.reason}{_other_encoding(line)}")]
    except json.JSONDecodeError as error:
        return None, [Issue("not-json", "", f"not JSON: {error.msg} (column {error.colno}){_reason(line)}")]
    except (ValueError, RecursionError):  # thousands of digits, or of brackets
        text = "not JSON that a trainer reads: a number too long, or too deep a nesting"
        return None, [Issue("not-json", "", text)]
    if half:
        text = "half a surrogate pair (\\ud800 to \\udfff alone is no character)"
        return None, [Issue("half-character", "", text)]
    if not isinstance(value, dict):
        return None, [Issue("not-object", "", f"a row is an object, not {kind(value)}")]
    if repeated:
        issues.append(Issue("key-repeated", repeated[0], "twice in one object"))
    if beyond:
        issues.append(Issue("number-range", "", beyond))
    return value, issues


def judge_row(row: dict[str, Any], rules: Rules) -> Iterator[Issue]:
    """Everything that the format's rules say about a row."""
    yield from _JUDGES[rules.format](row, rules)
    if rules.trained and rules.format in LOADED and (where := leading_null(row, NULL_JUDGED)):
        yield Issue("list-null-first", where, "begins with null")


def judge_judgement(line: bytes, *, header: bool) -> Iterator[Issue]:
    """A line of BEIR's judgements: query-id, corpus-id and score, separated by tabs, below a header."""
    columns = [column.strip() for column in line.split(b"\t")]
    problem = ""
    if header:
        if columns != _JUDGEMENT:
            problem = "the first line is query-id, corpus-id, score, separated by tabs"
    elif len(columns) != len(_JUDGEMENT) or not all(columns):
        problem = f"{len(columns)} columns: query-id, corpus-id and score are needed, separated by tabs"
    elif not columns[2].removeprefix(b"-").isdigit():
        problem = f"score: a whole number, not {columns[2].decode(errors='replace')!r}"
    if problem:
        yield Issue("judgement", "", problem)
    try:
        line.decode()
    except UnicodeDecodeError as error:
        yield Issue("not-utf8", "", f"not UTF-8: {error.reason}")


def _pairs(row: dict[str, Any], rules: Rules) -> Iterator[Issue]:
    """Embedder and reranker rows: query, pos, neg, and their scores."""
    yield from _query(row)
    for field in ("pos", "neg"):
        yield from _texts(row, field)
    yield from _between(row)
    negatives = row.get("neg")
    if isinstance(negatives, list) and 0 < len(negatives) < rules.group_size - 1:
        yield Issue("neg-few", "neg", f"{len(negatives)}, and a group takes {rules.group_size - 1}")
    if rules.trained:
        yield from _trained(row, rules)


def _trained(row: dict[str, Any], rules: Rules) -> Iterator[Issue]:
    """What only a trainer reads: teacher scores, prompts, a file's batch size."""
    for field in ("pos", "neg"):
        yield from _scores(row, field, required=rules.scores)
    for key in ("prompt", "query_prompt", "passage_prompt"):
        if key in row and not isinstance(row[key], str | None):
            yield Issue("prompt-type", key, f"a text, not {kind(row[key])}")
        elif row.get(key):
            yield from text_issues(row[key], key)
    size = row.get("batch_size")
    if rules.format == "embedder" and "batch_size" in row and (type(size) is not int or size < 1):
        yield Issue("batch-size", "batch_size", f"a whole number above 0, not {size!r:.20}")


def _retrieval(row: dict[str, Any], rules: Rules) -> Iterator[Issue]:
    """Search: a query with its right answers, or a text (of the corpus, or of BEIR's queries)."""
    if "query" in row:
        yield from _query(row)
        yield from _texts(row, "pos")
        if row.get("neg") not in (None, []):  # what has no negatives yet may get them from a search
            yield from _texts(row, "neg")
            yield from _between(row)
    elif "text" in row:
        if not isinstance(row.get("title"), str | None):
            yield Issue("field-type", "title", f"a text, not {kind(row['title'])}")
        elif not (row.get("title") or "").strip() or not isinstance(row["text"], str):
            yield from _text(row)  # some corpora have passages of nothing but a title
    else:
        yield Issue("row-unknown", "", "neither query nor text")
    if isinstance(row.get("_id", ""), bool) or not isinstance(row.get("_id", ""), str | int):
        yield Issue("field-type", "_id", f"a text, not {kind(row['_id'])}")


def _any_text(row: dict[str, Any], rules: Rules) -> Iterator[Issue]:
    """Any row that holds text."""
    if not any(isinstance(value, str) or (isinstance(value, list) and value) for value in row.values()):
        yield Issue("row-unknown", "", "holds no text")


def _plain(row: dict[str, Any], rules: Rules) -> Iterator[Issue]:
    if "text" in row:
        yield from _text(row)
    else:
        yield Issue("row-unknown", "text", "missing")


def _learned(row: dict[str, Any], rules: Rules) -> Iterator[Issue]:
    """A dialogue, or a text: what has a dialogue's keys is one."""
    yield from _text(row) if "text" in row and DIALOGUE_KEYS.isdisjoint(row) else judge_dialogue(row, rules)


def _text(row: dict[str, Any]) -> Iterator[Issue]:
    text = row["text"]
    if not isinstance(text, str):
        yield Issue("field-type", "text", f"a text, not {kind(text)}")
    elif not text.strip():
        yield Issue("passage-empty", "text", "empty")
    else:
        yield from text_issues(text, "text")


def _query(row: dict[str, Any]) -> Iterator[Issue]:
    query = row.get("query")
    if "query" not in row:
        yield Issue("query-missing", "query", "missing")
    elif not isinstance(query, str):
        yield Issue("query-type", "query", f"a text, not {kind(query)}")
    elif not query.strip():
        yield Issue("query-empty", "query", "empty")
    else:
        yield from text_issues(query, "query")


def _texts(row: dict[str, Any], field: str) -> Iterator[Issue]:
    texts = row.get(field)
    if field not in row:
        yield Issue(f"{field}-missing", field, "missing")
    elif isinstance(texts, str):
        yield Issue(f"{field}-string", field, 'a list of texts, not one text: write ["…"]')
    elif not isinstance(texts, list):
        yield Issue(f"{field}-type", field, f"a list of texts, not {kind(texts)}")
    elif not texts:
        yield Issue(f"{field}-empty", field, "an empty list")
    else:
        for position, text in enumerate(texts):
            where = f"{field}[{position}]"
            if text is None:
                yield Issue("text-null", where, "a text, not null")
            elif not isinstance(text, str):
                yield Issue("text-type", where, f"a text, not {kind(text)}")
            elif not text.strip():
                yield Issue("text-empty", where, "empty")
            else:
                yield from text_issues(text, where)


def _between(row: dict[str, Any]) -> Iterator[Issue]:
    """A text that is right and wrong, or twice in one list."""
    first: dict[str, str] = {}
    for field in ("pos", "neg"):
        texts = row.get(field)
        for position, text in enumerate(texts if isinstance(texts, list) else ()):
            if not isinstance(text, str) or not text.strip():
                continue
            where = f"{field}[{position}]"
            before = first.setdefault(text, where)
            if before == where:
                continue
            if before.startswith("pos") and field == "neg":
                yield Issue("pos-in-neg", where, f"the same text as {before}")
            else:
                yield Issue("text-repeated", where, f"the same text as {before}")


def _scores(row: dict[str, Any], field: str, *, required: bool) -> Iterator[Issue]:
    name = f"{field}_scores"
    scores = row.get(name)
    if scores is None:
        if required:
            yield Issue("scores-missing", name, "missing, and distillation is on")
        return
    texts = row.get(field)
    if not isinstance(scores, list):
        yield Issue("scores-type", name, f"a list of numbers, not {kind(scores)}")
        return
    for position, score in enumerate(scores):
        if isinstance(score, bool) or not isinstance(score, int | float):
            yield Issue("scores-number", f"{name}[{position}]", f"a number, not {kind(score)}")
        elif not -LARGEST < score < LARGEST:  # Python's JSON reader and the trainer's take NaN and Infinity
            yield Issue("scores-finite", f"{name}[{position}]", f"a finite number, not {score:.4g}")
    if isinstance(texts, list) and len(scores) != len(texts):
        yield Issue("scores-length", name, f"{len(scores)} scores for {len(texts)} texts")


def _has_half_character(row: object) -> bool:
    try:
        json.dumps(row, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return True
    return False


def _beyond(value: object, *, infinity: bool) -> str:
    """What is said of a number that the trainer's reader cannot hold; empty: there is none.

    The nesting is one that the JSON reader has walked already.

    Args:
        infinity: the line has the word, so that one may be meant.
    """
    if isinstance(value, float):
        beyond = not infinity and value in (float("inf"), float("-inf"))
        return "a number beyond 1e308" if beyond else ""
    if isinstance(value, int):
        return "" if -(2**63) <= value < 2**64 else "a whole number beyond 64 bits"
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for item in items:
        if type(item) is not str and (found := _beyond(item, infinity=infinity)):  # most of them are texts
            return found
    return ""


def _other_encoding(line: bytes) -> str:
    if line.startswith((b"\xff\xfe", b"\xfe\xff")) or line.count(0) * 3 > len(line):
        return " (UTF-16: iconv -f UTF-16 -t UTF-8)"
    return ""


def _reason(line: bytes) -> str:
    text = line.strip()
    if text in (b"{", b"[") or re.fullmatch(rb'("[^"]*"\s*:.*|[\]}]),?', text):
        return "; one object per line, not spread over lines"
    if b"}\r{" in text:
        return "; lines end in carriage returns alone"
    return ""


_Judge = Callable[[dict[str, Any], Rules], Iterator[Issue]]
_JUDGES: dict[str, _Judge] = {
    "embedder": _pairs,
    "reranker": _pairs,
    "retrieval": _retrieval,
    "texts": _any_text,
    "sft": judge_dialogue,
    "plain": _plain,
    "llm": _learned,
}
