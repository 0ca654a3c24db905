"""Refusals of a recipe's header: the launcher and the reader that plain bash uses say the same."""

import io
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher import recipe
from launcher.errors import RecipeError, RefusedError, UsageError
from launcher.recipe import refusals
from tests.unit.test_recipe import HEADER, as_recipe, changed, header_program, parse

__all__ = ["header_program"]

#: Conditions, what is given (parameters, raw arguments), and whether that is refused. The target is cpu.
CASES: dict[str, tuple[dict[str, Any], dict[str, str], list[str], bool]] = {
    "a default": ({"drop": True}, {}, [], True),
    "a value": ({"drop": False}, {"drop": "false"}, [], True),
    "another value": ({"drop": False}, {}, [], False),
    "a choice": ({"precision": "fp32"}, {}, [], True),
    "the target": ({"target": "cpu"}, {}, [], True),
    "another target": ({"target": "cuda"}, {}, [], False),
    "one of several targets": ({"target": ["cuda", "cpu"]}, {}, [], True),
    "all conditions": ({"target": "cpu", "precision": "bf16"}, {"precision": "bf16"}, [], True),
    "all but one": ({"target": "cpu", "precision": "bf16"}, {}, [], False),
    "one of several": ({"epochs": [1, 2]}, {}, [], True),
    "none of several": ({"epochs": [1, 3]}, {}, [], False),
    "a number by its value": ({"rate": 0.00001}, {"rate": "0.00001"}, [], True),
    "a whole number": ({"rate": 1}, {"rate": "1.0"}, [], True),
    "an empty text": ({"title": ""}, {}, [], True),
    "a text letter by letter": ({"title": "True"}, {"title": "true"}, [], False),
    "no model": ({"base": ""}, {"base": "a/b"}, [], False),
    "an argument": ({"use_mrl": True}, {}, ["--use_mrl", "True"], True),
    "an argument with a sign": ({"use_mrl": True}, {}, ["--use_mrl=true"], True),
    "a bare flag": ({"use_mrl": True}, {}, ["--use_mrl"], True),
    "a bare flag before another": ({"use_mrl": True}, {}, ["--use_mrl", "--seed", "1"], True),
    "a flag that is off": ({"use_mrl": True}, {}, ["--use_mrl", "False"], False),
    "1 is true": ({"use_mrl": True}, {}, ["--use_mrl", "1"], True),
    "an argument that is not there": ({"use_mrl": False}, {}, [], False),
    "hyphens": ({"use_mrl": True}, {}, ["--use-mrl"], True),
    "no_": ({"use_mrl": False}, {}, ["--no_use_mrl"], True),
    "no_ alone": ({"use_mrl": True}, {}, ["--no_use_mrl"], False),
    "a negative number": ({"dim": -1}, {}, ["--dim", "-1"], True),
    "a negative fraction": ({"dim": -0.5}, {}, ["--dim", "-.5"], True),
    "an empty value": ({"path": ""}, {}, ["--path", ""], True),
    "an empty value with a sign": ({"path": ""}, {}, ["--path="], True),
    "the last one counts": ({"dim": 1}, {}, ["--dim", "1", "--dim", "2"], False),
    "given": ({"path": "given"}, {}, ["--path", "x"], True),
    "given, whatever its value": ({"use_mrl": "given"}, {}, ["--use_mrl", "false"], True),
    "not given": ({"path": "given"}, {}, ["--paths", "x"], False),
    "a parameter is not given": ({"drop": "given"}, {"drop": "true"}, [], False),
    "a parameter given as an argument": ({"drop": "given"}, {}, ["--drop", "false"], True),
    "given or a value": ({"drop": ["given", True]}, {}, [], True),
    "an argument overrides its parameter": ({"drop": True}, {}, ["--drop", "false"], False),
    "an overridden parameter": ({"drop": False}, {"drop": "true"}, ["--drop=False"], True),
    "words that are no option": ({"x": "given"}, {}, ["x", "-x", "---x", "--"], False),
    "not a number": ({"epochs": 2}, {}, ["--epochs", "two"], False),
    "a value of several lines": ({"path": "given"}, {}, ["--path=a\nb"], True),
}


