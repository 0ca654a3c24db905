"""Locks: their text, their digest, their layers, and what `--check` finds without network."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from packaging.utils import parse_sdist_filename, parse_wheel_filename

from launcher import lock, manifest
from launcher.cli import root
from launcher.errors import LockError, UsageError
from launcher.lock import Lock, LockedPackage, TargetLock

NAMES = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?", fullmatch=True).filter(
    lambda name: "--" not in name
)
VERSIONS = st.from_regex(r"[0-9]{1,3}(\.[0-9]{1,3}){0,2}(\.post[0-9])?(\+[a-z]{1,4})?", fullmatch=True)
HASHES = st.from_regex(r"[0-9a-f]{64}", fullmatch=True)


def package(name: str, version: str = "1.0", sha256: str = "a" * 64) -> LockedPackage:
    return LockedPackage(
        name=name, version=version, filename=f"{name}-{version}-py3-none-any.whl", sha256=sha256
    )


PACKAGES = st.builds(package, NAMES, VERSIONS, HASHES)
LOCKS = st.builds(
    lambda packages, digest: Lock(
        owner="cpu",
        layer="torch",
        packages=tuple(sorted(packages, key=lambda each: each.name)),
        manifest_digest=digest,
        tool="uv 1.2.3, Python 3.11",
    ),
    st.lists(PACKAGES, unique_by=lambda each: each.name, max_size=8),
    HASHES,
)


def one(*packages: LockedPackage, layer: str = "torch") -> Lock:
    return Lock(owner="cpu", layer=layer, packages=packages, manifest_digest="0" * 64, tool="uv 1")


def test_golden(golden: Callable[[str, str], None]) -> None:
    source = LockedPackage(
        name="deepspeed", version="0.19.8", filename="deepspeed-0.19.8.tar.gz", sha256="b" * 64
    )
    golden("lock.txt", lock.render(one(package("torch", "2.13.0+cpu"), source)))
    assert source.is_source
    assert not package("torch").is_source


@given(LOCKS)
def test_parse_undoes_render(made: Lock) -> None:
    assert lock.parse(lock.render(made)) == made


@given(LOCKS, st.data())
def test_a_lock_that_was_cut_off_is_refused(made: Lock, data: st.DataObject) -> None:
    text = lock.render(made)
    cut = data.draw(st.integers(0, len(text) - 1))
    with pytest.raises(LockError):
        lock.parse(text[:cut])


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda text: text.replace("# layer", "# layers"), "header"),
        (lambda text: text + "stray\n", "line 12"),
        (lambda text: text + "--index-url https://example.org\n", "line 12"),
        (lambda text: text.replace("b==1.0", "a==1.0"), "a appears twice"),
        (lambda text: text.replace("a==1.0", "c==1.0"), "not in order"),
        (lambda text: text.replace("a==1.0", "A==1.0"), "not a canonical name"),
        (lambda text: text.replace("a==1.0", "a==one"), "not a version"),
        (lambda text: text.replace("a==1.0", "a==1.1"), "edited or cut off"),
        (lambda text: text.replace("a" * 64, "a" * 63), "line 6"),
    ],
)
def test_damage_is_named(damage: Callable[[str], str], said: str) -> None:
    with pytest.raises(LockError) as caught:
        lock.parse(damage(lock.render(one(package("a"), package("b")))), source="x.txt")
    assert said in "\n".join(caught.value.problems)
    assert caught.value.problems[0].startswith("x.txt: ")


def test_the_digest_counts_content_and_layers_only() -> None:
    def target(*layers: Lock, build: Lock | None = None) -> TargetLock:
        return TargetLock(target="cpu", layers=layers, build=build)

    first, second = one(package("a")), one(package("b"), layer="more")
    digest = target(first, second).digest
    assert digest == replace(target(first, second), target="other").digest
    assert digest == target(replace(first, tool="uv 2", manifest_digest="1" * 64), second).digest
    for other in (
        target(first),
        target(second, first),
        target(one(package("a"), package("b"))),
        target(one(package("a", sha256="c" * 64)), second),
        target(one(package("a", "2.0")), second),
        target(first, second, build=one(package("wheel"), layer="build")),
    ):
        assert digest != other.digest


def test_metadata_may_leave_the_local_part_out() -> None:
    wheel = package("flash-attn", "2.8.3+cu12")
    assert [wheel.is_installed_as(v) for v in ("2.8.3+cu12", "2.8.3", "2.8.3+cu11", "")] == [
        True,
        True,
        False,
        False,
    ]
    assert not package("a", "1.0").is_installed_as("1.0+cpu")


def test_packages_are_what_is_installed() -> None:
    build = one(package("wheel"), layer="build")
    made = TargetLock(target="cpu", layers=(one(package("b")), one(package("a"), layer="m")), build=build)
    assert [each.name for each in made.packages] == ["a", "b"]
    assert [each.layer for each in made.locks] == ["torch", "m", "build"]
    assert made.package("A") == package("a")
    assert made.package("wheel") is None


GRAPHS = st.integers(1, 12).flatmap(
    lambda count: st.tuples(
        st.just([f"p{index:02}" for index in range(count)]),
        st.lists(st.sets(st.integers(0, count - 1)), min_size=count, max_size=count),
        st.lists(st.sets(st.integers(0, count - 1), min_size=1), min_size=1, max_size=4),
    )
)


@given(GRAPHS)
def test_every_package_is_in_the_lowest_layer_that_needs_it(
    graph: tuple[list[str], list[set[int]], list[set[int]]],
) -> None:
    names, edges, pins = graph

    def closure(roots: set[int]) -> set[int]:
        seen: set[int] = set()
        while roots - seen:
            seen |= roots
            roots = {child for node in roots for child in edges[node]}
        return seen

    needed = [closure(set().union(*pins[: count + 1])) for count in range(len(pins))]
    packages = [package(names[index]) for index in needed[-1]]
    layers = lock.partition(packages, [{names[index] for index in step} for step in needed])

    placed = [each.name for layer in layers for each in layer]
    assert sorted(placed) == sorted(each.name for each in packages)  # each exactly once
    assert all(list(layer) == sorted(layer, key=lambda each: each.name) for layer in layers)
    level = {each.name: number for number, layer in enumerate(layers) for each in layer}
    for index in needed[-1]:
        assert level[names[index]] == min(n for n, step in enumerate(needed) if index in step)
        assert all(level[names[child]] <= level[names[index]] for child in edges[index])


def test_partition_refuses_what_does_not_add_up() -> None:
    with pytest.raises(LockError) as caught:
        lock.partition([package("a"), package("b")], [{"a"}, {"a", "c"}])
    assert caught.value.problems == (
        "b: no layer needs it",
        "c: needed, but not part of the resolve",
    )


# --------------------------------------------------------------------------- files of the repository


@pytest.fixture
def images(checkout: Path, tmp_path: Path) -> Path:
    """A copy of the repository's manifest and locks."""
    folder = tmp_path / "images"
    (folder / "locks").mkdir(parents=True)
    for path in [checkout / "images" / "manifest.toml", *(checkout / "images" / "locks").glob("*.txt")]:
        (folder / path.relative_to(checkout / "images")).write_bytes(path.read_bytes())
    return folder


