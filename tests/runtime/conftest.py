"""Tests of recipes/runtime with the real libraries: they run inside an environment, not in the launcher's.

``tests/integration/test_inside.py`` starts them there, with recipes/ and recipes/tools/ on the path.
"""

import copy
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tiny_xlmr
import torch
from FlagEmbedding.abc.finetune.embedder import AbsDataset
from FlagEmbedding.abc.finetune.reranker import AbsDataset as RerankerDataset
from FlagEmbedding.abc.finetune.reranker import AbsModeling
from FlagEmbedding.finetune.embedder.encoder_only import base, m3
from FlagEmbedding.finetune.reranker.encoder_only import base as reranker
from trainings import rows, write
from transformers import (
    Trainer,
    TrainingArguments,
    XLMRobertaConfig,
    XLMRobertaForSequenceClassification,
    XLMRobertaModel,
)

#: Every class that a patch or a hook changes.
PATCHED = (
    AbsDataset.AbsEmbedderTrainDataset,
    AbsDataset.AbsEmbedderSameDatasetTrainDataset,
    RerankerDataset.AbsRerankerTrainDataset,
    AbsModeling.AbsRerankerModel,
    m3.EncoderOnlyEmbedderM3Model,
    m3.EncoderOnlyEmbedderM3Runner,
    m3.EncoderOnlyEmbedderM3Trainer,
    base.BiEncoderOnlyEmbedderModel,
    base.EncoderOnlyEmbedderRunner,
    base.EncoderOnlyEmbedderTrainer,
    reranker.EncoderOnlyRerankerRunner,
    reranker.EncoderOnlyRerankerTrainer,
    Trainer,
    TrainingArguments,
)


@pytest.fixture(autouse=True)
def as_upstream() -> Iterator[None]:
    """Every test begins and ends with the libraries as they are."""
    before = [(cls, dict(vars(cls))) for cls in PATCHED]
    restorers = list(torch.serialization._package_registry)
    yield
    torch.serialization._package_registry[:] = restorers
    for cls, attributes in before:
        for name in set(vars(cls)) - set(attributes):
            delattr(cls, name)
        for name, value in attributes.items():
            if vars(cls)[name] is not value:
                setattr(cls, name, value)


@pytest.fixture(autouse=True)
def process_group() -> Iterator[None]:
    """A world of one, as torchrun makes it; FlagEmbedding 1.3 asks for its rank."""
    store = torch.distributed.HashStore()
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def patch(*names: str) -> None:
    """Apply patches by name."""
    from runtime.patches import PATCHES

    known = {item.name: item for item in PATCHES}
    for name in names:
        known[name].apply()


def tokenizer(**more: Any) -> Any:
    """As much of XLM-R's tokenizer as the models ask."""
    return SimpleNamespace(
        cls_token_id=0, eos_token_id=2, pad_token_id=1, unk_token_id=3, padding_side="right", **more
    )


def configuration(vocabulary: int = 300) -> XLMRobertaConfig:
    """A tiny XLM-R without dropout."""
    return XLMRobertaConfig(
        vocab_size=vocabulary,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=300,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        pad_token_id=1,
        num_labels=1,
    )


@pytest.fixture
def m3_model() -> m3.EncoderOnlyEmbedderM3Model:
    """A tiny BGE-M3 in training mode, always with the same weights."""
    torch.manual_seed(0)
    parts = {
        "model": XLMRobertaModel(configuration()),
        "colbert_linear": torch.nn.Linear(32, 32),
        "sparse_linear": torch.nn.Linear(32, 1),
    }
    return m3.EncoderOnlyEmbedderM3Model(
        parts,
        tokenizer=tokenizer(),
        temperature=0.02,
        normalize_embeddings=True,
        use_self_distill=True,
        sub_batch_size=None,
    ).train()


@pytest.fixture
def dense_model() -> base.BiEncoderOnlyEmbedderModel:
    """A tiny dense embedder in training mode."""
    torch.manual_seed(0)
    return base.BiEncoderOnlyEmbedderModel(
        XLMRobertaModel(configuration()), tokenizer=tokenizer(), temperature=0.02, normalize_embeddings=True
    ).train()


@pytest.fixture
def reranker_model() -> reranker.CrossEncoderModel:
    """A tiny reranker in training mode, made for batches of two queries."""
    torch.manual_seed(0)

    class Tokenizer(SimpleNamespace):
        def __call__(self, text: str, **_: Any) -> dict[str, list[int]]:
            return {"input_ids": [5]}

    return reranker.CrossEncoderModel(
        XLMRobertaForSequenceClassification(configuration()),
        tokenizer=Tokenizer(**vars(tokenizer())),
        train_batch_size=2,
    ).train()


def texts(count: int, longest: int, *, vocabulary: int = 300, seed: int = 1) -> dict[str, torch.Tensor]:
    """Random texts of different lengths, padded, the first one of full length."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(4, vocabulary, (count, longest), generator=generator)
    lengths = torch.randint(longest // 2, longest + 1, (count,), generator=generator)
    lengths[0] = longest
    ids[:, 0] = 0
    mask = (torch.arange(longest) < lengths[:, None]).long()
    ids[torch.arange(count), lengths - 1] = 2
    return {"input_ids": ids.masked_fill(mask == 0, 1), "attention_mask": mask}


def in_parts(features: dict[str, torch.Tensor], size: int) -> list[dict[str, torch.Tensor]]:
    """As the collator does with ``sub_batch_size``: each part is padded to its own longest text."""
    found = []
    for start in range(0, len(features["input_ids"]), size):
        part = {key: value[start : start + size] for key, value in features.items()}
        longest = int(part["attention_mask"].sum(1).max())
        found.append({key: value[:, :longest] for key, value in part.items()})
    return found


def step(model: torch.nn.Module, **inputs: Any) -> tuple[float, torch.Tensor]:
    """Loss and all gradients, in one vector, of a copy of the model."""
    model = copy.deepcopy(model)
    loss = model(**inputs).loss
    loss.backward()
    gradients = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
    return float(loss), torch.cat(gradients)


def apart(one: torch.Tensor, other: torch.Tensor) -> float:
    """Relative distance of two gradients."""
    return float((one - other).norm() / one.norm())


class Kept:
    """Counts the bytes that autograd keeps for the backward pass, each storage once."""

    def __init__(self) -> None:
        self._storages: dict[int, int] = {}
        self._alive: list[torch.Tensor] = []

    def __enter__(self) -> "Kept":
        self._hooks = torch.autograd.graph.saved_tensors_hooks(self._pack, lambda tensor: tensor)
        self._hooks.__enter__()
        return self

    def __exit__(self, *about: object) -> None:
        self._hooks.__exit__(*about)

    def _pack(self, tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        self._storages[storage.data_ptr()] = storage.nbytes()
        self._alive.append(tensor)
        return tensor

    @property
    def bytes(self) -> int:
        """The sum."""
        return sum(self._storages.values())


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny XLM-R with heads and a tokenizer of its own."""
    folder = tmp_path_factory.mktemp("start") / "model"
    texts = [text for row in rows(60) for text in (row["query"], *row["pos"], *row["neg"])]
    tokenizer = tiny_xlmr.train_tokenizer(texts, 200, 128)
    config = XLMRobertaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=140,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    tiny_xlmr.save(folder, tokenizer, *tiny_xlmr.build(config, 1))
    return folder


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write(tmp_path / "rows.jsonl", rows(12))
