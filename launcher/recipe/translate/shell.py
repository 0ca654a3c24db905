"""Shell text as people paste it: words, variables, comments, notebook cells. Nothing is ever run.

Read the way bash would read it, with two kindnesses: a continued line whose next line begins with an option
is parted from it, and a comment between continued lines does not end the command.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from launcher.errors import UsageError

Variables = dict[str, str | list[str]]

#: A fragment of a word: what it is, its text, and for a variable what stands in when it is not set.
_Fragment = tuple[str, str, str | None]
_Word = list[_Fragment]
_Array = tuple[str, list[_Word]]

_CONTINUED = re.compile(r"\\[ \t]*(#[^\n]*)?\n")
_COMMENT_LINE = re.compile(r"[ \t]*#[^\n]*\\[ \t]*\n")
_VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)(?:\[[@*]\])?(?::?[-=]([^{}]*))?\}|[@*#?!$-])")
_REDIRECTION = re.compile(r"(?:&>>?|<<<|[<>]{1,2}\|?)(?:&(?:\d+|-))?")
_HEREDOC = re.compile(r"<<-?[ \t]*(['\"]?)(\w+)\1")
#: ``{path to save model}`` and ``<path>``: what READMEs leave to the reader.
_HOLE = re.compile(r"\{[A-Za-z][^{}\n'\"$\\]*\}|<[^\W\d][^<>\n|&;$'\"\\/]*>(?=\s|\\|$)")
_ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)\+?=")
_DECLARES = frozenset("export declare local readonly typeset".split())
_LONGEST = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One simple command: its words after expansion, and the variables that it alone or everything after got.

    Attributes:
        environment: (name, value) of exported variables and of assignments before the command.
        unknown: texts in the words that stand for what only a shell or the reader knows.
    """

    words: tuple[str, ...]
    environment: tuple[tuple[str, str], ...]
    unknown: tuple[str, ...]


def commands(text: str, variables: Mapping[str, str]) -> list[Command]:
    """The commands of a text: a command line, a script, a notebook's cell, or a whole notebook.

    Args:
        variables: what is set before the text begins, such as HOME.

    Raises:
        UsageError: a quote or a bracket that is never closed, a notebook that is none.
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n").lstrip("\ufeff")
    found = []
    for part in _parts(text):
        part = re.sub(r"(\\\n)> ?", r"\1", re.sub(r"\A\s*[$>#%] (?=\S)", "", part))  # copied prompts
        found += _Reader(dict(variables)).read(part)
    return found


def _parts(text: str) -> list[str]:
    """Every text that one shell would read."""
    if text.lstrip().startswith("{") and '"cells"' in text:
        try:
            cells = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
            sources = ["".join(cell["source"]) for cell in cells]
        except (ValueError, LookupError, TypeError, RecursionError) as error:
            raise UsageError("the notebook cannot be read", why=f"not a notebook's JSON: {error}") from None
        return [_cell(source) if _is_cell(source) else "" for source in sources]
    return [_cell(text) if _is_cell(text) else text]


def _is_cell(text: str) -> bool:
    return re.search(r"(?m)\A\s*%|^[ \t]*!", text) is not None


def _cell(text: str) -> str:
    """The shell text of a notebook's cell: all of ``%%bash``, otherwise the lines after ``!``."""
    if match := re.match(r"\s*%%(?:bash|sh|!|script\s+(?:ba)?sh)[^\n]*\n", text):
        return text[match.end() :]
    kept, going = [], False
    for line in text.split("\n"):
        stripped = line.lstrip()
        if match := re.match(r"%env\s+(\w+)\s*=?\s*(.*)", stripped):
            kept.append(f"export {match[1]}={match[2]}")
        elif going or stripped.startswith("!"):
            shell = line if going else stripped.lstrip("!")
            going = shell.rstrip().endswith("\\")
            kept.append(shell.rstrip()[:-1] + " \\" if going else shell)  # IPython puts a space there
    return "\n".join(kept)


