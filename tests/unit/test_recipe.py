"""launcher.recipe: headers of every shape, and each recipe that ships."""

import importlib.util
import json
import re
import shlex
import string
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st

from launcher import manifest, recipe
from launcher.errors import RecipeError, UsageError
from launcher.recipe import Recipe

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = recipe.catalogue(ROOT / "recipes")

HEADER: dict[str, Any] = {
    "summary": {"en": "Train", "zh": "训练"},
    "targets": ["cpu", "cuda"],
    "launch": "torchrun",
    "inputs": {
        "data": {"format": "embedder", "help": {"en": "rows", "zh": "数据"}},
        "model": {"default": "org/model", "help": {"en": "model", "zh": "模型"}},
    },
    "outputs": {"help": {"en": "weights", "zh": "权重"}},
    "parameters": {
        "epochs": {"type": "int", "default": 2, "help": {"en": "epochs", "zh": "轮"}},
        "rate": {"type": "float", "default": 1e-5, "help": {"en": "rate", "zh": "率"}},
        "drop": {"type": "bool", "default": True, "help": {"en": "drop", "zh": "丢"}},
        "title": {"type": "str", "default": "", "help": {"en": "title", "zh": "题"}},
        "precision": {
            "type": "choice",
            "choices": ["fp32", "bf16"],
            "default": {"cpu": "fp32", "cuda": "bf16"},
            "help": {"en": "precision", "zh": "精度"},
        },
        "base": {"type": "model", "default": "", "help": {"en": "baseline", "zh": "基线"}},
        "rewards": {"type": "file", "default": "", "help": {"en": "functions", "zh": "函数"}},
    },
}


def as_recipe(header: dict[str, Any] | str) -> str:
    text = header if isinstance(header, str) else tomli_w.dumps(header)
    lines = "".join(f"# {line}".rstrip(" ") + "\n" for line in text.removesuffix("\n").split("\n"))
    return f"#!/usr/bin/env bash\n# /// recipe\n{lines}# ///\nset -euo pipefail\n"


def parse(header: dict[str, Any] | str) -> Recipe:
    return recipe.parse(as_recipe(header), path=Path("/r/x.sh"), sha256="0")


def changed(path: str, value: Any) -> dict[str, Any]:
    """HEADER with one key replaced (or removed, for None)."""
    header: dict[str, Any] = json.loads(json.dumps(HEADER))
    *parents, last = path.split(".")
    place = header
    for key in parents:
        place = place.setdefault(key, {})
    if value is None:
        del place[last]
    else:
        place[last] = value
    return header


