"""launcher.app.accelerators: which GPUs a run gets, and what is refused before the start."""

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher import manifest
from launcher import plan as plans
from launcher.app import accelerators, place
from launcher.app import plan as planning
from launcher.app.wishes import Asked
from launcher.cuda import Gpu, Nvidia
from launcher.engines.docker import DockerEngine
from launcher.errors import DeviceError, UnfitDeviceError, UsageError
from launcher.host import Host
from launcher.manifest import Target
from launcher.progress import Silent
from launcher.settings import Setting
from tests.unit.conftest import fake_lock

CUDA = manifest.shipped().target("cuda")


def gpus(*capabilities: tuple[int, int], name: str = "NVIDIA H200") -> tuple[Gpu, ...]:
    return tuple(
        Gpu(index=index, name=name, uuid=f"GPU-{index}a-{index}b", memory=1, capability=capability)
        for index, capability in enumerate(capabilities)
    )


def machine(count: int = 2, cards: Nvidia | None = None) -> Host:
    """A machine whose kernel driver shows so many GPUs; of Hopper's kind unless others are given."""
    cards = cards or Nvidia(driver="570.86.15", gpus=gpus(*[(9, 0)] * count))
    return Host(cpus=8, memory=1, nvidia=count, intel=1, render_groups=(), kernel="6", cards=cards)


def chosen(
    text: str | None = None,
    host: Host | None = None,
    *,
    target: Target = CUDA,
    setting: str = "auto",
    notes: list[str] | None = None,
    dry_run: bool = False,
    **asked: Any,
) -> tuple[str, int]:
    return accelerators.choose(
        Asked(gpus=text, **asked),
        Setting(value=setting, origin="LAUNCH_GPUS"),
        target,
        host or machine(),
        dry_run=dry_run,
        notes=[] if notes is None else notes,
    )


def judged(cards: Nvidia, text: str = "all", *, dry_run: bool = False) -> list[str]:
    notes: list[str] = []
    host = machine(len(cards.gpus or (1,)), cards)
    accelerators.judge(text, CUDA, host, dry_run=dry_run, notes=notes)
    return notes


# -------------------------------------------------------------------------------------------- choosing
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, ("all", 2)),
        ("auto", ("all", 2)),
        ("all", ("all", 2)),
        ("1", ("1", 1)),
        ("1,0", ("1,0", 2)),
        ("GPU-1a", ("GPU-1a-1b", 1)),
    ],
)
def test_the_command_line_chooses(text: str | None, expected: tuple[str, int]) -> None:
    assert chosen(text) == expected


def test_what_speaks_first(monkeypatch: pytest.MonkeyPatch) -> None:
    four = machine(4)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    assert chosen(host=four) == ("3", 1)
    assert chosen(host=four, setting="2") == ("2", 1)
    assert chosen(host=four, setting="all") == ("all", 4)
    assert chosen(host=four, setting="2", visible="1,0") == ("1,0", 2)
    assert chosen("0", four, setting="2") == ("0", 1)
    assert chosen("auto", four, setting="2") == ("3", 1)


