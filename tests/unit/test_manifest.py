"""images/manifest.toml: all its problems at once, extension resolved, the repository's own one sound."""

from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.tags import Tag
from packaging.utils import canonicalize_name, parse_wheel_filename

from launcher import manifest
from launcher.errors import ManifestError, UsageError

BASE = """
schema = 1
[targets.a]
summary = { en = "A", zh = "甲" }
platform = "linux/amd64"
python = "3.11"
glibc = "2.36"
system_packages = ["python3"]
env = { ONE = "1", TWO = "2" }
checks = ["imports"]
exclude = ["triton"]
[targets.a.base]
image = "docker.io/library/debian"
tag = "12"
digest = "sha256:0000000000000000000000000000000000000000000000000000000000000000"
evidence = "made up"
[[targets.a.layers]]
name = "torch"
pins = ["torch==1.0"]
[targets.b]
extends = "a"
summary = { en = "B", zh = "乙" }
system_packages = ["gcc"]
env = { TWO = "two" }
build_requires = ["wheel==0.45.1"]
[[targets.b.layers]]
name = "more"
pins = ["more"]
[targets.c]
extends = "b"
summary = { en = "C", zh = "丙" }
[[targets.c.layers]]
name = "most"
pins = ["most"]
"""


def problems(text: str) -> tuple[str, ...]:
    with pytest.raises(ManifestError) as caught:
        manifest.parse(text)
    return caught.value.problems


def test_what_may_be_left_out() -> None:
    known = manifest.parse(BASE.replace('checks = ["imports"]', 'checks = ["imports"]\noptional = ["Torch"]'))
    a, b = known.target("a"), manifest.parse(BASE).target("b")
    assert a.optional == ("torch",)
    assert known.left_out(a, ["TORCH"]) == ("torch",)
    assert known.left_out(b, ["torch"]) == ()  # optional elsewhere: this one goes without it anyway
    with pytest.raises(UsageError, match="more cannot be left out") as caught:
        known.left_out(a, ["more"])
    assert caught.value.hint == "optional: torch"
    assert problems(BASE.replace('exclude = ["triton"]', 'optional = ["triton"]')) == tuple(
        f"targets.{name}.optional: triton is optional, and no layer pins it" for name in "abc"
    )


@pytest.mark.parametrize(("text", "size"), [("12GB", 12_000_000_000), ("1.6GB", 1_600_000_000)])
def test_the_budget_is_inherited_unless_restated(text: str, size: int) -> None:
    known = manifest.parse(
        BASE.replace('python = "3.11"', f'python = "3.11"\nmax_size = "{text}"', 1).replace(
            'extends = "b"', 'extends = "b"\nmax_size = "20GB"'
        )
    )
    assert [known.target(name).max_size for name in "abc"] == [size, size, 20_000_000_000]
    assert manifest.parse(BASE).target("a").max_size is None
    assert (
        "targets.a.max_size"
        in problems(
            BASE.replace("schema = 1", "schema = 1", 1).replace(
                'python = "3.11"', 'python = "3.11"\nmax_size = "12 GiB"', 1
            )
        )[0]
    )


def test_extension_continues_lists_and_merges_the_environment() -> None:
    target = manifest.parse(BASE).target("c")
    assert [(layer.name, layer.owner) for layer in target.layers] == [
        ("torch", "a"),
        ("more", "b"),
        ("most", "c"),
    ]
    assert target.env == (("ONE", "1"), ("TWO", "two"))
    assert target.system_packages == ("python3", "gcc")
    assert target.exclude == ("triton",)
    assert target.python == "3.11"
    assert target.base.reference == f"docker.io/library/debian:12@sha256:{'0' * 64}"
    assert target.devices.kind == "none"


def test_the_build_lock_is_the_nearest_declarers() -> None:
    known = manifest.parse(BASE)
    assert [known.target(name).build_owner for name in "abc"] == ["", "b", "b"]


