"""From a target to its Dockerfile, its image's name, labels; what a build prints; how images are compared."""

import io
import json
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher import dockerfile, lock, manifest
from launcher.app import images as use_cases
from launcher.errors import CheckError, ManifestError, StaleError
from launcher.image import buildlog, check, compare, inputs
from launcher.lock import Lock, LockedPackage, TargetLock
from launcher.manifest import Target

MANIFEST = """
schema = 1
[targets.low]
summary = { en = 'The "low" one, for $1', zh = "低" }
platform = "linux/amd64"
python = "3.11"
glibc = "2.36"
system_packages = ["ca-certificates", "gcc", "python3"]
build_requires = ["setuptools==80.9.0"]
checks = ["imports"]
env = { A = 'say "$HOME"' }
[targets.low.base]
image = "docker.io/library/debian"
tag = "bookworm-slim"
digest = "sha256:%s"
evidence = "made up"
[[targets.low.layers]]
name = "torch"
pins = ["torch==1.0"]
[[targets.low.layers]]
name = "trainers"
pins = ["sources==2.0"]
[targets.high]
extends = "low"
summary = { en = "The high one", zh = "高" }
[[targets.high.layers]]
name = "extras"
pins = ["extra==3.0"]
""" % ("0" * 64)  # fmt: skip


def _package(name: str, version: str, suffix: str = "-py3-none-any.whl") -> LockedPackage:
    return LockedPackage(name=name, version=version, filename=f"{name}-{version}{suffix}", sha256="1" * 64)


def _lock(owner: str, layer: str, *packages: LockedPackage) -> Lock:
    return Lock(owner=owner, layer=layer, packages=packages, manifest_digest="2" * 64, tool="uv 0")


LAYERS = (
    _lock("low", "torch", _package("torch", "1.0")),
    _lock("low", "trainers", _package("sources", "2.0", ".tar.gz")),
    _lock("high", "extras", _package("extra", "3.0")),
)
BUILD = _lock("low", "build", _package("setuptools", "80.9.0"))


@pytest.fixture
def template(checkout: Path) -> str:
    return (checkout / "images" / inputs.TEMPLATE).read_text(encoding="utf-8")


def _target(name: str) -> tuple[Target, TargetLock]:
    layers = LAYERS if name == "high" else LAYERS[:2]
    return manifest.parse(MANIFEST).target(name), TargetLock(target=name, layers=layers, build=BUILD)


def test_dockerfile_is_exactly_this(template: str, golden: Callable[[str, str], None]) -> None:
    golden("Dockerfile.high", dockerfile.render(*_target("high"), template))


def test_template_is_short(template: str) -> None:
    assert len(template.splitlines()) <= 100
    assert not template.startswith("# syntax")


def test_a_target_that_extends_repeats_the_lower_steps_word_for_word(template: str) -> None:
    """Otherwise the two images would share no layer."""

    def steps(text: str) -> list[str]:
        return [part.split("\n\n")[0] for part in text.split("\nRUN ")[2:]]

    low, high = (steps(dockerfile.render(*_target(name), template)) for name in ("low", "high"))
    assert len(low) == 3
    assert high[:3] == low
    assert len(high) == 4


def test_only_the_layer_with_sources_may_build(template: str) -> None:
    _, torch, trainers, extras = dockerfile.render(*_target("high"), template).split("\n# Layer ")
    assert "--no-build" in torch
    assert "--build-constraints" not in torch
    assert "--build-constraints" in trainers
    assert "--no-build" not in trainers
    assert "--no-build" in extras
    assert all("RUN --network=none" in part for part in (torch, trainers, extras))


def test_headers_stay_where_a_compiler_is(template: str) -> None:
    target, locked = _target("low")
    without = replace(target, system_packages=("python3",))
    assert "--keep-headers" in dockerfile.render(target, locked, template)
    assert "--keep-headers" not in dockerfile.render(without, locked, template)


def test_unknown_name_in_the_template() -> None:
    with pytest.raises(ManifestError, match="cannot be rendered"):
        dockerfile.render(*_target("low"), "{{ target.nothing }}")


@given(st.text(st.characters(exclude_categories=["Cc", "Cs"])))
def test_quoted_values_come_back(value: str) -> None:
    """By Docker's rules: between double quotes a backslash takes the next character literally."""
    text = dockerfile.quoted(value)[1:-1]
    found, position = "", 0
    while position < len(text):
        assert text[position] not in '"$'
        position += text[position] == "\\"
        found += text[position]
        position += 1
    assert found == value


def test_committed_dockerfiles_are_fresh(checkout: Path) -> None:
    folder = checkout / "images"
    targets = manifest.load(folder / "manifest.toml").targets
    assert targets
    texts = {
        folder / target.name / "Dockerfile": inputs.rendered(folder, target, lock.load(folder, target))
        for target in targets
    }
    assert inputs.stale_dockerfiles(texts) == []
    assert {path.parent.name for path in folder.glob("*/Dockerfile")} == {t.name for t in targets}