def refusing(*conditions: dict[str, Any]) -> dict[str, Any]:
    """HEADER with refusals."""
    return {
        **HEADER,
        "refusals": [
            {"when": when, "why": {"en": f"reason {number}", "zh": f"原因 {number}"}}
            for number, when in enumerate(conditions)
        ],
    }


def launchers(header: dict[str, Any], parameters: dict[str, str], arguments: list[str]) -> list[bool]:
    """Which refusals hold, as the launcher sees it."""
    found = parse(header)
    held = refusals.held(
        found.refusals, "cpu", dict(found.values("cpu", parameters)), refusals.raw_values(arguments)
    )
    return [refusal in held for refusal in found.refusals]


def bashes(
    program: ModuleType, header: dict[str, Any], parameters: dict[str, str], arguments: list[str]
) -> list[bool]:
    """The same, as plain bash sees it."""
    environment = {name.upper(): text for name, text in parameters.items()}
    lines = program.refusals(program.read(as_recipe(header)), "cpu", arguments, environment)
    reasons = {line.rsplit(": ", 1)[1] for line in lines}
    return [refusal["why"]["en"] in reasons for refusal in header["refusals"]]


@pytest.mark.parametrize(("when", "parameters", "arguments", "refused"), CASES.values(), ids=CASES.keys())
def test_both_readers(
    header_program: ModuleType,
    when: dict[str, Any],
    parameters: dict[str, str],
    arguments: list[str],
    refused: bool,
) -> None:
    header = refusing(when)
    assert launchers(header, parameters, arguments) == [refused]
    assert bashes(header_program, header, parameters, arguments) == [refused]


names = st.sampled_from(["epochs", "rate", "drop", "title", "use_mrl", "no_drop", "no-drop", "dim"])
values = st.sampled_from(["true", "False", "1", "0", "-1", "2", "1e-5", "", "x", "nan", "no", "given"])
words = st.one_of(
    st.builds("--{}".format, names), st.builds("--{}={}".format, names, values), values, st.text(max_size=3)
)
wanted = st.sampled_from([True, False, 0, 1, -1, 2, 0.5, "", "x", "given"])
fitting = {"epochs": st.integers(-1, 2), "rate": st.sampled_from([1, 1e-5]), "drop": st.booleans()}


@given(
    whens=st.lists(
        st.dictionaries(st.sampled_from(["use_mrl", "no_drop", "dim"]), wanted, max_size=2).flatmap(
            lambda free: st.fixed_dictionaries({}, optional=fitting).map(
                lambda own: {**free, **own} or {"target": "cpu"}
            )
        ),
        max_size=3,
    ),
    arguments=st.lists(words, max_size=5),
)
def test_both_readers_agree_on_everything(
    header_program: ModuleType, whens: list[dict[str, Any]], arguments: list[str]
) -> None:
    header = refusing(*whens)
    assert launchers(header, {}, arguments) == bashes(header_program, header, {}, arguments)


# -------------------------------------------------------------------------------------------- what is said
TWO = refusing(
    {"target": "cpu", "precision": "fp32", "use_mrl": "given"}, {"drop": False}, {"drop": True, "dim": 3}
)


def test_all_at_once_in_the_readers_language() -> None:
    found = parse(TWO)
    given_, arguments = dict(found.values("cpu", {})), ["--use-mrl", "--dim=3"]
    with pytest.raises(RefusedError) as caught:
        refusals.refuse(found, "cpu", given_, arguments, language="en")
    assert isinstance(caught.value, UsageError)
    assert caught.value.exit_code == 64
    assert caught.value.message == "x does not run with these options together"
    assert caught.value.problems == (
        "--target cpu --precision fp32 --use_mrl true: reason 0",
        "--drop true --dim 3: reason 2",
    )
    with pytest.raises(RefusedError) as caught:
        refusals.refuse(found, "cpu", given_, arguments, language="zh")
    assert caught.value.problems[1] == "--drop true --dim 3: 原因 2"
    refusals.refuse(found, "cuda", given_, ["--use-mrl"], language="en")


