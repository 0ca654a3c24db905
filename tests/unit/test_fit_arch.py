"""launcher.fit.arch: exact parameter counts, and odd configurations that are refused with every problem
named.

The counts of ``tests/support/models.json`` are those of models that transformers 4.57.6 made of these
configurations (``tests/integration/test_fit.py`` makes them again).
"""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.errors import ModelConfigError
from launcher.fit import arch
from tests.conftest import ROOT

MODELS = json.loads((ROOT / "tests/support/models.json").read_text())

#: Published elsewhere: the hub's count of the safetensors, or the model's paper.
KNOWN = {
    "BAAI/bge-m3": ("backbone", 567_754_752),
    "all-MiniLM-L6-v2": ("backbone", 22_713_216),
    "bge-base-en": ("backbone", 109_482_240),
    "mpnet": ("backbone", 109_486_464),
    "Llama-3.1-8B": ("causal", 8_030_261_248),
    "Llama-3.2-3B": ("causal", 3_212_749_824),
    "Llama-3.3-70B": ("causal", 70_553_706_496),
    "Mistral-7B-v0.3": ("causal", 7_248_023_552),
    "Qwen2.5-0.5B": ("causal", 494_032_768),
    "Qwen2.5-7B": ("causal", 7_615_616_512),
    "Qwen3-8B": ("causal", 8_190_735_360),
    "gemma-2b": ("causal", 2_506_172_416),
}


@pytest.mark.parametrize("name", MODELS)
def test_counts_are_those_of_transformers(name: str) -> None:
    shape = arch.read(MODELS[name]["config"])
    assert {key: getattr(shape, key) for key in MODELS[name]["parameters"]} == MODELS[name]["parameters"]


@pytest.mark.parametrize("name", KNOWN)
def test_counts_are_those_that_are_published(name: str) -> None:
    kind, parameters = KNOWN[name]
    assert getattr(arch.read(MODELS[name]["config"]), kind) == parameters


def test_bge_reranker_v2_m3() -> None:
    """The encoder of bge-m3 with a classifier instead of the pooler."""
    assert arch.read(MODELS["BAAI/bge-m3"]["config"]).classifier == 567_755_777


def test_positions_of_the_roberta_family_begin_behind_the_padding() -> None:
    assert arch.read(MODELS["BAAI/bge-m3"]["config"]).positions == 8192


@pytest.mark.parametrize("kind", ["t5", "deberta-v2", "NewModel", None, 7, ["llama"], ""])
def test_an_unknown_architecture_is_no_number(kind: object) -> None:
    with pytest.raises(ModelConfigError, match="cannot be counted") as caught:
        arch.read({"model_type": kind})
    assert "xlm-roberta" in caught.value.hint


def test_every_problem_is_named() -> None:
    config = {**MODELS["Llama-3.1-8B"]["config"], "hidden_size": "4096", "vocab_size": -1}
    del config["num_hidden_layers"]
    with pytest.raises(ModelConfigError) as caught:
        arch.read(config)
    assert [problem.split(":")[0] for problem in caught.value.problems] == [
        "hidden_size",
        "num_hidden_layers",
        "vocab_size",
    ]


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(ModelConfigError, match="cannot be used") as caught:
        arch.read({**MODELS["BAAI/bge-m3"]["config"], "num_attention_heads": 7})
    assert "1024 cannot be shared out to 7 heads" in caught.value.problems[0]


ODD = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.lists(st.integers())
)


@given(data=st.data(), name=st.sampled_from(sorted(MODELS)))
def test_odd_values_are_refused_or_counted(data: st.DataObject, name: str) -> None:
    """Whatever one field holds: an error of ours, or counts that are whole and positive."""
    config: dict[str, Any] = dict(MODELS[name]["config"])
    key = data.draw(st.sampled_from(sorted(set(config) - {"model_type"})))
    config[key] = data.draw(ODD)
    try:
        shape = arch.read(config)
    except ModelConfigError as error:
        assert error.problems  # noqa: PT017 - either outcome is right
        return
    assert isinstance(shape.backbone, int)
    assert 0 < shape.backbone <= shape.causal
