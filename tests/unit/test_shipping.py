"""Pushing, saving and converting, with an engine and a registry that are made up."""

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from docker.errors import APIError, ImageNotFound
from requests.exceptions import ConnectionError as LostError

from launcher import lock, manifest, paths
from launcher.app import images, shipping
from launcher.errors import (
    CheckError,
    EngineError,
    ImageMissingError,
    LaunchError,
    OutputError,
    RegistryAccessError,
    RegistryError,
    RegistryServerError,
    RegistryTransportError,
    UsageError,
)
from launcher.image import convert, push, reference, registry, save
from launcher.image.inspect import ImageInfo
from launcher.image.registry import RemoteImage
from launcher.image.saved import FileImage
from launcher.progress import Silent
from tests.unit.test_saved import CONFIG, containerd, sha256, tar

DIGEST = f"sha256:{'d' * 64}"
PLACE = reference.below("registry.example.org/team", "finetune:cpu-0123")


class Engine:
    """Images by name, and what a push says."""

    def __init__(self, **named: str) -> None:
        self.named = {"finetune:cpu-0123": DIGEST, **named}
        self.ids = {*self.named.values(), *(f"sha256:{each}" for each in ("c" * 64, sha256(CONFIG)))}
        self.said: list[dict[str, Any]] = []
        self.content: Iterable[bytes] = ()
        self.during: dict[str, str] = {}
        self.images = self.api = self
        self.closed = False

    def get(self, name: str) -> Any:
        found = self.named.get(name) or (name if name in self.ids else None)
        if found is None:
            raise ImageNotFound(name)
        return SimpleNamespace(
            id=found,
            labels={},
            attrs={"Size": 100},
            history=lambda: [],
            tag=lambda repository, tag: self.named.update({f"{repository}:{tag}": found}),
        )

    def get_image(self, name: str, *, chunk_size: int) -> Iterator[bytes]:
        return iter(self.content)

    def remove(self, name: str, noprune: bool = False) -> None:
        del self.named[name]

    def push(self, name: str, *, tag: str, stream: bool, decode: bool) -> Iterator[dict[str, Any]]:
        self.during = dict(self.named)
        try:
            for line in self.said:
                if "raise" in line:
                    raise line["raise"]
                yield line
        finally:
            self.closed = True


class Counted(Silent):
    def __init__(self) -> None:
        self.bytes = 0.0

    def advance(self, task: str, amount: float) -> None:
        self.bytes += amount


def image(**more: Any) -> ImageInfo:
    return ImageInfo(**{"reference": "finetune:cpu-0123", "id": DIGEST, "size": 100, "labels": {}, **more})


# -------------------------------------------------------------------------------------------------- pushing
def test_an_image_has_the_registrys_name_for_as_long_as_it_is_sent() -> None:
    engine, progress = Engine(), Counted()
    engine.said = [
        {"status": "The push refers to repository [registry.example.org/team/finetune]"},
        {"status": "Pushing", "progressDetail": {"total": 60}, "id": "a"},
        {"status": "Pushing", "progressDetail": {"current": 20, "total": 60}, "id": "a"},
        {"status": "Pushing", "progressDetail": {"current": 40, "total": 40}, "id": "b"},
        {"status": "Pushing", "progressDetail": {"current": 60, "total": 60}, "id": "a"},
        {"status": f"cpu-0123: digest: {DIGEST} size: 2023"},
    ]
    assert push.push(engine, image(), PLACE, progress=progress) == DIGEST  # type: ignore[arg-type]
    assert progress.bytes == 100
    assert engine.during[str(PLACE)] == DIGEST
    assert str(PLACE) not in engine.named


def test_the_digest_of_older_engines_comes_beside() -> None:
    engine = Engine()
    engine.said = [{"progressDetail": {}, "aux": {"Tag": "cpu-0123", "Digest": DIGEST, "Size": 1}}]
    assert push.push(engine, image(), PLACE, progress=Silent()) == DIGEST  # type: ignore[arg-type]