@dataclass(slots=True)
class _Reader:
    """Runs through statements, keeping variables."""

    variables: Variables
    exported: dict[str, str] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)
    depth: int = 0

    def read(self, text: str) -> list[Command]:
        found = []
        for statement in _statements(text):
            found += self._statement(statement)
        return found

    def _statement(self, statement: list[_Word | _Array]) -> list[Command]:
        own: dict[str, str] = {}
        words: list[str] = []
        unknown: list[str] = []
        declares = False
        for word in statement:
            if isinstance(word, tuple):
                self.variables[word[0]] = [text for item in word[1] for text in self._expanded(item, unknown)]
                continue
            if not words and word and word[0][0] == "bare" and (match := _ASSIGNMENT.match(word[0][1])):
                rest: _Word = [("bare", word[0][1][match.end() :], None), *word[1:]]
                own[match[1]] = "".join(self._expanded(rest, [], split=False))
                continue
            texts = self._expanded(word, unknown)
            if not words and texts and texts[0] in _DECLARES:
                declares = True
                continue
            words += texts
        if not words:
            self.variables |= own
            if declares:
                self.exported |= own
            return []
        if words[0] == "eval" and self.depth < 4:
            self.depth += 1
            inner = self.read(" ".join(words[1:]))
            self.depth -= 1
            return inner
        environment = {k: v for k, v in self.exported.items() if k not in self.used} | own
        return [
            Command(words=tuple(words), environment=tuple(environment.items()), unknown=tuple(set(unknown)))
        ]

    def _expanded(self, word: _Word, unknown: list[str], *, split: bool = True) -> list[str]:
        """A word as the program sees it: none, one or several texts."""
        done: list[str] = []
        current: str | None = None
        for position, (kind, text, default) in enumerate(word):
            if kind in ("text", "bare", "hole"):
                if kind == "bare" and position == 0 and re.match(r"~(/|$)", text):
                    home = self.variables.get("HOME")
                    text = home + text[1:] if isinstance(home, str) and home else text
                if kind == "hole":
                    unknown.append(text)
                current = (current or "") + text
            else:
                value = self._value(text, default, unknown)
                pieces = value if isinstance(value, list) else [value]
                if not split:
                    pieces = [" ".join(pieces)]
                elif kind == "bare-variable":
                    pieces = " ".join(pieces).split()
                for number, piece in enumerate(pieces):
                    if number:
                        done.append(current or "")
                        current = ""
                    current = (current or "") + piece
            if len(current or "") + len(done) > _LONGEST:
                raise UsageError("a variable grows without end", why="it is set from itself again and again")
        return done if current is None else [*done, current]

    def _value(self, name: str, default: str | None, unknown: list[str]) -> str | list[str]:
        self.used.add(name)
        if (value := self.variables.get(name)) or (value is not None and default is None):
            return value
        if default is not None:
            return default
        unknown.append(f"${{{name}}}")
        return f"${{{name}}}"


def _statements(text: str) -> Iterator[list[_Word | _Array]]:
    """The statements of a script, each a list of words that are not expanded yet."""
    statement: list[_Word | _Array] = []
    word: _Word | None = None
    array: _Array | None = None
    skip = False  # the next word is a redirection's file
    heredoc = ""
    position = 0

    def end_word() -> None:
        nonlocal word, skip
        if word is not None:
            if skip:
                skip = False
            elif array is not None:
                array[1].append(word)
            else:
                statement.append(word)
        word = None

    while position < len(text):
        char = text[position]
        if char == "\\":
            if match := _CONTINUED.match(text, position):
                position = match.end()
                while match := _COMMENT_LINE.match(text, position):
                    position = match.end()
                if text.startswith("-", position):
                    end_word()
                continue
            word = [*(word or []), ("text", text[position + 1 : position + 2], None)]
            position += 2
        elif char in " \t" or (array is not None and char == "\n"):
            end_word()
            position += 1
        elif char == "#" and word is None:
            end = text.find("\n", position)
            position = len(text) if end < 0 else end
        elif char in "\n;|" or (char == "&" and not text.startswith("&>", position)) or char == "(":
            if char == "(" and array is None and (name := _array_name(word)):
                array, word = (name, []), None
            else:
                end_word()
                yield statement
                statement, skip = [], False
            position += 1
            if char == "\n" and heredoc:
                end_of_it = re.compile(rf"(?m)^[ \t]*{heredoc}[ \t]*$").search(text, position)
                position, heredoc = end_of_it.end() if end_of_it else len(text), ""
        elif char == ")":
            end_word()
            if array is not None:
                statement.append(array)
                array = None
            position += 1
        elif word is None and (match := _HOLE.match(text, position)):
            word = [("hole", match[0], None)]
            position = match.end()
        elif match := _REDIRECTION.match(text, position):
            if word is not None and not "".join(part[1] for part in word).isdigit():
                end_word()
            word = None
            if here := _HEREDOC.match(text, position):
                heredoc, position = here[2], here.end()
            else:
                skip = not re.search(r"&(\d+|-)$", match[0])
                position = match.end()
        else:
            fragments, position = _fragments(text, position)
            word = [*(word or []), *fragments]
    end_word()
    if array is not None:
        raise UsageError(f"{array[0]}=( is never closed", hint="end the array with )")
    yield statement


