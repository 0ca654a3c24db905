"""Which columns of other people's files are the fields of a recipe's format: by name, or as the user says."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from launcher.errors import DataError, UsageError

#: Field -> names that others use for it, the most telling first.
_PAIR_NAMES = {
    "query": ("query", "question", "anchor", "text1", "sentence1", "sentence_1", "premise", "q", "queries"),
    "pos": (
        *("pos", "positive", "positives", "positive_passages", "positive_ctxs", "positive_passage"),
        *("answer", "answers", "passage", "document", "text2", "sentence2", "sentence_2", "hypothesis"),
        *("response", "context", "doc", "text"),
    ),
    "neg": (
        *("neg", "negative", "negatives", "negative_passages", "hard_negatives", "hard_negative"),
        *("hard_negative_ctxs", "negative_ctxs", "negative_passage"),
    ),
    "label": ("label", "score", "similarity", "similarity_score", "relevance", "relevant"),
    "pos_scores": ("pos_scores",),
    "neg_scores": ("neg_scores",),
    "prompt": ("prompt",),
    "type": ("type",),
    "batch_size": ("batch_size",),
    "query_prompt": ("query_prompt",),
    "passage_prompt": ("passage_prompt",),
}
_DIALOGUE_NAMES = {
    "messages": ("messages", "conversations", "conversation", "dialogue"),
    "instruction": ("instruction", "question", "query", "prompt"),
    "input": ("input", "context"),
    "output": ("output", "answer", "response", "completion", "answers"),
    "system": ("system", "system_prompt"),
    "history": ("history",),
}
_TEXT_NAMES = {"text": ("text", "content", "passage", "document", "body", "sentence")}

#: Of each format: the fields with their names elsewhere, and those of which all of one line are needed.
_FIELDS: dict[str, tuple[Mapping[str, tuple[str, ...]], tuple[tuple[str, ...], ...]]] = {
    "embedder": (_PAIR_NAMES, (("query", "pos"),)),
    "reranker": (_PAIR_NAMES, (("query", "pos"),)),
    "retrieval": (_PAIR_NAMES, (("query", "pos"),)),
    "sft": (_DIALOGUE_NAMES, (("messages",), ("instruction", "output"))),
    "plain": (_TEXT_NAMES, (("text",),)),
    "llm": ({**_DIALOGUE_NAMES, "text": ("text",)}, (("messages",), ("instruction", "output"), ("text",))),
    "texts": (_TEXT_NAMES, (("text",),)),
}

_NUMBERED = re.compile(r"(?:hard_)?neg(?:ative)?s?[_-]?\d+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """Where each field of a format comes from.

    Attributes:
        sources: (field, columns): several columns are put together into one list.
        needed: fields of which a row needs all of one line.
        why: a line for each field, for people.
    """

    sources: tuple[tuple[str, tuple[str, ...]], ...]
    needed: tuple[tuple[str, ...], ...]
    why: tuple[str, ...]

    @property
    def labelled(self) -> bool:
        """Pairs with a label: several rows make one query's positives and negatives."""
        return any(field == "label" for field, _ in self.sources)


def detect(columns: Sequence[str], format_: str, given: Mapping[str, Sequence[str]]) -> Shape:
    """Find out where the fields are.

    Args:
        columns: of the first records.
        given: field -> columns, by the user.

    Raises:
        UsageError: a field that the format does not have, or a column that is not there.
        DataError: a needed field is in none of the columns.
    """
    names, needed = _FIELDS[format_]
    for field, wanted in given.items():
        if field not in names:
            raise UsageError(
                f"--map {field}={wanted[0]}: the format {format_} has no field {field}",
                hint=f"fields: {', '.join(names)}",
            )
        for column in wanted:
            if column not in columns:
                raise UsageError(
                    f"--map {field}={column}: there is no column {column}", hint=f"columns: {_list(columns)}"
                )
    sources: dict[str, tuple[str, ...]] = {}
    why = []
    taken = {column for wanted in given.values() for column in wanted}
    for field, others in names.items():
        if field in given:
            sources[field] = tuple(given[field])
            why.append(f"{field} is {', '.join(given[field])}: --map")
            continue
        if found := [name for name in others if name in columns and name not in taken]:
            sources[field] = (found[0],)
            taken.add(found[0])
            why.append(f"{field} is {found[0]}" + ("" if found[0] == field else ": a usual name of it"))
        elif field == "neg" and (numbered := [name for name in columns if _NUMBERED.fullmatch(name)]):
            sources[field] = tuple(numbered)
            why.append(f"neg is {', '.join(numbered)}: numbered columns")
    if "neg" in sources:  # with negatives of its own, a score is no label
        dropped = sources.pop("label", None)
        why = [line for line in why if not (dropped and line.startswith("label "))]
    if unused := [name for name in columns if not any(name in wanted for wanted in sources.values())]:
        why.append(f"not used: {_list(unused)}")
    there = tuple(fields for fields in needed if all(field in sources for field in fields))
    if not there:
        raise DataError(
            f"no {' or '.join(' and '.join(fields) for fields in needed)} among the columns",
            [f"columns: {_list(columns)}"],
            why="none of them has a name that is usual for these fields",
            hint=f"say where they are: --map {needed[-1][0]}=COLUMN",
        )
    return Shape(sources=tuple(sources.items()), needed=there, why=tuple(why))


