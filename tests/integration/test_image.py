"""Images on a real engine: built, the same bit for bit, rebuilt only where a lock changed, checked, listed.

The mechanics are shown on a target of two tiny packages made here; the cpu image is built once, and checked.
"""

import base64
import hashlib
import json
import os
import shutil
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest

from launcher import lock, manifest
from launcher.errors import BuildError
from launcher.image import build as builds
from launcher.image import compare, inputs, inspect
from launcher.lock import Lock, LockedPackage
from launcher.progress import Silent
from tests.integration.conftest import Launch

pytestmark = pytest.mark.engine

MANIFEST = """
schema = 1
[targets.tiny]
summary = {{ en = "Two tiny packages", zh = "两个小包" }}
platform = "linux/amd64"
python = "3.11"
glibc = "2.36"
system_packages = ["python3"]
checks = []
[targets.tiny.base]
image = "docker.io/library/debian"
tag = "bookworm-20260824-slim"
digest = "sha256:{zeros}"
evidence = "made up; every test names another base"
[[targets.tiny.layers]]
name = "lower"
pins = ["tiny-lower=={lower}"]
[[targets.tiny.layers]]
name = "upper"
pins = ["tiny-upper=={upper}"]
"""


@pytest.fixture(scope="module")
def base(engine: Any) -> str:
    """A base image with Debian's packages: the one that the caller's settings name, or the stand-in."""
    name = os.environ.get("LAUNCH_BASE", "finetune-base:bookworm")
    if inspect.find(engine, name) is None:
        pytest.skip(f"no base image {name}; tests/support/base-image.sh makes one")
    return name


def _wheel(folder: Path, name: str, version: str) -> LockedPackage:
    """A wheel of one module, the same bytes every time."""
    folder.mkdir(parents=True, exist_ok=True)
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}/__init__.py": f'VERSION = "{version}"\nNAMES = {{"a", "b", "c"}}\n',
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }

    def digest(text: str) -> str:
        return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=")

    record = "".join(f"{path},sha256={digest(text)},{len(text)}\n" for path, text in files.items())
    files[f"{info}/RECORD"] = record + f"{info}/RECORD,,\n"
    wheel = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, text in files.items():
            archive.writestr(zipfile.ZipInfo(path, (2020, 1, 1, 0, 0, 0)), text)
    sha256 = hashlib.sha256(wheel.read_bytes()).hexdigest()
    return LockedPackage(name=name.replace("_", "-"), version=version, filename=wheel.name, sha256=sha256)


class Project:
    """A folder images/ of its own, with one target of two layers."""

    def __init__(self, folder: Path, checkout: Path, base: str) -> None:
        self.images, self.wheels, self.base = folder / "images", folder / "wheels", base
        self.images.mkdir()
        for name in (inputs.TEMPLATE, *inputs.TOOLS):
            shutil.copyfile(checkout / "images" / name, self.images / name)

    def inputs(self, *, lower: str = "1.0", upper: str = "1.0") -> inputs.Inputs:
        """Write manifest, wheels, locks and Dockerfile for these versions."""
        text = MANIFEST.format(lower=lower, upper=upper, zeros="0" * 64)
        target = manifest.parse(text).target("tiny")
        digest = manifest.lock_inputs_digest((target,))
        (self.images / "locks").mkdir(exist_ok=True)
        (self.images / "tiny").mkdir(exist_ok=True)
        shutil.rmtree(self.wheels, ignore_errors=True)
        for layer, version in (("lower", lower), ("upper", upper)):
            package = _wheel(self.wheels / layer, f"tiny_{layer}", version)
            made = Lock(
                owner="tiny", layer=layer, packages=(package,), manifest_digest=digest, tool="uv 0, tests"
            )
            (self.images / "locks" / made.file_name).write_text(lock.render(made))
        locked = lock.load(self.images, target)
        (self.images / "tiny" / "Dockerfile").write_text(inputs.rendered(self.images, target, locked))
        return inputs.load(self.images, target, base=self.base)


@pytest.fixture
def project(tmp_path: Path, checkout: Path, base: str, engine: Any) -> Any:
    yield Project(tmp_path, checkout, base)
    for image in engine.images.list(filters={"label": "launch.target=tiny"}):
        engine.images.remove(image.id, force=True)


