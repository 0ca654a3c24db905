"""User-mode drivers: .deb files that the manifest names, in a lock of their own, left out as one."""

import threading
from dataclasses import replace
from pathlib import Path

import pytest

from launcher import dockerfile, lock, manifest
from launcher.app import place
from launcher.errors import FetchError, ImageMissingError, ManifestError
from launcher.image import bring, environment, fetch, uv
from launcher.lock import Lock, TargetLock
from launcher.manifest import Target
from launcher.progress import Silent


@pytest.fixture
def xpu() -> Target:
    return manifest.shipped().target("xpu")


@pytest.fixture
def locked(checkout: Path, xpu: Target) -> TargetLock:
    return lock.load(checkout / "images", xpu)


def test_the_lock_is_what_the_manifest_names(xpu: Target, locked: TargetLock) -> None:
    assert locked.drivers is not None
    assert locked.locks[-1] is locked.drivers
    assert [each.filename for each in locked.drivers.packages] == sorted(d.filename for d in xpu.drivers)
    assert {"libze1", "libze-intel-gpu1", "intel-opencl-icd", "intel-ocloc"} <= {d.name for d in xpu.drivers}
    assert all("%" not in driver.filename and driver.licence for driver in xpu.drivers)
    assert locked.package("libze1") is None  # nothing of site-packages
    assert lock.parse(lock.render(locked.drivers)) == locked.drivers


def test_a_lock_of_other_drivers_is_stale(checkout: Path, tmp_path: Path, xpu: Target) -> None:
    known = manifest.shipped()
    (tmp_path / "locks").mkdir()
    for name in lock.file_names(xpu):
        text = (checkout / "images" / "locks" / name).read_text()
        (tmp_path / "locks" / name).write_text(text)
    assert lock.stale(tmp_path, known, ["xpu"]) == []
    newer = replace(xpu, drivers=(replace(xpu.drivers[0], sha256="0" * 64), *xpu.drivers[1:]))
    changed = replace(known, targets=tuple(newer if t.name == "xpu" else t for t in known.targets))
    assert lock.stale(tmp_path, changed, ["xpu"]) == [
        "xpu.drivers.txt: not the files that the manifest names"
    ]


def test_one_name_leaves_all_of_them_out(locked: TargetLock) -> None:
    without = locked.without(["drivers"])
    assert without.left_out == ("drivers",)
    assert without.drivers is not None
    assert without.drivers.packages == ()
    assert without.layers == locked.layers
    assert without.digest != locked.digest
    both = without.without(["torch", "drivers"])
    assert both.left_out == ("drivers", "torch")
    no_drivers = replace(locked, drivers=None)
    assert no_drivers.without(["drivers"]) is no_drivers


def test_another_driver_is_another_image(xpu: Target) -> None:
    newer = replace(xpu, drivers=(replace(xpu.drivers[0], version="99"), *xpu.drivers[1:]))
    assert dockerfile.target_digest(newer) != dockerfile.target_digest(xpu)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('name = "kernels"', 'name = "drivers"', "the name 'drivers' is taken by the user-mode drivers"),
        ("libze1_1.28.6%2Bu24.04_amd64.deb", "libze1.rpm", "targets.xpu.drivers.7.url"),
        ('name = "libze1"', 'name = "libze1; rm -rf /"', "targets.xpu.drivers.7.name"),
    ],
)
def test_a_manifest_that_cannot_be(checkout: Path, old: str, new: str, said: str) -> None:
    text = (checkout / "images" / "manifest.toml").read_text()
    assert old in text
    with pytest.raises(ManifestError) as caught:
        manifest.parse(text.replace(old, new))
    assert any(said in problem for problem in caught.value.problems)


def test_drivers_are_optional_only_where_there_are_some(checkout: Path) -> None:
    text = (checkout / "images" / "manifest.toml").read_text()
    with pytest.raises(ManifestError, match="not valid") as caught:
        manifest.parse(text.replace('optional = ["flash-attn"', 'optional = ["flash-attn", "drivers"'))
    assert caught.value.problems[0] == "targets.cuda.optional: drivers is optional, and no layer pins it"


def test_what_does_not_come_is_named_with_the_way_out(
    xpu: Target, locked: TargetLock, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The address is the manifest's, and no index is asked for a .deb."""
    assert locked.drivers is not None
    monkeypatch.setattr(uv, "places", tuple)
    asked: list[str] = []

    def downloaded(http: object, url: str, *_: object, stop: threading.Event, **__: object) -> None:
        asked.append(url)
        raise OSError("the network is unreachable")

    monkeypatch.setattr("launcher.image.download.download", downloaded)
    monkeypatch.setattr("launcher.image.download.size", lambda *_: 1)
    missing = {package: tmp_path / package.filename for package in locked.drivers.packages}
    with pytest.raises(FetchError) as caught:
        bring.bring(missing, xpu, progress=Silent(), jobs=1)
    assert sorted(asked) == sorted(driver.url for driver in xpu.drivers)
    assert caught.value.hint.endswith("or go on without: --without drivers")


def test_an_environment_needs_none(xpu: Target, locked: TargetLock, monkeypatch: pytest.MonkeyPatch) -> None:
    """There they are the machine's own."""

    class Enough(Exception):  # noqa: N818 - no error
        pass

    def fetched(target: Target, target_lock: TargetLock, **_: object) -> None:
        assert target_lock.drivers is None
        assert target_lock.layers == locked.layers
        raise Enough

    monkeypatch.setattr(environment, "_create", lambda *_: None)
    monkeypatch.setattr(fetch, "fetch", fetched)
    with pytest.raises(Enough):
        environment.ensure(xpu, locked, progress=Silent())


def test_nothing_is_trained_without_torch_or_drivers(xpu: Target, locked: TargetLock) -> None:
    place._refuse_unfinished(xpu, locked.without(["torchvision"]))
    for name in ("torch", "drivers"):
        with pytest.raises(ImageMissingError, match=f"made without {name}") as caught:
            place._refuse_unfinished(xpu, locked.without([name]))
        assert "launch image fetch xpu" in caught.value.hint
    environment_alone = locked.without(["drivers"]).for_environment()
    place._refuse_unfinished(xpu, environment_alone)


def test_drivers_do_not_name_an_environment(locked: TargetLock) -> None:
    assert environment.folder(locked) == environment.folder(locked.without(["drivers"]))
    assert locked.for_environment() == locked.without(["drivers"]).for_environment()
    assert locked.without(["drivers", "torch"]).for_environment().left_out == ("torch",)


def test_a_target_without_any_has_no_such_lock(checkout: Path) -> None:
    cpu = lock.load(checkout / "images", manifest.shipped().target("cpu"))
    assert cpu.drivers is None
    assert all(isinstance(each, Lock) and each.layer != "drivers" for each in cpu.locks)