@pytest.mark.parametrize("before", ["", "sha256:users-own"])
@pytest.mark.parametrize(
    ("ended", "kind"),
    [
        ({"raise": KeyboardInterrupt()}, KeyboardInterrupt),
        ({"raise": SystemExit(143)}, SystemExit),
        ({"raise": LostError("gone")}, EngineError),
        ({"raise": APIError("500 Server Error", explanation="broken")}, EngineError),
        ({"error": "denied", "errorDetail": {"message": "denied: no"}}, RegistryAccessError),
    ],
)
def test_however_a_push_ends_its_name_goes(
    before: str, ended: dict[str, Any], kind: type[BaseException]
) -> None:
    engine = Engine(**({str(PLACE): before} if before else {}))
    engine.said = [{"status": "Pushing", "progressDetail": {"current": 1, "total": 2}, "id": "a"}, ended]
    with pytest.raises(kind):
        push.push(engine, image(), PLACE, progress=Silent())  # type: ignore[arg-type]
    assert engine.named.get(str(PLACE), "") == before
    assert engine.closed


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("authorization failed: no basic auth credentials", RegistryAccessError),
        ("unauthorized: authentication required", RegistryAccessError),
        ("denied: requested access to the resource is denied", RegistryAccessError),
        ("unexpected status from HEAD request to http://r/v2/x: 401 Unauthorized", RegistryAccessError),
        ("push access denied, repository does not exist or may require authorization", RegistryAccessError),
        ("insufficient_scope: authorization failed", RegistryAccessError),
        ("received unexpected HTTP status: 403 No", RegistryAccessError),
        ("StatusCode: 401, <html>", RegistryAccessError),
        ("denied: team/geoffrey is closed", RegistryAccessError),
        (
            "failed to do request: Head: http: server gave HTTP response to HTTPS client",
            RegistryTransportError,
        ),
        ("tls: failed to verify certificate: x509: signed by unknown authority", RegistryTransportError),
        ("dial tcp 127.0.0.1:5999: connect: connection refused", RegistryError),
        ("dial tcp: lookup registry.example.org: no such host", RegistryError),
        ("Head https://r/v2/x/blobs/sha256:ab403cd: dial tcp: connect: connection refused", RegistryError),
        ("Get https://reg:5401/v2/: dial tcp: lookup reg: no such host", RegistryError),
        ("Put https://reg:5401/v2/x: EOF", RegistryError),
        ("Put https://reg:5403/v2/blobs/sha256:401: something that nobody has seen", EngineError),
        ("net/http: request canceled while waiting for connection (i/o timeout)", RegistryError),
        (
            "unexpected status from PUT request to http://r/v2/x?_state=abc: 500 Internal Server Error",
            RegistryServerError,
        ),
        ("received unexpected HTTP status: 507 Insufficient Storage", RegistryServerError),
        ("received unexpected HTTP status: 503 Service Unavailable", RegistryServerError),
        ("unknown: quota exceeded", RegistryServerError),
        ("something that nobody has seen", EngineError),
    ],
)
def test_what_engines_say_is_named(said: str, kind: type[LaunchError]) -> None:
    found = push.refused(PLACE, said)
    assert type(found) is kind
    assert found.why == said.replace("?_state=abc", "")


def remote(**more: Any) -> RemoteImage:
    return RemoteImage(
        **{
            "reference": PLACE.pinned(DIGEST),
            "digest": DIGEST,
            "manifest": DIGEST,
            "config": f"sha256:{'c' * 64}",
            "labels": {},
            "size": 100,
            "media_types": ("application/vnd.oci.image.layer.v1.tar+zstd",),
            "plain_http": False,
            **more,
        }
    )


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """An engine with the cpu target's image, and what the registry has afterwards."""
    made = SimpleNamespace(engine=Engine(), remote=remote(), image=image())
    made.engine.said = [{"status": f"cpu-0123: digest: {DIGEST} size: 1"}]
    monkeypatch.setattr(images, "built", lambda name, base, without: (made.engine, made.image))
    monkeypatch.setattr(registry, "reach", lambda place, **_: None)
    monkeypatch.setattr(registry, "resolve", lambda place, **_: made.remote)
    return made


