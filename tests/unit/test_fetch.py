"""Fetching: which file is chosen, from where it comes, and that nothing wrong ever gets into the cache."""

import hashlib
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from packaging.tags import Tag

from launcher import manifest, paths
from launcher.errors import FetchError, ProgramError
from launcher.image import bring, download, fetch, uv, wheels
from launcher.image.wheels import RemoteFile
from launcher.lock import Lock, LockedPackage, TargetLock
from launcher.manifest import Target
from launcher.progress import Silent

HOST = "https://user:secret@index.example"
CONTENT = {name: os.urandom(3_000_000) if name == "big" else f"{name}!".encode() for name in ("big", "small")}


@pytest.fixture
def target(checkout: Path) -> Target:
    return manifest.load(checkout / "images" / "manifest.toml").target("cpu")


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def locked(name: str, content: bytes | None = None) -> LockedPackage:
    data = CONTENT[name] if content is None else content
    return LockedPackage(
        name=name, version="1.0", filename=f"{name}-1.0-py3-none-any.whl", sha256=sha256(data)
    )


def target_lock(*packages: LockedPackage) -> TargetLock:
    layer = Lock(owner="cpu", layer="torch", packages=packages, manifest_digest="0" * 64, tool="uv 1")
    return TargetLock(target="cpu", layers=(layer,), build=None)


def remote(filename: str, *, version: str = "1.0", digest: str = "f" * 64) -> RemoteFile:
    return RemoteFile(
        name="x", version=version, filename=filename, url=f"{HOST}/{filename}", sha256=digest, size=None
    )


def streamed(status: int, content: bytes) -> httpx.Response:
    """An answer whose body is read from the wire (a plain ``content`` counts as read already)."""
    return httpx.Response(status, content=(content[at : at + 65536] for at in range(0, len(content), 65536)))


class Index:
    """A package index: answers with CONTENT, with ranges, and as often wrong as it is told."""

    def __init__(self) -> None:
        self.requests: list[httpx.Request] = []
        self.wrong: dict[str, list[Callable[[], httpx.Response]]] = {}

    def __call__(self, request: httpx.Request) -> httpx.Response:
        name = request.url.path.rsplit("/", 1)[1].split("-")[0]
        if request.method == "HEAD":
            return httpx.Response(200, headers={"Content-Length": str(len(CONTENT[name]))})
        self.requests.append(request)
        if self.wrong.get(name):
            return self.wrong[name].pop(0)()
        start = int(request.headers.get("Range", "bytes=0-")[len("bytes=") : -1])
        if start >= len(CONTENT[name]):
            return httpx.Response(416)
        return streamed(206 if start else 200, CONTENT[name][start:])

    def ranges(self) -> list[str | None]:
        return [request.headers.get("Range") for request in self.requests]


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch) -> Index:
    """An index with all of CONTENT, and a client that reaches nothing else."""
    made = Index()

    def client(**_: object) -> httpx.Client:
        return httpx.Client(transport=httpx.MockTransport(made), follow_redirects=True)

    def offered(packages: Iterable[tuple[str, str]], _: Target) -> list[RemoteFile]:
        return [
            RemoteFile(
                name=name,
                version=version,
                filename=locked(name).filename,
                url=f"{HOST}/files/{locked(name).filename}",
                sha256=sha256(CONTENT[name]),
                size=None,
            )
            for name, version in packages
            if name in CONTENT
        ]

    monkeypatch.setattr(download, "client", client)
    monkeypatch.setattr(wheels, "offered", offered)
    monkeypatch.setattr(download._Transfer, "_sleep", lambda *_: None)
    return made


class Counting(Silent):
    """Adds up what it is told."""

    def __init__(self) -> None:
        self.total: float | None = None
        self.done = 0.0
        self.lines: list[str] = []

    def start(self, task: str, *, total: float | None, unit: str = "steps") -> None:
        assert unit == "bytes"
        self.total = total

    def advance(self, task: str, amount: float) -> None:
        self.done += amount

    def say(self, line: str) -> None:
        self.lines.append(line)


