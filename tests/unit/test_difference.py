"""launcher.difference and its sides: what changed is said once, and the sums are those of the parts."""

import json
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner
from docker.errors import NotFound
from hypothesis import given
from hypothesis import strategies as st

from launcher import cli, debian, difference, lock, manifest, paths
from launcher.app import difference as use_case
from launcher.cli import ui
from launcher.difference import SYSTEM, Change, Difference, Item, Side
from launcher.errors import ImageMissingError, LockError, ProgramError, UsageError
from launcher.image import contents, fetch
from launcher.image.inspect import ImageInfo
from launcher.lock import BUILD, Lock, LockedPackage, TargetLock

LAYERS = ("torch", "trainers")
MIRRORED = {
    "added": "removed",
    "removed": "added",
    "newer": "older",
    "older": "newer",
    "moved": "moved",
    "replaced": "replaced",
    "resized": "resized",
}


def item(name: str, version: str = "1.0", **facts: Any) -> Item:
    return Item(**{"name": name, "version": version, "layer": "torch", "sha256": "1", "bytes": 10, **facts})


def side(*items: Item, name: str = "a", **facts: Any) -> Side:
    standard = {"kind": "lock", "digest": "", "base": "base:1", "without": (), "layers": LAYERS}
    return Side(name=name, items=items, **{**standard, **facts})


@st.composite
def sides(draw: st.DrawFn, *, known: bool = False) -> Side:
    """A side of either kind, whose environment has each name once."""
    kind = draw(st.sampled_from(("lock", "image")))
    beside = BUILD if kind == "lock" else SYSTEM
    sizes = st.integers(0, 99)
    found = []
    for name in draw(st.sets(st.sampled_from("abcde"))):
        for layers in draw(st.sampled_from(((LAYERS,), ((beside,),), (LAYERS, (beside,))))):
            found.append(
                Item(
                    name=name,
                    version=draw(st.sampled_from(("1", "1.0", "1.1", "2~a", "2"))),
                    layer=draw(st.sampled_from(layers)),
                    sha256=draw(st.sampled_from(("", "1", "2"))),
                    bytes=draw(sizes if known else st.none() | sizes),
                )
            )
    order = draw(st.permutations((*LAYERS, beside)))
    base = draw(st.sampled_from(("", "base:1", "base:2")))
    return side(*draw(st.permutations(found)), kind=kind, layers=tuple(order), base=base)


# ------------------------------------------------------------------------------------------- the comparison
@given(sides())
def test_nothing_differs_from_itself(one: Side) -> None:
    found = difference.compare(one, replace(one, name="another name", items=one.items[::-1]))
    assert found.empty
    assert found.changes == ()
    assert found.beside == ()
    assert found.total.before == found.total.after
    assert found.total.bytes == 0


@given(sides(), sides())
def test_the_other_way_round_is_the_mirror(one: Side, other: Side) -> None:
    there, back = difference.compare(one, other), difference.compare(other, one)

    def mirrored(change: Change) -> Change:
        size = None if change.bytes is None else -change.bytes
        how: Any = MIRRORED[change.how]
        return Change(name=change.name, how=how, before=change.after, after=change.before, bytes=size)

    assert set(map(mirrored, there.changes)) == set(back.changes)
    assert there.empty == back.empty
    assert there.beside == back.beside
    swapped = {replace(t, before=t.after, after=t.before, bytes=t.bytes and -t.bytes) for t in there.layers}
    assert swapped == set(back.layers)


@given(sides(known=True), sides(known=True))
def test_totals_are_the_sums_of_their_parts(one: Side, other: Side) -> None:
    found = difference.compare(one, other)
    for which in ("before", "after"):
        whole = getattr(found.total, which)
        parts = [getattr(total, which) for total in found.layers]
        assert whole.packages == sum(part.packages for part in parts)
        assert whole.bytes == sum(part.bytes for part in parts)
    if one.kind == other.kind:
        assert found.total.before.packages == len(one.items)
        assert found.total.bytes == sum(change.bytes or 0 for change in found.changes)
        assert found.total.bytes == sum(total.bytes or 0 for total in found.layers)
    else:
        assert found.total.bytes is None
        assert all(change.bytes is None for change in found.changes)
        assert {SYSTEM, BUILD} == set(found.beside)
        assert not {SYSTEM, BUILD} & {layer for change in found.changes for layer in change.layers}


