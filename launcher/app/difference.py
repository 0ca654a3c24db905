"""Use case: what changed between two images or locks."""

from launcher import difference, dockerfile, lock, manifest, paths, process
from launcher.difference import Difference, Side
from launcher.errors import LockError, ProgramError, UsageError
from launcher.image import contents, fetch, inspect
from launcher.image.client import connect
from launcher.lock import LockedPackage, TargetLock

_FORMS = (
    "a target (cpu), a target at a git revision (cpu@HEAD~1), or an image (finetune:cpu, sha256:…); "
    "`launch image list` shows targets and images"
)


def diff(before: str, after: str) -> Difference:
    """What changed from one to the other; each is a target, TARGET@REVISION, or an image's name or id.

    Raises:
        EngineError: an image is asked for, and no engine answers.
        ImageMissingError: an image does not say what is in it.
        LockError: locks are missing or damaged, at that revision or now.
        UsageError: there is no such thing.
    """
    return difference.compare(side(before), side(after))


def side(name: str) -> Side:
    """One of the two; see :func:`diff`."""
    if name in manifest.shipped().names():
        target = manifest.shipped().target(name)
        return _of_lock(name, lock.load(paths.images(), target), target.base.reference)
    target_name, at, revision = name.partition("@")
    if at and not revision.startswith("sha256:"):
        return _at_revision(target_name, revision)
    if ":" in name:
        return _of_image(name)
    raise UsageError(
        f"{name!r} is neither a target nor an image",
        why=f"the manifest has: {', '.join(manifest.shipped().names())}",
        hint=f"name {_FORMS}",
    )


def _of_lock(name: str, locked: TargetLock, base: str) -> Side:
    return difference.of_lock(name, locked, base=base, size=_size)


def _size(package: LockedPackage) -> int | None:
    """Bytes of a package's file when it was fetched."""
    try:
        return fetch.cached(package).stat().st_size
    except FileNotFoundError:
        return None


def _of_image(reference: str) -> Side:
    client = connect()
    image = inspect.find(client, reference)
    if image is None:
        tags = sorted(tag for each in client.images.list(name=dockerfile.REPOSITORY) for tag in each.tags)
        raise UsageError(
            f"the engine has no image {reference}",
            why=f"it has: {', '.join(tags) or 'none of ours'}",
            hint=f"name {_FORMS}",
        )
    return contents.read(client, image)


def _at_revision(name: str, revision: str) -> Side:
    """A target's locks as a commit has them; that commit's manifest says which files they are."""
    commit = _commit(name, revision)

    def text(path: str) -> str:
        return process.run(["git", "show", f"{commit}:./{path}"], cwd=paths.images()).stdout

    try:
        known = manifest.parse(text("manifest.toml"), source=f"images/manifest.toml at {revision}")
        target = known.target(name)
        files = lock.file_names(target)
        parts = [lock.parse(text(f"locks/{file}"), source=f"{file} at {revision}") for file in files]
    except ProgramError as error:
        raise LockError(f"there are no locks of {name} at {revision}", [error.why]) from None
    build = parts.pop() if target.build_owner else None
    locked = TargetLock(target=name, layers=tuple(parts), build=build)
    return _of_lock(f"{name}@{revision}", locked, target.base.reference)


def _commit(name: str, revision: str) -> str:
    """The full id of a revision: what follows is no option of git's, whatever a user calls a branch."""
    if not paths.is_checkout():
        raise UsageError(
            f"{name}@{revision} is in the history of a checkout, and this is none",
            hint=f"in a checkout of the project: launch image diff {name}@{revision} …",
        )
    argv = ["git", "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}"]
    done = process.run(argv, cwd=paths.images(), check=False)
    if done.returncode != 0:
        raise UsageError(
            f"there is no git revision {revision!r}",
            why=done.stderr.strip() or "git does not know it; a shallow clone lacks the history",
            hint=f"name {_FORMS}",
        )
    return done.stdout.strip()
