"""Rows of dialogues, instructions and plain text as token ids, with the tokens that carry loss.

Dialogues of every layout go through the tokenizer's own chat template; plain text does not: it is continued
training, each text closed by the end-of-text token. No torch here.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llm import answers, templates
from llm.answers import Unfit

#: Roles of ShareGPT's layout and of others by the names that templates know.
_ROLES = {
    "human": "user",
    "gpt": "assistant",
    "model": "assistant",
    "bing": "assistant",
    "chatgpt": "assistant",
}
_ROLES |= {"function_call": "assistant", "observation": "tool", "function": "tool"}

_SUFFIXES = (".jsonl", ".json")

#: Rows that are named when something is wrong with them; the rest is counted.
_NAMED = 10


@dataclass(slots=True, kw_only=True)
class Encoded:
    """One row for the trainer.

    Attributes:
        ids: its tokens.
        mask: 1 where a token carries loss; the first never does, as nothing comes before it.
    """

    ids: list[int]
    mask: list[int]


@dataclass(slots=True, kw_only=True)
class Seen:
    """What was made of all rows.

    Attributes:
        counts: ``rows`` read, ``made`` for the trainer, ``tokens`` and ``answer_tokens`` of these,
            ``dialogues`` among the rows, ``cut`` dialogues and ``split`` texts longer than the limit.
        longest: tokens of the longest row, before it was cut.
        unfit: the rows that cannot be trained on, each with its place and reason.
    """

    counts: Counter[str] = field(default_factory=Counter)
    longest: int = 0
    unfit: list[str] = field(default_factory=list)

    def record(self) -> dict[str, int]:
        """For the run's record."""
        names = ("rows", "made", "tokens", "answer_tokens", "cut", "split")
        return {**{name: self.counts[name] for name in names}, "longest": self.longest}

    def refuse(self) -> None:
        """Stop when a row cannot be trained on, or when there is none.

        Raises:
            SystemExit: with the first of these rows.
        """
        if self.unfit:
            more = [f"… and {len(self.unfit) - _NAMED} more"] if len(self.unfit) > _NAMED else []
            raise SystemExit("\n".join(["nothing is trained:", *self.unfit[:_NAMED], *more]))
        if not self.counts["made"]:
            raise SystemExit("nothing is trained: the data holds no row")


def read(paths: Iterable[Path]) -> Iterator[tuple[str, Any]]:
    """Place (``file:line``) and content of every line of files and folders of JSON lines.

    Raises:
        SystemExit: a path is not there, a folder has no such file, or a line is not JSON.
    """
    for path in paths:
        inside = (
            sorted(each for each in path.iterdir() if each.suffix in _SUFFIXES) if path.is_dir() else [path]
        )
        if not inside:
            raise SystemExit(f"{path}: no .jsonl or .json file in this folder")
        for file in inside:
            if not file.is_file():
                raise SystemExit(f"{file}: there is no such file")
            with file.open(encoding="utf-8-sig") as lines:
                for number, line in enumerate(lines, 1):
                    if line.strip():
                        yield f"{file}:{number}", _json(line, f"{file}:{number}")


def _json(line: str, place: str) -> Any:
    try:
        return json.loads(line)
    except ValueError as error:
        raise SystemExit(f"{place}: not JSON: {error}") from None


def messages(row: dict[str, Any]) -> list[dict[str, Any]]:
    """The dialogue of a row of any layout, as templates want it; empty for a row of plain text.

    Layouts: ``messages`` (role, content), ``conversations`` (from, value), ``instruction`` with ``input``,
    ``output`` and Alpaca's ``system`` and ``history``, ``prompt`` with ``completion`` (texts or messages).

    Raises:
        Unfit: none of them.
    """
    for key in ("messages", "conversations"):
        if key in row:
            return [_message(each) for each in _list(row[key], key)] or _none(key)
    if "instruction" in row or "output" in row:
        asked = [row[key] for key in ("instruction", "input") if row.get(key)]
        turns = [*_list(row.get("history") or [], "history"), ("\n".join(map(str, asked)), row.get("output"))]
        return _turns(turns, row.get("system"))
    prompt, completion = row.get("prompt"), row.get("completion")
    if isinstance(prompt, list) and isinstance(completion, list):
        return [_message(each) for each in [*prompt, *completion]]
    if "prompt" in row or "completion" in row:
        return _turns([(prompt, completion)], None)
    if isinstance(row.get("text"), str):
        return []
    raise Unfit("neither messages nor instruction and output nor prompt and completion nor text")


