"""Wheelhouses: what their description says, how they are filled and completed, and what a build refuses."""

import hashlib
import io
import json
import os
import shutil
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner
from docker.errors import APIError, ImageNotFound
from hypothesis import given
from hypothesis import strategies as st
from requests.exceptions import ChunkedEncodingError, ConnectionError, RequestException

from launcher import manifest, wheelhouse
from launcher.app import images as use_cases
from launcher.app import locks
from launcher.cli import root
from launcher.errors import EngineError, FetchError, LaunchError, UsageError
from launcher.image import client, fetch, system
from launcher.image import wheelhouse as wheelhouses
from launcher.image.fetch import View
from launcher.lock import BUILD, Lock, LockedPackage, TargetLock
from launcher.manifest import Target
from launcher.progress import Silent
from launcher.wheelhouse import File, System, SystemPackage, Wheelhouse

BASE = "base:1"

#: The OCI chain ID of an image of one layer is the layer's own.
CHAIN = "sha256:1"


@pytest.fixture
def target(checkout: Path) -> Target:
    return manifest.load(checkout / "images" / "manifest.toml").target("cuda")


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def package(name: str, content: bytes = b"") -> LockedPackage:
    return LockedPackage(
        name=name,
        version="1.0",
        filename=f"{name}-1.0-py3-none-any.whl",
        sha256=sha256(content or name.encode()),
    )


def layer(name: str, *packages: LockedPackage) -> Lock:
    return Lock(owner="cuda", layer=name, packages=packages, manifest_digest="0" * 64, tool="uv 1")


LOCK = TargetLock(
    target="cuda",
    layers=(layer("torch", package("torch"), package("sympy")), layer("kernels", package("flash-attn"))),
    build=layer(BUILD, package("setuptools")),
)


def view(folder: Path, lock: TargetLock) -> View:
    """A cache's view of a lock whose files hold their packages' names."""
    for part in lock.locks:
        (folder / part.layer).mkdir(parents=True, exist_ok=True)
        for each in part.packages:
            file = folder / part.layer / each.filename
            if not file.exists():  # never through a hard link
                file.write_bytes(each.name.encode())
    return View(target=lock.target, folder=folder, files=4, bytes=1)


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def download(folder: Path) -> System:
    """What a container brings: one package and its index."""
    (folder / "gcc_12_amd64.deb").write_bytes(b"deb")
    block = "Package: gcc\nVersion: 4:12\nArchitecture: amd64\nFilename: ./gcc_12_amd64.deb\n"
    (folder / wheelhouse.INDEX).write_text(f"{block}Size: 3\nSHA256: {sha256(b'deb')}\n\n")
    return system.described(folder, base=BASE, chain_id=CHAIN, target=replace_packages("gcc"))


def replace_packages(*names: str) -> Target:
    found = manifest.load(Path(__file__).parents[2] / "images" / "manifest.toml").target("cuda")
    return replace(found, system_packages=names)


def make(
    place: Path,
    cache: Path,
    lock: TargetLock = LOCK,
    *,
    left_out: tuple[str, ...] = (),
    base: str = BASE,
    packages: bool = False,
) -> View:
    goal = wheelhouses.goal(
        place, replace_packages("gcc"), lock, left_out=left_out, base=base, system=packages
    )
    return wheelhouses.make(
        goal,
        view(cache, lock.without(left_out)),
        download=download if packages else None,
        progress=Silent(),
    )


# ------------------------------------------------------------------------------------- the description


names = st.from_regex(r"[a-z0-9][a-z0-9._+~-]{0,20}", fullmatch=True)
paths = st.builds("{}/{}".format, st.from_regex(r"[a-z][a-z0-9-]{0,9}", fullmatch=True), names)
hashes = st.from_regex(r"[0-9a-f]{64}", fullmatch=True)
files = st.builds(File, path=paths, bytes=st.integers(0, 2**40), sha256=hashes)
debs = st.builds(
    SystemPackage,
    path=names.map("system/{}".format),
    bytes=st.integers(0, 2**40),
    sha256=hashes,
    name=names,
    version=names,
    architecture=st.sampled_from(["amd64", "all"]),
)


