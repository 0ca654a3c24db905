"""The base's own packages as files: fetched in a throw-away container of the base, by its own apt.

What comes is what apt would install on that base, with an index of it, so that the build's step runs the very
same ``apt-get install`` later, from a folder and without network, and marks the same packages as automatic.
"""

import hashlib
import io
import tarfile
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

from launcher import paths, wheelhouse
from launcher.errors import EngineError, FetchError, UsageError
from launcher.image import uv
from launcher.manifest import Target
from launcher.progress import Progress
from launcher.wheelhouse import File, System

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.containers import Container
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
        secrets: ``id=ca|apt-sources,src=FILE``, as for a build; gone with the container.
        progress: told when it begins and ends.

    Raises:
        EngineError: the engine cannot have the base, refuses the container, or is lost.
        FetchError: apt cannot have the packages, or takes too long.
        UsageError: a secret cannot be read.
    """
    from docker.errors import APIError
    from requests.exceptions import RequestException

    task = f"system packages of {target.name}"
    archive = _archive(secrets)
    try:
        image = _image(client, base, target)
        progress.start(task, total=None)
        container = client.containers.create(str(image.id), **request(target))
        try:
            if archive:  # sent, not mounted: the engine may be on another machine
                container.put_archive("/", archive)
            container.start()
            if _exit_code(container, target) != 0:
                raise _refused(target, container.logs().decode(errors="replace"))
            _unpack(cast(Iterable[bytes], container.get_archive(f"/{wheelhouse.SYSTEM}")[0]), folder)
        finally:
            container.remove(force=True, v=True)
    except APIError as error:
        raise EngineError(f"the engine refused a container of {base}", why=str(error)) from None
    except RequestException as error:  # an OSError, which callers would take for one of the disk's
        raise EngineError(
            f"the engine was lost while it fetched the {task}",
            why=str(error),
            hint="see what `docker version` says, and repeat the command",
        ) from None
    progress.finish(task)
    return described(folder, base=base, chain_id=_chain_id(image), target=target)


def chain_id(client: "DockerClient", reference: str) -> str:
    """The OCI chain ID of an image's layers, "" when the engine does not have the image.

    Unlike an image's id it is the same on every engine, whatever that keeps its images in, and after
    ``docker save`` and ``docker load``.

    Raises:
        EngineError: the engine cannot say.
    """
    from docker.errors import ImageNotFound
    from requests.exceptions import RequestException

    try:
        return _chain_id(client.images.get(reference))
    except ImageNotFound:
        return ""
    except RequestException as error:
        raise EngineError(f"the engine cannot say whether it has {reference}", why=str(error)) from None


def _chain_id(image: "Image") -> str:
    """As the OCI image specification defines it."""
    chain = ""
    for layer in image.attrs["RootFS"].get("Layers") or ():
        chain = f"sha256:{hashlib.sha256(f'{chain} {layer}'.encode()).hexdigest()}" if chain else str(layer)
    return chain


def request(target: Target) -> dict[str, Any]:
    """The SDK's arguments for the container that downloads."""
    return {
        "command": ["-euo", "pipefail", "-c", _SCRIPT, "bash", *target.system_packages],
        "entrypoint": "/bin/bash",
        "user": "0",
        "labels": {"launch.role": "system-packages", "launch.target": target.name},
    }


def _exit_code(container: "Container", target: Target) -> int:
    """Of the container, once it has ended.

    The clock tells a wait that was too long, not the error: the engine answers at once and is then silent,
    which the HTTP client calls a lost connection.
    """
    from requests.exceptions import RequestException

    begin = time.monotonic()
    try:
        return int(container.wait(timeout=_LIMIT_S)["StatusCode"])
    except RequestException:
        if time.monotonic() - begin < _LIMIT_S:
            raise
        raise _refused(target, f"not done after {_LIMIT_S} s") from None


def _refused(target: Target, said: str) -> FetchError:
    """Without the hosts of addresses: those of a sources.list may carry a password."""
    return FetchError(
        f"the system packages of {target.name} cannot be had",
        uv.masked(said).strip().splitlines()[-_TAIL:] or ["apt failed, and did not say why"],
        hint="--secret id=apt-sources,src=FILE replaces the package sources, --secret id=ca,src=FILE adds a "
        "CA bundle",
    )


def described(folder: Path, *, base: str, chain_id: str, target: Target) -> System:
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
        chain_id=chain_id,
        requested=target.system_packages,
        packages=packages,
        lists=tuple(file(folder.parent, f"{folder.name}/{name}") for name in names),
    )


def file(folder: Path, path: str) -> File:
    """A file of a target's folder as it is, its hash computed."""
    with (folder / path).open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
        return File(path=path, bytes=stream.tell(), sha256=digest)


def _archive(secrets: Sequence[str]) -> bytes:
    """A tar of the secrets in ``/run/secrets``, as the container shall have them; empty without any."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for secret in secrets:
            name, content = _secret(secret)
            entry = tarfile.TarInfo(f"run/secrets/{name}")
            entry.size, entry.mode = len(content), 0o444  # apt's own user reads the CA bundle
            tar.addfile(entry, io.BytesIO(content))
    return stream.getvalue() if secrets else b""


def _secret(secret: str) -> tuple[str, bytes]:
    """The name and the content of one ``id=…,src=…``."""
    fields = dict(part.partition("=")[::2] for part in secret.split(","))
    name, source = fields.get("id", ""), Path(fields.get("src") or fields.get("source") or "").expanduser()
    why = "" if name in _SECRETS else f"its id is none of {', '.join(_SECRETS)}"
    try:
        content = b"" if why else source.read_bytes()
    except OSError as error:
        why = f"{source}: {error.strerror}"
    if why:
        raise UsageError(
            f"--secret {secret} cannot be used", why=why, hint="--secret id=ca|apt-sources,src=FILE"
        )
    return name, content


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