def pushed() -> shipping.Pushed:
    return shipping.push("cpu", "registry.example.org/team", base=None, without=(), progress=Silent())


def test_what_the_registry_has_is_what_was_pushed(site: SimpleNamespace) -> None:
    assert str(pushed().remote.reference) == f"registry.example.org/team/finetune@{DIGEST}"
    site.image = image(id=site.remote.config)  # as an engine without containerd calls it
    assert pushed().remote.digest == DIGEST


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ({"digest": f"sha256:{'e' * 64}"}, "the engine sent"),
        ({"digest": f"sha256:{'e' * 64}", "manifest": f"sha256:{'e' * 64}"}, "the engine has"),
        ({"labels": {"launch.target": "xpu"}}, "the labels differ"),
    ],
)
def test_another_image_in_the_registry_is_an_error(
    site: SimpleNamespace, more: dict[str, Any], problem: str
) -> None:
    site.remote = remote(**more)
    with pytest.raises(CheckError) as caught:
        pushed()
    assert problem in " ".join(caught.value.problems)


def test_a_wrong_place_is_said_before_an_engine_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "built", lambda *_: pytest.fail("asked"))
    with pytest.raises(UsageError):
        shipping.push("cpu", "team", base=None, without=(), progress=Silent())


# --------------------------------------------------------------------------------------------------- saving
def saved_by(engine: Engine, path: Path, content: bytes, **more: Any) -> FileImage:
    engine.content = [content[at : at + 1000] for at in range(0, len(content), 1000)]
    return save.save(engine, image(**more), path, progress=Silent())  # type: ignore[arg-type]


def test_a_file_and_its_sum_appear_together(tmp_path: Path) -> None:
    content = tar(containerd())
    found = saved_by(Engine(), tmp_path / "image.tar", content, id=f"sha256:{sha256(CONFIG)}")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["image.tar", "image.tar.sha256"]
    assert (tmp_path / "image.tar").read_bytes() == content
    line = (tmp_path / "image.tar.sha256").read_text()
    assert line == f"{hashlib.sha256(content).hexdigest()}  image.tar\n"
    assert found.path == tmp_path / "image.tar"


def broken(error: BaseException) -> Iterator[bytes]:
    yield b"half"
    raise error


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (LostError("gone"), EngineError),
        (APIError("500", explanation="broken"), EngineError),
        (KeyboardInterrupt(), KeyboardInterrupt),
        (OSError(28, "No space left on device"), OSError),
    ],
)
def test_nothing_is_left_of_a_file_that_did_not_come(
    tmp_path: Path, error: BaseException, kind: type[BaseException]
) -> None:
    engine = Engine()
    engine.content = broken(error)
    with pytest.raises(kind):
        save.save(engine, image(), tmp_path / "image.tar", progress=Silent())  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [tar(containerd()), tar(containerd())[:3000], b""])
def test_another_or_a_short_image_gets_no_name(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(CheckError):
        saved_by(Engine(), tmp_path / "image.tar", content)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["image.tar", "image.tar.sha256"])
