"""From the inputs to an image on the engine, through buildx; bit-reproducible where the engine can do it."""

import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from launcher import dockerfile, paths, process, wheelhouse
from launcher.diagnosis.engine import OLDEST
from launcher.errors import BuildError, ProgramError
from launcher.image import buildah, compare, engine, inspect, uv
from launcher.image.buildlog import BuildLog
from launcher.image.client import context_name, is_podman
from launcher.image.inputs import Inputs
from launcher.progress import Progress

if TYPE_CHECKING:
    from docker import DockerClient


#: How Docker's engine comes to the same bits every time.
_CONTAINERD = (
    'switch the containerd image store on ("features": {"containerd-snapshotter": true} in the '
    "daemon's configuration) and build again"
)

#: What buildx says of a finished image.
_METADATA = "metadata.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Builder:
    """What the engine can do.

    Attributes:
        name: of the buildx builder.
        unreproducible: why its images are not bit-reproducible, "" when they are.
        podman: its version, where Podman builds; "": buildx does.
    """

    name: str
    unreproducible: str
    podman: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """One finished build.

    Attributes:
        digest: the image's manifest digest; "" where the engine keeps none.
        cached: the steps that came from the cache.
        run: the steps that were run.
    """

    digest: str
    cached: tuple[str, ...]
    run: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    """What one call of buildx works on; ``folder`` is its temporary one."""

    inputs: Inputs
    wheels: Path
    system: Path | None
    engine: Builder
    folder: Path
    secrets: tuple[str, ...]


def builder(client: "DockerClient") -> Builder:
    """What the engine behind this client can do.

    Raises:
        BuildError: it is too old, or buildx is missing; says what to install.
    """
    said = client.version()
    version = str(said.get("Version", "0"))
    if is_podman(said):
        buildah.version(said)
        return Builder(name="podman", unreproducible=buildah.UNREPRODUCIBLE, podman=version)
    major = version.split(".")[0]
    if not major.isdigit() or int(major) < OLDEST:
        raise BuildError(
            f"Docker Engine {version} cannot build this image",
            why="it knows neither RUN --network=none nor named build contexts",
            hint=f"install Docker Engine {OLDEST} or newer, or run in an environment: --engine venv",
        )
    engine.buildx(patience=60)
    containerd = engine.keeps_in_containerd(client.info())
    reason = (
        ""
        if containerd
        else "the engine does not keep its images in containerd, so what a layer removes carries the clock"
    )
    return Builder(name=context_name(), unreproducible=reason)


def build(
    client: "DockerClient",
    inputs: Inputs,
    wheels: Path,
    *,
    progress: Progress,
    system: Path | None = None,
    no_cache: bool = False,
    secrets: Sequence[str] = (),
) -> Built:
    """Build the image and give it its two names; on failure nothing is left on the engine or on disk.

    Args:
        client: of the engine that builds.
        inputs: what to build.
        wheels: the folder of fetched files, one subfolder per layer.
        progress: told about each step.
        system: a folder of the system packages and their index; no step then has a network.
        no_cache: build every step anew.
        secrets: ``id=…,src=…`` of the Dockerfile's optional secrets.

    Raises:
        BuildError: the engine cannot do it, or a step failed; carries the end of that step's output.
    """
    engine = builder(client)
    with _job(engine, inputs, wheels, system, secrets) as job:
        result = _built(
            job, inputs.reference, revision=_revision(inputs), no_cache=no_cache, progress=progress
        )
    if engine.podman and inspect.find(client, inputs.reference) is None:
        raise BuildError(
            f"{inputs.reference} was built, and is not on the engine",
            why="the podman command keeps its images elsewhere than the Podman behind the socket",
            hint="let both be the same user's, or: podman save IMAGE | podman --url ADDRESS load",
        )
    point(client, inputs)
    return result


def point(client: "DockerClient", inputs: Inputs) -> None:
    """Let the target's moving name be that of the image of these inputs."""
    repository, tag = dockerfile.alias(inputs.target.name).split(":")
    client.images.get(inputs.reference).tag(repository, tag)


def verify(
    client: "DockerClient",
    inputs: Inputs,
    wheels: Path,
    *,
    progress: Progress,
    system: Path | None = None,
    secrets: Sequence[str] = (),
) -> str:
    """Build once more without the cache and compare with the engine's image.

    Returns:
        The digest that both have.

    Raises:
        BuildError: they differ (names the first differing file), or this engine's images always do.
    """
    engine = builder(client)
    if engine.unreproducible:
        raise BuildError(
            "this engine's images are not bit-reproducible",
            why=engine.unreproducible,
            hint="" if engine.podman else _CONTAINERD,
        )
    image = client.images.get(inputs.reference)
    first = str(image.id)
    # That image's own revision: a commit made since then is no difference in what was built.
    revision = image.labels.get("org.opencontainers.image.revision", "")
    name = f"{inputs.reference}-second"
    with _job(engine, inputs, wheels, system, secrets) as job:
        second = _built(job, name, revision=revision, no_cache=True, progress=progress, unpack=False)
    try:
        if second.digest == first:
            return first
        difference = compare.first_difference(client, inputs.reference, name)
    finally:
        client.images.remove(name, force=True)
    raise BuildError(
        f"two builds of {inputs.reference} differ",
        why=difference or "only the packing of their layers does, which is the engine's",
        hint=f"first {first}, second {second.digest}",
    )


def _output(job: _Job, *, unpack: bool) -> list[str]:
    """Straight into the engine's store.

    zstd, because gzip takes several times as long for a larger result. Forced, so that the base's own packing
    does not show in the digest.
    """
    if job.engine.unreproducible:
        return ["--load"]
    form = "compression=zstd,force-compression=true,oci-mediatypes=true"
    return ["--output", f"type=image,{form},unpack={str(unpack).lower()}"]


