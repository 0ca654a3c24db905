"""Answers of models that think aloud, parted into the thoughts and what they lead to.

Text comes in pieces of any length, so that an answer can be shown while it is made.
"""

from collections.abc import Iterator

#: What opens thoughts, and what closes them: Qwen3, DeepSeek-R1 and most others; Seed-OSS; Open-R1 and
#: LLaMA-O1; Magistral. Source: the chat templates of these models.
MARKS = (
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<reasoning>", "</reasoning>"),
    ("<seed:think>", "</seed:think>"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("[THINK]", "[/THINK]"),
)


class Parter:
    """Parts a text while it comes.

    Args:
        prompt: what the model continues: a template may have opened the thoughts already.
    """

    def __init__(self, prompt: str = "") -> None:
        self._close = next((close for opened, close in MARKS if prompt.rstrip().endswith(opened)), "")
        self._rest = ""
        self._begun = False

    @property
    def thinking(self) -> bool:
        """Whether what comes next is thought."""
        return bool(self._close)

    def feed(self, text: str) -> Iterator[tuple[bool, str]]:
        """(is a thought, text) of what is decided; the marks are in neither.

        Thoughts open at the very beginning only: elsewhere the mark is a word that an answer is about.
        """
        self._rest += text
        while self._rest:
            if self._close:
                yield from self._thought()
                if self._close:
                    return
            elif self._begun:
                yield False, self._take(len(self._rest))
            elif not self._opened():
                return

    def finish(self) -> Iterator[tuple[bool, str]]:
        """What was held back, because it might have become a mark."""
        if self._rest:
            yield bool(self._close), self._take(len(self._rest))

    def _thought(self) -> Iterator[tuple[bool, str]]:
        before, mark, after = self._rest.partition(self._close)
        if mark:
            self._rest, self._close, self._begun = after.lstrip(), "", bool(after.lstrip())
            if before:
                yield True, before
            return
        sure = len(self._rest) - _overlap(self._rest, self._close)
        if sure:
            yield True, self._take(sure)

    def _opened(self) -> bool:
        """Look for an opening mark; False while it is undecided."""
        start = self._rest.lstrip()
        for opening, close in MARKS:
            if start.startswith(opening):
                self._rest, self._close = start.removeprefix(opening).lstrip("\n"), close
                return True
        if any(opening.startswith(start) for opening, _ in MARKS):
            return False
        self._begun = True
        return True

    def _take(self, count: int) -> str:
        taken, self._rest = self._rest[:count], self._rest[count:]
        return taken


def _overlap(text: str, mark: str) -> int:
    """Characters at the end of a text that may be the beginning of a mark."""
    return next((size for size in range(len(mark) - 1, 0, -1) if text.endswith(mark[:size])), 0)


def parted(text: str, prompt: str = "") -> tuple[str, str]:
    """The thoughts and the answer of a whole text, without the white space around them."""
    parter = Parter(prompt)
    pieces = [*parter.feed(text), *parter.finish()]
    thoughts = "".join(piece for thought, piece in pieces if thought)
    return thoughts.strip(), "".join(piece for thought, piece in pieces if not thought).strip()