@pytest.mark.parametrize(("value", "expected"), [("0,-1,1", "0"), ("1, 0", "1,0"), ("GPU-0a-", "GPU-0a-0b")])
def test_cudas_variable_is_read_as_cuda_reads_it(
    monkeypatch: pytest.MonkeyPatch, value: str, expected: str
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
    assert chosen()[0] == expected


@pytest.mark.parametrize("value", ["", "-1", "NoDevFiles", "-1,0"])
def test_hidden_gpus(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
    with pytest.raises(DeviceError, match="CUDA_VISIBLE_DEVICES hides every GPU") as caught:
        chosen()
    assert "--gpus all" in caught.value.hint
    notes: list[str] = []
    assert chosen(dry_run=True, notes=notes) == ("", 1)
    assert "hides every GPU" in notes[0]
    assert chosen("all") == ("all", 2)


@pytest.mark.parametrize("value", ["", "-1", "NoDevFiles"])
def test_hidden_gpus_are_no_reason_for_cuda(bench: Any, value: str) -> None:
    def target(**asked: Any) -> tuple[str, str]:
        planned = bench.plan(**asked)
        (note,) = [note for note in planned.notes if note.startswith("target ")]
        return planned.plan.target, note

    assert target()[0] == "cuda"
    name, note = target(env={"CUDA_VISIBLE_DEVICES": value})
    assert (name, note) == (
        "xpu",
        "target xpu: --env CUDA_VISIBLE_DEVICES hides every NVIDIA GPU; 1 Intel GPU(s) in /sys/class/drm",
    )
    without_intel = replace(bench.plan().host, intel=0)
    bench.patch.setattr(planning.host, "facts", lambda: without_intel)
    bench.patch.setenv("CUDA_VISIBLE_DEVICES", value)
    for asked in ({}, {"gpus": "auto"}, {"target": "auto"}):
        assert target(**asked) == ("cpu", "target cpu: CUDA_VISIBLE_DEVICES hides every NVIDIA GPU")
    assert target(gpus="all")[0] == target(gpus="1")[0] == "cuda"
    with pytest.raises(DeviceError, match="hides every GPU from the target cuda"):
        started(bench)
    dry = bench.plan(target="cuda")
    assert dry.plan.access.gpus == ""
    no_gpu = replace(without_intel, nvidia=0)
    bench.patch.setattr(planning.host, "facts", lambda: no_gpu)
    assert target() == ("cpu", "target cpu: no NVIDIA or discrete Intel GPU was found")


@pytest.mark.parametrize("text", ["", "x", "0,", "0;1", "-1", "0-1", "none"])
def test_what_is_no_list(text: str) -> None:
    with pytest.raises(UsageError, match=r"--gpus: .* is neither a number nor a uuid"):
        chosen(text)
    with pytest.raises(UsageError):  # a typing mistake needs no machine to be one
        chosen(text, machine(0), dry_run=True)


@pytest.mark.parametrize("text", ["0,0", "0,00", "0,GPU-0a", "GPU-0a,GPU-0a-"])
def test_a_gpu_is_named_once(text: str) -> None:
    with pytest.raises(UsageError, match="twice"):
        chosen(text)


@pytest.mark.parametrize("dry_run", [False, True])
def test_gpus_that_are_not_there(dry_run: bool) -> None:
    with pytest.raises(UsageError, match="--gpus: no GPU 2, GPU-ff on this machine") as caught:
        chosen("0,2,GPU-ff", dry_run=dry_run)
    assert "GPU 1 (NVIDIA H200, compute capability 9.0)" in caught.value.hint
    with pytest.raises(UsageError, match=r"gpus \(from LAUNCH_GPUS\): no GPU 7") as caught:
        chosen(setting="7", host=machine(2, Nvidia(unknown="NVML: no library")), dry_run=dry_run)
    assert caught.value.hint == "there is: 0 to 1"


def test_uuids_are_believed_when_nobody_can_be_asked() -> None:
    assert chosen("GPU-ff,1", machine(2, Nvidia())) == ("GPU-ff,1", 2)


def test_no_gpu_at_all() -> None:
    for text in (None, "0,1"):
        with pytest.raises(DeviceError, match="needs an accelerator"):
            chosen(text, machine(0))
    notes: list[str] = []
    assert chosen("0,1", machine(0), dry_run=True, notes=notes) == ("0,1", 2)
    assert chosen(None, machine(0), dry_run=True, notes=notes) == ("all", 1)
    assert [note.rsplit(": ", 1)[1] for note in notes] == [
        "planned for 2 processes",
        "planned for one process",
    ]


def test_processes() -> None:
    assert chosen("0,1", nproc=1) == ("0,1", 1)
    with pytest.raises(UsageError, match="--nproc 2, but there are 1 devices"):
        chosen("0", nproc=2)
    with pytest.raises(UsageError, match="--nproc 3"):
        chosen("0,1", machine(0), nproc=3, dry_run=True)


@given(picked=st.lists(st.integers(0, 7), min_size=1, max_size=8, unique=True))
def test_every_choice_of_eight(picked: list[int]) -> None:
    text = ",".join(map(str, picked))
    assert chosen(text, machine(8)) == (text, len(picked))
    assert chosen(",".join(f"GPU-{number}a" for number in picked), machine(8))[1] == len(picked)


def test_a_batch_jobs_share_is_named_by_uuid(monkeypatch: pytest.MonkeyPatch) -> None:
    share = machine(8, Nvidia(driver="570.86.15", gpus=gpus((9, 0), (9, 0))))
    assert chosen(host=share) == ("GPU-0a-0b,GPU-1a-1b", 2)
    assert chosen("1", share) == ("GPU-1a-1b", 1)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert chosen(host=share) == ("GPU-0a-0b", 1)
    with pytest.raises(UsageError, match="no GPU 2"):
        chosen("2", share)
    with pytest.raises(DeviceError, match="may use none of the 8"):
        chosen("all", machine(8, Nvidia(driver="570.86.15", gpus=())))


def test_numbers_of_unlike_cards(monkeypatch: pytest.MonkeyPatch) -> None:
    mixed = machine(2, Nvidia(gpus=(gpus((9, 0))[0], replace(gpus((9, 0), (8, 0))[1], name="NVIDIA A100"))))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    notes: list[str] = []
    assert chosen(host=mixed, notes=notes) == ("1", 1)
    assert "the fastest GPU first" in notes[0]
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    notes.clear()
    chosen(host=mixed, notes=notes)
    assert not notes


def test_mig() -> None:
    (card, other) = gpus((9, 0), (9, 0))
    host = machine(2, Nvidia(driver="570.86.15", gpus=(replace(card, instances=("MIG-1", "MIG-2")), other)))
    assert chosen("MIG-2", host) == ("MIG-2", 1)
    for text in ("MIG-1,MIG-2", "1,MIG-1"):
        with pytest.raises(UsageError, match="a MIG instance can only be used alone"):
            chosen(text, host)
    with pytest.raises(UsageError, match="no GPU MIG-3"):
        chosen("MIG-3", host)
    assert host.cards
    assert judged(host.cards, "MIG-2") == judged(host.cards, "1") == []
    with pytest.raises(UnfitDeviceError) as caught:
        judged(host.cards)
    assert "divided into MIG instances" in caught.value.problems[0]


def test_the_cpu_has_no_gpus(bench: Any) -> None:
    for text in ("0", "all", "x"):
        with pytest.raises(UsageError, match="cpu uses no GPUs"):
            bench.plan(target="cpu", gpus=text)
    bench.patch.setenv("LAUNCH_GPUS", "1")  # a setting is for the targets that it fits
    bench.patch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    for text in (None, "auto"):
        assert bench.plan(target="cpu", gpus=text).plan.access.gpus == ""


# --------------------------------------------------------------------------------------------- judging
def test_all_problems_at_once_each_with_its_fix() -> None:
    cards = Nvidia(driver="470.57.02", gpus=gpus((6, 0), (9, 0), name="Tesla P100"))
    with pytest.raises(UnfitDeviceError) as caught:
        judged(cards)
    assert caught.value.exit_code == DeviceError.exit_code
    driver, card = caught.value.problems
    assert "update it to 570.26 or newer" in driver
    assert card.startswith(
        "GPU 0 (Tesla P100, compute capability 6.0) is not in the wheels, which are for sm_70"
    )
    assert "--gpus" in card
    assert judged(cards, dry_run=True) == list(caught.value.problems)


def test_only_chosen_gpus_are_judged() -> None:
    cards = Nvidia(driver="570.86.15", gpus=gpus((6, 0), (9, 0)))
    assert judged(cards, "1") == judged(cards, "GPU-1a-1b") == []
    with pytest.raises(UnfitDeviceError):
        judged(cards, "0")


@pytest.mark.parametrize(
    "capability", [(7, 0), (7, 5), (8, 0), (8, 6), (8, 9), (9, 0), (10, 0), (10, 3), (12, 0)]
)
def test_cards_that_the_wheels_are_for(capability: tuple[int, int]) -> None:
    assert judged(Nvidia(driver="570.26", gpus=gpus(capability))) == []


def test_what_is_unknown_is_a_note_and_no_refusal() -> None:
    notes = judged(Nvidia(unknown="NVML: Driver/library version mismatch"))
    assert notes[0] == "the GPUs were not checked: NVML: Driver/library version mismatch"
    assert "version is unknown" in notes[1]
    with pytest.raises(UnfitDeviceError):  # /proc says enough
        judged(Nvidia(driver="470.57.02", unknown="NVML: no library"))


# ---------------------------------------------------------------------------------------- through plans
def with_cards(bench: Any, cards: Nvidia) -> None:
    bench.patch.setattr(accelerators.nvidia, "facts", lambda: cards)


def test_a_plan_names_its_gpus(bench: Any) -> None:
    with_cards(bench, Nvidia(driver="570.86.15", gpus=gpus((9, 0), (9, 0))))
    planned = bench.plan(target="cuda", gpus="1")
    assert (planned.plan.access.gpus, planned.plan.nproc, planned.plan.world_size) == ("1", 1, 1)
    assert planned.host.cards.driver == "570.86.15"
    inside = dict(plans.environment(planned.plan, plans.in_container(planned.plan)))
    assert inside["NVIDIA_VISIBLE_DEVICES"] == "1"
    assert plans.from_json(plans.to_json(planned.plan)) == planned.plan
    every = bench.plan(target="cuda").plan
    assert dict(plans.environment(every, plans.in_container(every)))["NVIDIA_VISIBLE_DEVICES"] == "all"


def test_cudas_variable_for_the_run_is_the_launchers_option(bench: Any) -> None:
    plan = bench.plan(target="cuda", env={"CUDA_VISIBLE_DEVICES": "1", "B": "2"}).plan
    assert (plan.access.gpus, plan.nproc) == ("1", 1)
    assert "CUDA_VISIBLE_DEVICES" not in dict(plan.env)
    assert dict(plan.env)["B"] == "2"
    assert bench.plan(target="cpu", env={"CUDA_VISIBLE_DEVICES": "1"}).plan.access.gpus == ""
    for more in (
        {"gpus": "0", "env": {"CUDA_VISIBLE_DEVICES": "1"}},
        {"secrets": {"CUDA_VISIBLE_DEVICES": "1"}},
        {"env": {"CUDA_VISIBLE_DEVICES": "0"}, "secrets": {"CUDA_VISIBLE_DEVICES": "1"}},
    ):
        with pytest.raises(UsageError, match="cannot set CUDA_VISIBLE_DEVICES"):
            bench.plan(target="cuda", **more)


def started(bench: Any, **asked: Any) -> planning.Planned:
    there = place.Place(engine=DockerEngine(), image="finetune:cuda-0", lock=fake_lock())
    bench.patch.setattr(place, "choose", lambda *_, **__: there)
    asked = {"data": (bench.data(),), "model": asked.get("model") or str(bench.model()), **asked}
    planned: planning.Planned = bench.plan(target="cuda", dry_run=False, **asked)
    return planned


def test_a_start_is_refused_and_a_dry_run_says_so(bench: Any) -> None:
    with_cards(bench, Nvidia(driver="470.57.02", gpus=gpus((9, 0), (9, 0))))
    assert any("too old for CUDA 12.8" in note for note in bench.plan(target="cuda").notes)
    with pytest.raises(UnfitDeviceError, match="the target cuda cannot run here"):
        started(bench)


def repeated(text: str) -> planning.Planned:
    return planning.read(text, "plan.json", {}, progress=Silent())


def test_a_repeated_plan_is_judged_again(bench: Any) -> None:
    cards = Nvidia(driver="570.86.15", gpus=gpus((9, 0), (9, 0)))
    with_cards(bench, cards)
    text = plans.to_json(started(bench, gpus="0,1").plan)
    assert repeated(text).host.cards == cards
    with_cards(bench, replace(cards, driver="550.54"))
    assert "minor-version compatibility" in repeated(text).notes[0]
    with_cards(bench, replace(cards, driver="470.57.02"))
    with pytest.raises(UnfitDeviceError):
        repeated(text)
    with_cards(bench, replace(cards, gpus=cards.gpus[:1] if cards.gpus else None))
    with pytest.raises(DeviceError, match="the plan is for 2 processes"):
        repeated(text)
    raw = json.loads(text)
    raw["access"]["gpus"], raw["nproc"] = "5", 1
    with pytest.raises(DeviceError, match="the plan's GPU 5 is not on this machine"):
        repeated(json.dumps(raw))


def test_a_plan_that_was_made_while_gpus_were_hidden_has_none(bench: Any) -> None:
    bench.patch.setenv("CUDA_VISIBLE_DEVICES", "")
    text = plans.to_json(bench.plan(target="cuda", data=(bench.data(),), model=str(bench.model())).plan)
    bench.patch.delenv("CUDA_VISIBLE_DEVICES")
    with pytest.raises(DeviceError, match="the plan has no GPU"):
        repeated(text)


def test_kernels_that_old_gpus_lack_are_a_note(bench: Any) -> None:
    turing = gpus((8, 0), (7, 5), name="Tesla T4")
    with_cards(bench, Nvidia(driver="570.86.15", gpus=turing))
    said = "flash-attn has no kernels for GPU 1 (Tesla T4, compute capability 7.5), it needs 8.0"

    def notes(**asked: Any) -> list[str]:
        return [note for note in bench.plan(**{"target": "cuda", **asked}).notes if "flash-attn" in note]

    (note,) = notes()
    assert note == f"{said}: attention falls to other kernels unless the recipe asks for it"
    assert notes(gpus="1") == [note]
    assert notes(gpus="0") == notes(target="cpu") == []
    planned = started(bench)
    assert note in planned.notes
    text = plans.to_json(planned.plan)
    assert note in repeated(text).notes
    raw = {**json.loads(text), "without": ["flash-attn"], "lock_digest": fake_lock().without(["x"]).digest}
    assert note not in repeated(json.dumps(raw)).notes
    partial = place.Place(
        engine=DockerEngine(), image="finetune:cuda-0", lock=fake_lock(left_out=["flash-attn"])
    )
    bench.patch.setattr(place, "choose", lambda *_, **__: partial)
    assert notes() == []


def wsl(count: int = 2) -> Nvidia:
    return Nvidia(driver="572.16", gpus=gpus(*[(8, 9)] * count, name="RTX 4090"), windows=True)


def test_containers_in_wsl_get_all_gpus(bench: Any) -> None:
    with_cards(bench, wsl())
    for text in (None, "all", "0,1", "1,GPU-0a"):
        assert bench.plan(target="cuda", gpus=text).plan.access.gpus == "all"
    assert "a container in WSL gets all 2 GPUs, not only 1" in bench.plan(target="cuda", gpus="1").notes
    raw = json.loads(plans.to_json(started(bench).plan))
    with pytest.raises(DeviceError, match="not only 1") as caught:
        started(bench, gpus="1", model=raw["model"]["name"])
    assert "--engine venv" in caught.value.hint
    raw["access"]["gpus"], raw["nproc"] = "0", 1
    with pytest.raises(DeviceError, match="not only 0"):
        repeated(json.dumps(raw))


def test_a_process_in_wsl_keeps_to_its_gpus(bench: Any) -> None:
    with_cards(bench, wsl())
    plan = bench.plan(target="cuda", engine="venv", gpus="1").plan
    assert (plan.engine, plan.access.gpus) == ("venv", "1")


def test_a_dry_run_without_gpus_plans_the_named_ones(bench: Any) -> None:
    with_cards(bench, Nvidia(windows=True, unknown="NVML: no library"))
    bare = replace(bench.plan(target="cpu").host, nvidia=0)
    bench.patch.setattr(planning.host, "facts", lambda: bare)
    assert bench.plan(target="cuda", gpus="1").plan.access.gpus == "1"


def test_a_plan_from_before_gpus_were_chosen(bench: Any) -> None:
    raw = json.loads(plans.to_json(started(bench).plan))
    assert raw["access"]["gpus"] == "all"
    assert repeated(json.dumps(raw)).plan.access.gpus == "all"


def test_a_cpu_plan_asks_no_gpu(bench: Any) -> None:
    def asked() -> Nvidia:
        raise AssertionError("NVML was asked")

    bench.patch.setattr(accelerators.nvidia, "facts", asked)
    planned = bench.plan(target="cpu", data=(bench.data(),), model=str(bench.model()))
    assert planned.host.cards is None
    repeated(plans.to_json(planned.plan))


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["run", "bge-m3-unified", "--help"]])
def test_help_and_cpu_plans_import_no_nvml(bench: Any, arguments: Sequence[str]) -> None:
    from click.testing import CliRunner

    from launcher import cli

    bench.patch.delitem(sys.modules, "pynvml", raising=False)
    assert CliRunner().invoke(cli.root, list(arguments), prog_name="launch").exit_code == 0
    bench.plan(target="cpu")
    assert "pynvml" not in sys.modules