# ---------------------------------------------------------------------------------------------- the way
def test_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:9")
    download.client(jobs=1, certificates=None, addresses=[]).close()
    monkeypatch.setenv("ALL_PROXY", "socks://127.0.0.1:9")
    package = locked(next(iter(CONTENT)))
    target = manifest.load(paths.images() / "manifest.toml").target("cpu")
    with pytest.raises(FetchError, match="proxy"):
        bring.bring({package: Path("x")}, target, progress=Silent(), jobs=1)


# ------------------------------------------------------------------------------------------ the choice


@pytest.mark.parametrize(
    ("filenames", "best"),
    [
        (["x-1.0.tar.gz", "x-1.0-py3-none-any.whl"], 1),
        (["x-1.0-py3-none-any.whl", "x-1.0-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl"], 1),
        (["x-1.0-cp311-cp311-manylinux2014_x86_64.whl", "x-1.0-cp311-cp311-manylinux_2_28_x86_64.whl"], 1),
        (["x-1.0-cp311-cp311-manylinux_2_28_x86_64.whl", "x-1.0-cp311-cp311-manylinux_2_39_x86_64.whl"], 0),
        (["x-1.0-cp39-abi3-manylinux_2_28_x86_64.whl", "x-1.0-cp311-cp311-linux_x86_64.whl"], 1),
        (["x-1.0-cp312-cp312-manylinux_2_28_x86_64.whl", "x-1.0-cp38-abi3-manylinux1_x86_64.whl"], 1),
        (["x-1.0-cp311-cp311-musllinux_1_2_x86_64.whl", "x-1.0.tar.gz"], 1),
        (["x-1.0-cp311-cp311-manylinux_2_28_aarch64.whl", "x-1.0.tar.gz"], 1),
        (["x-1.0-py3-none-any.whl", "x-1.0-2-py3-none-any.whl", "x-1.0-1-py3-none-any.whl"], 1),
        (["x-1.0-cp311-cp311-macosx_11_0_arm64.whl"], None),
        (["x-broken.whl"], None),
        ([], None),
    ],
)
def test_the_most_specific_wheel_for_the_target(
    target: Target, filenames: list[str], best: int | None
) -> None:
    files = [remote(name) for name in filenames]
    expected = None if best is None else files[best]
    assert wheels.choose(files, target) == expected
    assert wheels.choose(files[::-1], target) == expected


def test_what_the_lock_has_is_kept_while_it_is_offered(target: Target) -> None:
    old, new = remote("x-1.0-py3-none-any.whl", digest="1" * 64), remote("x-1.0-cp311-cp311-linux_x86_64.whl")
    kept = LockedPackage(name="x", version="1.0", filename=old.filename, sha256=old.sha256)
    assert wheels.choose([old, new], target, kept=kept) == old
    assert wheels.choose([new], target, kept=kept) == new


def test_tags_are_the_targets_not_this_machines() -> None:
    tags = wheels._tags("3.12", "2.39", "x86_64")
    assert Tag("cp312", "cp312", "manylinux_2_39_x86_64") in tags
    assert Tag("cp312", "cp312", "manylinux_2_40_x86_64") not in tags
    assert Tag("cp311", "abi3", "manylinux2014_x86_64") in tags