@given(
    st.builds(
        Wheelhouse,
        schema_version=st.just(1),
        target=names,
        lock_digest=hashes,
        left_out=st.lists(names).map(tuple),
        base=st.text(),
        files=st.lists(files).map(tuple),
        system=st.none()
        | st.builds(
            System,
            base=st.text(),
            chain_id=st.text(),
            requested=st.lists(names).map(tuple),
            packages=st.lists(debs).map(tuple),
            lists=st.lists(files).map(tuple),
        ),
    )
)
def test_a_description_comes_back(made: Wheelhouse) -> None:
    text = wheelhouse.render(made)
    assert wheelhouse.parse(text, source="x") == made
    assert json.loads(text)["schema"] == 1


@given(st.text())
def test_what_is_no_description_is_refused(text: str) -> None:
    with pytest.raises(FetchError, match="does not describe a wheelhouse"):
        wheelhouse.parse(text, source="wheelhouse.json")


@pytest.mark.parametrize("path", ["../x", "a/../b", "/etc/passwd", "a/b/c", "a/.hidden", "a/", "a/\nb"])
def test_no_path_leads_out_of_the_folder(path: str) -> None:
    made = {
        "schema": 1,
        "target": "cpu",
        "lock_digest": "0" * 64,
        "left_out": [],
        "base": "b",
        "system": None,
    }
    file = {"path": path, "bytes": 1, "sha256": "0" * 64}
    with pytest.raises(FetchError) as caught:
        wheelhouse.parse(json.dumps({**made, "files": [file]}), source="x")
    assert caught.value.problems[0].startswith("files.0.path")


def test_every_problem_of_a_description_is_named() -> None:
    with pytest.raises(FetchError) as caught:
        wheelhouse.parse('{"schema": 2, "more": 1}', source="x")
    assert {problem.split(":")[0] for problem in caught.value.problems} >= {
        "schema",
        "more",
        "target",
        "files",
    }


INDEX = """Package: gcc
Version: 4:12.2.0-3
Architecture: amd64
Description: GNU C compiler
 a second line
Filename: ./gcc_12.2.0-3_amd64.deb
Size: 16776
SHA256: {}

"""


def test_aptss_index_is_read() -> None:
    (found,) = wheelhouse.system_packages(INDEX.format("1" * 64))
    assert (found.name, found.version, found.architecture) == ("gcc", "4:12.2.0-3", "amd64")
    assert (found.path, found.bytes, found.sha256) == ("system/gcc_12.2.0-3_amd64.deb", 16776, "1" * 64)
    assert wheelhouse.system_packages("") == ()


@given(st.lists(debs, unique_by=lambda package: package.path))
def test_an_index_comes_back(packages: list[SystemPackage]) -> None:
    text = "".join(
        f"Package: {each.name}\nVersion: {each.version}\nArchitecture: {each.architecture}\n"
        f"Filename: ./{each.path.removeprefix('system/')}\nSize: {each.bytes}\nSHA256: {each.sha256}\n\n"
        for each in packages
    )
    assert set(wheelhouse.system_packages(text)) == set(packages)


def test_all_blocks_that_are_not_whole_are_named() -> None:
    text = INDEX.format("not a hash") + INDEX.format("1" * 64) + "Package: half\nSize: 1\n"
    with pytest.raises(FetchError) as caught:
        wheelhouse.system_packages(text)
    assert [problem.split(":")[0] for problem in caught.value.problems] == ["gcc", "half"]


# ------------------------------------------------------------------------------------------- making


