"""launcher.cuda: NVIDIA's rules for drivers and compute capabilities, and how GPUs are named."""

import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher import compatibility, cuda, dockerfile, manifest
from launcher.cuda import Gpu, Nvidia
from launcher.errors import ManifestError
from launcher.image import check
from tests.unit.test_manifest import BASE

CUDA = compatibility.shipped().toolkit("12.8")
assert CUDA is not None
LINUX, WINDOWS = CUDA.linux, CUDA.windows


def gpu(capability: tuple[int, int] = (9, 0), index: int = 0, **more: Any) -> Gpu:
    fields = {"name": "Card", "uuid": f"GPU-{index:08x}-aa", "memory": 80 << 30, **more}
    return Gpu(index=index, capability=capability, **fields)


def judged(driver: str, *gpus: Gpu, architectures: tuple[str, ...] = ("sm_90",), **more: Any) -> cuda.Verdict:
    return cuda.judge(
        Nvidia(driver=driver, **more), gpus or (gpu(),), toolkit="12.8", architectures=architectures
    )


# --------------------------------------------------------------------------------------------- drivers
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("570.86.15", (570, 86, 15)),
        ("525.60.13", (525, 60, 13)),
        ("550.54", (550, 54)),
        ("566.36", (566, 36)),
        ("", None),
        ("570", None),
        ("570.", None),
        ("570.86.15.1", None),
        ("v570.86", None),
        ("570.86 ", None),
        ("[N/A]", None),
        ("٥٧٠.٨٦", None),
    ],
)
def test_versions(text: str, expected: tuple[int, ...] | None) -> None:
    assert cuda.version(text) == expected


@given(numbers=st.lists(st.integers(0, 9999), min_size=2, max_size=3))
def test_every_version_is_read(numbers: list[int]) -> None:
    assert cuda.version(".".join(map(str, numbers))) == tuple(numbers)


@given(text=st.text(max_size=12))
def test_what_is_no_version_is_unknown_and_no_problem(text: str) -> None:
    if cuda.version(text) is None:
        verdict = judged(text)
        assert not verdict.problems
        assert "unknown" in verdict.notes[0]


@pytest.mark.parametrize(
    ("driver", "problem", "note"),
    [
        ("470.256.02", True, False),
        ("525.60.12", True, False),
        ("525.53", True, False),
        ("525.60", False, True),  # it does not say more, and is not refused for that
        ("525.60.13", False, True),
        ("535.104.05", False, True),
        ("550.54", False, True),
        ("570.25", False, True),
        ("570.26", False, False),
        ("570.86.15", False, False),
        ("580.65.06", False, False),
        ("610.10", False, False),
    ],
)
def test_the_drivers_of_cuda_12_8(driver: str, problem: bool, note: bool) -> None:
    verdict = judged(driver)
    assert (bool(verdict.problems), bool(verdict.notes)) == (problem, note)
    if problem:
        assert verdict.problems == (
            f"driver {driver} is too old for CUDA 12.8: update it to 570.26 or newer "
            "(525.60.13 is the oldest that works)",
        )


def test_windows_counts_its_drivers_otherwise() -> None:
    assert judged("526.00", windows=True).problems
    assert not judged("526.00").problems
    assert judged("570.30", windows=True).notes
    assert not judged("570.30").notes


@given(have=st.tuples(st.integers(400, 700), st.integers(0, 300), st.integers(0, 99)))
def test_a_newer_driver_is_never_worse(have: tuple[int, int, int]) -> None:
    def rank(version: tuple[int, ...]) -> int:
        verdict = judged(".".join(map(str, version)))
        return 2 * len(verdict.problems) + len(verdict.notes)

    assert rank((have[0] + 1, *have[1:])) <= rank(have)
    assert rank((*have[:2], have[2] + 1)) <= rank(have)


def test_an_unknown_toolkit_is_not_judged() -> None:
    old = Nvidia(driver="300.1")
    verdict = cuda.judge(old, [gpu()], toolkit="99.9", architectures=("sm_90",))
    assert not verdict.problems
    assert "not checked" in verdict.notes[0]
    assert cuda.judge(old, [gpu((3, 5))], toolkit="", architectures=()) == cuda.Verdict()


def test_every_toolkit_of_the_manifest_has_its_drivers() -> None:
    targets = [target for target in manifest.shipped().targets if target.devices.kind == "nvidia"]
    assert targets
    for target in targets:
        toolkit = compatibility.shipped().toolkit(target.devices.cuda)
        assert toolkit is not None
        assert target.devices.architectures
        for drivers in (toolkit.linux, toolkit.windows):
            own, oldest = cuda.version(drivers.own), cuda.version(drivers.oldest)
            assert own is not None
            assert oldest is not None
            assert oldest < own


