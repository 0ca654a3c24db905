"""Builds without network on a real engine: the same image as with one, and what a wheelhouse may lack."""

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from launcher import manifest, paths, process, settings
from launcher.app import images, locks
from launcher.app.images import BuildReport
from launcher.errors import FetchError
from launcher.image import build as builds
from launcher.image import inputs, inspect, system, wheelhouse
from launcher.image.inputs import Inputs
from launcher.progress import Silent
from tests.integration.conftest import Launch
from tests.integration.project import MANIFEST, Project

pytestmark = pytest.mark.engine

UPPER = "tiny_upper-1.0-py3-none-any.whl"

#: The upper package is optional, and only at an address where nothing answers.
OUT_OF_REACH = """
[[targets.tiny.wheels]]
name = "tiny-upper"
version = "1.0"
url = "https://127.0.0.1:9/{file}"
sha256 = "{sha256}"
requires = []
evidence = "made up"
"""


@pytest.fixture
def announced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The programs that are started."""
    found: list[str] = []
    monkeypatch.setattr(process, "announce", found.append)
    return found


def pack(what: Inputs, wheels: Path, place: Path, engine: Any) -> None:
    """The wheelhouse of a target whose files are here, system packages included."""
    wheelhouse.make(
        wheelhouse.goal(place, what.target, what.lock, base=what.base, system=True),
        wheelhouse.View(target=what.target.name, folder=wheels, files=0, bytes=0),
        download=lambda folder: system.download(
            engine, what.target, what.base, folder, secrets=(), progress=Silent()
        ),
        progress=Silent(),
    )


def verified(what: Inputs, place: Path, engine: Any) -> wheelhouse.Files:
    """The wheelhouse, compared with the lock and with the base that the engine has."""
    chain_id = system.chain_id(engine, what.base)
    assert chain_id
    return wheelhouse.verified(
        place, what.target, what.lock, base=what.base, chain_id=chain_id, progress=Silent()
    )


def test_the_same_image_with_and_without_network(
    project: Project, engine: Any, tmp_path: Path, announced: list[str]
) -> None:
    if builds.builder(engine).unreproducible:
        pytest.skip("this engine's images carry the clock")
    what = project.inputs()
    pack(what, project.wheels, tmp_path / "carried", engine)
    with_network = builds.build(engine, what, project.wheels, no_cache=True, progress=Silent())
    assert "--network" not in announced[-2]
    files = verified(what, tmp_path / "carried", engine)
    shutil.rmtree(project.wheels)
    without = builds.build(engine, what, files.wheels, system=files.system, no_cache=True, progress=Silent())
    (command,) = [line for line in announced if "--build-context system=" in line]
    assert "--network none" in command
    assert "system packages" in without.run
    assert without.digest == with_network.digest


def test_a_package_that_apt_does_not_know_is_refused(project: Project, engine: Any, tmp_path: Path) -> None:
    """Also where nobody has verified the folder, as with Docker alone."""
    what = project.inputs()
    pack(what, project.wheels, tmp_path / "carried", engine)
    folder = tmp_path / "carried" / "tiny" / "system"
    (deb,) = folder.glob("python3_*.deb")
    deb.write_bytes(deb.read_bytes()[:-1] + b"?")
    with pytest.raises(builds.BuildError, match="system packages failed") as caught:
        builds.build(engine, what, folder.parent, system=folder, progress=Silent())
    assert "SHA256" in caught.value.why


def test_secrets_reach_apt_and_no_password_comes_back(project: Project, engine: Any, tmp_path: Path) -> None:
    what, sources = project.inputs(), tmp_path / "my sources.list"
    sources.write_text("deb http://user:secret@127.0.0.1:9/debian bookworm main\n")
    (tmp_path / "debs").mkdir()
    with pytest.raises(FetchError) as caught:
        system.download(
            engine, what.target, what.base, tmp_path / "debs", progress=Silent(),
            secrets=[f"id=apt-sources,src={sources}"],
        )  # fmt: skip
    said = "\n".join(caught.value.problems)
    assert "Failed to fetch http://…/debian/" in said
    assert "secret" not in said
    assert leftovers(engine) == []


def test_apt_that_does_not_end_is_stopped(
    project: Project, engine: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(system, "_SCRIPT", "sleep 600")
    monkeypatch.setattr(system, "_LIMIT_S", 2)
    what = project.inputs()
    with pytest.raises(FetchError) as caught:
        system.download(engine, what.target, what.base, tmp_path, secrets=(), progress=Silent())
    assert caught.value.problems == ("not done after 2 s",)
    assert leftovers(engine) == []


def leftovers(engine: Any) -> list[Any]:
    """Containers of system packages that were not removed."""
    return list(
        engine.containers.list(all=True, filters={"label": "launch.target=tiny"}, ignore_removed=True)
    )


def test_another_image_under_the_bases_name_is_refused(
    reach: "Build", project: Project, tmp_path: Path, engine: Any
) -> None:
    """A new Debian under the same tag, say: its packages are others."""
    carry(tmp_path / "carried", project.base, "tiny-upper")
    first = reach(without=("tiny-upper",), carried=tmp_path / "carried").image
    other = "finetune-tiny-other-base:1"
    engine.images.get(first.reference).tag(other)
    try:
        project.base = other
        with pytest.raises(FetchError) as caught:
            reach(without=("tiny-upper",), carried=tmp_path / "carried")
    finally:
        engine.images.remove(other)
    assert len(caught.value.problems) == 1
    assert f"{other} is another image" in caught.value.problems[0]


Build = Callable[..., BuildReport]


class Told(Silent):
    """What a reader is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