def missing(row: Mapping[str, Any], shape: Shape) -> tuple[str, ...]:
    """The needed fields that a row lacks, or has without a text; of several ways the one that lacks least."""

    def empty(value: Any) -> bool:
        return not value.strip() if isinstance(value, str) else not value

    lacking = [tuple(field for field in fields if empty(row.get(field))) for fields in shape.needed]
    return min(lacking, key=len)


def as_record(value: Any) -> dict[str, Any] | None:
    """A record of any layout as columns: objects, and lists of two or three texts (sentence-transformers)."""
    if isinstance(value, dict):
        for key in ("set", "texts"):
            if isinstance(value.get(key), list) and len(value[key]) >= 2:
                return as_record(value[key])
        return value
    if isinstance(value, list) and len(value) >= 2 and all(isinstance(each, str) for each in value):
        first, second, *rest = value
        return {"anchor": first, "positive": second} | ({"negatives": rest} if rest else {})
    return None


def fields_of(record: Mapping[str, Any], shape: Shape) -> dict[str, Any]:
    """A record's fields of the format; those whose values cannot be one stay as they are, for the check."""
    row: dict[str, Any] = {}
    for field, columns in shape.sources:
        values = [record[column] for column in columns if record.get(column) is not None]
        if not values:
            continue
        if field in ("pos", "neg"):
            row[field] = [text for value in values for text in _texts(value)]
        elif field == "messages":
            row["messages"] = _messages(values[0])
        elif field in ("query", "text", "instruction", "input", "output", "system"):
            row[field] = _one(values[0])
        else:
            row[field] = values[0]
    return row


def as_row(fields: dict[str, Any], format_: str) -> dict[str, Any]:
    """Fields, of which none is missing, as a row; of dialogues messages, where other keys would not say all.

    History and system are those of Alpaca's layout as LLaMA-Factory documents it (data/README.md): pairs of
    a question and its answer, and a text before all; the input follows the instruction on a new line.
    """
    if format_ not in ("sft", "llm"):
        return fields
    row = dict(fields)
    text = row.pop("text", None)
    if text is not None and not (row.get("messages") or row.get("output")):
        return {"text": text}
    messages, system, history = (row.pop(name, None) for name in ("messages", "system", "history"))
    before = [{"role": "system", "content": system}] if system else []
    if messages:
        first = messages[0] if isinstance(messages, list) else None
        if not isinstance(messages, list) or (isinstance(first, dict) and first.get("role") == "system"):
            return {"messages": messages}
        return {"messages": before + messages}
    asked = [row[field] for field in ("instruction", "input") if row.get(field)]
    if not (system or history) or not all(isinstance(text, str) for text in asked):
        return row
    turns = history if isinstance(history, list) else [history] if history else []
    pairs = [turn if isinstance(turn, list) and len(turn) == 2 else [turn, None] for turn in turns]
    for pair in [*pairs, ["\n".join(asked), row["output"]]]:
        before += [{"role": role, "content": text} for role, text in zip(_TURNS, pair, strict=True)]
    return {"messages": before}


def _texts(value: Any) -> list[Any]:
    if isinstance(value, dict) and isinstance(value.get("text"), list):  # SQuAD's answers
        return list(value["text"])
    items = value if isinstance(value, list) else [value]
    return [_one(item) for item in items]


def _one(value: Any) -> Any:
    """A text; of a passage with a title both, of a list its first."""
    if isinstance(value, dict) and isinstance(value.get("text"), str):
        title = value.get("title")
        return f"{title} {value['text']}" if isinstance(title, str) and title.strip() else value["text"]
    if isinstance(value, list) and value:
        return _one(value[0])
    return value


_TURNS = ("user", "assistant")
_ROLES = {"human": "user", "gpt": "assistant", "model": "assistant"}


def _messages(value: Any) -> Any:
    """ShareGPT's messages as OpenAI's."""
    if not isinstance(value, list):
        return value
    return [
        {"role": _ROLES.get(each["from"], each["from"]), "content": each.get("value")}
        if isinstance(each, dict) and isinstance(each.get("from"), str)
        else each
        for each in value
    ]


def _list(columns: Sequence[str]) -> str:
    return ", ".join(columns[:30]) + (" …" if len(columns) > 30 else "")