@given(sides(), sides())
def test_every_package_that_is_not_the_same_is_named_once(one: Side, other: Side) -> None:
    found = difference.compare(one, other)
    named = [(change.name, change.layers[-1] in (SYSTEM, BUILD)) for change in found.changes]
    assert len(named) == len(set(named))
    compared = [each for each in (*one.items, *other.items) if each.layer not in found.beside]
    same = [each for each in compared if (each.name, each.layer in (SYSTEM, BUILD)) not in named]
    facts = {(each.name, each.version, each.layer, each.sha256) for each in same}
    assert 2 * len(facts) == len(same)


@pytest.mark.parametrize(
    ("before", "after", "how", "size"),
    [
        (None, item("p"), "added", 10),
        (item("p"), None, "removed", -10),
        (item("p", "1.9"), item("p", "1.10", bytes=13), "newer", 3),
        (item("p", "1.10"), item("p", "1.9"), "older", 0),
        (item("p", "2.8.0"), item("p", "2.8.0+cu12"), "newer", 0),
        (item("p", "1.0"), item("p", "2.0", layer="trainers"), "newer", 0),
        (item("p"), item("p", layer="trainers", sha256="2"), "moved", 0),
        (item("p"), item("p", sha256="2", bytes=None), "replaced", None),
        (item("p", "1.0"), item("p", "1.0.0"), "replaced", 0),
        (item("p", "1.0"), item("p", "?"), "replaced", 0),
        (item("p"), item("p", bytes=8), "resized", -2),
    ],
)
def test_how_a_package_changed(before: Item | None, after: Item | None, how: str, size: int | None) -> None:
    sides = [side(*([each] if each else [])) for each in (before, after)]
    (change,) = difference.compare(*sides).changes
    assert (change.how, change.before, change.after, change.bytes) == (how, before, after, size)


def test_changes_stand_by_layer_then_name() -> None:
    image = {"kind": "image", "layers": (*LAYERS, SYSTEM)}
    new = side(item("z"), item("a", layer="trainers"), item("b"), item("libc6", layer=SYSTEM), **image)
    found = difference.compare(side(item("z", layer="trainers"), **image), new)
    assert [(each.name, each.layers) for each in found.changes] == [
        ("libc6", (SYSTEM,)),
        ("b", ("torch",)),
        ("z", ("trainers", "torch")),
        ("a", ("trainers",)),
    ]
    assert [total.layer for total in found.layers] == [SYSTEM, "torch", "trainers"]


def test_an_unchanged_file_of_unknown_size_hides_no_growth() -> None:
    unknown = item("large", bytes=None)
    found = difference.compare(side(unknown), side(unknown, item("p")))
    assert found.total.before.bytes is None
    assert found.total.bytes == 10


def test_another_base_is_a_difference() -> None:
    assert not difference.compare(side(), side(base="base:2")).empty
    assert not difference.compare(side(), side(without=("flash-attn",))).empty


# ------------------------------------------------------------------------------------------ Debian's versions
@pytest.mark.parametrize(
    "ordered",
    [
        # deb-version(7): "~~, ~~a, ~, the empty part, a"; then epochs, revisions, numbers as numbers.
        ["1~~", "1~~a", "1~", "1", "1a", "1+b"],
        ["1.9", "1.10", "1:0.1", "2:0"],
        ["1.0-1~deb12u1", "1.0-1", "1.0-1+b1", "1.0-2", "1.0-10", "1.0.1-1"],
    ],
)
def test_debians_order(ordered: list[str]) -> None:
    for place, one in enumerate(ordered):
        for position, other in enumerate(ordered):
            assert debian.order(one, other) == (place > position) - (place < position)


VERSIONS = st.from_regex(r"([0-9]:)?[0-9][0-9a.+~]{0,5}(-[0-9a+~]{1,3})?", fullmatch=True)


@given(VERSIONS, VERSIONS, VERSIONS)
def test_debians_order_is_an_order(one: str, two: str, three: str) -> None:
    order = debian.order
    assert order(one, one) == 0
    assert order(one, two) == -order(two, one)
    if order(one, two) <= 0 and order(two, three) <= 0:
        assert order(one, three) <= 0


def test_equal_versions_in_other_words() -> None:
    assert debian.order("1.0", "0:1.0-0") == 0