def test_stale_dockerfile_is_named_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "cpu" / "Dockerfile"
    assert inputs.stale_dockerfiles({file: "a\n"}) == ["cpu/Dockerfile: missing"]
    file.parent.mkdir()
    file.write_text("a\nb\n")
    assert inputs.stale_dockerfiles({file: "a\nb\n"}) == []
    assert inputs.stale_dockerfiles({file: "a\nc\n"}) == [
        "cpu/Dockerfile:2: not what the manifest and the template say"
    ]
    assert inputs.stale_dockerfiles({file: "a\n"})[0].startswith("cpu/Dockerfile:2:")


def test_render_check_names_every_stale_file(
    tmp_path: Path, checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = tmp_path / "images"
    (images / "locks").mkdir(parents=True)
    (images / "manifest.toml").write_text(MANIFEST)
    (images / inputs.TEMPLATE).write_text((checkout / "images" / inputs.TEMPLATE).read_text())
    for part in (*LAYERS, BUILD):
        (images / "locks" / part.file_name).write_text(lock.render(part))
    monkeypatch.setattr("launcher.paths.assets", lambda: tmp_path)
    (tmp_path / "pyproject.toml").touch()
    with pytest.raises(StaleError) as caught:
        use_cases.render([], check=True)
    assert caught.value.problems == ("low/Dockerfile: missing", "high/Dockerfile: missing")
    assert use_cases.render(["low"], check=False) == ("images/low/Dockerfile",)
    assert use_cases.render([], check=False) == ("images/high/Dockerfile",)
    assert use_cases.render([], check=True) == ()


def test_the_name_depends_on_every_input() -> None:
    given_ = {"lock_digest": "a", "dockerfile": "b", "base": "c", "tools": ["d"]}
    target, _ = _target("low")
    digest = dockerfile.build_digest(target, **given_)  # type: ignore[arg-type]
    assert dockerfile.reference("cpu", digest) == f"finetune:cpu-{digest[:12]}"
    changed = [{**given_, key: ["x"] if key == "tools" else "x"} for key in given_]
    digests = {dockerfile.build_digest(target, **each) for each in changed}  # type: ignore[arg-type]
    assert len(digests | {digest}) == 5
    # labels name what the manifest says about the image, but not what is only asked of it later
    devices = replace(target.devices, architectures=("sm_90",))
    other = dockerfile.build_digest(replace(target, devices=devices), **given_)  # type: ignore[arg-type]
    assert other != digest
    later = replace(target, max_size=1, checks=("x",), devices=replace(target.devices, shm_size="9g"))
    assert dockerfile.build_digest(later, **given_) == digest  # type: ignore[arg-type]


def test_labels_say_what_was_built_and_how() -> None:
    target, _ = _target("low")
    common = {"lock_digest": "a" * 64, "digest": "b" * 64, "installer": "uv 0", "revision": ""}
    plain = dict(dockerfile.labels(target, base=target.base.reference, unreproducible="", **common))
    assert plain["launch.base-stand-in"] == "false"
    assert plain["launch.reproducible"] == "true"
    assert plain["launch.lock-digest"] == "sha256:" + "a" * 64
    assert "org.opencontainers.image.revision" not in plain
    other = dict(dockerfile.labels(target, base="mine:1", unreproducible="no clock", **common))
    assert other["launch.base-stand-in"] == "true"
    assert other["launch.base"] == "mine:1"
    assert other["launch.reproducible"] == "false (no clock)"


class _Recorder:
    def __init__(self) -> None:
        self.events: list[tuple[object, ...]] = []

    def start(self, task: str, *, total: float | None, unit: str = "steps") -> None:
        self.events.append(("start", total))

    def advance(self, task: str, amount: float) -> None:
        self.events.append(("advance", amount))

    def finish(self, task: str) -> None:
        self.events.append(("finish",))

    def say(self, line: str) -> None:
        self.events.append(("say", line.strip()))


GOOD = """#0 building with "default" instance using docker driver
#4 [locks 1/2] FROM base
#4 DONE 0.0s
#5 [stage-1 1/4] FROM base
#5 DONE 0.0s
#6 [stage-1 2/4] RUN --mount=type=secret,id=ca export; "${apt[@]}" update
#6 0.512 Get:1 something

#7 [stage-1 3/4] RUN --network=none python3.11 -S /mnt/seal.py /mnt/lock.txt /opt/site-packages torch; x

#6 [stage-1 2/4] RUN --mount=type=secret,id=ca export; "${apt[@]}" update
#6 DONE 14.1s
#7 DONE 9.3s
#9 [stage-1 4/4] WORKDIR /output
#9 CACHED
#8 exporting to oci image format
#8 DONE 3.0s
"""


def test_build_output_becomes_progress() -> None:
    recorder = _Recorder()
    log = buildlog.BuildLog(progress=recorder, task="t")
    for line in GOOD.splitlines():
        log.feed(line)
    log.finish()
    assert (log.cached, log.run) == (["WORKDIR /output"], ["system packages", "layer torch"])
    assert recorder.events[0] == ("start", 4.0)
    assert recorder.events.count(("advance", 1)) == 4
    assert ("say", "layer torch: 9.3s") in recorder.events
    assert recorder.events[-1] == ("finish",)


def test_build_failure_carries_the_end_of_the_failed_step() -> None:
    log = buildlog.BuildLog(progress=_Recorder(), task="t")
    for line in GOOD.splitlines()[:-6]:
        log.feed(line)
    for line in ("#7 3.1 error: hash mismatch", '#7 ERROR: process "x" did not complete: exit code: 2'):
        log.feed(line)
    step, tail = log.failure()
    assert step == "layer torch"
    assert tail.splitlines()[0] == "error: hash mismatch"


def test_build_failure_before_any_step() -> None:
    log = buildlog.BuildLog(progress=_Recorder(), task="t")
    log.feed("ERROR: unknown flag: --x")
    assert log.failure() == ("the build", "ERROR: unknown flag: --x")


def _tar(files: dict[str, bytes], **facts: int) -> io.BytesIO:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            for key, value in facts.items():
                setattr(entry, key, value)
            tar.addfile(entry, io.BytesIO(content))
    stream.seek(0)
    return stream


@pytest.mark.parametrize(
    ("other", "facts", "found"),
    [
        ({"a": b"1", "b": b"2"}, {}, ""),
        ({"a": b"1", "b": b"2", "etc/hosts": b"engine's own"}, {}, ""),
        ({"a": b"1", "b": b"3"}, {}, "b: sha256 "),
        ({"a": b"1", "b": b"22"}, {}, "b: size 1 and 2"),
        ({"a": b"1"}, {}, "b: only in one of them"),
        ({"a": b"1", "aa": b"", "b": b"2"}, {}, "aa: only in one of them"),
        ({"a": b"1", "b": b"2"}, {"mtime": 9}, "a: time 0 and 9"),
        ({"a": b"1", "b": b"2"}, {"mode": 0o600}, "a: mode 0o644 and 0o600"),
    ],
)
def test_first_differing_file(other: dict[str, bytes], facts: dict[str, int], found: str) -> None:
    one = compare.members(_tar({"a": b"1", "b": b"2"}))
    result = compare.difference(one, compare.members(_tar(other, **facts)))
    assert result.startswith(found)
    assert bool(result) == bool(found)


def test_first_differing_setting() -> None:
    one = {"Created": "x", "Config": {"Env": ["A=1"], "Labels": {"l": "1"}}}
    assert compare.settings_difference(one, one) == ""
    other = {"Created": "x", "Config": {"Env": ["A=1"], "Labels": {"l": "2"}}}
    assert compare.settings_difference(one, other) == 'configuration, Config.Labels.l: "1" and "2"'


@pytest.mark.parametrize(
    ("code", "said", "status"),
    [
        (0, {"status": "ok", "detail": "fine"}, "ok"),
        (0, {"status": "needs-gpu", "detail": "none"}, "needs-gpu"),
        (1, {"status": "failed", "detail": "bad"}, "failed"),
        (1, {"status": "ok", "detail": "crashed at exit"}, "failed"),
        (0, {"status": "failed", "detail": "bad"}, "failed"),
        (139, None, "failed"),
        (0, None, "failed"),
        (-1, None, "failed"),
        (0, {"status": "splendid"}, "failed"),
    ],
)
def test_verdict_of_a_check(code: int, said: dict[str, str] | None, status: str) -> None:
    verdict = "noise\n" + (json.dumps(said) if said else "[1]\n")
    assert check.judge(code, verdict, "the log")[0] == status


def test_failed_checks_are_one_error_and_a_missing_gpu_is_none() -> None:
    def outcome(name: str, status: str) -> check.Outcome:
        return check.Outcome(check=name, status=status, detail="why", seconds=0)

    use_cases.judge([outcome("a", "ok"), outcome("b", "needs-gpu"), outcome("c", "left-out")])
    with pytest.raises(CheckError) as caught:
        use_cases.judge([outcome("a", "ok"), outcome("b", "failed"), outcome("c", "failed")])
    assert caught.value.problems == ("b: why", "c: why")


def test_every_check_of_the_manifest_has_its_program(checkout: Path) -> None:
    named = {
        name
        for target in manifest.load(checkout / "images" / "manifest.toml").targets
        for name in target.checks
    }
    programs = {path.stem for path in (checkout / "images" / "checks").glob("[!_]*.py")}
    assert named
    assert named == programs