def found(images: Path, *names: str) -> list[str]:
    known = manifest.load(images / "manifest.toml")
    return lock.stale(images, known, names or known.names())


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def test_the_repositorys_locks_are_what_its_manifest_says(images: Path) -> None:
    assert found(images) == []
    for path in (images / "locks").glob("*.txt"):
        text = path.read_text(encoding="utf-8")
        assert lock.render(lock.parse(text)) == text


def test_the_repositorys_locks_hold_what_they_must(images: Path) -> None:
    known = manifest.load(images / "manifest.toml")
    locks = {target.name: lock.load(images, target) for target in known.targets}
    assert locks["cuda-vllm"].layers[:-1] == locks["cuda"].layers
    assert not [each.name for each in locks["cpu"].packages if "nvidia" in each.name or each.is_source]
    assert locks["xpu"].package("triton") is None
    for target in known.targets:
        for wheel in target.wheels:
            locked = locks[target.name].package(wheel.name)
            assert locked is not None
            assert (locked.sha256, locked.filename) == (wheel.sha256, wheel.filename)
    for each in (package for made in locks.values() for package in made.packages):
        parse: Callable[[str], tuple[object, ...]] = (
            parse_sdist_filename if each.is_source else parse_wheel_filename
        )
        assert parse(each.filename)[0] == each.name
    assert "://" not in "".join(path.read_text() for path in (images / "locks").glob("*.txt"))


