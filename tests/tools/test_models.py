"""models: what a folder holds, and how far its texts may go; nothing is loaded here."""

import argparse
import json
from pathlib import Path
from typing import Any

import models
import pytest


def folder(place: Path, *names: str, **config: Any) -> Path:
    place.mkdir(parents=True, exist_ok=True)
    (place / "config.json").write_text(json.dumps(config))
    for name in names:
        (place / name).touch()
    return place


def test_kinds(tmp_path: Path) -> None:
    assert models.kind(folder(tmp_path / "a", *models.HEADS, architectures=["XLMRobertaModel"])) == "m3"
    assert models.kind(folder(tmp_path / "b", architectures=["BertModel"])) == "embedder"
    assert models.kind(folder(tmp_path / "c")) == "embedder"
    architectures = ["XLMRobertaForSequenceClassification"]
    one = folder(tmp_path / "d", architectures=architectures, id2label={"0": "LABEL_0"})
    assert models.kind(one) == "reranker"
    folder(tmp_path / "e" / "0_Transformer")
    assert models.kind(tmp_path / "e") == "embedder"


def test_what_is_no_single_model_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = {
        "one of BGE-M3's heads would be random": folder(tmp_path / "a", models.HEADS[0]),
        "it has no config.json": tmp_path,
        "several classes": folder(tmp_path / "b", architectures=["BertForSequenceClassification"]),
    }
    for message, place in wrong.items():
        with pytest.raises(SystemExit) as caught:
            models.kind(place)
        assert caught.value.code == 64
        assert message in capsys.readouterr().err


def test_no_text_is_longer_than_the_positions(tmp_path: Path) -> None:
    roberta = folder(tmp_path / "a", model_type="xlm-roberta", max_position_embeddings=514, pad_token_id=1)
    assert models.longest(roberta, 8192) == 512
    assert models.longest(roberta, 128) == 128
    bert = folder(tmp_path / "b", model_type="bert", max_position_embeddings=512, pad_token_id=0)
    assert models.longest(bert, 8192) == 512
    assert models.longest(folder(tmp_path / "c"), 8192) == 8192


@pytest.mark.parametrize(
    ("said", "mode"),
    [
        ({"pooling_mode_mean_tokens": True}, "mean"),
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, "cls"),
        ({"pooling_mode_lasttoken": True}, "last_token"),
        ({"pooling_mode": "lasttoken"}, "last_token"),
    ],
)
def test_pooling_is_what_the_model_says(tmp_path: Path, said: dict[str, Any], mode: str) -> None:
    assert models.pooling(tmp_path, "auto") == "cls"
    folder(tmp_path / "1_Pooling", **said)
    assert models.pooling(tmp_path, "auto") == mode
    assert models.pooling(tmp_path, "mean") == "mean"


def test_devices_are_named() -> None:
    def devices(target: str, nproc: int) -> list[str]:
        chosen = models.Options(target=target, nproc=nproc, batch_size=1, max_length=1, precision="fp32")
        return chosen.devices

    assert devices("cpu", 4) == ["cpu"]
    assert devices("cuda-vllm", 2) == ["cuda:0", "cuda:1"]
    assert devices("xpu", 1) == ["xpu:0"]


def test_options_of_the_command_line() -> None:
    parser = argparse.ArgumentParser()
    models.arguments(parser)
    given = parser.parse_args(["--model", "m", "--query-instruction=-q: ", "--pooling", "mean"])
    chosen = models.options(given, sparse=False)
    assert (chosen.query_instruction, chosen.pooling, chosen.sparse, chosen.colbert) == (
        "-q: ",
        "mean",
        False,
        True,
    )
