"""launcher.intel: names, numbers and judgement of Intel's cards."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher import compatibility, intel
from launcher.intel import Gpu, Intel


def card(index: int = 0, device: str = "e211", **facts: Any) -> Gpu:
    """A card on which nothing is wrong, unless it is given otherwise."""
    given_facts: dict[str, Any] = {
        "name": intel.name(device),
        "address": f"0000:{3 + index:02x}:00.0",
        "driver": "xe" if device.startswith("e2") else "i915",
        "bar": 32 << 30,
        "node": f"/dev/dri/renderD{128 + index}",
        "gid": 992,
        "group": "render",
        "mode": "0660",
        "usable": True,
    }
    return Gpu(index=index, device=device, **{**given_facts, **facts})


@pytest.mark.parametrize(
    ("device", "family", "name"),
    [
        ("e211", "Arc B (Battlemage)", "Arc Pro B60"),
        ("e20b", "Arc B (Battlemage)", "Arc B580"),
        ("e223", "Arc B (Battlemage)", "Arc B (Battlemage)"),
        ("56a0", "Arc A (Alchemist)", "Arc A770"),
        ("5690", "Arc A (Alchemist)", "Arc A (Alchemist)"),
        ("56c0", "Data Center GPU Flex", "Data Center GPU Flex 170"),
        ("0bd5", "Data Center GPU Max", "Data Center GPU Max 1550"),
        ("0be5", "Data Center GPU Max", "Data Center GPU Max"),
    ],
)
def test_families(device: str, family: str, name: str) -> None:
    found = intel.family(device)
    assert found
    assert (found.name, intel.name(device)) == (family, name)


@pytest.mark.parametrize("device", ["a780", "46a6", "9a49", "7d55", "64a0", "b080", "4905", ""])
def test_what_is_no_card(device: str) -> None:
    assert intel.family(device) is None
    assert intel.name(device) == device


def test_every_name_is_of_a_family() -> None:
    families = compatibility.shipped().families
    assert sum(len(each.names) for each in families) >= 10
    for each in families:
        assert all(intel.family(device) == each for device, _ in each.names)


def test_a_card_for_people() -> None:
    assert str(card()) == "GPU 0 (Arc Pro B60, 0000:03:00.0)"
    assert str(card(address="")) == "GPU 0 (Arc Pro B60, /dev/dri/renderD128)"


# --------------------------------------------------------------------------------------------- judging
@pytest.mark.parametrize(
    ("device", "kernel"),
    [("e211", "6.12.0"), ("e211", "6.14.0-27-generic"), ("56a0", "6.2"), ("0bd5", "5.15")],
)
def test_nothing_to_say(device: str, kernel: str) -> None:
    assert intel.judge([card(device=device)], kernel=kernel) == intel.Verdict()


def test_a_driver_that_is_not_the_cards() -> None:
    verdict = intel.judge([card(driver="i915")], kernel="6.8.0-45-generic")
    (problem,) = verdict.problems
    assert problem.startswith("GPU 0 (Arc Pro B60, 0000:03:00.0) has the kernel driver i915")
    assert "needs xe" in problem
    assert "6.12" in problem
    assert verdict.notes == ()
    for fine in (card(driver=""), card(device="56a0", driver="xe"), card(device="56a0", driver="i915")):
        assert intel.judge([fine], kernel="6.14").problems == ()


@pytest.mark.parametrize(
    ("device", "kernel", "since"), [("e20b", "6.11.9", "6.12"), ("56a1", "6.1.0-28-amd64", "6.2")]
)
def test_old_kernels_are_a_note(device: str, kernel: str, since: str) -> None:
    verdict = intel.judge([card(device=device)], kernel=kernel)
    assert verdict.problems == ()
    (note,) = verdict.notes
    assert f"Linux {kernel} is older than {since}" in note


@pytest.mark.parametrize("kernel", ["", "unknown", "six.twelve"])
def test_an_unknown_kernel_is_none(kernel: str) -> None:
    assert intel.release(kernel) is None
    assert intel.judge([card()], kernel=kernel) == intel.Verdict()


@pytest.mark.parametrize(("bar", "said"), [(0, False), (256 << 20, True), (512 << 20, False)])
def test_small_bars_are_a_note(bar: int, said: bool) -> None:
    notes = intel.judge([card(bar=bar)], kernel="6.14").notes
    assert [note.startswith("GPU 0 (Arc Pro B60, 0000:03:00.0): Resizable BAR is off") for note in notes] == (
        [True] if said else []
    )


def test_several_cards_are_a_note() -> None:
    (note,) = intel.judge([card(0), card(1)], kernel="6.14").notes
    assert "xccl" in note
    assert "CCL_ALLREDUCE=ring" in note


# -------------------------------------------------------------------------------------------- reaching
def test_a_container_needs_the_links_and_no_permission() -> None:
    mine = card(usable=False)
    assert intel.reach(Intel(gpus=(mine,), by_path=True), [mine], container=True) == ()
    (problem,) = intel.reach(Intel(gpus=(mine,)), [mine], container=True)
    assert "/dev/dri/by-path" in problem


@pytest.mark.parametrize(
    ("facts", "fix"),
    [
        ({}, "sudo usermod -aG render $USER"),
        ({"gid": 44, "group": "video"}, "sudo usermod -aG video $USER"),
        ({"group": ""}, "the group id 992, which has no name here"),
        ({"gid": 0, "group": "root"}, "(group root, mode 0660): udev's rules"),
        ({"mode": "0600"}, "(group render, mode 0600): udev's rules"),
        ({"gid": None, "group": "", "mode": ""}, "/dev/dri/renderD128 is not there"),
    ],
)
def test_a_process_needs_permission(facts: dict[str, Any], fix: str) -> None:
    cards = Intel(gpus=(card(usable=False, **facts), card(1)))
    (problem,) = intel.reach(cards, cards.gpus, container=False)
    assert fix in problem
    assert "usermod -aG root" not in problem
    assert intel.reach(cards, cards.gpus[1:], container=False) == ()


# --------------------------------------------------------------------------------------------- choosing
@pytest.mark.parametrize(
    ("text", "expected"),
    [("0", ("0",)), ("1, 0", ("1", "0")), ("00", ("0",)), ("0.0", ("0.0",)), ("0.1,1.0", ("0.1", "1.0"))],
)
def test_lists(text: str, expected: tuple[str, ...]) -> None:
    assert intel.names(text) == expected


@pytest.mark.parametrize("text", ["", "x", "0,", "-1", "0.", "0.0.0", "0-1", "GPU-1", "0;1", "٣"])
def test_what_is_no_list(text: str) -> None:
    with pytest.raises(ValueError, match="is neither a number nor one with a sub-device"):
        intel.names(text)


@pytest.mark.parametrize("text", ["0,0", "0,00", "0.0,0.1", "1,1.0"])
def test_a_card_is_named_once(text: str) -> None:
    with pytest.raises(ValueError, match=r"GPU [01] is named twice"):
        intel.names(text)


@given(text=st.text(alphabet="0123.,x -", max_size=12))
def test_any_text_is_a_list_or_an_error(text: str) -> None:
    try:
        found = intel.names(text)
    except ValueError:
        return
    assert intel.names(",".join(found)) == found
    assert all(re.fullmatch(r"[0-9]+(\.[0-9]+)?", each) for each in found)
    assert len({intel.number(each) for each in found}) == len(found)