def test_a_family_is_the_same_from_every_member() -> None:
    known = manifest.parse(BASE)
    families = {known.family(name) for name in "abc"}
    assert len(families) == 1
    assert [target.name for target in families.pop()] == ["a", "b", "c"]


def test_the_lock_digest_counts_packages_and_nothing_else() -> None:
    def digest(text: str) -> str:
        return manifest.lock_inputs_digest(manifest.parse(text).family("a"))

    assert digest(BASE) == digest(BASE.replace('"B"', '"other"').replace('ONE = "1"', 'ONE = "0"'))
    for change in ('"torch==1.1"', '"torch==1.0", "numpy"'):
        assert digest(BASE) != digest(BASE.replace('"torch==1.0"', change))
    assert digest(BASE) != digest(BASE.replace('glibc = "2.36"', 'glibc = "2.39"'))


def test_all_problems_of_the_form_come_at_once_each_with_its_key() -> None:
    wrong = (
        BASE.replace('python = "3.11"', 'python = "three"')
        .replace('["torch==1.0"]', '["torch = 1"]')
        .replace('checks = ["imports"]', 'chekcs = ["imports"]')
        .replace('zh = "乙"', 'zh = ""')
    )
    keys = [problem.split(": ")[0] for problem in problems(wrong)]
    assert sorted(keys) == [
        "targets.a.chekcs",
        "targets.a.layers.0.pins.0",
        "targets.a.python",
        "targets.b.summary.zh",
    ]


def test_all_problems_of_the_whole_come_at_once() -> None:
    wrong = (
        BASE.replace('name = "most"', 'name = "build"')
        .replace('exclude = ["triton"]', 'exclude = ["Torch"]')
        .replace('name = "more"', 'name = "torch"')
        .replace('glibc = "2.36"\n', "")
        .replace('env = { TWO = "two" }', 'env = { TWO = "two" }\npython = "3.12"')
    )
    found = "\n".join(problems(wrong))
    for part in (
        "targets.a.glibc: missing",
        "targets.b.layers: the name 'torch' appears twice",
        "targets.c.layers: the name 'build' is taken",
        "targets.a.exclude: Torch is excluded and pinned",
        "targets.b.python: cannot differ",
    ):
        assert part in found


def test_a_wheel_must_be_pinned() -> None:
    wheel = f"""
[[targets.a.wheels]]
name = "flash-attn"
version = "1"
url = "https://example.org/flash_attn-1-py3-none-any.whl"
sha256 = "{"1" * 64}"
evidence = "made up"
"""
    assert "flash-attn is a URL wheel that no layer pins" in problems(BASE + wheel)[0]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (('extends = "a"', 'extends = "nobody"'), "there is no target 'nobody'"),
        (('extends = "a"', 'extends = "c"'), "a circle"),
        (("schema = 1", "schema = 2"), "schema"),
        (("schema = 1", "schema = "), "nvalid"),
    ],
)
def test_broken_references_and_versions(change: tuple[str, str], said: str) -> None:
    assert said in "\n".join(problems(BASE.replace(*change)))


def test_a_missing_file_and_a_missing_target(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="no manifest"):
        manifest.load(tmp_path / "manifest.toml")
    with pytest.raises(UsageError) as caught:
        manifest.parse(BASE).target("z")
    assert "a, b, c" in caught.value.hint


def test_the_repositorys_wheels_fit_their_targets(checkout: Path) -> None:
    known = manifest.load(checkout / "images" / "manifest.toml")
    assert known.names() == ("cpu", "cuda", "cuda-vllm", "xpu")
    for target in known.targets:
        python = f"cp{target.python.replace('.', '')}"
        pins = {canonicalize_name(pin.name): pin for pin in
                (Requirement(text) for layer in target.layers for text in layer.pins)}  # fmt: skip
        for wheel in target.wheels:
            name, version, _, tags = parse_wheel_filename(wheel.filename)
            assert name == canonicalize_name(wheel.name)
            assert version.base_version == wheel.version.split("+")[0]
            assert any(isinstance(tag, Tag) and tag.interpreter == python for tag in tags)
            assert pins[name].specifier.contains(wheel.version)
