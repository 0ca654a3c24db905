"""What a target's image is made of, read from images/: decides its name before anything is built."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from launcher import dockerfile, lock
from launcher.errors import StaleError
from launcher.lock import TargetLock
from launcher.manifest import Target

#: The template of all Dockerfiles, below images/.
TEMPLATE = "Dockerfile.j2"

#: Programs that the Dockerfiles run; their text decides the image as much as the Dockerfile's own.
TOOLS = ("seal.py",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """Everything that decides one image.

    Attributes:
        target: what the manifest says.
        lock: what is installed.
        base: the base image's reference, the manifest's or the one that replaces it.
        folder: images/, the build context.
        digest: :func:`launcher.dockerfile.build_digest`.
    """

    target: Target
    lock: TargetLock
    base: str
    folder: Path
    digest: str

    @property
    def dockerfile(self) -> Path:
        """The generated Dockerfile."""
        return self.folder / self.target.name / "Dockerfile"

    @property
    def reference(self) -> str:
        """The image's name, e.g. ``finetune:cpu-0123456789ab``."""
        return dockerfile.reference(self.target.name, self.digest)

    @property
    def stand_in(self) -> bool:
        """True when the base is not the manifest's."""
        return self.base != self.target.base.reference


def load(folder: Path, target: Target, *, base: str | None = None) -> Inputs:
    """Read the inputs of a target's image.

    Args:
        folder: images/.
        target: of the manifest.
        base: a reference that replaces the manifest's base image.

    Raises:
        LockError: a lock is missing or damaged.
        StaleError: the Dockerfile is not what the manifest and the template say.
    """
    locked = lock.load(folder, target)
    text = rendered(folder, target, locked)
    path = folder / target.name / "Dockerfile"
    stale = _difference(path, text)
    if stale:
        raise StaleError(
            f"the Dockerfile of {target.name} is stale", [stale], hint=f"launch image render {target.name}"
        )
    reference = base or target.base.reference
    digest = dockerfile.build_digest(
        lock_digest=locked.digest,
        dockerfile=text,
        base=reference,
        tools=[(folder / tool).read_text(encoding="utf-8") for tool in TOOLS],
    )
    return Inputs(target=target, lock=locked, base=reference, folder=folder, digest=digest)


def rendered(folder: Path, target: Target, locked: TargetLock) -> str:
    """The text that a target's Dockerfile must have."""
    return dockerfile.render(target, locked, (folder / TEMPLATE).read_text(encoding="utf-8"))


def stale_dockerfiles(texts: Mapping[Path, str]) -> list[str]:
    """In what the files differ from the texts that they must have, one line each."""
    return [problem for path, text in texts.items() if (problem := _difference(path, text))]


def _difference(path: Path, text: str) -> str:
    name = f"{path.parent.name}/{path.name}"
    if not path.is_file():
        return f"{name}: missing"
    have, want = path.read_text(encoding="utf-8").splitlines(), text.splitlines()
    if have == want:
        return ""
    line = next(
        (i for i, (a, b) in enumerate(zip(have, want, strict=False)) if a != b), min(len(have), len(want))
    )
    return f"{name}:{line + 1}: not what the manifest and the template say"