# ------------------------------------------------------------------------------------------ capability
@pytest.mark.parametrize(
    ("architecture", "capability", "runs", "compiles"),
    [
        ("sm_80", (8, 0), True, False),
        ("sm_80", (8, 6), True, False),
        ("sm_80", (8, 9), True, False),
        ("sm_86", (8, 0), False, False),
        ("sm_80", (9, 0), False, False),
        ("sm_90", (8, 9), False, False),
        ("sm_100", (10, 0), True, False),
        ("sm_100", (10, 3), True, False),
        ("sm_100", (12, 0), False, False),
        ("sm_120", (12, 1), True, False),
        ("sm_90a", (9, 0), True, False),
        ("sm_100a", (10, 3), False, False),
        ("sm_100f", (10, 3), True, False),
        ("sm_103f", (10, 0), False, False),
        ("compute_120", (12, 0), False, True),
        ("compute_120", (13, 0), False, True),
        ("compute_120", (10, 0), False, False),
        ("compute_86", (9, 0), False, True),
        ("compute_90a", (9, 0), False, True),
        ("compute_90a", (10, 0), False, False),
        ("compute_100f", (10, 3), False, True),
        ("compute_100f", (12, 0), False, False),
    ],
)
def test_binary_and_ptx_compatibility(
    architecture: str, capability: tuple[int, int], runs: bool, compiles: bool
) -> None:
    assert cuda.runs(architecture, capability) is runs
    assert cuda.compiles(architecture, capability) is compiles


capabilities = st.tuples(st.integers(5, 20), st.integers(0, 9))


def written(kind: str, capability: tuple[int, int], suffix: str = "") -> str:
    return f"{kind}_{capability[0]}{capability[1]}{suffix}"


@given(built=capabilities, has=capabilities, suffix=st.sampled_from(["", "a", "f"]))
def test_rules_of_cubins_and_ptx(built: tuple[int, int], has: tuple[int, int], suffix: str) -> None:
    binary, ptx = (
        cuda.runs(written("sm", built, suffix), has),
        cuda.compiles(written("compute", built, suffix), has),
    )
    assert cuda.runs(written("sm", built, suffix), built)
    assert not binary or built[0] == has[0]
    assert not binary or ptx  # what runs could also have been compiled
    assert not ptx or has >= built
    assert not (cuda.runs(written("sm", built, "a"), has) and not binary)  # "a" is the narrowest
    assert not cuda.runs(written("compute", built, suffix), has)
    assert not cuda.compiles(written("sm", built, suffix), has)


@given(text=st.text(max_size=8))
def test_what_is_no_architecture(text: str) -> None:
    if not text.startswith(("sm_", "compute_")):
        with pytest.raises(ValueError, match="no CUDA architecture"):
            cuda.runs(text, (9, 0))


def test_a_card_that_the_wheels_do_not_know() -> None:
    old = gpu((6, 0), name="Tesla P100")
    (problem,) = judged("570.86.15", old, architectures=("sm_75", "sm_90")).problems
    assert problem == (
        "GPU 0 (Tesla P100, compute capability 6.0) is not in the wheels, which are for sm_75 sm_90: "
        "choose others with --gpus"
    )


def test_ptx_needs_the_toolkits_driver() -> None:
    new = gpu((13, 0), name="Next")
    (note,) = judged("580.65.06", new, architectures=("sm_90", "compute_90")).notes
    assert "compiles at the first start" in note
    (problem,) = judged("550.54", new, architectures=("sm_90", "compute_90")).problems
    assert problem.endswith("update the driver to 570.26 or newer")
    assert not judged("", new, architectures=("compute_90",)).problems


def test_packages_that_need_newer_gpus_than_torch() -> None:
    cards = [gpu((7, 5), 0, name="Tesla T4"), gpu((8, 0), 1), gpu((12, 0), 2)]
    (note,) = cuda.without_kernels(cards, [("flash-attn", "8.0")])
    assert note.startswith(
        "flash-attn has no kernels for GPU 0 (Tesla T4, compute capability 7.5), it needs 8.0"
    )
    assert len(cuda.without_kernels(cards, [("a", "8.0"), ("b", "10.0")])) == 3  # 12.0 is not before 8.0
    assert cuda.without_kernels(cards, []) == cuda.without_kernels([], [("a", "8.0")]) == ()


def test_all_problems_at_once() -> None:
    cards = [gpu((6, 0), 0), gpu((9, 0), 1), gpu((7, 0), 2)]
    problems = judged("470.57.02", *cards).problems
    assert [problem.split(" (")[0].split(" is")[0] for problem in problems] == [
        "driver 470.57.02",
        "GPU 0",
        "GPU 2",
    ]