def test_a_changed_pin_rebuilds_its_layer_alone(project: Project, engine: Any) -> None:
    first = project.inputs()
    builds.build(engine, first, project.wheels, progress=Silent())
    new = f"2.0.{time.time_ns()}"  # the engine's build cache remembers earlier runs of this test
    second = project.inputs(upper=new)
    done = builds.build(engine, second, project.wheels, progress=Silent())
    assert second.reference != first.reference
    assert done.run[0] == "layer upper"
    assert set(done.cached) >= {"system packages", "layer lower"}
    command = ["python", "-c", "import tiny_lower, tiny_upper; print(tiny_lower.VERSION, tiny_upper.VERSION)"]
    for what, said in ((first, b"1.0 1.0\n"), (second, f"1.0 {new}\n".encode())):
        assert engine.containers.run(what.reference, command, remove=True, user="4711:4711") == said
    alias = engine.images.get("finetune:tiny")
    assert alias.id == engine.images.get(second.reference).id
    one = compare.first_difference(engine, first.reference, second.reference)
    assert "tiny_upper" in one


def test_two_builds_are_the_same_bit_for_bit(project: Project, engine: Any) -> None:
    what = project.inputs()
    done = builds.build(engine, what, project.wheels, progress=Silent())
    if builds.builder(engine).unreproducible:
        pytest.skip("this engine's images carry the clock")
    assert builds.verify(engine, what, project.wheels, progress=Silent()) == done.digest
    image = inspect.find(engine, what.reference)
    assert image is not None
    assert image.id == done.digest
    assert image.reproducible
    assert image.labels["launch.base-stand-in"] == "true"
    assert image.lock_digest == what.lock.digest


def test_nothing_of_the_build_stays_in_the_image(project: Project, engine: Any) -> None:
    what = project.inputs()
    builds.build(engine, what, project.wheels, progress=Silent())
    script = (
        "ls -A /mnt /var/lib/apt/lists /var/log /tmp /locks /opt/uv-cache 2>/dev/null"
        " | grep -v ':$' | grep .;"
        "find / -xdev -perm -o+w ! -type l ! -perm -1000 ! -path '/proc/*' ! -path '/dev/*' -print;"
        "find / -xdev -name 'uv_cache.json' -o -xdev -name direct_url.json -o -xdev -name uv;"
        "find / -xdev ! -readable -path '/opt/*' -print; true"
    )
    said = engine.containers.run(what.reference, ["bash", "-c", script], remove=True, network_mode="none")
    assert said.decode() == ""


def test_a_wrong_file_fails_the_build_and_leaves_nothing(
    project: Project, engine: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAUNCH_CACHE_DIR", str(tmp_path / "cache"))
    what = project.inputs(upper="3.0")
    (wheel,) = (project.wheels / "upper").iterdir()
    with zipfile.ZipFile(wheel, "a") as archive:
        archive.comment = b"still a good wheel, but not the locked one"
    with pytest.raises(BuildError, match="layer upper failed") as caught:
        builds.build(engine, what, project.wheels, progress=Silent())
    assert "Hash mismatch" in caught.value.why
    assert inspect.find(engine, what.reference) is None
    assert list((tmp_path / "cache").glob("build-*")) == []


def test_a_base_out_of_reach_is_named(project: Project, engine: Any) -> None:
    project.base = "finetune-no-such-base:1"
    with pytest.raises(BuildError) as caught:
        builds.build(engine, project.inputs(), project.wheels, progress=Silent())
    assert "finetune-no-such-base:1" in caught.value.hint


def test_missing_buildx_says_what_to_install(
    engine: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BuildError, match="the docker command is missing") as caught:
        builds.builder(engine)
    assert "docker-buildx-plugin" in caught.value.hint


@pytest.mark.usefixtures("image")
def test_cpu_is_built_only_once(launch: Launch) -> None:
    begin = time.monotonic()
    done = launch("image", "build", "cpu", "--json")
    taken = time.monotonic() - begin
    assert done.code == 0, done.err
    result = json.loads(done.out)
    assert result["built"] is False
    assert result["labels"]["launch.target"] == "cpu"
    assert taken < 10  # about a second; the goal of 2 is measured by tests/bench/build.py, on a quiet machine
    assert result["bytes"] <= 1.55e9


@pytest.mark.usefixtures("image")
def test_cpu_passes_its_checks(launch: Launch) -> None:
    done = launch("image", "check", "cpu", "--json")
    assert done.code == 0, done.err + done.out
    outcomes = {each["check"]: each for each in json.loads(done.out)["checks"]}
    assert {name: each["status"] for name, each in outcomes.items()} == dict.fromkeys(
        ("imports", "versions", "owners", "train-m3"), "ok"
    )


@pytest.mark.usefixtures("image")
def test_list_shows_what_is_built(launch: Launch) -> None:
    done = launch("image", "list", "--json")
    assert done.code == 0, done.err
    rows = {row["target"]: row for row in json.loads(done.out)["targets"]}
    assert set(rows) == {"cpu", "cuda", "cuda-vllm", "xpu"}
    assert rows["cpu"]["built"] is True
    assert rows["cpu"]["id"].startswith("sha256:")
