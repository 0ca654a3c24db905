"""Use cases around the images: render, build, check, list."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from launcher import lock, manifest, paths
from launcher.errors import CheckError, EngineError, ImageMissingError, StaleError, UsageError
from launcher.image import build as builds
from launcher.image import check as checks
from launcher.image import fetch, inputs, inspect, system, wheelhouse
from launcher.image.check import Outcome
from launcher.image.client import connect
from launcher.image.inputs import Inputs
from launcher.image.inspect import ImageInfo
from launcher.image.wheelhouse import Files
from launcher.progress import Progress

if TYPE_CHECKING:
    from docker import DockerClient


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildReport:
    """What ``launch image build`` did.

    Attributes:
        image: the image, as the engine has it.
        built: False when it was there already.
        cached: steps that came from the cache.
        run: steps that were run.
        verified: True when a second build gave the same digest.
    """

    image: ImageInfo
    built: bool
    cached: tuple[str, ...]
    run: tuple[str, ...]
    verified: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckReport:
    """What ``launch image check`` found, and in which image."""

    image: ImageInfo
    outcomes: tuple[Outcome, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One target in ``launch image list``.

    Attributes:
        lock_digest: of what the image holds, or would hold.
        image: None while it is not built; its ``left_out`` tells whether it is partial.
        known: False when no engine could be asked.
    """

    target: str
    summary: str
    reference: str
    lock_digest: str
    image: ImageInfo | None
    known: bool


def sources(name: str, base: str | None, without: Sequence[str]) -> Inputs:
    """What the image of a target is made of; see :func:`launcher.image.inputs.load`."""
    known = manifest.shipped()
    target = known.target(name)
    return inputs.load(paths.images(), target, base=base, without=known.left_out(target, without))


def render(names: Sequence[str], *, check: bool) -> tuple[str, ...]:
    """Write the Dockerfiles of the targets (all when none is named), or only say whether they are fresh.

    Returns:
        The files that changed; with ``check`` none.

    Raises:
        StaleError: with ``check``, all files that are not what the manifest and the template say.
        UsageError: this is not a checkout.
    """
    folder, known = paths.images(), manifest.shipped()
    targets = [known.target(name) for name in names] or list(known.targets)
    texts = {
        folder / target.name / "Dockerfile": inputs.rendered(folder, target, lock.load(folder, target))
        for target in targets
    }
    stale = {path: problem for path in texts for problem in inputs.stale_dockerfiles({path: texts[path]})}
    if check and stale:
        raise StaleError("Dockerfiles are stale", list(stale.values()), hint="launch image render")
    if stale and not paths.is_checkout():
        raise UsageError("Dockerfiles are generated in a checkout of the project")
    for path in stale:
        paths.write_atomic(path, texts[path])
    return tuple(str(path.relative_to(folder.parent)) for path in stale)


def build(
    name: str,
    *,
    base: str | None,
    without: Sequence[str],
    no_cache: bool,
    verify: bool,
    secrets: Sequence[str],
    carried: Path | None = None,
    progress: Progress,
) -> BuildReport:
    """Fetch the files and build the image; nothing to do when the engine has it.

    With ``carried``, a folder of wheelhouses, no file of the lock is fetched: the folder's are used. They are
    verified first, also when there is nothing to do.

    Raises:
        BuildError: the engine cannot, a step failed, or (with ``verify``) two builds differ.
        EngineError: no engine answers.
        FetchError: files that cannot be had, or are not those of the lock, or not for this base.
    """
    what, client = sources(name, base, without), connect(timeout=600)
    inputs.require_fresh(what)
    image, done = inspect.find(client, what.reference), None
    files = None if carried is None else _verified(client, what, carried, progress)
    if image is None or no_cache or verify:
        files = files or _fetched(what, progress)
        wheels, debs = files.wheels, files.system
        for note in files.notes:
            progress.say(note)
        if image is None or no_cache:
            done = builds.build(
                client, what, wheels, system=debs, no_cache=no_cache, secrets=secrets, progress=progress
            )
        if verify:
            builds.verify(client, what, wheels, system=debs, secrets=secrets, progress=progress)
        image = inspect.find(client, what.reference)
    if image is None:
        raise ImageMissingError(f"{what.reference} vanished from the engine while it was looked at")
    if done is None:
        builds.point(client, what)  # another one may have been built since
    cached, run = (done.cached, done.run) if done else ((), ())
    return BuildReport(image=image, built=done is not None, cached=cached, run=run, verified=verify)


