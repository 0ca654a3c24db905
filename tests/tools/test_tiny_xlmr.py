"""tiny-xlmr: what kinds of models it makes, and that every text of the acceptance fills its length."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import tiny_xlmr
from FlagEmbedding.abc.finetune.reranker.AbsDataset import AbsRerankerTrainDataset
from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer

# Last: the launcher's texts come from there, and nothing else of it.
sys.path.append(str(Path(__file__).resolve().parents[2]))

from launcher.acceptance import PASSAGE_LENGTH, QUERY_LENGTH, texts


def made(folder: Path, monkeypatch: pytest.MonkeyPatch, **options: object) -> Path:
    (folder / "rows.jsonl").write_text(texts.short(), encoding="utf-8")
    given = {
        **{"data": folder / "rows.jsonl", "output": folder / "model", "kind": "reranker", "vocab-size": 500},
        **{"layers": 1, "hidden-size": 32, "heads": 2, "max-length": 128, "embedding-rows": 0},
        **{"dropout": 0.0, "seed": 1},
        **options,
    }
    arguments = [word for key, value in given.items() for word in (f"--{key}", str(value))]
    monkeypatch.setattr(sys, "argv", ["tiny_xlmr", *arguments])
    tiny_xlmr.main()
    return folder / "model"


def test_a_reranker_has_its_head_and_no_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = made(tmp_path, monkeypatch, **{"embedding-rows": 900, "dropout": 0.1})
    model, loading = AutoModelForSequenceClassification.from_pretrained(folder, output_loading_info=True)
    assert not any(loading[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert (model.config.num_labels, model.config.hidden_dropout_prob) == (1, 0.1)
    assert model.get_input_embeddings().num_embeddings == 900
    assert len(AutoTokenizer.from_pretrained(folder)) < 900
    assert not list(folder.glob("*_linear.pt"))


def test_the_same_seed_is_the_same_encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = []
    for kind in ("m3", "reranker"):
        (tmp_path / kind).mkdir()
        folders.append(made(tmp_path / kind, monkeypatch, kind=kind))
    m3 = AutoModel.from_pretrained(folders[0])
    reranker = AutoModelForSequenceClassification.from_pretrained(folders[1])
    ours, theirs = m3.state_dict(), reranker.roberta.state_dict()
    assert theirs
    assert all((ours[name] == weight).all() for name, weight in theirs.items())
    assert sorted(file.name for file in folders[0].glob("*.pt")) == ["colbert_linear.pt", "sparse_linear.pt"]


def test_every_pair_has_all_its_tokens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the trainer's own hand, with the tokenizer of the acceptance's own models."""
    tokenizer = AutoTokenizer.from_pretrained(made(tmp_path, monkeypatch))
    arguments = SimpleNamespace(query_max_len=QUERY_LENGTH, passage_max_len=PASSAGE_LENGTH)
    rows = SimpleNamespace(tokenizer=tokenizer, args=arguments)
    for line in texts.long(2).splitlines():
        row = json.loads(line)
        for passage in (*row["pos"], *row["neg"]):
            pair = AbsRerankerTrainDataset.create_one_example(rows, row["query"], passage)
            assert len(pair["input_ids"]) == QUERY_LENGTH + PASSAGE_LENGTH
