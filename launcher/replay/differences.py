"""What differs between what a record says and what is found here: everything at once, each with its kind."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from launcher.errors import UsageError

#: What can differ, and what it is; in the order in which people look for a reason.
KINDS = {
    "image": "the image's digest",
    "lock": "the digest of the target's locks: the packages",
    "recipe": "the recipe's file",
    "runtime": "what runs beside the recipe: runtime, tools, DeepSpeed's configurations",
    "data": "a data file's content",
    "file": "a file that a parameter names, such as one with reward functions",
    "model": "a model: the hub's revision, or the weights of a folder",
    "launcher": "the launcher's version",
    "host": "facts of the machine; always a note",
}

#: Never a reason to refuse.
NOTED = frozenset(("host",))

#: Allows everything.
ALL = "all"

#: Hex digits of a digest that people see.
_SHORT = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """One thing as the record has it and as it is here.

    Attributes:
        kind: one of :data:`KINDS`.
        subject: what it is about: a path, a model, the target's lock.
        was: of the record; empty: the record does not say.
        now: found here; empty: it is not there.
    """

    kind: str
    subject: str
    was: str
    now: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A fact that is not what it was; see :class:`Fact`."""

    kind: str
    subject: str
    was: str
    now: str

    @property
    def missing(self) -> bool:
        """It is not there at all: nothing can be allowed."""
        return not self.now

    def __str__(self) -> str:
        if self.missing:
            return f"{self.subject} is not on this machine: was {_short(self.was)}"
        return f"{self.subject} has changed: was {_short(self.was)}, is {_short(self.now)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A record beside what is here.

    Attributes:
        differences: that can matter.
        unknown: what cannot be compared, because the record does not say; (kind, subject) pairs.
        notes: differences that cannot matter.
    """

    differences: tuple[Difference, ...] = ()
    unknown: tuple[tuple[str, str], ...] = ()
    notes: tuple[Difference, ...] = ()

    def kinds(self) -> tuple[str, ...]:
        """The kinds that differ, each once, in the order of :data:`KINDS`."""
        found = {difference.kind for difference in self.differences}
        return tuple(kind for kind in KINDS if kind in found)

    def refused(self, allowed: Collection[str]) -> tuple[Difference, ...]:
        """The differences that no ``allowed`` kind covers; what is missing is always among them."""
        return tuple(
            item for item in self.differences if item.missing or not (item.kind in allowed or ALL in allowed)
        )


def compare(facts: Iterable[Fact]) -> Comparison:
    """Sort facts into what differs, what is worth a note, and what nobody can say."""
    differences: list[Difference] = []
    notes: list[Difference] = []
    unknown: list[tuple[str, str]] = []
    for fact in facts:
        if not fact.was:
            unknown.append((fact.kind, fact.subject))
        elif fact.was != fact.now:
            found = Difference(kind=fact.kind, subject=fact.subject, was=fact.was, now=fact.now)
            (notes if fact.kind in NOTED else differences).append(found)
    return Comparison(differences=tuple(differences), unknown=tuple(unknown), notes=tuple(notes))


def allowed(given: Sequence[str]) -> frozenset[str]:
    """The kinds of ``--allow``.

    Raises:
        UsageError: one is none.
    """
    known = [kind for kind in KINDS if kind not in NOTED]
    wrong = [name for name in given if name not in (*known, ALL)]
    if wrong:
        raise UsageError(
            f"--allow takes {', '.join(known)} or {ALL}, not {', '.join(map(repr, wrong))}",
            hint="the refusal names the kinds that differ",
        )
    return frozenset(given)


def _short(text: str) -> str:
    """A digest as people compare it; everything else as it is."""
    name, colon, digest = text.rpartition(":")
    hexadecimal = len(digest) >= 40 and all(letter in "0123456789abcdef" for letter in digest)
    return f"{name}{colon}{digest[:_SHORT]}" if hexadecimal else text
