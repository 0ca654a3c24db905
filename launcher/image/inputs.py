"""What a target's image is made of, read from images/: decides its name before anything is built."""

from collections.abc import Collection, Mapping
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


def load(folder: Path, target: Target, *, base: str | None = None, without: Collection[str] = ()) -> Inputs:
    """Read the inputs of a target's image.

    Args:
        folder: images/.
        target: of the manifest.
        base: a reference that replaces the manifest's base image.
        without: optional packages that are left out, by their names in the lock.

    The Dockerfile is taken as it is: a run needs the image's name, and :func:`require_fresh` is for builds.

    Raises:
        LockError: a lock is missing or damaged.
        StaleError: there is no Dockerfile.
    """
    locked = lock.load(folder, target).without(without)
    path = folder / target.name / "Dockerfile"
    if not path.is_file():
        raise _stale(target, f"{target.name}/Dockerfile: missing")
    reference = base or target.base.reference
    digest = dockerfile.build_digest(
        target,
        lock_digest=locked.digest,
        dockerfile=path.read_text(encoding="utf-8"),
        base=reference,
        tools=[(folder / tool).read_text(encoding="utf-8") for tool in TOOLS],
    )
    return Inputs(target=target, lock=locked, base=reference, folder=folder, digest=digest)


def require_fresh(inputs: Inputs) -> None:
    """Refuse to build from a Dockerfile that is not what the manifest and the template say.

    Raises:
        StaleError: it is not; the first line that differs is named.
    """
    stale = _difference(inputs.dockerfile, rendered(inputs.folder, inputs.target, inputs.lock))
    if stale:
        raise _stale(inputs.target, stale)


def _stale(target: Target, problem: str) -> StaleError:
    return StaleError(
        f"the Dockerfile of {target.name} is stale", [problem], hint=f"launch image render {target.name}"
    )


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