def _built(
    job: _Job, name: str, *, revision: str, no_cache: bool, progress: Progress, unpack: bool = True
) -> Built:
    inputs, podman = job.inputs, job.engine.podman
    file = buildah.dockerfile(inputs.dockerfile, podman, job.folder) if podman else inputs.dockerfile
    argv = [
        # Only this format of Podman's has SHELL. CONTAINER_HOST would send it elsewhere, without contexts.
        *(
            ("podman", "--remote=false", "build", "--format", "docker")
            if podman
            else _buildx(job, unpack=unpack)
        ),
        *("--file", str(file), "--tag", name, "--platform", inputs.target.platform),
        *("--build-context", f"uv={_uv_folder(job.folder)}"),
        # A context per lock: the engine keeps what it was sent by the context's name, and sends it once.
        *(
            part
            for each in inputs.lock.locks
            for part in (
                "--build-context",
                f"wheels-{each.owner}-{each.layer}={job.wheels / each.layer}",
            )
        ),
        *(["--build-context", f"system={job.system}", "--network", "none"] if job.system else []),
        *("--build-arg", f"BASE={inputs.base}"),
        *(["--build-arg", f"WITHOUT={' '.join(inputs.lock.left_out)}"] if inputs.lock.left_out else []),
        *(part for label in _labels(job, revision) for part in ("--label", label)),
        *(part for secret in job.secrets for part in ("--secret", secret)),
        *(["--no-cache"] if no_cache else []),
        str(inputs.folder),
    ]
    follow = buildah.Log if podman else BuildLog
    log = follow(progress=progress, task=f"building {inputs.reference}")
    epoch = {"SOURCE_DATE_EPOCH": str(dockerfile.SOURCE_DATE_EPOCH)}
    with process.started(argv, env=epoch) as child:
        for line in child.lines():
            log.feed(line)
        code = child.wait()
    if code != 0:
        step, tail = log.failure()
        raise BuildError(f"{inputs.reference}: {step} failed", why=tail, hint=_advice(tail, job))
    log.finish()
    digest = "" if job.engine.unreproducible else _digest(job.folder / _METADATA)
    return Built(digest=digest, cached=tuple(log.cached), run=tuple(log.run))


def _buildx(job: _Job, *, unpack: bool) -> list[str]:
    """The command and what only it knows."""
    return [
        *("docker", "buildx", "build", "--builder", job.engine.name, "--progress", "plain"),
        # The build's own record holds the moment and the machine: neither belongs into a reproducible digest.
        *("--provenance=false", "--sbom=false"),
        *("--metadata-file", str(job.folder / _METADATA)),
        *_output(job, unpack=unpack),
    ]


def _digest(metadata: Path) -> str:
    """The manifest digest of the image that buildx has described."""
    return str(json.loads(metadata.read_text(encoding="utf-8"))["containerimage.digest"])


def _labels(job: _Job, revision: str) -> list[str]:
    found = dockerfile.labels(
        job.inputs.target,
        lock_digest=job.inputs.lock.digest,
        digest=job.inputs.digest,
        base=job.inputs.base,
        revision=revision,
        unreproducible=job.engine.unreproducible,
        installer=f"uv {uv.version()}",
    )
    return [f"{key}={value}" for key, value in found]


def _revision(inputs: Inputs) -> str:
    """The last commit that touched what this image is made of, "" outside a checkout or with changes there.

    Not the checked out commit: two commits that change other things must give the same digest.
    """
    if not paths.is_checkout():
        return ""
    names = [inputs.dockerfile, *(inputs.folder / "locks" / part.file_name for part in inputs.lock.locks)]
    files = [str(name) for name in (*names, inputs.folder / "seal.py")]
    try:
        if process.run(["git", "status", "--porcelain", "--", *files], cwd=inputs.folder).stdout.strip():
            return ""
        return process.run(
            ["git", "log", "-1", "--format=%H", "--", *files], cwd=inputs.folder
        ).stdout.strip()
    except ProgramError:
        return ""


def _advice(tail: str, job: _Job) -> str:
    if "resolve source metadata" in tail or "pull access denied" in tail or "failed to do request" in tail:
        return f"the base {job.inputs.base} is out of reach: name one that is here with --base or LAUNCH_BASE"
    if "no space left" in tail:
        return (
            "free some disk space; `docker system df` and `docker builder prune` show and free the engine's"
        )
    if job.system and ("unmet dependencies" in tail or "Unable to locate package" in tail):
        return (
            f"{job.system.parent / wheelhouse.FILE} names the base that its packages were resolved for: "
            "build on that one, or fetch them again for this one"
        )
    if "apt" in tail or "Temporary failure resolving" in tail:
        return "the package sources are out of reach: --secret id=apt-sources,src=FILE replaces them"
    return ""


def _uv_folder(folder: Path) -> Path:
    """A folder that holds the uv program alone: all of it may be sent to the engine."""
    import uv as uv_package

    target = folder / "uv" / "uv"
    if not target.exists():
        target.parent.mkdir()
        shutil.copyfile(uv_package.find_uv_bin(), target)
        target.chmod(0o755)
    return target.parent


@contextmanager
def _job(
    engine: Builder, inputs: Inputs, wheels: Path, system: Path | None, secrets: Sequence[str]
) -> Iterator[_Job]:
    """One call of buildx; what is sent to the engine lies in a temporary folder in the cache."""
    paths.cache().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=paths.cache(), prefix="build-") as folder:
        yield _Job(
            inputs=inputs,
            wheels=wheels,
            system=system,
            engine=engine,
            folder=Path(folder),
            secrets=tuple(secrets),
        )
