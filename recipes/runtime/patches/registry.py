"""Which patches there are, which of them a module needs, and which libraries they know."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version

from runtime.trainers import EMBEDDERS, LANGUAGE, M3, RERANKER

#: Versions of the locks: cpu and cuda have the first, xpu the second.
_KNOWN = ("1.4.2", "1.3.5")
_TRANSFORMERS = ("4.57.6", "4.54.1")
_ACCELERATE = ("1.15.0", "1.12.0")


@dataclass(frozen=True, slots=True, kw_only=True)
class Patch:
    """One change to a library.

    Attributes:
        name: what ``--patches`` calls it; the file that holds it has underscores instead of dashes.
        version: counted up when the patch's effect changes, so that a record says which one ran.
        modules: the trainers that it concerns.
        library: the distribution that is changed; ``known`` are its versions that the patch was tested with.
    """

    name: str
    version: int
    modules: tuple[str, ...]
    library: str = "FlagEmbedding"
    known: tuple[str, ...] = _KNOWN

    def apply(self) -> None:
        """Change the library in this process."""
        import_module(f"runtime.patches.{self.name.replace('-', '_')}").apply()

    def record(self) -> dict[str, object]:
        """As the run's record names it."""
        return {
            "name": self.name,
            "version": self.version,
            "library": f"{self.library} {version(self.library)}",
        }


#: In the order in which they are applied.
PATCHES = (
    Patch(name="prompts", version=1, modules=(*EMBEDDERS, RERANKER)),
    Patch(name="sparse-head", version=1, modules=(M3,)),
    Patch(name="colbert-padding", version=1, modules=(M3,)),
    Patch(name="sub-batch", version=1, modules=EMBEDDERS),
    Patch(name="reranker-batch", version=1, modules=(RERANKER,)),
    Patch(name="keep-heads", version=1, modules=EMBEDDERS),
    Patch(name="sentence-transformers", version=1, modules=EMBEDDERS),
    Patch(name="file-modes", version=1, modules=(*EMBEDDERS, RERANKER)),
    Patch(name="sampling", version=1, modules=(*EMBEDDERS, RERANKER)),
    Patch(name="resume-weights", version=1, modules=(*EMBEDDERS, RERANKER)),
    Patch(name="resume-position", version=1, modules=EMBEDDERS),
    Patch(
        name="skip-batches",
        version=1,
        modules=(*EMBEDDERS, RERANKER, *LANGUAGE),
        library="accelerate",
        known=_ACCELERATE,
    ),
    Patch(
        name="numbered-cpu",
        version=1,
        modules=(*EMBEDDERS, RERANKER, *LANGUAGE),
        library="accelerate",
        known=_ACCELERATE,
    ),
    Patch(
        name="intel-random-state",
        version=1,
        modules=(*EMBEDDERS, RERANKER, *LANGUAGE),
        library="transformers",
        known=_TRANSFORMERS,
    ),
    Patch(
        name="loss-sums",
        version=1,
        modules=(*EMBEDDERS, RERANKER, *LANGUAGE),
        library="transformers",
        known=_TRANSFORMERS,
    ),
)


def choose(module: str, wanted: str) -> tuple[list[Patch], list[str]]:
    """The patches of a trainer, and the names of those that were switched off.

    Args:
        module: the trainer's module.
        wanted: ``all``, ``none``, names to apply, or names with a minus to leave out of all.

    Raises:
        SystemExit: a name that no patch has.
    """
    words = [word for word in wanted.replace(",", " ").split() if word not in ("all", "none")]
    names = {patch.name for patch in PATCHES}
    if unknown := [name for word in words if (name := word.removeprefix("-")) not in names]:
        raise SystemExit(f"there is no patch {', '.join(unknown)}; there are: {', '.join(sorted(names))}")
    without = {word.removeprefix("-") for word in words if word.startswith("-")}
    named = {word for word in words if not word.startswith("-")}
    chosen = (named or (set() if wanted.strip() == "none" else names)) - without
    concerned = [patch for patch in PATCHES if module in patch.modules]
    return [p for p in concerned if p.name in chosen], [p.name for p in concerned if p.name not in chosen]


def apply(module: str, wanted: str) -> tuple[list[Patch], list[str]]:
    """Apply the patches of a trainer; returns them, and the names of those that were switched off.

    Raises:
        SystemExit: a library has a version that a patch does not know; nothing is changed then.
    """
    chosen, off = choose(module, wanted)
    if problems := _unknown_versions(chosen):
        raise SystemExit(
            "\n".join(problems)
            + "\na patch changes only what it was tested with: take the locked version, or --patches none"
        )
    for patch in chosen:
        patch.apply()
    return chosen, off


def _unknown_versions(chosen: Sequence[Patch]) -> list[str]:
    problems = []
    for patch in chosen:
        try:
            found = version(patch.library)
        except PackageNotFoundError:
            found = "none"
        if found not in patch.known:
            knows = " and ".join(patch.known)
            problems.append(f"patch {patch.name} knows {patch.library} {knows}; installed is {found}")
    return problems