def test_without_a_package_it_is_another_lock_and_says_so(images: Path) -> None:
    whole = lock.load(images, manifest.load(images / "manifest.toml").target("cuda"))
    partial = whole.without(["flash-attn"])
    assert partial.left_out == ("flash-attn",)
    assert partial.digest != whole.digest
    assert {each.name for each in whole.packages} - {each.name for each in partial.packages} == {"flash-attn"}
    assert partial.layers[0] == whole.layers[0]
    assert partial.without(["flash-attn"]) is partial
    assert whole.without([]) is whole
    assert whole.without(["no-such-package"]) is whole


def test_a_changed_pin_makes_a_family_stale_and_no_other(images: Path) -> None:
    edit(images / "manifest.toml", "vllm==0.11.0", "vllm==0.11.1")
    problems = found(images)
    assert {problem.split(".")[0] for problem in problems} == {"cuda", "cuda-vllm"}
    assert "cuda-vllm.vllm.txt: vllm==0.11.1 is pinned, the lock has 0.11.0" in problems
    assert found(images, "cpu", "xpu") == []


def test_a_changed_text_makes_nothing_stale(images: Path) -> None:
    edit(images / "manifest.toml", 'PYTHONUNBUFFERED = "1"', 'PYTHONUNBUFFERED = "0"')
    assert found(images) == []


def test_missing_damaged_misplaced_and_foreign_files_come_at_once(images: Path) -> None:
    (images / "locks" / "cpu.torch.txt").unlink()
    edit(images / "locks" / "cpu.transformers.txt", "peft==", "peft=")
    (images / "locks" / "xpu.build.txt").write_bytes((images / "locks" / "cuda.build.txt").read_bytes())
    (images / "locks" / "old.torch.txt").write_text("", encoding="utf-8")
    problems = "\n".join(found(images))
    assert "cpu.torch.txt: missing" in problems
    assert "cpu.transformers.txt: line" in problems
    assert "xpu.build.txt: says that it is cuda.build.txt" in problems
    assert "old.torch.txt: belongs to no target" in problems


def test_content_that_contradicts_the_manifest_is_found(images: Path) -> None:
    torch = images / "locks" / "cpu.torch.txt"
    made = lock.parse(torch.read_text(encoding="utf-8"))
    packages = [replace(each, sha256="0" * 64) if each.name == "torch" else each for each in made.packages]
    torch.write_text(lock.render(replace(made, packages=(*packages, package("peft")))), encoding="utf-8")
    problems = found(images)
    assert "cpu: torch is not the wheel that the manifest names" in problems
    assert "cpu.transformers.txt: peft is already in a lower layer" in problems


def test_owned_reads_former_layers_too_and_refuses_damage(images: Path) -> None:
    former = replace(one(package("a"), layer="former"), owner="cuda")
    (images / "locks" / "cuda.former.txt").write_text(lock.render(former), encoding="utf-8")
    names = [each.file_name for each in lock.owned(images, ["cuda"])]
    assert names == [
        "cuda.build.txt",
        "cuda.documents.txt",
        "cuda.former.txt",
        "cuda.kernels.txt",
        "cuda.libraries.txt",
        "cuda.tools.txt",
        "cuda.torch.txt",
        "cuda.trainers.txt",
        "cuda.transformers.txt",
    ]
    (images / "locks" / "cuda.former.txt").write_text("", encoding="utf-8")
    with pytest.raises(LockError):
        lock.owned(images, ["cuda"])


def test_the_same_lock_by_another_tool_is_the_same() -> None:
    made = one(package("a"))
    assert lock.same(replace(made, tool="uv 2"), made)
    assert not lock.same(replace(made, manifest_digest="1" * 64), made)
    assert not lock.same(None, made)


def test_the_command_checks_without_network() -> None:
    result = CliRunner().invoke(root, ["image", "lock", "cuda", "--check", "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.output) == {"schema": 1, "checked": ["cuda"], "stale": []}
    assert isinstance(CliRunner().invoke(root, ["image", "lock", "nobody", "--check"]).exception, UsageError)
