"""Resolving with a stand-in for uv: one resolve per family, nothing moves by itself, layers add up."""

from collections.abc import Mapping, Sequence

import pytest
from packaging.requirements import Requirement

from launcher import manifest
from launcher.errors import LockError, ProgramError
from launcher.image import resolve, uv, wheels
from launcher.image.wheels import RemoteFile
from launcher.lock import Lock, LockedPackage
from launcher.manifest import Target
from launcher.progress import Silent

WHEEL = "https://example.org/flash_attn-2.0%2Bcu12-cp311-cp311-linux_x86_64.whl"
MANIFEST = f"""
schema = 1
[targets.gpu]
summary = {{ en = "G", zh = "甲" }}
platform = "linux/amd64"
python = "3.11"
glibc = "2.36"
exclude = ["triton"]
build_requires = ["wheel"]
[targets.gpu.base]
image = "debian"
tag = "12"
digest = "sha256:{"0" * 64}"
evidence = "made up"
[[targets.gpu.layers]]
name = "torch"
pins = ["torch<2"]
[[targets.gpu.layers]]
name = "trainers"
pins = ["trainer", "flash-attn==2.0"]
[[targets.gpu.wheels]]
name = "flash-attn"
version = "2.0"
url = "{WHEEL}"
sha256 = "{"e" * 64}"
requires = ["torch", "einops"]
evidence = "made up"
[targets.gpu-serve]
extends = "gpu"
summary = {{ en = "S", zh = "乙" }}
[[targets.gpu-serve.layers]]
name = "serve"
pins = ["server"]
"""

#: name -> versions, newest first; and what each name needs.
VERSIONS = {
    "torch": ["2.0", "1.9", "1.8"],
    "trainer": ["5.1", "5.0"],
    "server": ["0.3"],
    "numpy": ["2.2", "2.1"],
    "einops": ["0.8"],
    "web": ["1.0"],
    "wheel": ["0.46", "0.45"],
}
NEEDS = {
    "torch": ["numpy", "triton"],
    "trainer": ["torch", "numpy", "flash-attn"],
    "flash-attn": ["torch", "einops"],
    "server": ["torch", "web", "numpy<2.2"],
}


class FakeUv:
    """Picks the newest version that all known constraints allow; no backtracking."""

    def __init__(self) -> None:
        self.resolves: list[Sequence[str]] = []
        self.arguments: list[Sequence[str]] = []

    def __call__(
        self,
        requirements: Sequence[str],
        target: Target,
        *,
        arguments: Sequence[str] = (),
        files: Mapping[str, str],
        result: str = "",
    ) -> str:
        self.arguments.append(arguments)
        if result:
            self.resolves.append(requirements)
        overrides = {
            Requirement(line).name: Requirement(line) for line in files["overrides.txt"].splitlines()
        }
        preferred = [Requirement(line) for line in files.get("resolved.txt", "").splitlines()]
        if "--upgrade" in arguments:
            preferred = []
        preferred = [each for each in preferred if each.name not in arguments]
        wanted: dict[str, list[Requirement]] = {}
        queue = [Requirement(line) for line in requirements]
        while queue:
            requirement = queue.pop()
            override = overrides.get(requirement.name)
            if override is not None and override.marker is not None:
                continue  # sys_platform == 'never'
            if requirement.name not in wanted:
                queue += [Requirement(line) for line in NEEDS.get(requirement.name, [])]
            wanted.setdefault(requirement.name, []).append(requirement)
        lines = []
        fixed = [Requirement(line) for line in files.get("constraints.txt", "").splitlines()]
        for name, all_of in wanted.items():
            if name in overrides:
                lines.append(str(overrides[name]))
                continue
            all_of += [each for each in fixed if each.name == name]
            possible = [v for v in VERSIONS[name] if all(each.specifier.contains(v) for each in all_of)]
            liked = [
                v for v in possible if any(p.name == name and p.specifier.contains(v) for p in preferred)
            ]
            lines.append(f"{name}=={(liked or possible)[0]}")
        return "# a comment\n" + "\n".join(lines) + "\n"


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeUv:
    """uv and an index that has a wheel of everything."""

    def offered(packages: Sequence[tuple[str, str]], _: Target) -> list[RemoteFile]:
        return [
            RemoteFile(
                name=name,
                version=version,
                filename=f"{name}-{version}-py3-none-any.whl",
                url="https://index.example/file",
                sha256="a" * 64,
                size=None,
            )
            for name, version in packages
        ]

    made = FakeUv()
    monkeypatch.setattr(uv, "compile_requirements", made)
    monkeypatch.setattr(wheels, "offered", offered)
    return made


