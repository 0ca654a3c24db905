"""launcher.app.accelerators for Intel's GPUs: which ones a run gets, and what is refused before the start."""

import json
from typing import Any

import pytest

from launcher import manifest, runs
from launcher import plan as plans
from launcher.app import accelerators
from launcher.app import plan as planning
from launcher.errors import DeviceError, UnfitDeviceError, UsageError
from launcher.host import Host
from launcher.intel import Intel
from launcher.plan import Start
from tests.unit.test_accelerators import chosen, repeated
from tests.unit.test_intel import card

XPU = manifest.shipped().target("xpu")


def arc(count: int = 2, *, known: bool = True, kernel: str = "6.14", **facts: Any) -> Host:
    """A machine with so many Arc Pro B60, beside NVIDIA's GPUs that do not matter."""
    cards = Intel(**{"gpus": tuple(map(card, range(count))), "by_path": True, **facts})
    return Host(
        cpus=8,
        memory=1,
        nvidia=2,
        intel=count,
        render_groups=(992,),
        kernel=kernel,
        cards=cards if known else None,
    )


def arc_with(index: int, **facts: Any) -> Host:
    """A machine with two cards, of which one is otherwise than it should be."""
    return arc(2, gpus=tuple(card(each, **(facts if each == index else {})) for each in range(2)))


def masked(text: str | None = None, host: Host | None = None, **more: Any) -> tuple[str, int]:
    """What is chosen of Intel's cards."""
    return chosen(text, host or arc(), target=XPU, **more)


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, ("", 2)),
        ("auto", ("", 2)),
        ("all", ("", 2)),
        ("1", ("1", 1)),
        ("1, 0", ("1,0", 2)),
        ("0.0", ("0.0", 1)),
    ],
)
def test_intel_gpus_are_chosen(text: str | None, expected: tuple[str, int], known: bool) -> None:
    assert masked(text, arc(known=known)) == expected


def test_what_speaks_first_of_intel_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")  # of the other vendor
    monkeypatch.setenv("ZE_AFFINITY_MASK", "3")
    four = arc(4)
    assert masked(host=four) == ("3", 1)
    assert masked(host=four, setting="2") == ("2", 1)
    assert masked(host=four, setting="all") == masked("all", four) == ("", 4)
    assert masked(host=four, setting="2", mask="1,0") == ("1,0", 2)
    assert masked(host=four, setting="2", mask="") == ("", 4)
    assert masked("0", four, setting="2") == ("0", 1)
    assert masked("auto", four, setting="2") == ("3", 1)
    monkeypatch.setenv("ZE_AFFINITY_MASK", "")
    assert masked(host=four) == ("", 4)


def test_intel_gpus_that_cannot_be_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    for text in ("", "x", "GPU-0a", "0.0.0"):
        with pytest.raises(UsageError, match=r"--gpus: .* is neither a number"):
            masked(text)
    with pytest.raises(UsageError, match="--gpus: GPU 0 is named twice"):
        masked("0.0,0.1")
    with pytest.raises(UsageError, match=r"--gpus: no GPU 2, 5\.0 on this machine") as caught:
        masked("0,2,5.0", dry_run=True)
    assert "GPU 1 (Arc Pro B60, 0000:04:00.0)" in caught.value.hint
    with pytest.raises(UsageError, match="no GPU 2") as caught:
        masked("2", arc(known=False))
    assert caught.value.hint == "there is: 0 to 1"
    with pytest.raises(UsageError, match="--nproc 2, but there are 1 devices"):
        masked("0", nproc=2)
    monkeypatch.setenv("ZE_AFFINITY_MASK", "0.0,0.1")
    with pytest.raises(UsageError, match="ZE_AFFINITY_MASK: GPU 0 is named twice"):
        masked()


def test_no_intel_gpu_at_all() -> None:
    with pytest.raises(DeviceError, match="needs an accelerator"):
        masked("0,1", arc(0))
    notes: list[str] = []
    assert masked("0,1", arc(0), dry_run=True, notes=notes) == ("0,1", 2)
    assert masked(None, arc(0), dry_run=True, notes=notes) == ("", 1)
    assert len(notes) == 2


def test_numbers_beside_an_integrated_gpu() -> None:
    notes: list[str] = []
    assert masked("1", arc(1, others=1), notes=notes) == ("1", 1)
    assert "Level Zero may count" in notes[0]
    assert masked(None, arc(1, others=1)) == ("", 1)
    with pytest.raises(UsageError, match="no GPU 2"):
        masked("2", arc(1, others=1))


def with_arc(bench: Any, host: Host) -> None:
    bench.patch.setattr(planning.host, "facts", lambda: host)


def test_a_plan_names_its_intel_gpus(bench: Any) -> None:
    with_arc(bench, arc(2))
    planned = bench.plan(target="xpu", gpus="1")
    assert (planned.plan.access.gpus, planned.plan.nproc, planned.plan.world_size) == ("1", 1, 1)
    assert planned.host.cards == arc(2).cards
    inside = dict(plans.environment(planned.plan, plans.in_container(planned.plan)))
    assert (inside["ZE_AFFINITY_MASK"], inside["ZE_ENABLE_PCI_ID_DEVICE_ORDER"]) == ("1", "1")
    assert plans.from_json(plans.to_json(planned.plan)) == planned.plan
    every = bench.plan(target="xpu")
    assert every.plan.world_size == 2
    assert "several Intel GPUs, and xccl between them, were not tested here" in "".join(every.notes)
    assert "ZE_AFFINITY_MASK" not in dict(plans.environment(every.plan, plans.in_container(every.plan)))
    assert bench.plan(target="cpu").host.cards is None