@pytest.mark.parametrize(("locale", "reason"), [("C.UTF-8", "reason"), ("zh_CN.UTF-8", "原因")])
def test_plain_bash_is_told_and_stopped(
    header_program: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, locale: str, reason: str
) -> None:
    file = tmp_path / "own.sh"
    file.write_text(as_recipe(TWO), encoding="utf-8")
    monkeypatch.setenv("LANG", locale)
    monkeypatch.setenv("DROP", "true")

    def ran(*arguments: str) -> tuple[object, str, str]:
        monkeypatch.setattr(sys, "argv", ["header.py", str(file), "cpu", *arguments])
        out, err, code = io.StringIO(), io.StringIO(), None
        with redirect_stdout(out), redirect_stderr(err):
            try:
                header_program.main()
            except SystemExit as end:
                code = end.code
        return code, out.getvalue(), err.getvalue()

    code, printed, _ = ran()
    assert code is None
    assert "export DROP=${DROP-true}" in printed
    assert ran("--use_mrl", "--dim", "3") == (
        64,
        "",
        "own.sh does not run with these together\n"
        f"TARGET=cpu PRECISION=fp32 --use_mrl true: {reason} 0\n"
        f"DROP=true --dim 3: {reason} 2\n",
    )


# ---------------------------------------------------------------------------------------------- the header
WHY = {"en": "reason", "zh": "原因"}


@pytest.mark.parametrize(
    ("refusal", "problem"),
    [
        ({"when": {}, "why": WHY}, "refusals.0.when:"),
        ({"when": {"drop": True}}, "refusals.0.why: Field required"),
        ({"when": {"drop": True}, "why": {"en": "reason"}}, "refusals.0.why.zh: Field required"),
        ({"why": WHY}, "refusals.0.when: Field required"),
        ({"when": {"drop": []}, "why": WHY}, "refusals.0.when.drop"),
        ({"when": {"drop": {"a": 1}}, "why": WHY}, "refusals.0.when.drop"),
        ({"when": {"drop": "true"}, "why": WHY}, "refusals.0.when.drop: 'true' is not a bool"),
        ({"when": {"precision": ["fp32", "fp8"]}, "why": WHY}, "precision: 'fp8' is not a choice"),
        ({"when": {"target": "tpu"}, "why": WHY}, "target: 'tpu' is not one of the targets"),
        ({"when": {"use-mrl": True}, "why": WHY}, "when.use-mrl: not the name of an argument"),
        ({"when": {"--mrl": True}, "why": WHY}, "when.--mrl: not the name of an argument"),
        ({"when": {"drop": True}, "why": WHY, "hint": "x"}, "refusals.0.hint: Extra inputs"),
    ],
)
def test_wrong_refusals(refusal: dict[str, Any], problem: str) -> None:
    with pytest.raises(RecipeError) as caught:
        parse(changed("refusals", [refusal]))
    assert any(problem in found for found in caught.value.problems), caught.value.problems


def test_a_refusal_that_is_read_keeps_its_types() -> None:
    (found,) = parse(changed("refusals", [{"when": {"drop": True, "x": [1, "1", 1.0]}, "why": WHY}])).refusals
    assert found.when == (("drop", (True,)), ("x", (1, "1", 1.0)))
    assert [type(value) for value in found.when[1][1]] == [int, str, float]
    assert parse(HEADER).refusals == ()


def test_a_plan_is_refused_before_anything_else(bench: Any, tmp_path: Path) -> None:
    file = tmp_path / "own.sh"
    file.write_text(as_recipe(TWO), encoding="utf-8")
    for dry_run in (True, False):
        with pytest.raises(RefusedError, match="own does not run with these options together"):
            bench.plan(recipe=str(file), target="cpu", arguments=("--use_mrl",), dry_run=dry_run)
    with pytest.raises(RefusedError) as caught:
        bench.plan(recipe=str(file), target="cpu", parameters={"drop": "0"}, language="zh")
    assert caught.value.problems == ("--drop false: 原因 1",)
    assert bench.plan(recipe=str(file), target="cpu").plan.recipe == "own"


def test_shipped_refusals_name_what_the_recipe_has() -> None:
    for path in recipe.catalogue(Path(__file__).resolve().parents[2] / "recipes"):
        for refusal in recipe.load(path).refusals:
            assert refusal.why.en.isascii()
            assert not refusal.why.zh.isascii()