def _fetched(what: Inputs, progress: Progress) -> Files:
    """What the build installs, fetched into the cache."""
    return Files(wheels=fetch.fetch(what.target, what.lock, progress=progress).folder, system=None)


def _verified(client: "DockerClient", what: Inputs, carried: Path, progress: Progress) -> Files:
    """What the build installs, carried here."""
    return wheelhouse.verified(
        carried,
        what.target,
        what.lock,
        base=what.base,
        chain_id=system.chain_id(client, what.base),
        progress=progress,
    )


def check(
    name: str, *, base: str | None, without: Sequence[str], only: Sequence[str], progress: Progress
) -> CheckReport:
    """Run the target's checks inside its image; what a partial image lacks is reported as left out.

    Raises:
        DeviceError, DeviceRuntimeError, EngineError: the engine refused a container, or cannot give GPUs.
        ImageMissingError: it is not built.
        UsageError: ``only`` names a check that the target does not have.
    """
    what, client = sources(name, base, without), connect(timeout=600)
    image = _built(client, what)
    known = (checks.SIZE, *what.target.checks)
    unknown = sorted(set(only) - set(known))
    if unknown:
        raise UsageError(f"{name} has no check {', '.join(unknown)}", hint=f"it has: {', '.join(known)}")
    wanted = only or known
    inside = [check for check in wanted if check != checks.SIZE]
    outcomes = checks.run(client, image, what, inside, progress=progress)
    if checks.SIZE in wanted:
        outcomes = (checks.size(client, image, what.target), *outcomes)
    return CheckReport(image=image, outcomes=outcomes)


def built(name: str, base: str | None, without: Sequence[str]) -> "tuple[DockerClient, ImageInfo]":
    """The engine, and the target's image on it.

    Raises:
        EngineError: no engine answers.
        ImageMissingError: it is not built.
    """
    what, client = sources(name, base, without), connect(timeout=600)
    return client, _built(client, what)


def _built(client: "DockerClient", what: Inputs) -> ImageInfo:
    image = inspect.find_for(client, what)
    if image is None:
        options = "".join(f" --without {package}" for package in what.lock.left_out)
        raise ImageMissingError(
            f"{what.reference} is not built", hint=f"launch image build {what.target.name}{options}"
        )
    return image


def judge(outcomes: Sequence[Outcome]) -> None:
    """Raise when a check failed; one that needs a device is neither passed nor failed.

    Raises:
        CheckError: all that failed, each with what it said.
    """
    failed = [f"{outcome.check}: {outcome.detail}" for outcome in outcomes if outcome.status == "failed"]
    if failed:
        raise CheckError(f"{len(failed)} of {len(outcomes)} checks failed", failed)


def listing(*, base: str | None, without: Sequence[str]) -> tuple[Row, ...]:
    """All targets, each with its image where an engine has it."""
    try:
        client = connect()
    except EngineError:
        client = None
    rows = []
    for target in manifest.shipped().targets:
        what = sources(target.name, base, without)
        image = inspect.find_for(client, what) if client else None
        rows.append(
            Row(
                target=target.name,
                summary=target.summary_en,
                reference=what.reference,
                lock_digest=image.lock_digest if image else what.lock.digest,
                image=image,
                known=client is not None,
            )
        )
    return tuple(rows)
