"""Files of prompts: a text per line, or rows in JSON as trainings have them."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llm import rows

#: Keys of a row that hold what is asked, in the order in which they are looked for.
FIELDS = ("prompt", "question", "instruction", "query", "text")

#: And what should be answered, which is shown beside the answer.
EXPECTED = ("completion", "answer", "output", "response")


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """Something to ask.

    Attributes:
        messages: the chat before the answer.
        expected: the row's own answer; empty: it has none.
        tools: for the template.
        place: file and line.
    """

    messages: tuple[dict[str, str], ...]
    expected: str = ""
    tools: Any = None
    place: str = ""

    @property
    def asked(self) -> str:
        """The last thing that was said."""
        return self.messages[-1]["content"]


def read(paths: Iterable[Path]) -> list[Prompt]:
    """All prompts of files and folders, in order.

    Raises:
        SystemExit: a file that is none, a line that holds no prompt, or no prompt at all.
    """
    found = [prompt for path in paths for file in _files(path) for prompt in _of_file(file)]
    if not found:
        raise SystemExit("there is no prompt in the files")
    return found


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        return sorted(file for file in path.iterdir() if file.suffix in (".jsonl", ".json", ".txt"))
    if not path.is_file():
        raise SystemExit(f"{path}: there is no such file")
    return [path]


def _of_file(file: Path) -> Iterator[Prompt]:
    try:
        lines = file.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise SystemExit(f"{file}: not UTF-8: {error.reason}") from None
    for number, line in enumerate(lines, 1):
        place = f"{file.name}:{number}"
        if not line.strip():
            continue
        if file.suffix == ".txt":
            yield Prompt(messages=(_user(line.strip()),), place=place)
            continue
        try:
            yield of_row(json.loads(line), place)
        except ValueError as error:
            raise SystemExit(f"{file}:{number}: {error}") from None


def of_row(row: object, place: str = "") -> Prompt:
    """A row as a prompt: any layout of trainings up to the last answer, or a text under :data:`FIELDS`.

    Raises:
        ValueError: it holds none.
    """
    if isinstance(row, str) and row.strip():
        return Prompt(messages=(_user(row),), place=place)
    if not isinstance(row, dict):
        raise ValueError('a prompt is a text or an object such as {"prompt": "…"}')
    tools, expected = row.get("tools"), _expected(row)
    for key in ("messages", "conversations", "prompt"):
        if isinstance(row.get(key), list):
            return _chat(rows.messages({"messages": row[key]}), expected, tools, place)
    key = next((name for name in FIELDS if isinstance(row.get(name), str) and row[name].strip()), "")
    if not key:
        raise ValueError(f"no messages, and no text under any of {', '.join(FIELDS)}")
    if key == "instruction":  # with input, system and history, put as a training puts them
        return _chat(rows.messages({**row, "output": expected}), expected, tools, place)
    system = row.get("system")
    before = ({"role": "system", "content": system},) if isinstance(system, str) and system else ()
    return Prompt(messages=(*before, _user(row[key])), expected=expected, tools=tools, place=place)


def _expected(row: dict[str, Any]) -> str:
    """What should be answered: a text, a number, or messages of which the last one says it."""
    for name in EXPECTED:
        value = row.get(name)
        if isinstance(value, list) and value and isinstance(value[-1], dict):
            value = value[-1].get("content")
        if isinstance(value, str | int | float) and not isinstance(value, bool):
            return str(value)
    return ""


def _chat(messages: list[dict[str, Any]], expected: str, tools: Any, place: str) -> Prompt:
    whole = [
        {"role": each["role"], "content": each["content"]}
        for each in messages
        if isinstance(each, dict)
        and isinstance(each.get("role"), str)
        and isinstance(each.get("content"), str)
    ]
    if len(whole) != len(messages) or not whole:
        raise ValueError("messages: objects of role and content are needed, both texts")
    if whole[-1]["role"] == "assistant":
        expected = str(whole.pop()["content"])
    if not whole:
        raise ValueError("messages: there is no question before the answer")
    return Prompt(messages=tuple(whole), expected=expected, tools=tools, place=place)


def _user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}