def test_a_wheelhouse_has_a_views_shape_and_says_what_it_holds(tmp_path: Path) -> None:
    place, cache = tmp_path / "place", tmp_path / "view"
    made = make(place, cache)
    assert made == View(
        target="cuda", folder=place / "cuda", files=4, bytes=len("torchsympyflash-attnsetuptools")
    )
    assert {
        path: data for path, data in content(place / "cuda").items() if path != wheelhouse.FILE
    } == content(cache)
    described = wheelhouses.read(place / "cuda")
    assert {file.path: file.sha256 for file in described.files} == wheelhouse.wanted(LOCK)
    assert (described.lock_digest, described.left_out, described.base) == (LOCK.digest, (), BASE)
    assert described.system is None
    linked = place / "cuda" / "torch" / package("torch").filename
    assert linked.samefile(cache / "torch" / linked.name)
    assert [path.name for path in place.iterdir()] == ["cuda"]


def test_another_file_system_gets_copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def link(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", link)
    made = make(tmp_path / "place", tmp_path / "view")
    copied = made.folder / "torch" / package("torch").filename
    assert copied.read_bytes() == b"torch"
    assert not copied.samefile(tmp_path / "view" / "torch" / copied.name)


def test_targets_share_their_files(tmp_path: Path) -> None:
    make(tmp_path / "place", tmp_path / "one")
    lock = replace(LOCK, target="cuda-vllm", layers=(*LOCK.layers, layer("vllm", package("vllm"))))
    goal = wheelhouses.goal(
        tmp_path / "place", replace(replace_packages(), name="cuda-vllm"), lock, base=BASE, system=False
    )
    wheelhouses.make(goal, view(tmp_path / "two", lock), progress=Silent())
    one, two = (
        tmp_path / "place" / name / "torch" / package("torch").filename for name in ("cuda", "cuda-vllm")
    )
    assert one.samefile(two)
    assert not two.samefile(tmp_path / "two" / "torch" / two.name)


def test_made_twice_is_made_once(tmp_path: Path) -> None:
    made = make(tmp_path / "place", tmp_path / "view")
    before = {path: path.stat().st_mtime_ns for path in made.folder.rglob("*") if path.is_file()}
    assert make(tmp_path / "place", tmp_path / "view") == made
    before.pop(made.folder / wheelhouse.FILE)  # the same text, written again
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_what_is_missing_is_added(tmp_path: Path) -> None:
    folder = make(tmp_path / "place", tmp_path / "view", left_out=("flash-attn",)).folder
    assert wheelhouses.read(folder).left_out == ("flash-attn",)
    assert (folder / "kernels").is_dir()  # an image build mounts every layer's folder
    (folder / "torch" / package("sympy").filename).unlink()
    make(tmp_path / "place", tmp_path / "view")
    assert wheelhouses.read(folder).left_out == ()
    assert content(folder).keys() == {*wheelhouse.wanted(LOCK), wheelhouse.FILE}
    make(tmp_path / "place", tmp_path / "other", left_out=("flash-attn",))  # less: what is there stays
    assert wheelhouses.read(folder).lock_digest == LOCK.digest
    assert wheelhouses.read(folder).left_out == ()


def test_what_was_left_out_at_different_times_adds_up(tmp_path: Path) -> None:
    make(tmp_path / "place", tmp_path / "one", left_out=("flash-attn",))
    folder = make(tmp_path / "place", tmp_path / "two", left_out=("sympy",)).folder
    described = wheelhouses.read(folder)
    assert (described.lock_digest, described.left_out) == (LOCK.digest, ())
    assert content(folder).keys() == {*wheelhouse.wanted(LOCK), wheelhouse.FILE}


def test_the_description_names_the_base_of_the_last_time(tmp_path: Path) -> None:
    make(tmp_path / "place", tmp_path / "view")
    folder = make(tmp_path / "place", tmp_path / "view", base="base:2").folder
    assert wheelhouses.read(folder).base == "base:2"


def test_a_file_that_is_lost_and_left_out_is_no_silence(tmp_path: Path) -> None:
    folder = make(tmp_path / "place", tmp_path / "view").folder
    lost = folder / "kernels" / package("flash-attn").filename
    lost.unlink()
    before = content(folder)
    with pytest.raises(FetchError, match="has lost files") as caught:
        make(tmp_path / "place", tmp_path / "other", left_out=("flash-attn",))
    assert caught.value.problems == (f"kernels/{lost.name}: missing",)
    assert content(folder) == before


def test_system_packages_may_come_later(tmp_path: Path) -> None:
    make(tmp_path / "place", tmp_path / "view")
    made = make(tmp_path / "place", tmp_path / "view", packages=True)
    described = wheelhouses.read(made.folder)
    assert described.system is not None
    assert (described.system.base, described.system.chain_id) == (BASE, CHAIN)
    assert [each.version for each in described.system.packages] == ["4:12"]
    assert (made.folder / "system" / "sources.list").read_text() == "deb [trusted=yes] file:/mnt/system ./\n"
    assert made.files == 4 + 3
    assert make(tmp_path / "place", tmp_path / "view", packages=True) == made
    with pytest.raises(UsageError, match="other system packages") as caught:
        make(tmp_path / "place", tmp_path / "view", base="base:2", packages=True)
    assert BASE in caught.value.why
    with pytest.raises(UsageError, match="other system packages") as caught:  # also when none are asked for
        make(tmp_path / "place", tmp_path / "view", base="base:2")
    assert f"--base {BASE}" in caught.value.hint
    (made.folder / "system" / "gcc_12_amd64.deb").unlink()
    with pytest.raises(UsageError, match="other system packages") as caught:
        make(tmp_path / "place", tmp_path / "view", packages=True)
    assert caught.value.why == "without system/gcc_12_amd64.deb"


def test_another_locks_files_are_not_mixed_in(tmp_path: Path) -> None:
    folder = make(tmp_path / "place", tmp_path / "view").folder
    before = content(folder)
    other = replace(LOCK, layers=(layer("torch", package("torch", b"torch 2")), LOCK.layers[1]))
    with pytest.raises(UsageError, match="files of another lock") as caught:
        make(tmp_path / "place", tmp_path / "other", other)
    assert LOCK.digest[:12] in caught.value.why
    assert content(folder) == before


@pytest.mark.parametrize("occupied", ["file", "folder", "cuda"])
def test_a_folder_of_something_else_is_refused(tmp_path: Path, occupied: str) -> None:
    place = tmp_path / "place"
    place.mkdir()
    (place / occupied).mkdir() if occupied != "file" else (place / occupied).touch()
    with pytest.raises(UsageError, match="neither empty nor a folder of wheelhouses") as caught:
        make(place, tmp_path / "view")
    assert occupied in caught.value.why
    assert [path.name for path in place.iterdir()] == [occupied]


def test_a_file_is_no_place(tmp_path: Path) -> None:
    (tmp_path / "place").touch()
    with pytest.raises(UsageError, match="not a folder"):
        make(tmp_path / "place", tmp_path / "view")


def test_a_failure_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(fetch, "link", full)
    with pytest.raises(FetchError, match="cannot be made") as caught:
        make(tmp_path / "place", tmp_path / "view")
    assert "No space left" in caught.value.problems[0]
    assert list((tmp_path / "place").iterdir()) == []


# -------------------------------------------------------------------------------------- verifying


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A whole wheelhouse of copies, so that a test may damage them."""
    linked = make(tmp_path / "linked", tmp_path / "view", packages=True)
    return Path(shutil.copytree(linked.folder.parent, tmp_path / "copied"))


def verify(
    place: Path, lock: TargetLock = LOCK, *names: str, base: str = BASE, chain_id: str = CHAIN
) -> wheelhouses.Files:
    target = replace_packages(*(names or ("gcc",)))
    return wheelhouses.verified(place, target, lock, base=base, chain_id=chain_id, progress=Silent())


def test_a_whole_one_is_taken(made: Path) -> None:
    assert verify(made) == wheelhouses.Files(wheels=made / "cuda", system=made / "cuda" / "system")


def test_without_system_packages_they_come_from_the_network(tmp_path: Path) -> None:
    make(tmp_path / "place", tmp_path / "view")
    files = verify(tmp_path / "place")
    assert files.system is None
    (note,) = files.notes
    assert "from the network" in note


def test_another_base_than_that_of_the_system_packages(made: Path) -> None:
    assert verify(made, base="carried:1").notes == ()  # another name of the same image
    (made / "cuda" / "torch" / package("sympy").filename).unlink()
    with pytest.raises(FetchError) as caught:
        verify(made, base="base:2", chain_id="sha256:2")
    assert caught.value.problems[1:] == (f"system/: for {BASE}; base:2 is another image",)
    assert "--system --base base:2" in caught.value.hint


def test_a_base_that_is_not_there_yet_is_noted(made: Path) -> None:
    (note,) = verify(made, chain_id="").notes
    assert f"does not have {BASE} yet" in note


def test_all_that_is_wrong_comes_at_once(made: Path) -> None:
    (made / "cuda" / "torch" / package("sympy").filename).unlink()
    (made / "cuda" / "kernels" / package("flash-attn").filename).write_bytes(b"evil")
    (made / "cuda" / "system" / "gcc_12_amd64.deb").write_bytes(b"evil")
    (made / "cuda" / "system" / "sources.list").write_bytes(b"deb elsewhere")
    with pytest.raises(FetchError, match="not have what the image of cuda is made of") as caught:
        verify(made, LOCK, "gcc", "g++")
    assert [problem.split(",")[0] for problem in caught.value.problems] == [
        f"torch/{package('sympy').filename}: missing",
        f"kernels/{package('flash-attn').filename}: another file",
        "system/gcc_12_amd64.deb: another file",
        "system/sources.list: another file",
        "system/: no g++",
    ]
    assert sha256(b"evil") in caught.value.problems[1]


def test_what_is_left_out_may_be_absent(made: Path) -> None:
    (made / "cuda" / "kernels" / package("flash-attn").filename).unlink()
    assert verify(made, LOCK.without(["flash-attn"])).wheels == made / "cuda"


def test_the_checkouts_lock_decides_not_the_description(made: Path) -> None:
    other = replace(LOCK, layers=(layer("torch", package("torch", b"torch 2")), LOCK.layers[1]))
    with pytest.raises(FetchError) as caught:
        verify(made, other)
    assert len(caught.value.problems) == 1
    assert "torch-1.0" in caught.value.problems[0]


def test_a_folder_without_description_is_none(made: Path, tmp_path: Path) -> None:
    (made / "cuda" / wheelhouse.FILE).unlink()
    with pytest.raises(FetchError, match="not a wheelhouse") as caught:
        verify(made)
    assert f"--to {made}" in caught.value.hint
    with pytest.raises(FetchError, match="not a wheelhouse"):
        verify(tmp_path / "nowhere")


# ------------------------------------------------------------------------------ the container of apt


def test_the_container_is_the_bases_own_apt_and_sees_secrets_as_files(target: Target, tmp_path: Path) -> None:
    (tmp_path / "list").write_text("deb https://user:secret@mirror/ x main")
    engine: Any = Engine(100)
    with pytest.raises(FetchError):
        download_with(engine, tmp_path, f"id=apt-sources,src={tmp_path / 'list'}")
    with tarfile.open(fileobj=io.BytesIO(engine.sent["/"])) as tar:
        (entry,) = tar.getmembers()
        assert entry.name == "run/secrets/apt-sources"
        found = tar.extractfile(entry)
        assert found is not None
        assert found.read() == b"deb https://user:secret@mirror/ x main"
    request = system.request(target)
    assert "volumes" not in request  # the engine may be on another machine
    assert request["command"][-len(target.system_packages) :] == list(target.system_packages)


@pytest.mark.parametrize("secret", ["id=ca", "id=ca,src=/nowhere", "id=other,src=/etc/hostname", "ca", ""])
def test_a_secret_that_cannot_be_read(secret: str) -> None:
    with pytest.raises(UsageError, match="cannot be used"):
        system._archive([secret])


def test_the_dockerfile_mounts_what_the_sources_name(checkout: Path) -> None:
    template = (checkout / "images" / "Dockerfile.j2").read_text()
    assert f"from=system,target={wheelhouse.MOUNT}" in template
    assert f"{wheelhouse.MOUNT}/{wheelhouse.SOURCES}" in template
    layers = {
        layer.name
        for target in manifest.load(checkout / "images" / "manifest.toml").targets
        for layer in target.layers
    }
    assert wheelhouse.SYSTEM not in layers


def test_a_package_that_came_damaged(tmp_path: Path, target: Target) -> None:
    folder = tmp_path / "system"
    folder.mkdir()
    (folder / "gcc_12.2.0-3_amd64.deb").write_bytes(b"half")
    (folder / wheelhouse.INDEX).write_text(INDEX.format("1" * 64))
    with pytest.raises(FetchError, match="damaged") as caught:
        system.described(folder, base=BASE, chain_id=CHAIN, target=target)
    assert caught.value.problems == ("system/gcc_12.2.0-3_amd64.deb: not what apt's index says",)


class Engine:
    """An engine with the base, whose containers end as they are told."""

    def __init__(self, code: int, archive: Path | None = None) -> None:
        self.code, self.archive, self.removed = code, archive, 0
        self.sent: dict[str, bytes] = {}
        self.said = b"Reading package lists\nE: Unable to locate package gcc\n"
        self.image: Any = SimpleNamespace(id="sha256:0", attrs={"RootFS": {"Layers": [CHAIN]}})
        self.images = SimpleNamespace(get=lambda _: self.image)
        self.containers = SimpleNamespace(create=lambda *_, **__: self)

    def put_archive(self, path: str, data: bytes) -> bool:
        self.sent[path] = data
        return True

    def start(self) -> None: ...

    def wait(self, **_: object) -> dict[str, int]:
        return {"StatusCode": self.code}

    def logs(self) -> bytes:
        return self.said

    def get_archive(self, path: str) -> tuple[Iterator[bytes], dict[str, Any]]:
        assert path == "/system"
        assert self.archive is not None
        return iter([self.archive.read_bytes()]), {}

    def remove(self, **_: object) -> None:
        self.removed += 1


def download_with(engine: Any, folder: Path, *secrets: str) -> System:
    return system.download(engine, replace_packages("gcc"), BASE, folder, secrets=secrets, progress=Silent())


def test_apts_complaint_is_passed_on(tmp_path: Path) -> None:
    engine: Any = Engine(100)
    with pytest.raises(FetchError) as caught:
        download_with(engine, tmp_path)
    assert caught.value.problems[-1] == "E: Unable to locate package gcc"
    assert "apt-sources" in caught.value.hint
    assert engine.removed == 1
    assert engine.sent == {}


def test_no_password_of_a_source_is_passed_on(tmp_path: Path) -> None:
    engine: Any = Engine(100)
    engine.said = b"E: Failed to fetch https://user:secret@mirror/debian/x.deb  401  Unauthorized\n"
    with pytest.raises(FetchError) as caught:
        download_with(engine, tmp_path)
    assert caught.value.problems == ("E: Failed to fetch https://…/debian/x.deb  401  Unauthorized",)


@pytest.mark.parametrize(("limit", "error"), [(0, FetchError), (1800, EngineError)])
def test_a_wait_that_ends_without_an_answer(
    limit: int, error: type[LaunchError], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Too long, or the engine is gone: the HTTP client raises the same; no disk is blamed for it."""
    monkeypatch.setattr(system, "_LIMIT_S", limit)
    engine: Any = Engine(0)

    def silent(**_: object) -> None:
        raise ConnectionError("UnixHTTPConnectionPool(host='localhost', port=None): Read timed out.")

    engine.wait = silent
    goal = wheelhouses.goal(tmp_path / "place", replace_packages("gcc"), LOCK, base=BASE, system=True)
    with pytest.raises(error) as caught:
        wheelhouses.make(
            goal,
            view(tmp_path / "view", LOCK),
            download=lambda folder: download_with(engine, folder),
            progress=Silent(),
        )
    if isinstance(caught.value, FetchError):
        assert caught.value.problems == ("not done after 0 s",)
    else:
        assert "the engine was lost" in caught.value.message
        assert "Read timed out" in caught.value.why
    assert engine.removed == 1


@pytest.mark.parametrize("error", [ConnectionError("gone"), ChunkedEncodingError("gone")])
def test_an_engine_that_is_lost_while_it_sends(error: RequestException, tmp_path: Path) -> None:
    engine: Any = Engine(0)

    def pieces(_: str) -> tuple[Iterator[bytes], dict[str, Any]]:
        def sent() -> Iterator[bytes]:
            yield b"half"
            raise error

        return sent(), {}

    engine.get_archive = pieces
    with pytest.raises(EngineError, match="the engine was lost"):
        download_with(engine, tmp_path)
    assert engine.removed == 1


def test_an_images_chain_is_that_of_its_layers() -> None:
    engine: Any = Engine(0)
    assert system.chain_id(engine, BASE) == CHAIN
    engine.image.attrs["RootFS"]["Layers"].append("sha256:2")
    chained = hashlib.sha256(f"{CHAIN} sha256:2".encode()).hexdigest()
    assert system.chain_id(engine, BASE) == f"sha256:{chained}"

    def missing(_: str) -> None:
        raise ImageNotFound("no such image")

    def lost(_: str) -> None:
        raise ConnectionError("gone")

    engine.images.get = missing
    assert system.chain_id(engine, BASE) == ""
    engine.images.get = lost
    with pytest.raises(EngineError, match="cannot say"):
        system.chain_id(engine, BASE)


def test_a_base_that_is_not_there_is_pulled(target: Target) -> None:
    asked: list[object] = []

    def get(_: str) -> None:
        raise ImageNotFound("no such image")

    def pull(name: str, *, platform: str) -> str:
        asked.append((name, platform))
        if name == "nowhere:1":
            raise APIError("manifest unknown")
        return "the image"

    engine: Any = SimpleNamespace(images=SimpleNamespace(get=get, pull=pull))
    pulled: object = system._image(engine, BASE, target)
    assert pulled == "the image"
    with pytest.raises(EngineError, match="cannot have the base nowhere:1") as caught:
        system._image(engine, "nowhere:1", target)
    assert "manifest unknown" in caught.value.why
    assert "--base" in caught.value.hint
    assert asked == [(BASE, "linux/amd64"), ("nowhere:1", "linux/amd64")]


def test_what_the_container_made_is_unpacked_by_last_name(tmp_path: Path) -> None:
    source, folder = tmp_path / "x" / "system", tmp_path / "place" / "system"
    source.mkdir(parents=True)
    folder.mkdir(parents=True)
    download(source)
    archive = Path(shutil.make_archive(str(tmp_path / "sent"), "tar", source.parent))
    engine: Any = Engine(0, archive)
    made = system.download(engine, replace_packages("gcc"), BASE, folder, secrets=(), progress=Silent())
    assert made == download(source)
    assert content(folder) == content(source)


# ------------------------------------------------------------------------------------- the use cases


@pytest.fixture
def cached(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> TargetLock:
    """A cache that has LOCK's files, and nothing that could download."""
    monkeypatch.setattr("launcher.lock.load", lambda *_: LOCK)
    monkeypatch.setattr(fetch, "fetch", lambda _, lock, **__: view(tmp_path / "view" / lock.digest[:9], lock))
    return LOCK


def test_the_verb_makes_it(cached: TargetLock, tmp_path: Path) -> None:
    place = tmp_path / "place"
    done = CliRunner().invoke(root, ["image", "fetch", "cuda", "--to", str(place), "--json"])
    assert done.exit_code == 0, done.output
    (row,) = json.loads(done.stdout)["views"]
    assert (row["folder"], row["files"]) == (str(place / "cuda"), 4)
    described = wheelhouses.read(place / "cuda")
    assert described.base == manifest.shipped().target("cuda").base.reference


def test_system_packages_need_a_folder_and_an_engine(
    cached: TargetLock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = CliRunner().invoke(root, ["image", "fetch", "cuda", "--system"])
    assert isinstance(done.exception, UsageError)
    assert "--to" in done.exception.message
    done = CliRunner().invoke(root, ["image", "fetch", "cuda", "--secret", "id=ca,src=x", "--to", "y"])
    assert isinstance(done.exception, UsageError)
    assert "--system" in done.exception.message

    def connect(**_: object) -> None:
        raise EngineError("no container engine answers")

    monkeypatch.setattr(client, "connect", connect)
    with pytest.raises(EngineError):
        locks.carry(
            ["cuda"], to=tmp_path / "place", base=None, without=(), system=True, secrets=(), jobs=1,
            progress=Silent(),
        )  # fmt: skip
    assert not (tmp_path / "place").exists()


@pytest.mark.parametrize("conflict", ["lock", "base"])
def test_what_does_not_fit_is_refused_before_anything_is_downloaded(
    cached: TargetLock, conflict: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = replace(LOCK, layers=(layer("torch", package("torch", b"torch 2")), LOCK.layers[1]))
    there = other if conflict == "lock" else LOCK
    make(tmp_path / "place", tmp_path / "other", there, packages=conflict == "base")

    def fetched(*_: object, **__: object) -> View:
        raise AssertionError("fetched")

    monkeypatch.setattr(fetch, "fetch", fetched)
    with pytest.raises(UsageError, match="another lock" if conflict == "lock" else "other system packages"):
        locks.carry(
            ["cpu", "cuda"], to=tmp_path / "place", base="base:2", without=(), system=False, secrets=(),
            jobs=1, progress=Silent(),
        )  # fmt: skip


@dataclass
class Build:
    """The use case on an engine that is told whether it has the image; what was built, and said."""

    patch: pytest.MonkeyPatch
    there: bool
    built: list[tuple[Path, Path | None]] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)

    def __call__(self, carried: Path, layers: tuple[str, ...] = (CHAIN,)) -> None:
        engine: Any = Engine(0)
        engine.image.attrs["RootFS"]["Layers"] = list(layers)
        what = SimpleNamespace(
            target=replace_packages("gcc"), lock=LOCK, base=BASE, reference="finetune:cuda-0"
        )
        progress = Silent()
        self.patch.setattr(progress, "say", self.lines.append)
        for name, value in {
            "sources": lambda *_: what,
            "connect": lambda **_: engine,
            "inputs": SimpleNamespace(require_fresh=lambda _: None),
            "inspect": SimpleNamespace(find=lambda *_: "image" if self.there or self.built else None),
            "fetch": None,
            "builds": SimpleNamespace(build=self._build, point=lambda *_: None),
        }.items():
            self.patch.setattr(use_cases, name, value)
        use_cases.build(
            "cuda", base=None, without=(), no_cache=False, verify=False, secrets=(), carried=carried,
            progress=progress,
        )  # fmt: skip

    def _build(self, _: object, __: object, wheels: Path, *, system: Path | None, **___: object) -> Any:
        self.built.append((wheels, system))
        return SimpleNamespace(cached=(), run=())


def test_a_build_takes_the_folder_and_fetches_nothing(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build = Build(monkeypatch, there=False)
    build(made)
    assert build.built == [(made / "cuda", made / "cuda" / "system")]
    assert build.lines == []


def test_a_build_says_that_apt_uses_the_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path / "place", tmp_path / "view")
    build = Build(monkeypatch, there=False)
    build(tmp_path / "place")
    assert build.built == [(tmp_path / "place" / "cuda", None)]
    (line,) = build.lines
    assert "apt fetches them from the network" in line


def test_a_folder_is_verified_also_when_there_is_nothing_to_build(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = Build(monkeypatch, there=True)
    build(made)
    assert build.built == []
    (made / "cuda" / "torch" / package("sympy").filename).unlink()
    with pytest.raises(FetchError) as caught:
        build(made, layers=("sha256:2",))
    assert [problem.split(":")[0] for problem in caught.value.problems] == [
        f"torch/{package('sympy').filename}",
        "system/",
    ]