@pytest.fixture(scope="module")
def header_program() -> ModuleType:
    """recipes/runtime/header.py, the reader that bash uses."""
    spec = importlib.util.spec_from_file_location("header", ROOT / "recipes" / "runtime" / "header.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def bash_defaults(program: ModuleType, text: str, target: str) -> dict[str, str]:
    """What header.py's assignments give to a shell in which nothing is set."""
    found = {}
    for line in program.assignments(program.read(text), target):
        match = re.fullmatch(r"export ([A-Z][A-Z0-9_]*)=\$\{\1-(.*)\}", line)
        assert match, line
        (found[match[1]],) = shlex.split(match[2])
    return found


# ---------------------------------------------------------------------------------------------- header
def test_values_defaults_by_target_and_given() -> None:
    found = parse(HEADER)
    assert dict(found.values("cpu", {})) == {
        "epochs": "2",
        "rate": "1e-05",
        "drop": "true",
        "title": "",
        "precision": "fp32",
        "base": "",
        "rewards": "",
    }
    values = found.values(
        "cuda",
        {"rate": "2e-5", "drop": "NO", "epochs": " 3 ", "title": "a b", "base": "a/b", "rewards": "r.py"},
    )
    assert values == (
        ("epochs", "3"),
        ("rate", "2e-05"),
        ("drop", "false"),
        ("title", "a b"),
        ("precision", "bf16"),
        ("base", "a/b"),
        ("rewards", "r.py"),
    )


def test_what_was_read() -> None:
    found = parse(HEADER)
    assert (found.name, found.launch, found.targets) == ("x", "torchrun", ("cpu", "cuda"))
    assert found.data is not None
    assert found.data.format == "embedder"
    assert found.model is not None
    assert found.model.default == "org/model"
    assert found.summary.in_language("zh_CN") == "训练"
    assert found.summary.in_language("de") == "Train"
    by_name = {item.name: item for item in found.parameters}
    assert by_name["precision"].option == "--precision"
    assert by_name["precision"].default_text() == "cpu: fp32, cuda: bf16"
    assert by_name["drop"].default_text() == "true"


def test_inputs_are_optional() -> None:
    found = parse(changed("inputs", None))
    assert found.data is None
    assert found.model is None


@pytest.mark.parametrize(
    ("given_", "message"),
    [
        ({"epochs": "2.5"}, "--epochs takes a whole number, not '2.5'"),
        ({"epochs": ""}, "--epochs takes a whole number, not ''"),
        ({"epochs": "9" * 5000}, "--epochs takes a whole number"),
        ({"rate": "fast"}, "--rate takes a number, not 'fast'"),
        ({"rate": "nan"}, "--rate takes a number, not 'nan'"),
        ({"rate": "1e999"}, "--rate takes a number, not '1e999'"),
        ({"drop": "maybe"}, "--drop takes true or false, not 'maybe'"),
        ({"precision": "fp8"}, "--precision takes one of fp32, bf16, not 'fp8'"),
        ({"title": "a\nb"}, "--title takes one line"),
        ({"base": "a\nb"}, "--base takes one line"),
        ({"nothing": "1"}, "x has no parameter 'nothing'"),
    ],
)
def test_values_refused(given_: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        parse(HEADER).values("cpu", given_)


def test_target_that_is_not_the_recipes() -> None:
    with pytest.raises(UsageError, match="does not run on the target 'xpu'") as caught:
        parse(HEADER).values("xpu", {})
    assert caught.value.hint == "it runs on: cpu, cuda"


@pytest.mark.parametrize(
    ("path", "value", "problem"),
    [
        ("summary", None, "summary: Field required"),
        ("summary.zh", None, "summary.zh: Field required"),
        ("summary.en", "", "summary.en:"),
        ("targets", [], "targets:"),
        ("launch", "mpirun", "launch:"),
        ("surprise", 1, "surprise: Extra inputs"),
        ("inputs.data.format", "csv", "inputs.data.format:"),
        ("outputs", None, "outputs: Field required"),
        ("parameters.epochs.default", "two", "parameters.epochs: Value error, default 'two' is not a int"),
        ("parameters.epochs.default", True, "default True is not a int"),
        ("parameters.rate.default", float("inf"), "default inf is not a float"),
        ("parameters.drop.default", 1, "default 1 is not a bool"),
        ("parameters.title.default", "a\nb", "is not a str"),
        ("parameters.title.choices", ["a"], "choices go with"),
        ("parameters.precision.choices", None, "choices go with"),
        ("parameters.precision.default", "fp8", "default 'fp8' is not a choice"),
        ("parameters.precision.default", {"cpu": "fp32"}, "nothing for the target 'cuda'"),
        (
            "parameters.precision.default",
            {"cpu": "fp32", "cuda": "bf16", "tpu": "bf16"},
            "'tpu' is not one of the targets",
        ),
        ("parameters.base.default", "models/a/b", "default 'models/a/b' is not a model"),
        ("parameters.base.default", "/models", "default '/models' is not a model"),
        ("parameters.base.default", 1, "default 1 is not a model"),
        ("parameters.rewards.default", "rewards.py", "default 'rewards.py' is not a file"),
        ("parameters.Rate", HEADER["parameters"]["rate"], "parameters.Rate: not a usable name"),
        ("parameters.a-b", HEADER["parameters"]["rate"], "parameters.a-b: not a usable name"),
        ("parameters.launch_x", HEADER["parameters"]["rate"], "parameters.launch_x: not a usable name"),
    ],
)
def test_wrong_header(path: str, value: Any, problem: str) -> None:
    with pytest.raises(RecipeError) as caught:
        parse(changed(path, value))
    assert any(problem in found for found in caught.value.problems), caught.value.problems


@pytest.mark.parametrize("name", sorted(recipe.RESERVED))
def test_reserved_names(name: str) -> None:
    with pytest.raises(RecipeError, match="not valid"):
        parse(changed(f"parameters.{name}", HEADER["parameters"]["rate"]))


def test_all_problems_at_once() -> None:
    header = changed("summary.zh", None)
    header["launch"] = "mpirun"
    header["parameters"]["epochs"]["default"] = "two"
    with pytest.raises(RecipeError) as caught:
        parse(header)
    assert [problem.split(":")[0] for problem in caught.value.problems] == [
        "summary.zh",
        "launch",
        "parameters.epochs",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not a recipe"),
        ("#!/bin/bash\necho\n", "is not a recipe"),
        ("# /// recipe\n# a = 1\n", "is not a recipe"),
        ("# /// recipe\r\n# a = 1\r\n# ///\r\n", "is not a recipe"),
        (as_recipe("a = "), "is not valid TOML"),
        (as_recipe("a = 1\na = 2"), "is not valid TOML"),
        (as_recipe("a = " + "9" * 5000), "is not valid TOML"),
        (as_recipe("a = " + "[" * 5000), "is not valid TOML"),
    ],
)
def test_not_a_header(text: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        recipe.parse(text, path=Path("x.sh"))


def test_load(tmp_path: Path) -> None:
    file = tmp_path / "mine.sh"
    with pytest.raises(RecipeError, match="cannot be read"):
        recipe.load(file)
    file.write_bytes(b"\xff")
    with pytest.raises(RecipeError, match="cannot be read"):
        recipe.load(file)
    file.write_text(as_recipe(HEADER))
    assert recipe.load(file).name == "mine"
    assert len(recipe.load(file).sha256) == 64


def test_find(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "catalogue"
    folder.mkdir()
    (folder / "b.sh").write_text("")
    (folder / "a.sh").write_text("")
    (folder / "a.txt").write_text("")
    monkeypatch.chdir(tmp_path)
    assert recipe.catalogue(folder) == [folder / "a.sh", folder / "b.sh"]
    for name in ("a", "a.sh", "recipes/a.sh"):
        assert recipe.find(name, folder) == folder / "a.sh"
    (tmp_path / "own.sh").write_text("")
    assert recipe.find("own.sh", folder) == tmp_path / "own.sh"
    for name in ("c", "elsewhere/a.sh", "", "a\0"):
        with pytest.raises(RecipeError, match="there is no recipe") as caught:
            recipe.find(name, folder)
        assert caught.value.hint.endswith("one of: a, b")


# ------------------------------------------------------------------------------------------ properties
texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
both = st.fixed_dictionaries({"en": texts, "zh": texts})
lines = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n\0"), max_size=12)
names = (
    st.from_regex(r"[a-z][a-z0-9_]{0,11}", fullmatch=True)
    .filter(lambda name: name not in recipe.RESERVED and not name.startswith("launch"))
)  # fmt: skip
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "int": st.integers(-(2**62), 2**62),
    "float": st.floats(allow_nan=False, allow_infinity=False) | st.integers(-1000, 1000),
    "bool": st.booleans(),
    "str": lines,
    "model": st.sampled_from(["", "org/name", "BAAI/bge-m3.5_x"]),
    "file": st.just(""),
}


@st.composite
def parameters(draw: st.DrawFn, targets: list[str]) -> dict[str, Any]:
    kind = draw(st.sampled_from([*VALUES, "choice"]))
    found: dict[str, Any] = {"type": kind, "help": draw(both)}
    values = VALUES.get(kind)
    if values is None:
        found["choices"] = draw(st.lists(lines, min_size=1, max_size=3))
        values = st.sampled_from(found["choices"])
    by_target = st.fixed_dictionaries(dict.fromkeys(targets, values))
    found["default"] = draw(values | by_target)
    return found


@st.composite
def headers(draw: st.DrawFn) -> dict[str, Any]:
    targets = draw(st.lists(st.sampled_from(["cpu", "cuda", "xpu"]), min_size=1, max_size=3, unique=True))
    header: dict[str, Any] = {
        "summary": draw(both),
        "targets": targets,
        "launch": draw(st.sampled_from(["torchrun", "python"])),
        "outputs": {"help": draw(both)},
        "parameters": draw(st.dictionaries(names, parameters(targets), max_size=3)),
    }
    if draw(st.booleans()):
        header["inputs"] = {"model": {"help": draw(both), "default": draw(lines)}}
    return header


@given(header=headers())
def test_every_valid_header_is_read_back(header_program: ModuleType, header: dict[str, Any]) -> None:
    text = as_recipe(header)
    found = recipe.parse(text, path=Path("x.sh"))
    assert (found.summary.en, found.summary.zh) == (header["summary"]["en"], header["summary"]["zh"])
    assert list(found.targets) == header["targets"]
    assert [item.name for item in found.parameters] == list(header["parameters"])
    for item in found.parameters:
        source = header["parameters"][item.name]
        given_ = source["default"]
        for target, value in item.defaults:
            expected = given_[target] if isinstance(given_, dict) else given_
            assert (value, type(value)) == (expected, type(expected))
        assert (item.type, item.choices) == (source["type"], tuple(source.get("choices", ())))
    for target in found.targets:
        bash = bash_defaults(header_program, text, target)
        launcher = {name.upper(): value for name, value in found.values(target, {})}
        if found.model is not None:
            launcher["MODEL"] = found.model.default or ""
        assert bash == launcher


@given(header=headers(), target=st.sampled_from(["cpu", "cuda", "xpu"]))
def test_a_default_given_again_is_the_same_run(header: dict[str, Any], target: str) -> None:
    found = recipe.parse(as_recipe(header), path=Path("x.sh"))
    if target in found.targets:
        values = dict(found.values(target, {}))
        assert dict(found.values(target, values)) == values


@given(
    header=headers(),
    cut=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    put=st.text(string.printable + "é训\u2028", max_size=6)
    | st.sampled_from(["\n# ///\n", " = ", "[", '"""']),
)
def test_broken_headers_give_no_other_exception(
    header: dict[str, Any], cut: tuple[float, float], put: str
) -> None:
    text = as_recipe(header)
    start, end = sorted(round(part * len(text)) for part in cut)
    for broken in (text[:start] + put + text[end:], text[:start] + put + text[start:], text[start:end]):
        try:
            recipe.parse(broken, path=Path("x.sh"))
        except RecipeError as error:
            problem = error
        else:
            continue
        assert problem.problems


anything = st.recursive(
    st.booleans()
    | st.integers(-10, 10**30)
    | st.floats()
    | st.text(string.ascii_letters, max_size=4)
    | st.dates(),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from("en zh default type choices help".split()), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(
    header=headers(),
    key=st.sampled_from("summary targets launch inputs outputs parameters x".split()),
    value=anything,
    parameter=anything,
)
def test_wrong_types_give_no_other_exception(
    header: dict[str, Any], key: str, value: Any, parameter: Any
) -> None:
    header["parameters"] = {**header["parameters"], "odd": parameter}
    if key != "parameters":
        header[key] = value
    with pytest.raises(RecipeError) as caught:
        recipe.parse(as_recipe(header), path=Path("x.sh"))
    assert caught.value.problems


@given(text=st.text(max_size=20))
def test_any_text_for_any_type(text: str) -> None:
    found = parse(HEADER)
    for item in found.parameters:
        try:
            value = recipe.convert(item, text)
        except UsageError:
            continue
        assert recipe.convert(item, value) == value
        assert "\n" not in value


# ------------------------------------------------------------------------------------ what is shipped
def test_the_catalogue_is_not_empty() -> None:
    assert [path.stem for path in SHIPPED if path.stem == "bge-m3-unified"]


@pytest.fixture(params=SHIPPED, ids=lambda path: path.stem)
def shipped(request: pytest.FixtureRequest) -> Recipe:
    return recipe.load(request.param)


def test_shipped_header(shipped: Recipe) -> None:
    known = manifest.load(ROOT / "images" / "manifest.toml").names()
    assert set(shipped.targets) <= set(known)
    texts_of = [shipped.summary, shipped.outputs, *(item.help for item in shipped.parameters)]
    texts_of += [given_.help for given_ in (shipped.data, shipped.model) if given_]
    for text in texts_of:
        assert re.search(r"[a-z]", text.en)
        assert not re.search(r"[\u4e00-\u9fff]", text.en)
        assert re.search(r"[\u4e00-\u9fff]", text.zh)


def test_all_code_beside_the_recipes_is_in_the_digest(checkout: Path) -> None:
    recipes = checkout / "recipes"
    code = {file.parent.name for file in recipes.glob("*/*.py")}
    counted = {
        file.relative_to(recipes).parts[0]
        for file in recipe.runtime_files(recipes)
        if file.is_relative_to(recipes)
    }
    assert code == counted


def test_shipped_defaults(shipped: Recipe, header_program: ModuleType) -> None:
    text = shipped.path.read_text(encoding="utf-8")
    for target in shipped.targets:
        launcher = {name.upper(): value for name, value in shipped.values(target, {})}
        if shipped.model and shipped.model.default:
            launcher["MODEL"] = shipped.model.default
        assert bash_defaults(header_program, text, target) == launcher


def test_shipped_body_uses_every_parameter(shipped: Recipe) -> None:
    body = recipe.BLOCK.sub("", shipped.path.read_text(encoding="utf-8"))
    for item in shipped.parameters:
        assert re.search(rf"\$\{{?{item.name.upper()}\b", body), item.name
    assert "set -euo pipefail" in body
    assert re.search(r"(?m)^exec ", body)


def test_shipped_deepspeed_configurations(shipped: Recipe) -> None:
    for item in shipped.parameters:
        if item.name == "deepspeed":
            for name in item.choices:
                if name != "none":
                    config = json.loads((ROOT / "ds_configs" / f"{name}.json").read_text())
                    stage = re.search(r"\d", name)
                    assert stage is not None
                    assert config["zero_optimization"]["stage"] == int(stage[0])


#: The trainer's arguments of the command that is known to work, with the values that are the same everywhere.
KNOWN_GOOD = {
    "--train_group_size": "8",
    "--query_max_len": "512",
    "--passage_max_len": "512",
    "--pad_to_multiple_of": "8",
    "--knowledge_distillation": None,
    "--same_dataset_within_batch": "true",
    "--small_threshold": "0",
    "--drop_threshold": "0",
    "--learning_rate": "1e-05",
    "--num_train_epochs": None,
    "--per_device_train_batch_size": "2",
    "--dataloader_drop_last": "true",
    "--warmup_ratio": "0.1",
    "--logging_steps": "1",
    "--save_steps": "1000",
    "--negatives_cross_device": "true",
    "--temperature": "0.02",
    "--sentence_pooling_method": "cls",
    "--normalize_embeddings": "true",
    "--kd_loss_type": "m3_kd_loss",
    "--unified_finetuning": "true",
    "--use_self_distill": "true",
    "--fix_encoder": "false",
    "--self_distill_start_step": "0",
}


@pytest.mark.parametrize(("argument", "value"), KNOWN_GOOD.items())
def test_known_good_arguments(argument: str, value: str | None) -> None:
    found = recipe.load(ROOT / "recipes" / "bge-m3-unified.sh")
    body = recipe.BLOCK.sub("", found.path.read_text(encoding="utf-8"))
    match = re.search(rf'(?m)^\s*{argument} "\$([A-Z_]+)"', body)
    assert match
    defaults = dict(found.values("cuda", {}))
    assert match[1].lower() in defaults
    if value is not None:
        assert {dict(found.values(target, {}))[match[1].lower()] for target in found.targets} == {value}


def test_known_good_arguments_that_depend_on_the_target() -> None:
    found = recipe.load(ROOT / "recipes" / "bge-m3-unified.sh")
    cpu, cuda, xpu = (dict(found.values(target, {})) for target in ("cpu", "cuda", "xpu"))
    assert (cpu["precision"], cuda["precision"], xpu["precision"]) == ("fp32", "bf16", "bf16")
    checkpointing = [values["gradient_checkpointing"] for values in (cpu, cuda, xpu)]
    assert checkpointing == ["false", "true", "true"]
    body = found.path.read_text(encoding="utf-8")
    assert '--model_name_or_path "$MODEL"' in body
    assert '--train_data "${data[@]}"' in body
    assert '--output_dir "$OUTPUT"' in body
    assert "--use_cpu true --ddp_backend gloo" in body
    assert '--query_instruction_for_retrieval "$QUERY_INSTRUCTION_FOR_RETRIEVAL"' in body
    assert "--gradient_checkpointing true" in body
    assert "-m FlagEmbedding.finetune.embedder.encoder_only.m3" in body