def test_what_uv_lists_is_read(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    listing = f"""
[[packages]]
name = "Torch"
version = "2.13.0+cpu"
[[packages.wheels]]
url = "file:///w/torch-2.13.0%2Bcpu-cp311-cp311-linux_x86_64.whl"
hashes = {{ sha256 = "{"1" * 64}" }}
[[packages]]
name = "deepspeed"
version = "0.19.8"
sdist = {{ url = "https://h/deepspeed-0.19.8.tar.gz", size = 5, hashes = {{ sha256 = "{"2" * 64}" }} }}
wheels = [{{ url = "https://h/deepspeed-0.19.8-py3-none-any.whl", hashes = {{ md5 = "3" }} }}]
"""
    asked: list[object] = []

    def compiled(requirements: list[str], *_: object, arguments: list[str]) -> str:
        asked.extend([requirements, arguments])
        return listing

    monkeypatch.setattr(uv, "compile_requirements", compiled)
    first, second = wheels.offered([("torch", "2.13.0+cpu"), ("deepspeed", "0.19.8")], target)
    assert asked == [["torch==2.13.0+cpu", "deepspeed==0.19.8"], ["--no-deps", "--format", "pylock.toml"]]
    assert (first.name, first.filename) == ("torch", "torch-2.13.0+cpu-cp311-cp311-linux_x86_64.whl")
    assert first.size is None
    assert (second.filename, second.size, second.is_wheel) == ("deepspeed-0.19.8.tar.gz", 5, False)


def test_one_name_in_two_versions_takes_two_questions(
    target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A source is built with another setuptools than the one that is installed."""
    asked: list[list[str]] = []
    monkeypatch.setattr(uv, "compile_requirements", lambda wanted, *_, **__: asked.append(wanted) or "")
    wanted = [("a", "1"), ("b", "1"), ("a", "2"), ("a", "1"), ("c", "1")]
    assert wheels.offered(wanted, target) == []
    assert asked == [["a==1", "b==1", "c==1"], ["a==2"]]


# ------------------------------------------------------------------------------------------ bringing


def test_files_come_once_verified_read_only_and_shared(target: Target, index: Index) -> None:
    made = target_lock(locked("big"), locked("small"))
    progress = Counting()
    view = fetch.fetch(target, made, progress=progress)
    assert view.folder == paths.cache() / "views" / f"cpu-{made.digest[:12]}"
    assert (view.files, view.bytes) == (2, sum(map(len, CONTENT.values())))
    assert progress.total == progress.done == view.bytes
    for package in made.packages:
        linked, stored = view.folder / "torch" / package.filename, fetch.cached(package)
        assert linked.read_bytes() == CONTENT[package.name]
        assert linked.samefile(stored)
        assert linked.stat().st_mode & 0o777 == 0o444
    assert not list(paths.cache().rglob("*.part"))
    index.requests.clear()
    assert fetch.fetch(target, made, progress=progress) == view
    assert index.requests == []


def test_a_view_that_lost_a_file_is_made_again(target: Target, index: Index) -> None:
    made = target_lock(locked("small"))
    view = fetch.fetch(target, made, progress=Silent())
    (view.folder / "torch" / locked("small").filename).unlink()
    assert fetch.view(made) is None
    assert fetch.fetch(target, made, progress=Silent()) == view
    assert len(index.requests) == 1
    assert [path.name for path in view.folder.parent.iterdir()] == [view.folder.name]


def test_a_part_is_continued(target: Target, index: Index) -> None:
    package = locked("big")
    part = fetch.cached(package).with_name(f"{package.filename}.part")
    part.parent.mkdir(parents=True)
    part.write_bytes(CONTENT["big"][:1_000_000])
    progress = Counting()
    fetch.fetch(target, target_lock(package), progress=progress)
    assert index.ranges() == ["bytes=1000000-"]
    assert progress.done == progress.total == len(CONTENT["big"])


def test_a_complete_part_needs_no_byte(target: Target, index: Index) -> None:
    package = locked("big")
    part = fetch.cached(package).with_name(f"{package.filename}.part")
    part.parent.mkdir(parents=True)
    part.write_bytes(CONTENT["big"])
    fetch.fetch(target, target_lock(package), progress=Silent())
    assert index.ranges() == [f"bytes={len(CONTENT['big'])}-"]


def test_a_damaged_part_is_fetched_once_more_from_its_beginning(target: Target, index: Index) -> None:
    package = locked("big")
    part = fetch.cached(package).with_name(f"{package.filename}.part")
    part.parent.mkdir(parents=True)
    part.write_bytes(b"?" * 1_000_000)
    progress = Counting()
    view = fetch.fetch(target, target_lock(package), progress=progress)
    assert index.ranges() == ["bytes=1000000-", None]
    assert progress.done == progress.total
    assert (view.folder / "torch" / package.filename).read_bytes() == CONTENT["big"]


def test_a_server_without_ranges_starts_over(target: Target, index: Index) -> None:
    package = locked("big")
    part = fetch.cached(package).with_name(f"{package.filename}.part")
    part.parent.mkdir(parents=True)
    part.write_bytes(CONTENT["big"][:1_000_000])
    index.wrong["big"] = [lambda: streamed(200, CONTENT["big"])]
    progress = Counting()
    fetch.fetch(target, target_lock(package), progress=progress)
    assert len(index.requests) == 1
    assert progress.done == progress.total


def test_a_broken_connection_is_taken_up_where_it_broke(target: Target, index: Index) -> None:
    def half() -> httpx.Response:
        def body() -> Iterator[bytes]:
            yield CONTENT["big"][:2_000_000]
            raise httpx.ReadError("connection reset")

        return httpx.Response(200, content=body())

    index.wrong["big"] = [half, lambda: httpx.Response(503)]
    progress = Counting()
    fetch.fetch(target, target_lock(locked("big")), progress=progress)
    assert len(index.requests) == 3
    assert index.ranges()[-1] is not None
    assert progress.done == progress.total == len(CONTENT["big"])


def test_another_file_is_refused_and_all_problems_come_at_once(target: Target, index: Index) -> None:
    other = b"something else"
    index.wrong = {
        "big": [lambda: streamed(200, other)] * 2,
        "small": [lambda: httpx.Response(404)],
    }
    missing = locked("gone", b"never published")
    with pytest.raises(FetchError) as caught:
        fetch.fetch(target, target_lock(locked("big"), missing, locked("small")), progress=Silent())
    found = sorted(caught.value.problems)
    assert len(found) == 3
    assert sha256(other) in found[0]
    assert found[1] == "gone 1.0, gone-1.0-py3-none-any.whl: the package index has no file of this hash"
    assert "HTTP 404" in found[2]
    assert "index.example" not in str(found)
    assert "secret" not in str(found)
    assert not list(paths.cache().rglob("*.whl"))
    assert not (paths.cache() / "views").exists()


def test_what_came_before_a_problem_stays(target: Target, index: Index) -> None:
    index.wrong["small"] = [lambda: httpx.Response(404)]
    made = target_lock(locked("big"), locked("small"))
    with pytest.raises(FetchError):
        fetch.fetch(target, made, progress=Silent())
    index.requests.clear()
    fetch.fetch(target, made, progress=Silent())
    assert [request.url.path for request in index.requests] == [f"/files/{locked('small').filename}"]


def test_an_index_that_does_not_answer(target: Target, index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    def offered(*_: object) -> list[RemoteFile]:
        raise ProgramError("uv pip failed", output="error: no route\n  cause: https://…/simple")

    monkeypatch.setattr(wheels, "offered", offered)
    with pytest.raises(FetchError, match="cannot say where") as caught:
        fetch.fetch(target, target_lock(locked("small")), progress=Silent())
    assert caught.value.problems[0] == "error: no route"


def test_a_file_put_into_the_cache_by_hand_is_verified_and_taken(target: Target, index: Index) -> None:
    folder = paths.cache() / "wheels"
    folder.mkdir(parents=True)
    (folder / locked("big").filename).write_bytes(CONTENT["big"])
    (folder / locked("small").filename).write_bytes(b"not it")
    progress = Counting()
    fetch.fetch(target, target_lock(locked("big"), locked("small")), progress=progress)
    assert [request.url.path for request in index.requests] == [f"/files/{locked('small').filename}"]
    assert len(progress.lines) == 1
    assert "not taken: small 1.0" in progress.lines[0]


def test_a_find_links_folder_serves_without_an_index(
    target: Target, index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    links = tmp_path / "links"
    links.mkdir()
    (links / locked("small").filename).write_bytes(CONTENT["small"])
    monkeypatch.setenv("PIP_FIND_LINKS", str(links))
    fetch.fetch(target, target_lock(locked("small")), progress=Silent())
    assert index.requests == []
    (links / locked("small").filename).chmod(0o600)  # the user's file stays the user's own
    assert fetch.cached(locked("small")).stat().st_mode & 0o777 == 0o444


def test_a_wheel_of_the_manifest_comes_from_its_address_when_no_index_has_it(
    target: Target, index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    (wheel,) = target.wheels
    monkeypatch.setitem(CONTENT, "torch", b"tensors")
    package = LockedPackage(
        name="torch", version=wheel.version, filename=wheel.filename, sha256=sha256(b"tensors")
    )

    def offered(*_: object) -> list[RemoteFile]:
        raise ProgramError("uv pip failed", output="no such version")

    monkeypatch.setattr(wheels, "offered", offered)
    fetch.fetch(target, target_lock(package), progress=Silent())
    assert [str(request.url) for request in index.requests] == [wheel.url]

    index.wrong["torch"] = [lambda: httpx.Response(403)] * 2
    fetch.cached(package).unlink()
    (fetch.view(target_lock(package)) or pytest.fail("no view")).folder.joinpath(
        "torch", wheel.filename
    ).unlink()
    with pytest.raises(FetchError) as caught:
        fetch.fetch(target, target_lock(package), progress=Silent())
    assert f"download {wheel.url} by other means into {paths.cache() / 'wheels'}" in caught.value.hint
    assert "--without" not in caught.value.hint
    with pytest.raises(FetchError) as caught:
        fetch.fetch(replace(target, optional=("torch",)), target_lock(package), progress=Silent())
    assert caught.value.hint.endswith("; or go on without: --without torch")


def test_a_full_disk_is_said_before_it_is_full(
    target: Target, index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("launcher.image.bring.shutil.disk_usage", lambda _: type("Usage", (), {"free": 10}))
    with pytest.raises(FetchError, match="disk is too small"):
        fetch.fetch(target, target_lock(locked("big")), progress=Silent())
    assert index.requests == []


def test_stopping_keeps_the_part(index: Index) -> None:
    stop = threading.Event()
    package = locked("big")
    place = fetch.cached(package)

    def advance(amount: float) -> None:
        if amount:
            stop.set()

    with httpx.Client(transport=httpx.MockTransport(index)) as http, pytest.raises(download.Cancelled):
        download.download(
            http, f"{HOST}/{package.filename}", place, package.sha256, advance=advance, stop=stop
        )
    part = place.with_name(f"{place.name}.part")
    assert not place.exists()
    assert CONTENT["big"].startswith(part.read_bytes())
    assert part.stat().st_size > 0


def test_credentials_go_to_the_users_own_hosts_only(tmp_path: Path) -> None:
    home = Path(os.environ["HOME"])
    home.mkdir(parents=True)
    (home / ".netrc").write_text("machine files.example login me password mine\n", encoding="utf-8")
    (home / ".netrc").chmod(0o600)
    auth = download._Credentials(["https://a%40b:c%2Fd@index.example/simple", "https://open.example/simple"])

    def header(url: str) -> str:
        return str(next(auth.auth_flow(httpx.Request("GET", url))).headers.get("Authorization", ""))

    assert httpx.BasicAuth("a@b", "c/d")._auth_header == header("https://index.example/x.whl")
    assert httpx.BasicAuth("me", "mine")._auth_header == header("https://files.example/x.whl")
    assert header("https://open.example/x.whl") == ""


def test_hosts_are_left_out_of_what_is_said() -> None:
    said = uv.masked("cannot reach https://user:pass@pypi.corp.example:8443/simple/torch/ or `http://h`")
    assert said == "cannot reach https://…/simple/torch/ or `http://…`"