def test_a_process_gets_the_plans_mask(bench: Any) -> None:
    with_arc(bench, arc(2))
    bench.patch.setenv("ZE_AFFINITY_MASK", "1")  # of the shell: it made the plan, and says no more

    def mask(**asked: Any) -> tuple[str | None, str | None]:
        planned = bench.plan(target="xpu", engine="venv", **asked)
        request = planned.engine.render(
            planned.plan, runs.folders("RUN_ID", planned.plan), Start(run="RUN_ID")
        )
        environment = dict(request.environment)
        assert "CUDA_DEVICE_ORDER" not in environment
        return environment.get("ZE_AFFINITY_MASK"), environment.get("ZE_ENABLE_PCI_ID_DEVICE_ORDER")

    assert mask() == ("1", "1")
    assert mask(gpus="0,1") == ("0,1", "1")
    assert mask(gpus="all") == (None, None)


def test_level_zeros_variable_for_the_run_is_the_launchers_option(bench: Any) -> None:
    with_arc(bench, arc(2))
    plan = bench.plan(target="xpu", env={"ZE_AFFINITY_MASK": "1", "B": "2"}).plan
    assert (plan.access.gpus, plan.nproc) == ("1", 1)
    assert "ZE_AFFINITY_MASK" not in dict(plan.env)
    assert dict(plan.env)["B"] == "2"
    assert bench.plan(target="cpu", env={"ZE_AFFINITY_MASK": "1"}).plan.access.gpus == ""
    with pytest.raises(UsageError, match="cannot set ZE_AFFINITY_MASK"):
        bench.plan(target="xpu", gpus="0", env={"ZE_AFFINITY_MASK": "1"})


def test_level_zeros_order_is_the_launchers(bench: Any) -> None:
    for name in ("ZE_ENABLE_PCI_ID_DEVICE_ORDER", "ZE_AFFINITY_MASK"):
        with pytest.raises(UsageError, match=f"cannot set {name}"):
            bench.plan(target="xpu", secrets={name: "0"})


def of_intel(host: Host, text: str = "", *, container: bool = True, dry_run: bool = False) -> list[str]:
    """What is noted of machine and choice."""
    notes: list[str] = []
    accelerators.judge(text, XPU, host, dry_run=dry_run, notes=notes)
    accelerators.settle(text, XPU, host, container=container, without=(), dry_run=dry_run, notes=notes)
    return notes


def test_only_chosen_intel_gpus_are_judged() -> None:
    host = arc_with(1, driver="i915")
    assert of_intel(host, "0") == []
    for text in ("1", "1.0", ""):
        with pytest.raises(UnfitDeviceError, match="the target xpu cannot run here") as caught:
            of_intel(host, text)
        assert caught.value.problems[0].startswith("GPU 1")
    assert any("needs xe" in note for note in of_intel(host, dry_run=True))
    with pytest.raises(UnfitDeviceError):  # which of three 0 means is not known
        of_intel(arc(2, gpus=(card(0), card(1, driver="i915")), others=1), "0")


def test_permission_is_for_processes_alone() -> None:
    first = arc_with(0, usable=False)
    assert of_intel(first, "0") == []
    for text in ("0", "1", ""):  # one that cannot be opened would not be counted
        with pytest.raises(UnfitDeviceError) as caught:
            of_intel(first, text, container=False)
        (problem,) = caught.value.problems
        assert "usermod -aG render" in problem
    assert of_intel(arc_with(1, usable=False), "0", container=False) == []


def test_a_container_needs_the_links_by_path() -> None:
    bare = arc(1, by_path=False)
    assert of_intel(bare, container=False) == []
    with pytest.raises(UnfitDeviceError):
        of_intel(bare)
    assert "by-path" in of_intel(bare, dry_run=True)[0]


def test_unknown_intel_gpus_are_not_judged() -> None:
    assert of_intel(arc(2, known=False), "0,1") == []


def test_a_repeated_plan_of_intel_gpus_is_judged_again(bench: Any) -> None:
    with_arc(bench, arc(2))
    made = bench.plan(target="xpu", gpus="1", data=(bench.data(),), model=str(bench.model()))
    raw = json.loads(plans.to_json(made.plan))
    assert repeated(json.dumps(raw)).plan.access.gpus == "1"
    with_arc(bench, arc_with(1, driver="i915"))
    with pytest.raises(UnfitDeviceError):
        repeated(json.dumps(raw))
    with_arc(bench, arc(1))
    for text in ("1", "x"):
        raw["access"]["gpus"] = text
        with pytest.raises(DeviceError, match=f"the plan's GPU {text} is not on this machine"):
            repeated(json.dumps(raw))
    with_arc(bench, arc(0))
    with pytest.raises(DeviceError, match="the plan is for one process"):
        repeated(json.dumps(raw))