def test_nothing_is_overwritten(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(OutputError, match="is there already"):
        saved_by(Engine(), tmp_path / "image.tar", b"")
    assert [file.read_text() for file in tmp_path.iterdir()] == ["mine"]


def test_what_came_into_being_meanwhile_stays(tmp_path: Path) -> None:
    content, path = tar(containerd()), tmp_path / "image.tar"
    engine = Engine()

    def during() -> Iterator[bytes]:
        path.write_text("mine")
        yield content

    engine.content = during()
    with pytest.raises(OutputError, match="meanwhile"):
        save.save(engine, image(id=f"sha256:{sha256(CONFIG)}"), path, progress=Silent())  # type: ignore[arg-type]
    assert [file.name for file in tmp_path.iterdir()] == ["image.tar"]
    assert path.read_text() == "mine"


def test_the_room_is_looked_at_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(save.shutil, "disk_usage", lambda _: SimpleNamespace(free=99))
    with pytest.raises(OutputError, match="GB free"):
        saved_by(Engine(), tmp_path / "image.tar", b"")
    with pytest.raises(OutputError, match="is no folder"):
        saved_by(Engine(), tmp_path / "missing" / "image.tar", b"")


# ---------------------------------------------------------------------------------------------- on arrival
def labels(name: str = "cpu", without: str = "") -> dict[str, str]:
    locked = lock.load(paths.images(), manifest.shipped().target(name)).without(without.split())
    return {
        "launch.target": name,
        "launch.lock-digest": f"sha256:{locked.digest}",
        "launch.without": without,
        "launch.build-digest": "sha256:0123456789abcdef",
    }


def test_an_image_is_of_the_lock_that_is_here(site: SimpleNamespace) -> None:
    for having in (labels(), labels(without="wandb")):
        site.remote = remote(labels=having)
        found = shipping.verify(str(PLACE), "cpu", digest=DIGEST, progress=Silent())
        assert found.labels == having


@pytest.mark.parametrize("digest", ["", "index", "manifest", "config"])
def test_what_is_named_is_what_the_digest_vouches_for(site: SimpleNamespace, digest: str) -> None:
    """An index in which the image was found may have other images for others, which nobody compared."""
    index = f"sha256:{'1' * 64}"
    site.remote = remote(labels=labels(), digest=index, reference=PLACE.pinned(index))
    wanted = {"": "", "index": index, "manifest": DIGEST, "config": site.remote.config}[digest]
    found = shipping.verify(str(PLACE), "cpu", digest=wanted, progress=Silent())
    assert isinstance(found, RemoteImage)
    assert found.reference == PLACE.pinned(index if digest in ("", "index") else DIGEST)


@pytest.mark.parametrize(
    ("having", "digest", "problem"),
    [
        ({}, "", "launch.target is missing"),
        (labels("xpu"), "", "launch.target is xpu"),
        (labels() | {"launch.lock-digest": "sha256:5ta1e"}, "", "launch.lock-digest is 5ta1e"),
        (labels() | {"launch.without": "wandb"}, "", "launch.lock-digest"),
        (labels(), f"sha256:{'0' * 64}", "and not sha256:000"),
    ],
)
def test_another_image_is_said_to_be_one(
    site: SimpleNamespace, having: dict[str, str], digest: str, problem: str
) -> None:
    site.remote = remote(labels=having)
    with pytest.raises(CheckError) as caught:
        shipping.verify(str(PLACE), "cpu", digest=digest, progress=Silent())
    assert problem in caught.value.problems[0]


@pytest.mark.parametrize("source", ["./nothing", "/no/such/image.tar", "nothing.tar", ".", "~/x"])
def test_a_file_that_is_not_there_is_no_reference(source: str) -> None:
    with pytest.raises(UsageError, match="is no file"):
        shipping.verify(source, "cpu", progress=Silent())


# ---------------------------------------------------------------------------------------------- conversions
def in_file(tmp_path: Path, *layouts: str, tags: tuple[str, ...] = ("finetune:cpu-0123",)) -> FileImage:
    return FileImage(
        path=tmp_path / "image.tar",
        sha256="",
        size=1,
        layouts=layouts or ("docker-archive", "oci-archive"),
        manifest=DIGEST,
        config=DIGEST,
        digests=frozenset({DIGEST}),
        labels=labels(),
        tags=tags,
    )


OUT = Path("/out/it")


def test_the_commands_from_a_registry() -> None:
    def said(runtime: str, user: str = "", **more: Any) -> str:
        return convert.from_registry(runtime, remote(**more), OUT, user=user).command.printed

    name = "registry.example.org/team/finetune"
    assert said("apptainer") == f"apptainer build /out/it docker://{name}@{DIGEST}"
    assert (
        said("singularity", plain_http=True)
        == f"singularity build --no-https /out/it docker://{name}@{DIGEST}"
    )
    uri = f"docker://registry.example.org#team/finetune:{DIGEST}"
    assert said("enroot") == f"env ENROOT_GZIP_PROGRAM=zstd enroot import --output /out/it '{uri}'"
    gzip = ("application/vnd.docker.image.rootfs.diff.tar.gzip",)
    assert said("enroot", media_types=gzip) == f"enroot import --output /out/it '{uri}'"
    assert said("enroot", user="me", plain_http=True, media_types=gzip) == (
        f"env ENROOT_ALLOW_HTTP=yes enroot import --output /out/it '{uri.replace('://', '://me@')}'"
    )
    hub = reference.parse(f"docker.io/me/finetune@{DIGEST}")
    assert "docker://registry-1.docker.io#me/finetune:sha256" in said("enroot", reference=hub)
    for runtime in ("apptainer", "enroot"):
        assert convert.from_registry(runtime, remote(), OUT).notes
        assert not convert.from_registry(runtime, remote(media_types=gzip), OUT).notes


def test_the_commands_from_a_file(tmp_path: Path) -> None:
    def said(runtime: str, file: FileImage) -> list[str]:
        found = convert.from_file(runtime, file, OUT)
        return [each.printed for each in (*found.before, found.command)]

    path = tmp_path / "image.tar"
    assert said("apptainer", in_file(tmp_path)) == [f"apptainer build /out/it docker-archive:{path}"]
    assert said("apptainer", in_file(tmp_path, "oci-archive")) == [
        f"apptainer build /out/it oci-archive:{path}"
    ]
    assert said("enroot", in_file(tmp_path)) == [
        f"podman load --input {path}",
        "enroot import --output /out/it podman://finetune:cpu-0123",
    ]
    with pytest.raises(UsageError):
        said("enroot", in_file(tmp_path, tags=()))
    with pytest.raises(UsageError, match="cannot be named"):
        said("apptainer", in_file(tmp_path / "a:b"))


def test_the_commands_from_this_engine() -> None:
    def said(runtime: str, *, podman: bool) -> str:
        return convert.from_engine(runtime, "finetune:cpu-0123", OUT, podman=podman).command.printed

    assert said("apptainer", podman=False) == "apptainer build /out/it docker-daemon:finetune:cpu-0123"
    assert said("enroot", podman=False) == "enroot import --output /out/it dockerd://finetune:cpu-0123"
    assert said("enroot", podman=True) == "enroot import --output /out/it podman://finetune:cpu-0123"
    with pytest.raises(UsageError, match="does not read what Podman has"):
        said("apptainer", podman=True)


def test_what_is_converted_is_verified_and_named_by_its_build(
    site: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    site.remote = remote(labels=labels())
    planned = shipping.plan_conversion(str(PLACE), "enroot", None, progress=Silent())
    assert planned.output == tmp_path / "finetune-cpu-0123456789ab.sqsh"
    planned.output.write_text("mine")
    with pytest.raises(OutputError, match="is there already"):
        shipping.plan_conversion(str(PLACE), "enroot", None, progress=Silent())
    site.remote = remote(labels=labels() | {"launch.lock-digest": "sha256:5ta1e"})
    with pytest.raises(CheckError, match="is not the image of cpu"):
        shipping.plan_conversion(str(PLACE), "apptainer", None, progress=Silent())
    site.remote = remote()
    with pytest.raises(CheckError, match="is not the image of any target"):
        shipping.plan_conversion(str(PLACE), "apptainer", None, progress=Silent())


@pytest.mark.parametrize(("source", "runtime"), [(str(PLACE), "apptainer"), ("cpu", "enroot")])
def test_a_user_is_enroots_for_a_registry(site: SimpleNamespace, source: str, runtime: str) -> None:
    with pytest.raises(UsageError, match="--user is for enroot"):
        shipping.plan_conversion(source, runtime, None, user="me", progress=Silent())


def test_an_image_that_is_not_built_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "connect", lambda **_: None)
    monkeypatch.setattr(images.inspect, "find_for", lambda client, what: None)
    with pytest.raises(ImageMissingError, match="is not built"):
        shipping.push("cpu", "registry.example.org/team", base=None, without=(), progress=Silent())