FAMILY = manifest.parse(MANIFEST).family("gpu")


def made(previous: Sequence[Lock] = (), *, upgrade: Sequence[str] = ()) -> dict[str, dict[str, str]]:
    locks = resolve.resolve(FAMILY, previous, upgrade=upgrade, progress=Silent())
    return {each.file_name: {p.name: p.version for p in each.packages} for each in locks}


def older() -> list[Lock]:
    """Locks of a time when nothing newer was there."""

    def lock(layer: str, **versions: str) -> Lock:
        packages = tuple(
            LockedPackage(
                name=name, version=version, filename=f"{name}-{version}-py3-none-any.whl", sha256="a" * 64
            )
            for name, version in sorted(versions.items())
        )
        return Lock(owner="gpu", layer=layer, packages=packages, manifest_digest="0" * 64, tool="uv 0")

    return [
        lock("torch", torch="1.8", numpy="2.1"),
        lock("trainers", trainer="5.0"),
        lock("build", wheel="0.45"),
    ]


def test_a_family_is_resolved_once_and_divided(fake: FakeUv) -> None:
    assert made() == {
        "gpu.torch.txt": {"numpy": "2.1", "torch": "1.9"},  # numpy is held back by the layer of gpu-serve
        "gpu.trainers.txt": {"einops": "0.8", "flash-attn": "2.0+cu12", "trainer": "5.1"},
        "gpu-serve.serve.txt": {"server": "0.3", "web": "1.0"},
        "gpu.build.txt": {"wheel": "0.46"},
    }
    assert fake.resolves == [["torch<2", "trainer", "flash-attn==2.0", "server"], ("wheel",)]


def test_nothing_moves_by_itself(fake: FakeUv) -> None:
    assert made(older())["gpu.torch.txt"] == {"numpy": "2.1", "torch": "1.8"}
    assert made(older())["gpu.trainers.txt"]["trainer"] == "5.0"
    assert made(older())["gpu.build.txt"] == {"wheel": "0.45"}


def test_upgrade_moves_what_it_names(fake: FakeUv) -> None:
    locks = made(older(), upgrade=["torch"])
    assert locks["gpu.torch.txt"]["torch"] == "1.9"
    assert locks["gpu.trainers.txt"]["trainer"] == "5.0"
    everything = made(older(), upgrade=[resolve.EVERYTHING])
    assert everything["gpu.trainers.txt"]["trainer"] == "5.1"
    assert everything["gpu.build.txt"] == {"wheel": "0.46"}


def test_the_manifests_wheel_is_locked_with_its_own_hash(fake: FakeUv) -> None:
    locks = resolve.resolve(FAMILY, (), progress=Silent())
    (wheel,) = [p for each in locks for p in each.packages if p.name == "flash-attn"]
    assert wheel.filename == "flash_attn-2.0+cu12-cp311-cp311-linux_x86_64.whl"
    assert wheel.sha256 == "e" * 64
    assert {each.manifest_digest for each in locks} == {manifest.lock_inputs_digest(FAMILY)}
    assert "x86_64-manylinux_2_36" in locks[0].tool


def test_sources_are_refused_where_nothing_can_build_them(
    fake: FakeUv, monkeypatch: pytest.MonkeyPatch
) -> None:
    made()
    assert all("--no-build" not in arguments for arguments in fake.arguments[:-1])
    assert "--no-build" in fake.arguments[-1]  # the build requirements themselves
    (alone,) = manifest.parse(
        MANIFEST[: MANIFEST.index("[targets.gpu-serve]")].replace('build_requires = ["wheel"]\n', "")
    ).targets
    fake.arguments.clear()
    resolve.resolve([alone], (), progress=Silent())
    assert all("--no-build" in arguments for arguments in fake.arguments)

    monkeypatch.setattr(wheels, "offered", lambda *_: [])
    with pytest.raises(LockError) as caught:
        resolve.resolve([alone], (), progress=Silent())
    assert "torch 1.9: no wheel for x86_64-manylinux_2_36" in caught.value.problems


def test_what_uv_says_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> str:
        raise ProgramError("uv pip failed", output="error: No solution found\n  cause: torch<2")

    monkeypatch.setattr(uv, "compile_requirements", fail)
    with pytest.raises(LockError, match="gpu does not resolve") as caught:
        made()
    assert caught.value.problems == ("error: No solution found", "  cause: torch<2")
