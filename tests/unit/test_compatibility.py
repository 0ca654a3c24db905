"""launcher.compatibility: what people may write, and whether the shipped rows hold for manifest and locks."""

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from launcher import compatibility, lock, manifest, paths
from launcher.compatibility import Compatibility, Pair
from launcher.errors import ManifestError

TARGETS = manifest.shipped().targets
SHIPPED = compatibility.shipped()


def installed(name: str) -> dict[str, str]:
    locked = lock.load(paths.images(), manifest.shipped().target(name))
    return {package.name: package.version for package in locked.packages}


# ------------------------------------------------------------------------------ the shipped rows
@pytest.mark.parametrize("target", [each.name for each in TARGETS])
def test_every_lock_goes_together(target: str) -> None:
    assert SHIPPED.contradictions(installed(target)) == ()


def test_every_row_is_about_a_lock() -> None:
    """A row that no lock can break is dead: its package was renamed, or moved beyond its versions."""
    locks = [installed(each.name) for each in TARGETS]
    for pair in SHIPPED.pairs:
        if (pair.package, pair.versions) == ("peft", ">=0.19"):
            continue  # it is what keeps peft below: see the next test
        other = canonicalize_name(Requirement(pair.needs).name)
        both = [each for each in locks if {pair.package, other} <= each.keys()]
        alone = Pair(package=pair.package, versions=pair.versions, needs=f"{other}==0", why="x", source="x")
        assert any(Compatibility(pairs=(alone,)).contradictions(each) for each in both), pair
    for kernels in SHIPPED.kernels:
        assert any(dict(SHIPPED.least(each)).get(kernels.package) for each in locks), kernels


@pytest.mark.parametrize(
    ("target", "package", "version"),
    [
        ("cuda", "peft", "0.21.2"),
        ("cuda", "transformers", "5.0.0"),
        ("cuda", "transformers", "4.55.0"),
        ("cuda", "torch", "2.9.0"),
        ("cuda", "nvidia-cuda-runtime-cu12", "12.9.79"),
        ("cuda-vllm", "transformers", "5.1.0"),
        ("xpu", "transformers", "4.57.6"),
        ("xpu", "peft", "0.19.0"),
        ("cpu", "transformers", "5.0.0"),
    ],
)
def test_a_pin_that_moves_too_far_is_found(target: str, package: str, version: str) -> None:
    versions = installed(target)
    assert package in versions
    found = SHIPPED.contradictions({**versions, package: version})
    assert found
    assert any(version in line for line in found)


def test_the_manifest_agrees() -> None:
    """What the manifest says of CUDA and of kernels is what the table says."""
    nvidia = [target for target in TARGETS if target.devices.kind == "nvidia"]
    assert nvidia
    for target in nvidia:
        versions = installed(target.name)
        assert SHIPPED.toolkit(target.devices.cuda) is not None
        assert versions["nvidia-cuda-runtime-cu12"].startswith(f"{target.devices.cuda}.")
        least = dict(SHIPPED.least(versions))
        assert dict(target.devices.minimum).items() <= least.items()
        oldest = min(int(name.split("_")[1]) for name in target.devices.architectures)
        beyond = {name for name, each in least.items() if round(float(each) * 10) > oldest}
        assert beyond == dict(target.devices.minimum).keys(), "a package needs more than torch: the manifest"


def test_families_do_not_hide_each_other() -> None:
    """The first that fits counts, so a family must not begin like one before it."""
    for at, family in enumerate(SHIPPED.families):
        for before in SHIPPED.families[:at]:
            assert not any(each.startswith(before.ids) for each in family.ids)
    assert all(each.source for each in SHIPPED.families)


# ------------------------------------------------------------------------------ what may be written
ROW = '[[packages]]\npackage = "a"\nversions = ">=1"\nneeds = "b<2"\nwhy = "w"\nsource = "s"\n'


def test_what_is_compared() -> None:
    table = compatibility.parse(f"schema = 1\n{ROW}")
    assert table.contradictions({"a": "1.0", "b": "2.0"}) == ("a 1.0 needs b<2, not 2.0: w",)
    for fine in ({"a": "1.0", "b": "1.9"}, {"a": "0.9", "b": "2.0"}, {"a": "1.0"}, {"b": "2.0"}, {}):
        assert table.contradictions(fine) == ()
    assert table.contradictions({"a": "2.0+cpu", "b": "3rc1"})


@pytest.mark.parametrize(
    ("change", "key"),
    [
        (('"b<2"', '"b"'), "packages.0.needs"),
        (('">=1"', '"one"'), "packages.0.versions"),
        (('package = "a"', 'package = "A_b"'), "packages.0.package"),
        (('source = "s"\n', ""), "packages.0.source"),
        (('why = "w"', 'because = "w"'), "packages.0.because"),
    ],
)
def test_problems_name_their_key(change: tuple[str, str], key: str) -> None:
    with pytest.raises(ManifestError) as caught:
        compatibility.parse(f"schema = 1\n{ROW.replace(*change)}")
    assert any(problem.startswith(key) for problem in caught.value.problems)


@pytest.mark.parametrize("content", [b"schema = 2", b"schema = ", b"\xff", None])
def test_what_is_no_table(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "compatibility.toml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ManifestError) as caught:
        compatibility.load(file)
    assert caught.value.problems


@given(text=st.text(max_size=80))
def test_any_text_is_a_table_or_a_named_error(text: str) -> None:
    for each in (text, f"schema = 1\n{ROW.replace('>=1', text)}", f"schema = 1\n{ROW.replace('b<2', text)}"):
        with suppress(ManifestError):
            compatibility.parse(each).contradictions({"a": "1", "b": "1"})