def _turns(turns: Sequence[Any], system: Any) -> list[dict[str, Any]]:
    found = [{"role": "system", "content": system}] if system else []
    for turn in turns:
        if (
            not isinstance(turn, list | tuple)
            or len(turn) != 2
            or not all(isinstance(text, str) for text in turn)
        ):
            raise Unfit("a question and its answer are two texts")
        found += [
            {"role": role, "content": text} for role, text in zip(("user", "assistant"), turn, strict=True)
        ]
    return found


def _message(message: Any) -> dict[str, Any]:
    if not isinstance(message, dict):
        raise Unfit("a message is an object with role and content")
    keys = ("role", "content") if "role" in message else ("from", "value")
    role, content = (message.get(key) for key in keys)
    if isinstance(content, list):  # parts, as templates of models that see have them
        content = "".join(str(part.get("text") or "") for part in content if isinstance(part, dict))
    rest = {key: value for key, value in message.items() if key not in keys}
    return {**rest, "role": _ROLES.get(str(role), role), "content": content}


def _none(key: str) -> list[Any]:
    raise Unfit(f"{key} is empty")


def _list(value: Any, key: str) -> list[Any]:
    if not isinstance(value, list):
        raise Unfit(f"{key} is no list")
    return value


def encode(row: Any, tokenizer: Any, *, limit: int, answers_only: bool, seen: Seen) -> Iterator[Encoded]:
    """The row's tokens: one piece of a dialogue, all pieces of a text.

    A dialogue that is longer than the limit is cut at its end. Of a text nothing is lost: the next piece
    begins where the last one ended.

    Args:
        tokenizer: a fast one of transformers, with a template when the row is a dialogue.
        limit: tokens at most.
        answers_only: loss on what the assistant says, not on what it is asked.
        seen: counted into.

    Raises:
        Unfit: the row is none, or no token of an answer is left of it.
    """
    if not isinstance(row, dict):
        raise Unfit("a row is an object")
    dialogue = messages(row)
    if dialogue:
        templates.needed(tokenizer)
        ids, mask = answers.encode(dialogue, tokenizer, tools=row.get("tools"), answers_only=answers_only)
    else:
        if not row["text"].strip():
            raise Unfit("the text is empty")
        ids = [*tokenizer(row["text"])["input_ids"]]
        ids += [tokenizer.eos_token_id] * (ids[-1:] != [tokenizer.eos_token_id])
        mask = [1] * len(ids)
    seen.counts["dialogues"] += bool(dialogue)
    seen.longest = max(seen.longest, len(ids))
    seen.counts["cut" if dialogue else "split"] += len(ids) > limit
    for start in range(0, 1 if dialogue else len(ids), limit):
        piece = Encoded(ids=ids[start : start + limit], mask=[0, *mask[start + 1 : start + limit]])
        if any(piece.mask):
            yield piece
        elif dialogue:
            raise Unfit(f"no answer is within the first {limit} of {len(ids)} tokens: raise --max-seq-length")


def pieces(
    paths: Sequence[Path], tokenizer: Any, *, limit: int, answers_only: bool, seen: Seen
) -> Iterator[dict[str, list[int]]]:
    """Every row as TRL's columns ``input_ids`` and ``assistant_masks``; unfit rows are kept in ``seen``.

    Raises:
        SystemExit: a file cannot be read, or dialogues meet a tokenizer without a template.
    """
    for place, row in read(paths):
        seen.counts["rows"] += 1
        try:
            for piece in encode(row, tokenizer, limit=limit, answers_only=answers_only, seen=seen):
                seen.counts["made"] += 1
                seen.counts["tokens"] += len(piece.ids)
                seen.counts["answer_tokens"] += sum(piece.mask)
                yield {"input_ids": piece.ids, "assistant_masks": piece.mask}
        except Unfit as error:
            seen.unfit.append(f"{place}: {error}")
