"""Use cases around images on their way to a site: push, save, verify on arrival, convert for its runtime."""

import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from launcher import lock, manifest, paths, process
from launcher.app import images
from launcher.app.signals import unwound
from launcher.errors import CheckError, OutputError, ProgramError, UsageError
from launcher.image import convert as conversions
from launcher.image import push as pushes
from launcher.image import reference as references
from launcher.image import registry, saved
from launcher.image import save as saves
from launcher.image.client import is_podman
from launcher.image.convert import Conversion
from launcher.image.inspect import ImageInfo
from launcher.image.registry import RemoteImage
from launcher.image.saved import FileImage
from launcher.progress import Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class Pushed:
    """An image of this engine, and as the registry has it."""

    image: ImageInfo
    remote: RemoteImage


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    """An image of this engine, and as a file has it."""

    image: ImageInfo
    file: FileImage


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """How an image becomes another runtime's file.

    Attributes:
        runtime: apptainer, singularity or enroot.
        output: the file.
        conversion: the commands.
        digest: ``sha256:…`` of the image that was looked at.
    """

    runtime: str
    output: Path
    conversion: Conversion
    digest: str


def push(
    name: str,
    place: str,
    *,
    base: str | None,
    without: Sequence[str],
    plain_http: bool = False,
    progress: Progress,
) -> Pushed:
    """Push a target's image below a place in a registry, and ask the registry what it has.

    Raises:
        CheckError: the registry has another image than the engine.
        EngineError: no engine answers, or it failed.
        ImageMissingError: the image is not built.
        RegistryAccessError, RegistryError, RegistryServerError, RegistryTransportError: see launcher.errors.
        UsageError: there is no such target, or the place is none.
    """
    references.below(place, f"{name}:{name}")
    client, image = images.built(name, base, without)
    wanted = references.below(place, image.reference)
    registry.reach(wanted, plain_http=plain_http)
    with unwound():
        said = pushes.push(client, image, wanted, progress=progress)
    remote = registry.resolve(wanted, plain_http=plain_http)
    problems = []
    if said and said != remote.digest:
        problems.append(f"the engine sent {said}, the registry has {remote.digest}")
    if image.id not in (remote.digest, remote.manifest, remote.config):
        problems.append(f"the engine has {image.id}, the registry {remote.digest} of {remote.config}")
    if dict(image.labels) != dict(remote.labels):
        problems.append("the labels differ")
    if problems:
        raise CheckError(
            f"{wanted} is not the image that was pushed",
            problems,
            why="somebody else pushed to the same name, or what answers is a cache of another registry",
            hint="repeat the command",
        )
    return Pushed(image=image, remote=remote)


def save(name: str, path: Path, *, base: str | None, without: Sequence[str], progress: Progress) -> Saved:
    """Write a target's image to a file, and its sha256 beside it.

    Raises:
        CheckError: the engine wrote another image than it has.
        EngineError: no engine answers, or it failed.
        ImageMissingError: the image is not built.
        OutputError: the file is there, or there is no room for it.
    """
    saves.require_free(path)
    client, image = images.built(name, base, without)
    with unwound():
        return Saved(image=image, file=saves.save(client, image, path, progress=progress))


def verify(
    source: str, name: str, *, digest: str = "", plain_http: bool = False, progress: Progress
) -> FileImage | RemoteImage:
    """Check what arrived: a file, or what a registry has. No engine is needed.

    Args:
        source: a file or a reference.
        name: the target that it shall be.
        digest: what it shall be called, ``sha256:…``; empty: any.
        plain_http: the registry has no TLS.
        progress: told the bytes of a file.

    Raises:
        CheckError: it is damaged, another image, or not of this lock; all that is wrong.
        ImageMissingError, RegistryAccessError, RegistryError, RegistryServerError, RegistryTransportError: a
            reference's.
        UsageError: there is no such file and no such target, or the digest is none.
    """
    target = manifest.shipped().target(name)
    found: FileImage | RemoteImage
    path = _file(source)
    if path is not None:
        found = saved.examine(path, platform=target.platform, progress=progress)
        saved.compare_checksum(found)
        names = found.digests
    else:
        found = registry.resolve(references.parse(source), platform=target.platform, plain_http=plain_http)
        names = frozenset((found.digest, found.manifest, found.config))
        if (
            digest and digest != found.digest
        ):  # it says nothing of the index that led there, nor of its others
            found = replace(found, reference=found.reference.pinned(found.manifest))
    problems = _differences(found.labels, name)
    if digest and digest not in names:
        problems.append(f"it is {', '.join(sorted(names))}, and not {digest}")
    if problems:
        raise _another(source, name, problems)
    return found