# ------------------------------------------------------------------------------------------------- the sides
def locked(*, with_build: bool = True) -> TargetLock:
    def part(layer: str, *names: str) -> Lock:
        packages = tuple(
            LockedPackage(name=name, version="1.0+local", filename=f"{name}.whl", sha256="1" * 64)
            for name in names
        )
        return Lock(owner="cpu", layer=layer, packages=packages, manifest_digest="2" * 64, tool="uv 0")

    layers = (part("torch", "t"), part("trainers", "x"))
    return TargetLock(target="cpu", layers=layers, build=part(BUILD, "wheel") if with_build else None)


def test_a_locks_side() -> None:
    found = difference.of_lock(
        "cpu", locked().without(["x"]), base="b", size=lambda package: len(package.name)
    )
    assert found.layers == ("torch", "trainers", BUILD)
    assert [(each.name, each.layer, each.bytes) for each in found.items] == [
        ("t", "torch", 1),
        ("wheel", BUILD, 5),
    ]
    assert found.without == ("x",)


def test_sizes_are_those_of_fetched_files() -> None:
    found = use_case.side("cpu")
    assert found.base.startswith("docker.io/")
    assert {each.bytes for each in found.items} == {None}
    package = lock.load(paths.images(), manifest.shipped().target("cpu")).packages[0]
    fetch.cached(package).parent.mkdir(parents=True)
    fetch.cached(package).write_bytes(b"12345")
    assert [each.bytes for each in use_case.side("cpu").items if each.name == package.name] == [5]


@pytest.mark.parametrize("name", ["cdua", "", "finetune"])
def test_an_unknown_thing(name: str) -> None:
    with pytest.raises(UsageError, match="neither a target nor an image") as caught:
        use_case.side(name)
    for form in ("cpu@HEAD~1", "finetune:cpu", "sha256:…", "launch image list"):
        assert form in caught.value.hint
    assert "cuda-vllm" in caught.value.why


def test_a_revision_needs_a_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("launcher.paths.is_checkout", lambda: False)
    with pytest.raises(UsageError, match="in the history of a checkout"):
        use_case.side("cpu@HEAD")


def bill(layer: str, position: int, **facts: object) -> bytes:
    entry = {"name": layer + "-package", "version": "1.0", "sha256": "1" * 64, "bytes": 3}
    content = {"schema": 1, "layer": layer, "position": position, "distributions": [entry]}
    return json.dumps({**content, **facts}).encode()


def test_bills_stand_in_the_order_of_the_layers() -> None:
    layers, items = contents.bills({"a.json": bill("a", 1), "b.json": bill("b", 0)})
    assert layers == ("b", "a")
    assert items[1] == Item(name="a-package", version="1.0", layer="a", sha256="1" * 64, bytes=3)


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"\xff", bill("a", 0, schema=2), bill("a", 0, distributions=[{"name": "a"}])]
)
def test_a_strange_bill_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match="validation error"):
        contents.bills({"a.json": content})


STATUS = """Package: libc6
Status: install ok installed
Installed-Size: 12988
Version: 2.36-9+deb12u10
Description: GNU C Library
 Version: not a field

Package: gone
Status: deinstall ok config-files
Version: 1

Package: adduser
Status: hold ok installed
Version: 3.134
"""


def test_installed_system_packages() -> None:
    assert [(each.name, each.version, each.bytes) for each in contents.system_packages(STATUS)] == [
        ("adduser", "3.134", None),
        ("libc6", "2.36-9+deb12u10", 12988 * 1024),
    ]


@given(st.text())
def test_any_status_file_is_read(text: str) -> None:
    assert all(each.layer == SYSTEM for each in contents.system_packages(text))


class _Engine:
    """An engine whose only image lacks what is asked for; it remembers what is left of containers."""

    def __init__(self) -> None:
        self.left = 0
        self.containers = self
        self.asked: dict[str, object] = {}

    def create(self, reference: str, **options: object) -> "_Engine":
        self.left, self.asked = self.left + 1, options
        return self

    def remove(self, *, force: bool) -> None:
        self.left -= 1

    def get_archive(self, path: str) -> None:
        raise NotFound(f"no {path}")


