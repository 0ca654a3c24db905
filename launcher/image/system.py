"""The base's own packages as files: fetched in a throw-away container of the base, by its own apt.

What comes is what apt would install on that base, with an index of it, so that the build's step runs the very
same ``apt-get install`` later, from a folder and without network, and marks the same packages as automatic.
"""

import hashlib
import tarfile
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

from launcher import paths, wheelhouse
from launcher.errors import EngineError, FetchError, UsageError
from launcher.manifest import Target
from launcher.progress import Progress
from launcher.wheelhouse import File, System

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.images import Image

# The build's step, but for the installation. Epochs leave the file names, as in archives: apt reads `%3a` in
# an index as a colon. The index is what `dpkg-scanpackages` writes, which a small base does not have.
_SCRIPT = r"""
export DEBIAN_FRONTEND=noninteractive LC_ALL=C
shopt -s nullglob
umask 022
mkdir -p /system/partial
apt=(apt-get -qq -o Acquire::Retries=3 -o Dir::Cache::archives=/system)
if [[ -f /run/secrets/ca ]]; then apt+=(-o Acquire::https::CAInfo=/run/secrets/ca); fi
if [[ -f /run/secrets/apt-sources ]]; then
    apt+=(-o Dir::Etc::sourcelist=/run/secrets/apt-sources -o Dir::Etc::sourceparts=-)
fi
"${apt[@]}" update
"${apt[@]}" install --yes --download-only --no-install-recommends "$@"
cd /system
rm -rf partial lock
for deb in *%3a*.deb; do mv "$deb" "${deb/_[0-9]*%3a/_}"; done
for deb in *.deb; do
    dpkg-deb --field "$deb"
    printf 'Filename: ./%s\nSize: %s\nSHA256: %s\n\n' \
        "$deb" "$(stat --format %s "$deb")" "$(sha256sum "$deb" | cut -d' ' -f1)"
done >Packages
"""

_SECRETS = ("ca", "apt-sources")
_TAIL = 15  # lines of apt's complaint
_LIMIT_S = 1800


def download(
    client: "DockerClient",
    target: Target,
    base: str,
    folder: Path,
    *,
    secrets: Sequence[str],
    progress: Progress,
) -> System:
    """Fetch a target's system packages into an empty folder, with apt's index of them.

    Args:
        client: of the engine that runs the container; it needs a network.
        target: whose packages.
        base: reference of the image that they will be installed on; pulled when it is not there.
        folder: receives the files.
        secrets: ``id=ca|apt-sources,src=FILE``, as for a build; mounted read-only.
        progress: told when it begins and ends.

    Raises:
        EngineError: the engine cannot have the base, or refuses the container.
        FetchError: apt cannot have the packages.
        UsageError: a secret cannot be read.
    """
    import requests
    from docker.errors import APIError

    task = f"system packages of {target.name}"
    mounts = _mounts(secrets)
    image = _image(client, base, target)
    progress.start(task, total=None)
    try:
        container = client.containers.create(str(image.id), **request(target, mounts))
        try:
            container.start()
            code = int(container.wait(timeout=_LIMIT_S)["StatusCode"])
            if code != 0:
                raise _refused(target, container.logs().decode(errors="replace"))
            _unpack(cast(Iterable[bytes], container.get_archive(f"/{wheelhouse.SYSTEM}")[0]), folder)
        finally:
            container.remove(force=True, v=True)
    except APIError as error:
        raise EngineError(f"the engine refused a container of {base}", why=str(error)) from None
    except requests.exceptions.Timeout:
        raise _refused(target, f"not done after {_LIMIT_S} s") from None
    progress.finish(task)
    return described(folder, base=base, image=str(image.id), target=target)


def request(target: Target, mounts: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    """The SDK's arguments for the container that downloads."""
    return {
        "command": ["-euo", "pipefail", "-c", _SCRIPT, "bash", *target.system_packages],
        "entrypoint": "/bin/bash",
        "user": "0",
        "volumes": mounts,
        "labels": {"launch.role": "system-packages", "launch.target": target.name},
    }


def _refused(target: Target, said: str) -> FetchError:
    return FetchError(
        f"the system packages of {target.name} cannot be had",
        said.strip().splitlines()[-_TAIL:] or ["apt failed, and did not say why"],
        hint="--secret id=apt-sources,src=FILE replaces the package sources, --secret id=ca,src=FILE adds a "
        "CA bundle",
    )


def described(folder: Path, *, base: str, image: str, target: Target) -> System:
    """What a folder of packages and their index holds; makes its sources.list.

    Raises:
        FetchError: a file is not the one that the index names.
    """
    packages = wheelhouse.system_packages((folder / wheelhouse.INDEX).read_text(encoding="utf-8"))
    problems = [
        f"{package.path}: not what apt's index says"
        for package in packages
        if file(folder.parent, package.path) != File(**package.model_dump(include=set(File.model_fields)))
    ]
    if problems:
        raise FetchError("the system packages came damaged", problems, hint="repeat the command")
    (folder / wheelhouse.SOURCES).write_text(wheelhouse.SOURCES_TEXT, encoding="utf-8")
    names = (wheelhouse.INDEX, wheelhouse.SOURCES)
    return System(
        base=base,
        image=image,
        requested=target.system_packages,
        packages=packages,
        lists=tuple(file(folder.parent, f"{folder.name}/{name}") for name in names),
    )


def file(folder: Path, path: str) -> File:
    """A file of a target's folder as it is, its hash computed."""
    with (folder / path).open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
        return File(path=path, bytes=stream.tell(), sha256=digest)


def _mounts(secrets: Sequence[str]) -> dict[str, dict[str, str]]:
    """Where the container finds the secrets; their content stands in no argument."""
    found = {}
    for secret in secrets:
        fields = dict(part.partition("=")[::2] for part in secret.split(","))
        name, source = fields.get("id"), Path(fields.get("src") or fields.get("source") or "").expanduser()
        if name not in _SECRETS or not source.is_file():
            raise UsageError(
                f"--secret {secret} cannot be used",
                why=f"{source} is no file"
                if name in _SECRETS
                else f"its id is none of {', '.join(_SECRETS)}",
                hint="--secret id=ca|apt-sources,src=FILE",
            )
        found[str(source.absolute())] = {"bind": f"/run/secrets/{name}", "mode": "ro"}
    return found


def _image(client: "DockerClient", base: str, target: Target) -> "Image":
    """The base, pulled when the engine does not have it."""
    from docker.errors import APIError, ImageNotFound

    try:
        try:
            return client.images.get(base)
        except ImageNotFound:
            return client.images.pull(base, platform=target.platform)
    except APIError as error:
        raise EngineError(
            f"the engine cannot have the base {base}",
            why=str(error.explanation or error),
            hint="name one that is here with --base or LAUNCH_BASE",
        ) from None


def _unpack(archive: Iterable[bytes], folder: Path) -> None:
    """Write the files of the folder that the engine sends as a tar: by their last names, and nothing else."""
    paths.cache().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=paths.cache()) as spool:
        for piece in archive:
            spool.write(piece)
        spool.seek(0)
        with tarfile.open(fileobj=spool) as tar:
            for entry in tar:
                if entry.isreg():
                    content = cast(IO[bytes], tar.extractfile(entry))
                    with (folder / Path(entry.name).name).open("wb") as stream:
                        while piece := content.read(1 << 20):
                            stream.write(piece)
