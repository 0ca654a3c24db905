"""Old FlagEmbedding commands as invocations of recipes: what each argument became, and what is gone.

Pure: text in, a frozen result out. What a recipe can be told is read in its header, never listed here.
"""

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from launcher import recipe as recipes
from launcher.errors import RecipeError, UsageError
from launcher.recipe.model import Recipe, Text
from launcher.recipe.translate import arguments, programs, shell, tables
from launcher.recipe.translate.tables import Change, Kind

__all__ = ["Change", "Kind", "Translation", "translate"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Translation:
    """One old command and what says the same today.

    Attributes:
        argv: the whole command, ``launch run RECIPE …``.
        unknown: texts in ``argv`` that the reader has to replace: variables nobody set, ``{placeholders}``.
    """

    program: str
    recipe: str
    argv: tuple[str, ...]
    changes: tuple[Change, ...]
    dropped: tuple[Change, ...]
    notes: tuple[Text, ...]
    unknown: tuple[str, ...]

    def printed(self) -> str:
        """The command for a shell, an option a line."""
        lines: list[str] = []
        for position, word in enumerate(self.argv):
            text = _quoted(word, self.unknown)
            if position > 2 and word.startswith("--"):
                lines.append(text)
            elif lines:
                lines[-1] += f" {text}"
            else:
                lines = [text]
        return " \\\n    ".join(lines)

    def as_data(self, language: str) -> dict[str, object]:
        """For programs: plain data, texts in one language."""

        def plain(changes: Sequence[Change]) -> list[dict[str, str]]:
            return [
                {"kind": c.kind, "old": c.old, "new": c.new, "why": c.why.in_language(language)}
                for c in changes
            ]

        return {
            "program": self.program,
            "recipe": self.recipe,
            "argv": list(self.argv),
            "changes": plain(self.changes),
            "dropped": plain(self.dropped),
            "notes": [note.in_language(language) for note in self.notes],
            "unknown": list(self.unknown),
        }


def _quoted(word: str, unknown: Sequence[str]) -> str:
    """A word for a shell; variables that nobody set stay variables."""
    open_ = [text for text in unknown if text.startswith("${") and text in word]
    if not open_:
        return shlex.quote(word)
    pattern = "(" + "|".join(map(re.escape, open_)) + ")"
    parts = re.split(pattern, word)
    return '"' + "".join(p if p in open_ else re.sub(r'([\\"`$])', r"\\\1", p) for p in parts) + '"'


def translate(text: str, folder: Path, variables: Mapping[str, str]) -> tuple[Translation, ...]:
    """Translate every FlagEmbedding command of a text.

    Args:
        text: a command line, a script, a notebook's cell, or a whole notebook.
        folder: where the recipes are.
        variables: what the shell has set, such as HOME.

    Raises:
        UsageError: no such command, shell text that is never closed, values of the wrong type.
        RecipeError: programs of FlagEmbedding that no recipe covers.
    """
    found: list[Translation] = []
    refused: list[str] = []
    for command in shell.commands(text, variables):
        started = programs.start(command)
        program = programs.find(started) if started else None
        if started is None or program is None:
            continue
        if isinstance(program, Text):
            refused.append(f"{started.program}: {program.en}")
            continue
        loaded = recipes.load(recipes.find(program.recipe, folder))
        found.append(_translated(command, started, program, loaded))
    if refused and not found:
        names = ", ".join(path.stem for path in recipes.catalogue(folder))
        raise RecipeError("no recipe covers this program", refused, hint=f"recipes: {names}")
    if not found:
        raise UsageError(
            "there is no FlagEmbedding command in this text",
            why="none of its lines starts a module or a script of FlagEmbedding by torchrun or python",
            hint="paste the whole command in single quotes, from torchrun to its last argument",
        )
    notes = tuple(
        tables.text(f"left out, no recipe covers it: {r}", f"未翻译，没有配方支持：{r}") for r in refused
    )
    return (*found[:-1], replace(found[-1], notes=(*found[-1].notes, *notes)))


def _translated(
    command: shell.Command, started: programs.Start, program: programs.Program, loaded: Recipe
) -> Translation:
    work = arguments.Work(recipe=loaded, program=program, unknown=command.unknown)
    work.start(started, command.environment)
    work.arguments(started.arguments)
    work.finish()
    if work.problems:
        raise UsageError(
            f"{started.program}: {'; '.join(work.problems)}",
            why="the old trainer would have refused it too, or an argument lost its value",
            hint=f"launch run {loaded.name} --help shows what each option takes",
        )
    argv = work.argv()
    return Translation(
        program=programs.dotted(started.program),
        recipe=loaded.name,
        argv=argv,
        changes=tuple(work.changes),
        dropped=tuple(work.dropped),
        notes=tuple(work.notes),
        unknown=tuple(sorted({u for u in command.unknown if any(u in word for word in argv)})),
    )
