"""Bash as text: every word quoted, but for what the shell itself is to read."""

import shlex
from collections.abc import Iterable


class Raw(str):
    """A word that the shell of a node expands; nothing in it is the user's."""

    __slots__ = ()


def quoted(word: str) -> str:
    """One word as bash reads it."""
    return word if isinstance(word, Raw) else shlex.quote(word)


def line(words: Iterable[str]) -> str:
    """A command."""
    return " ".join(map(quoted, words))


def array(name: str, words: Iterable[str]) -> str:
    """An array of words, one on each line."""
    return f"{name}=(\n" + "".join(f"  {quoted(word)}\n" for word in words) + ")"


def text_of(variable: str, text: str, *, mark: str) -> str:
    """A variable that holds a text of several lines as it is.

    Args:
        variable: its name.
        text: ends with a line break.
        mark: what its end is marked with; made longer until no line of the text is it.
    """
    lines = set(text.splitlines())
    while mark in lines:
        mark += "_"
    return f"IFS= read -r -d '' {variable} <<'{mark}'\n{text}{mark}"


def option(value: str) -> str:
    """The value of an ``#SBATCH`` line, as sbatch reads it: it knows quotes, and no expansion.

    Raises:
        ValueError: it holds a line break, which no quote helps with.
    """
    if any(sign in value for sign in "\n\r\0"):
        raise ValueError(value)
    if value and not any(sign in value for sign in " \t'\"\\#"):
        return value
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