def test_an_image_of_an_older_build() -> None:
    engine: Any = _Engine()
    image = ImageInfo(reference="finetune:cpu", id="", size=0, labels={"launch.target": "cpu"})
    with pytest.raises(ImageMissingError, match="does not say what is in it") as caught:
        contents.read(engine, image)
    assert caught.value.hint.endswith("launch image build cpu")
    assert engine.left == 0
    assert engine.asked == {"command": ["true"], "network_mode": "none"}


def test_a_revision_whose_locks_cannot_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    def git(argv: list[str], **_: object) -> SimpleNamespace:
        if argv[1] == "rev-parse":
            return SimpleNamespace(returncode=0, stdout="0" * 40 + "\n", stderr="")
        raise ProgramError("git exited", why="path does not exist")

    monkeypatch.setattr("launcher.process.run", git)
    monkeypatch.setattr("launcher.paths.is_checkout", lambda: True)
    with pytest.raises(LockError) as caught:
        use_case.side("cpu@HEAD")
    assert caught.value.problems == ("path does not exist",)


# ---------------------------------------------------------------------------------------------- what is shown
Diff = Callable[..., str]

OLD = side(
    item("numpy", "2.4.6", layer="trainers", bytes=2_000_000),
    item("nvidia-cuda-runtime-cu12", "12.8.90"),
    item("gone"),
)
NEW = side(
    item("flash-attn", "2.8.3+cu12torch2.8cxx11abitrue", layer="trainers", bytes=None),
    item("numpy", "2.2.6", layer="torch", bytes=1_500_000),
    item("nvidia-cuda-runtime-cu12", "12.8.93"),
    name="b",
    base="base:2",
)


@pytest.fixture
def diff(monkeypatch: pytest.MonkeyPatch) -> Diff:
    """What ``launch image diff`` prints of a difference; standard output alone."""
    from rich.console import Console

    def run(found: Difference, *options: str) -> str:
        monkeypatch.setattr(use_case, "diff", lambda *_: found)
        monkeypatch.setitem(vars(ui), "out", Console(highlight=False, width=80))
        result = CliRunner().invoke(cli.root, ["image", "diff", "a", "b", *options], prog_name="launch")
        if result.exception:
            raise result.exception
        assert result.exit_code == 0
        return result.stdout

    return run


def test_people_read_it_on_80_columns(diff: Diff) -> None:
    lines = diff(difference.compare(OLD, NEW)).splitlines()
    assert lines[:2] == ["a → b: 1 added, 1 removed, 1 newer, 1 older", "base: base:1 → base:2"]
    assert max(map(len, lines)) <= 80
    assert [tuple(line.split()[:2]) for line in lines if line.startswith(("+", "−", "↑", "↓"))] == [
        ("−", "gone"),
        ("↓", "numpy"),
        ("↑", "nvidia-cuda-runtime-cu12"),
        ("+", "flash-attn"),
    ]
    assert lines[-1].split() == ["all", "3", "2.0", "MB", "→", "?"]


def test_nothing_differs_is_one_line(diff: Diff) -> None:
    assert diff(difference.compare(OLD, replace(OLD, name="b"))) == "a → b: nothing differs\n"


def test_markdown_is_githubs(diff: Diff) -> None:
    text = diff(difference.compare(OLD, NEW), "--markdown")
    assert "| ↓ | `numpy` | 2.4.6 → 2.2.6 | trainers → torch | −500.0 kB |" in text
    assert "| base | `base:1` | `base:2` |" in text
    for block in text.strip().split("\n\n"):
        lines = [line for line in block.splitlines() if line.startswith("|")]
        assert len({line.count("|") for line in lines}) <= 1
    assert text.startswith("`a` → `b`: ")


def test_json_has_a_schema_and_all_of_it(diff: Diff) -> None:
    found = json.loads(diff(difference.compare(OLD, replace(NEW, kind="image")), "--json"))
    assert found["schema"] == 1
    assert found["empty"] is False
    assert found["before"]["base"] == "base:1"
    assert {each["how"] for each in found["changes"]} == {"added", "removed", "newer", "older"}
    assert found["total"] == {
        "before": {"packages": 3, "bytes": 2_000_020},
        "after": {"packages": 3, "bytes": None},
        "bytes": None,
    }


def test_one_format_at_a_time(diff: Diff) -> None:
    with pytest.raises(UsageError, match="do not go together"):
        diff(difference.compare(OLD, NEW), "--json", "--markdown")