# ----------------------------------------------------------------------------------------------- names
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", ("0",)),
        ("1,0", ("1", "0")),
        ("0, 01", ("0", "1")),
        ("GPU-8932f937-d72c", ("GPU-8932f937-d72c",)),
        ("MIG-1a,3", ("MIG-1a", "3")),
        ("MIG-GPU-8932f937/1/0", ("MIG-GPU-8932f937/1/0",)),
    ],
)
def test_lists(text: str, expected: tuple[str, ...]) -> None:
    assert cuda.names(text) == expected


@pytest.mark.parametrize(
    "text", ["", ",", "0,", "-1", "a", "GPU-", "GPU-x y", "all", "0;1", "0-3", "²", "99999"]
)
def test_what_is_no_list(text: str) -> None:
    with pytest.raises(ValueError, match="neither a number nor a uuid"):
        cuda.names(text)


@pytest.mark.parametrize("text", ["0,0", "1,01", "GPU-aa,0,GPU-aa"])
def test_twice(text: str) -> None:
    with pytest.raises(ValueError, match="named twice"):
        cuda.names(text)


@given(numbers=st.lists(st.integers(0, 9999), min_size=1, unique=True))
def test_every_list_of_numbers(numbers: list[int]) -> None:
    assert cuda.names(",".join(map(str, numbers))) == tuple(map(str, numbers))


@given(text=st.text(max_size=20))
def test_any_text_is_a_list_or_a_value_error(text: str) -> None:
    try:
        found = cuda.names(text)
    except ValueError:
        return
    assert found
    assert cuda.names(",".join(found)) == found


def test_find() -> None:
    cards = [
        gpu(index=0, uuid="GPU-12ab"),
        gpu(index=1, uuid="GPU-12cd", instances=("MIG-77", "MIG-78")),
    ]
    assert cuda.find("1", cards) == ("1", cards[1])
    assert cuda.find("GPU-12c", cards) == ("GPU-12cd", cards[1])
    assert cuda.find("MIG-78", cards) == ("MIG-78", cards[1])
    for name in ("2", "GPU-12", "GPU-ff", "MIG-7", "MIG-9"):
        assert cuda.find(name, cards) is None


# ------------------------------------------------------------------------------------------ the record
def devices(text: str) -> manifest.Devices:
    return manifest.parse(f"{BASE}[targets.a.devices]\n{text}").target("c").devices


def test_the_manifest_records_what_the_wheels_are_for() -> None:
    found = devices('kind = "nvidia"\ncuda = "12.8"\narchitectures = ["sm_90a", "sm_120", "compute_120"]')
    assert (found.cuda, found.architectures) == ("12.8", ("sm_90a", "sm_120", "compute_120"))
    pinned = BASE.replace('"torch==1.0"', '"torch==1.0", "attention"')
    told = '[targets.a.devices]\nkind = "nvidia"\nminimum = { torch = "8.0", attention = "10.3" }'
    pairs = manifest.parse(pinned + told).target("c").devices.minimum
    assert pairs == (("attention", "10.3"), ("torch", "8.0"))
    assert devices('kind = "nvidia"').minimum == ()
    assert (devices('kind = "nvidia"').cuda, devices('kind = "nvidia"').architectures) == ("", ())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('kind = "nvidia"\ncuda = "twelve"', "devices.cuda"),
        ('kind = "nvidia"\narchitectures = ["sm_90", "sm90"]', "devices.architectures.1"),
        ('kind = "nvidia"\narchitectures = ["compute_120b"]', "devices.architectures.0"),
        ('kind = "nvidia"\nminimum = { torch = "8" }', "devices.minimum.torch"),
        ('kind = "nvidia"\nminimum = { torch = "08.0" }', "devices.minimum.torch"),
        ('kind = "nvidia"\nminimum = { Torch = "8.0" }', "devices.minimum.Torch"),
        ('kind = "nvidia"\nminimum = { other = "8.0" }', "other has a minimum, and no layer pins it"),
        ('minimum = { torch = "8.0" }', "not of the kind none"),
        ('kind = "intel"\ncuda = "12.8"', "not of the kind intel"),
        ('architectures = ["sm_90"]', "not of the kind none"),
    ],
)
def test_a_record_that_cannot_be(text: str, said: str) -> None:
    with pytest.raises(ManifestError) as caught:
        devices(text)
    assert said in caught.value.problems[0]