def _array_name(word: _Word | None) -> str:
    """The name in ``NAME=`` or ``NAME+=``, when that is all of the word."""
    text = word[0][1] if word and len(word) == 1 and word[0][0] == "bare" else ""
    match = _ASSIGNMENT.fullmatch(text)
    return match[1] if match else ""


def _fragments(text: str, start: int) -> tuple[_Word, int]:
    """What one position holds: a quoted text, a variable, a substitution or bare characters."""
    char = text[start]
    if char == "'":
        end = text.find("'", start + 1)
        if end < 0:
            raise _unclosed("'", text, start)
        return [("text", text[start + 1 : end], None)], end + 1
    if char == '"':
        return _double(text, start)
    if char in "$`":
        return _dollar(text, start, "bare-variable")
    end = start + 1
    while end < len(text) and text[end] not in " \t\n\\'\"$`;|&<>()":
        end += 1
    return [("bare", text[start:end], None)], end


def _double(text: str, start: int) -> tuple[_Word, int]:
    """A text in double quotes, in which variables are still variables."""
    fragments: _Word = [("text", "", None)]
    position = start + 1
    while position < len(text):
        char = text[position]
        if char == '"':
            return fragments, position + 1
        if char == "\\" and position + 1 < len(text):
            following = text[position + 1]
            kept = "" if following == "\n" else following if following in '"\\$`' else char + following
            fragments.append(("text", kept, None))
            position += 2
        elif char in "$`":
            more, position = _dollar(text, position, "variable")
            fragments += more
        else:
            fragments.append(("text", char, None))
            position += 1
    raise _unclosed('"', text, start)


def _dollar(text: str, start: int, kind: str) -> tuple[_Word, int]:
    """A variable, or a substitution, which is left as it is: nothing is run here."""
    if text.startswith("$(", start) or text[start] == "`":
        end = _closing(text, start + 1) if text[start] == "$" else text.find("`", start + 1)
        if end < 0:
            raise _unclosed(text[start : start + 2] if text[start] == "$" else "`", text, start)
        return [("hole", text[start : end + 1], None)], end + 1
    if match := _VARIABLE.match(text, start):
        name = match[1] or match[2]
        return ([(kind, name, match[3])] if name else [("hole", match[0], None)]), match.end()
    return [("text", "", None)] if text[start + 1 : start + 2] in ("'", '"') else [
        ("text", "$", None)
    ], start + 1


def _closing(text: str, start: int) -> int:
    depth = 0
    for position in range(start, len(text)):
        depth += {"(": 1, ")": -1}.get(text[position], 0)
        if depth == 0:
            return position
    return -1


def _unclosed(what: str, text: str, position: int) -> UsageError:
    line = text.count("\n", 0, position) + 1
    return UsageError(
        f"line {line}: {what} is never closed",
        why="the end of the command is missing, or a quote belongs to a text",
        hint="paste the whole command, in single quotes, or write it to a file and use --file",
    )