def plan_conversion(
    source: str,
    runtime: str,
    output: Path | None,
    *,
    base: str | None = None,
    without: Sequence[str] = (),
    user: str = "",
    plain_http: bool = False,
    progress: Progress,
) -> Planned:
    """How a file, a reference, or a target's image on this engine becomes a file of another runtime.

    What comes from elsewhere is verified first, as :func:`verify` does for the target that it says it is.

    Raises:
        OutputError: the output is there already.
        UsageError: it cannot be converted, or the options do not go together.
        CheckError, ImageMissingError, EngineError, RegistryError and its kind: of the source.
    """
    target = next((each for each in manifest.shipped().targets if each.name == source), None)
    path = None if target else _file(source)
    if user and (target or path or runtime != "enroot"):
        raise UsageError("--user is for enroot and a registry", why="Apptainer takes Docker's own login")
    if target:
        client, image = images.built(source, base, without)
        output = _free(output, runtime, image.labels)
        podman = is_podman(client.version())
        conversion = conversions.from_engine(runtime, image.reference, output, podman=podman)
        return Planned(runtime=runtime, output=output, conversion=conversion, digest=image.id)
    if path:
        file = saved.examine(path, progress=progress)
        saved.compare_checksum(file)
        _require_known(source, file.labels)
        output = _free(output, runtime, file.labels)
        conversion = conversions.from_file(runtime, file, output)
        return Planned(
            runtime=runtime, output=output, conversion=conversion, digest=file.manifest or file.config
        )
    remote = registry.resolve(references.parse(source), plain_http=plain_http)
    _require_known(source, remote.labels)
    output = _free(output, runtime, remote.labels)
    conversion = conversions.from_registry(runtime, remote, output, user=user)
    return Planned(runtime=runtime, output=output, conversion=conversion, digest=remote.digest)


def run_conversion(planned: Planned) -> None:
    """Run the commands; the file has its name when it is whole, and nothing is left of one that is not.

    Raises:
        OutputError: something has taken the name.
        ProgramError: a program is not here, or failed.
    """
    folder = planned.output.parent
    with unwound(), tempfile.TemporaryDirectory(dir=folder, prefix=f".{planned.output.name}.") as made:
        temporary = Path(made) / planned.output.name
        for command in (*planned.conversion.before, planned.conversion.command):
            argv = [str(temporary) if word == str(planned.output) else word for word in command.argv]
            code = process.attached(argv, env={**os.environ, **dict(command.env)}, cwd=Path.cwd())
            if code:
                raise ProgramError(
                    f"{argv[0]} exited with code {code}",
                    returncode=code,
                    why="its own words are above",
                    hint=f"to see it by itself: {command.printed}",
                )
        saves.place(temporary, planned.output)
        paths.sync_folder(folder)


def _file(source: str) -> Path | None:
    """A file by what names it; None: it looks like a reference.

    Raises:
        UsageError: it looks like a file, and is not there.
    """
    path = Path(source).expanduser()
    if path.is_file():
        return path.absolute()
    if (
        source.startswith(("/", "./", "../", "~"))
        or source.endswith((".tar", ".sif", ".sqsh"))
        or path.is_dir()
    ):
        raise UsageError(f"{source} is no file", hint="a file that was saved, or registry/name@sha256:…")
    return None


def _free(output: Path | None, runtime: str, labels: Mapping[str, str]) -> Path:
    """Where to write; nothing may be there."""
    path = output or Path.cwd() / conversions.name(runtime, labels)
    if path.exists() or path.is_symlink():
        raise OutputError(f"{path} is there already", why="nothing is overwritten", hint="--output FILE")
    if not path.parent.is_dir():
        raise OutputError(f"{path.parent} is no folder", hint=f"mkdir -p {path.parent}")
    return path


def _require_known(source: str, labels: Mapping[str, str]) -> None:
    """What came from elsewhere is the image of a target of this launcher's, from this lock."""
    name = labels.get("launch.target", "")
    if name not in {each.name for each in manifest.shipped().targets}:
        raise _another(source, "any target", [f"its label launch.target is {name or 'missing'}"])
    if problems := _differences(labels, name):
        raise _another(source, name, problems)


def _differences(labels: Mapping[str, str], name: str) -> list[str]:
    """In what an image's labels differ from those of a target's image, built from the lock that is here."""
    said = labels.get("launch.target", "")
    if said != name:
        return [f"its label launch.target is {said or 'missing'}, and not {name}"]
    locked = lock.load(paths.images(), manifest.shipped().target(name))
    have = labels.get("launch.lock-digest", "").removeprefix("sha256:")
    want = locked.without(labels.get("launch.without", "").split()).digest
    if have != want:
        return [
            f"its label launch.lock-digest is {have[:12] or 'missing'}…, that of the lock here {want[:12]}…"
        ]
    return []


def _another(source: str, name: str, problems: Sequence[str]) -> CheckError:
    return CheckError(
        f"{source} is not the image of {name}",
        problems,
        why="it was built from other locks than those here, or is another image",
        hint="the revision that built it is in its label org.opencontainers.image.revision",
    )