def test_images_say_what_they_are_for() -> None:
    common = {"lock_digest": "a", "digest": "b", "base": "c", "installer": "uv 0", "revision": ""}
    for name, expected in (("cpu", None), ("cuda", "12.8"), ("cuda-vllm", "12.8"), ("xpu", None)):
        found = dict(dockerfile.labels(manifest.shipped().target(name), unreproducible="", **common))
        assert found.get("launch.cuda") == expected
        assert ("sm_90" in found.get("launch.architectures", "").split()) is (expected is not None)


def test_the_check_of_an_image_is_told_the_record(tmp_path: Path) -> None:
    def environment(name: str) -> dict[str, str]:
        target = manifest.shipped().target(name)
        inputs = SimpleNamespace(
            target=target, lock=SimpleNamespace(layers=(), drivers=None), folder=tmp_path
        )
        told: dict[str, str] = check.request(inputs, "device", ())["environment"]  # type: ignore[arg-type]
        return told

    assert environment("cuda")["CUDA"] == "12.8"
    assert "sm_90" in environment("cuda")["ARCHITECTURES"].split()
    assert environment("cuda")["MINIMUM"] == environment("cuda-vllm")["MINIMUM"] == "flash-attn=8.0"
    assert [environment("cpu")[name] for name in ("CUDA", "ARCHITECTURES", "MINIMUM")] == ["", "", ""]


class Failed(Exception):  # noqa: N818 - as images/checks/_common.py has them
    pass


class NeedsGpu(Exception):  # noqa: N818
    pass


@pytest.fixture
def part_of(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], Callable[..., Any]]:
    """``part_of(check, function)``: one function of a check's program, which is not run."""
    shared = ("Failed", "NeedsGpu", "a_gpu", "canonical", "device", "main", "require")
    common = SimpleNamespace(**dict.fromkeys(shared, lambda *_: None))
    common.Failed, common.NeedsGpu = Failed, NeedsGpu
    monkeypatch.setitem(sys.modules, "_common", common)
    monkeypatch.syspath_prepend(checkout / "images" / "checks" / "shared")

    def found(check: str, function: str) -> Callable[..., Any]:
        part = runpy.run_path(str(checkout / "images" / "checks" / f"{check}.py"))[function]
        assert callable(part)
        return part  # type: ignore[no-any-return]

    return found


Part = Callable[[str, str], Callable[..., Any]]


@pytest.fixture
def device_check(part_of: Part, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """``device_check(cuda, architectures)``: what torch has, against the record 12.8 for sm_80 and sm_90."""
    for name, value in (("CUDA", "12.8"), ("ARCHITECTURES", "sm_80 sm_90"), ("TARGET", "cuda")):
        monkeypatch.setenv(name, value)
    return part_of("device", "recorded")


def test_the_check_of_a_device_believes_the_launcher(part_of: Part, monkeypatch: pytest.MonkeyPatch) -> None:
    present = part_of("device", "present")
    monkeypatch.delenv("GPU_PRESENT", raising=False)
    assert not present(True)
    monkeypatch.setenv("GPU_PRESENT", "1")
    assert present(True)


def test_a_gpu_that_flash_attn_has_no_kernels_for(part_of: Part, monkeypatch: pytest.MonkeyPatch) -> None:
    require_kernels = part_of("flash-attn", "require_kernels")
    monkeypatch.setenv("MINIMUM", "flash-attn=8.0 other=12.0")
    said = r"needs a GPU of compute capability 8\.0 or newer, here is Tesla T4 \(7\.5\)"
    with pytest.raises(NeedsGpu, match=said):
        require_kernels((7, 5), "Tesla T4")
    require_kernels((8, 0), "A100")
    require_kernels((12, 0), "RTX 5090")
    monkeypatch.delenv("MINIMUM")
    require_kernels((7, 5), "Tesla T4")


def test_triton_counts_gpus_without_suffixes(part_of: Part) -> None:
    names = ["sm_80", "sm_90", "sm_90a", "sm_100f", "sm_100a"]
    assert part_of("triton", "capabilities")(names) == [80, 90, 100]


@pytest.mark.parametrize(
    ("has", "said"),
    [
        (("12.8", "sm_90 sm_80"), None),
        (("12.9", "sm_80 sm_90"), "cuda '12.8', torch has '12.9'"),
        (("12.8", "sm_80"), "torch has 'sm_80'"),
        (("12.8", "sm_80 sm_90 sm_100"), "architectures"),
        (("12.8", ""), "torch has ''"),
    ],
)
def test_a_stale_record_fails_the_check(
    device_check: Callable[..., Any], has: tuple[str, str], said: str | None
) -> None:
    if said is None:
        device_check(*has)
    else:
        with pytest.raises(Exception, match=said):
            device_check(*has)