@pytest.fixture
def reach(project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Build:
    """A checkout whose lower package is in the cache, and whose upper one nobody can reach; its build."""
    project.inputs()
    wheel = project.wheels / "upper" / UPPER
    text = MANIFEST.format(lower="1.0", upper="1.0", zeros="0" * 64)
    text = text.replace("checks = []", 'checks = []\noptional = ["tiny-upper"]')
    text += OUT_OF_REACH.format(file=UPPER, sha256=hashlib.sha256(wheel.read_bytes()).hexdigest())
    (project.images / "manifest.toml").write_text(text)
    (tmp_path / "pyproject.toml").touch()
    monkeypatch.setattr(paths, "assets", lambda: tmp_path)
    monkeypatch.setenv("LAUNCH_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("UV_OFFLINE", "1")  # the index is not asked for names that it never had
    images.render([], check=False)
    (paths.cache() / "wheels").mkdir(parents=True)
    shutil.copy(next((project.wheels / "lower").iterdir()), paths.cache() / "wheels")

    def build(
        *, without: tuple[str, ...] = (), carried: Path | None = None, progress: Silent | None = None
    ) -> BuildReport:
        return images.build(
            "tiny",
            base=project.base,
            without=without,
            no_cache=False,
            verify=False,
            secrets=(),
            carried=carried,
            progress=progress or Silent(),
        )

    return build


def carry(place: Path, base: str, *without: str) -> None:
    locks.carry(
        ["tiny"], to=place, base=base, without=without, system=True, secrets=(), jobs=1, progress=Silent()
    )


def test_a_wheel_out_of_reach_by_hand_or_left_out(
    reach: Build, project: Project, tmp_path: Path, engine: Any
) -> None:
    by_hand = paths.cache() / "wheels" / UPPER
    with pytest.raises(FetchError) as caught:
        carry(tmp_path / "carried", project.base)
    assert str(by_hand.parent) in caught.value.hint
    assert f"127.0.0.1:9/{UPPER}" in caught.value.hint
    assert not (tmp_path / "carried").exists()

    carry(tmp_path / "carried", project.base, "tiny-upper")
    partial = reach(without=("tiny-upper",), carried=tmp_path / "carried").image
    assert partial.left_out == ("tiny-upper",)
    with pytest.raises(FetchError) as caught:
        reach(carried=tmp_path / "carried")
    assert caught.value.problems == (f"upper/{UPPER}: missing",)

    by_hand.write_bytes(b"a wheel of the right name")
    told = Told()
    with pytest.raises(FetchError):
        reach(progress=told)
    (line,) = told.lines
    assert line.startswith(f"not taken: tiny-upper 1.0, {UPPER}: another file is there")

    shutil.copy(project.wheels / "upper" / UPPER, by_hand)
    carry(tmp_path / "carried", project.base)
    whole = reach(carried=tmp_path / "carried").image
    assert whole.left_out == ()
    command = ["python", "-c", "import tiny_lower, tiny_upper; print(tiny_upper.VERSION)"]
    assert engine.containers.run(whole.reference, command, remove=True) == b"1.0\n"

    carried = tmp_path / "carried" / "tiny" / "upper" / UPPER
    carried.unlink()  # not through the link, which the cache shares
    carried.write_bytes(b"another wheel")
    with pytest.raises(FetchError) as caught:  # also while the engine has the image
        reach(carried=tmp_path / "carried")
    assert f"upper/{UPPER}: another file" in caught.value.problems[0]


@pytest.mark.usefixtures("image")
def test_cpu_without_network(launch: Launch, engine: Any, tmp_path: Path, announced: list[str]) -> None:
    """From its wheelhouse, with the same system packages, and the same bits where the engine can do that.

    Steps that an earlier run of this test built come from the cache.
    """
    done = launch("image", "fetch", "cpu", "--to", tmp_path / "carried", "--system")
    assert done.code == 0, done.err
    known = manifest.shipped()
    base = settings.load().base.value
    what = inputs.load(paths.images(), known.target("cpu"), base=base)
    files = verified(what, tmp_path / "carried", engine)
    described = wheelhouse.read(files.wheels).system
    assert described is not None
    carried = {f"{each.name} {each.version}" for each in described.packages}
    if not carried <= installed(engine, what):  # Debian has moved since that image was built
        builds.build(engine, what, files.wheels, no_cache=True, progress=Silent())
    with_network = inspect.find(engine, what.reference)
    assert with_network is not None
    assert carried <= installed(engine, what)
    announced.clear()
    built = builds.build(engine, what, files.wheels, system=files.system, progress=Silent())
    (command,) = [line for line in announced if line.startswith("docker buildx build")]
    assert "--network none" in command
    assert carried <= installed(engine, what)
    assert built.digest == ("" if builds.builder(engine).unreproducible else with_network.id)


def installed(engine: Any, what: Inputs) -> set[str]:
    """The system packages of a target's image, each with its version."""
    say = ["dpkg-query", "--show", "--showformat", "${Package} ${Version}\n"]
    return set(engine.containers.run(what.reference, say, remove=True).decode().splitlines())
