"""Each patch: what upstream does, shown, and what the patch makes of it."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from conftest import Kept, apart, in_parts, patch, step, texts
from FlagEmbedding.abc.finetune.embedder.AbsDataset import (
    AbsEmbedderSameDatasetTrainDataset,
    AbsEmbedderTrainDataset,
)
from FlagEmbedding.abc.finetune.reranker.AbsDataset import AbsRerankerTrainDataset
from runtime.patches import PATCHES, choose, registry

M3 = "FlagEmbedding.finetune.embedder.encoder_only.m3"
RERANKER = "FlagEmbedding.finetune.reranker.encoder_only.base"


class TestSparseHead:
    def test_loss_and_gradients_are_upstreams(self, m3_model: Any) -> None:
        queries, passages = texts(3, 16), texts(12, 40, seed=2)
        loss, gradient = step(m3_model, queries=queries, passages=passages)
        patch("sparse-head")
        patched, other = step(m3_model, queries=queries, passages=passages)
        assert patched == pytest.approx(loss, rel=1e-6)
        assert apart(gradient, other) < 1e-6

    def test_a_token_that_occurs_twice_counts_with_its_best_weight(self, m3_model: Any) -> None:
        queries, passages = texts(2, 12), texts(4, 20, seed=3)
        passages["input_ids"][:, 3:6] = 77
        queries["input_ids"][:, 2:4] = 77
        loss, gradient = step(m3_model, queries=queries, passages=passages)
        patch("sparse-head")
        patched, other = step(m3_model, queries=queries, passages=passages)
        assert patched == pytest.approx(loss, rel=1e-6)
        assert apart(gradient, other) < 1e-6

    def test_memory_does_not_grow_with_the_vocabulary(self, m3_model: Any) -> None:
        m3_model.vocab_size = 250_002
        ids = texts(8, 64)["input_ids"]
        hidden = torch.randn(8, 64, 32, requires_grad=True)
        with Kept() as upstream:
            m3_model._sparse_embedding(hidden, ids).sum()
        patch("sparse-head")
        m3_model._batch_words = torch.unique(ids)
        with Kept() as patched:
            m3_model._sparse_embedding(hidden, ids).sum()
        assert upstream.bytes > 50 * patched.bytes

    def test_inference_is_left_alone(self, m3_model: Any) -> None:
        ids, hidden = texts(2, 8)["input_ids"], torch.randn(2, 8, 32)
        before = m3_model.eval()._sparse_embedding(hidden, ids)
        weights = m3_model._sparse_embedding(hidden, ids, return_embedding=False)
        patch("sparse-head")
        assert torch.equal(m3_model._sparse_embedding(hidden, ids), before)
        assert torch.equal(m3_model._sparse_embedding(hidden, ids, return_embedding=False), weights)


class TestColbertPadding:
    query = torch.tensor([[[1.0, 0.0]]])
    mask = torch.tensor([[1, 1]])
    against = torch.tensor([[[-1.0, 0.0], [-0.6, 0.8]]])
    padded = torch.tensor([[[-1.0, 0.0], [-0.6, 0.8], [0.0, 0.0]]])

    def scores(self, model: Any, passage: torch.Tensor) -> float:
        model.temperature = 1.0
        return float(model.compute_colbert_score(self.query, passage, q_mask=self.mask))

    def test_upstream_scores_a_padded_passage_differently(self, m3_model: Any) -> None:
        assert self.scores(m3_model, self.against) == pytest.approx(-0.6)
        assert self.scores(m3_model, self.padded) == 0.0

    def test_padding_does_not_count(self, m3_model: Any) -> None:
        patch("colbert-padding")
        assert self.scores(m3_model, self.against) == pytest.approx(-0.6)
        assert self.scores(m3_model, self.padded) == pytest.approx(-0.6)

    def test_where_no_similarity_is_negative_nothing_changes(self, m3_model: Any) -> None:
        q, p = torch.rand(2, 5, 8), torch.rand(6, 7, 8)
        mask = torch.ones(2, 6, dtype=torch.long)
        before = m3_model.compute_colbert_score(q, p, q_mask=mask)
        patch("colbert-padding")
        assert torch.allclose(m3_model.compute_colbert_score(q, p, q_mask=mask), before)


class TestPrompts:
    def rows(self, kind: Any, **columns: Any) -> Any:
        """A data set without its constructor: one row, no instruction unless given."""
        made = kind.__new__(kind)
        made.args = SimpleNamespace(
            query_instruction_for_retrieval=columns.pop("instruction", None),
            query_instruction_format="{}{}",
            passage_instruction_for_retrieval=None,
            knowledge_distillation=False,
            train_group_size=2,
        )
        made.shuffle_ratio = 0.0
        batch = {"query": ["where"], "pos": [["here"]], "neg": [["there"]], **columns}
        return made, batch

    def same_dataset(self, **columns: Any) -> str:
        made, batch = self.rows(AbsEmbedderSameDatasetTrainDataset, **columns)
        queries, _, _ = made._create_batch_data(batch_raw_data=batch)
        return str(queries[0])

    def test_upstream_writes_none(self) -> None:
        assert self.same_dataset() == "Nonewhere"
        assert self.same_dataset(prompt=[None]) == "Nonewhere"
        assert self.same_dataset(prompt=[None], instruction="find: ") == "Nonewhere"

    @pytest.mark.parametrize(
        ("columns", "query"),
        [
            ({}, "where"),
            ({"prompt": [None]}, "where"),
            ({"prompt": [None], "instruction": "find: "}, "find: where"),
            ({"prompt": [""], "instruction": "find: "}, "where"),
            ({"prompt": ["seek: "], "instruction": "find: "}, "seek: where"),
        ],
    )
    def test_what_is_missing_is_filled_in(self, columns: dict[str, Any], query: str) -> None:
        patch("prompts")
        assert self.same_dataset(**columns) == query

    def test_plain_mode(self) -> None:
        from datasets import Dataset

        columns = {"query": ["where", "who"], "prompt": [None, "seek: "]}
        made, _ = self.rows(AbsEmbedderTrainDataset, instruction="find: ")
        made.dataset = Dataset.from_dict({**columns, "pos": [["here"]] * 2, "neg": [["there"]] * 2})
        assert made[0][0] == "Nonewhere"
        patch("prompts")
        assert made[0][0] == "find: where"
        assert made[1][0] == "seek: who"
        assert "prompt" in made.dataset.column_names

    def test_rerankers(self) -> None:
        from datasets import Dataset

        made, _ = self.rows(AbsRerankerTrainDataset)
        made.args.query_instruction_for_rerank, made.args.shuffle_ratio = "find: ", 0.0
        made.args.passage_instruction_for_rerank, made.args.passage_instruction_format = "", "{}{}"
        made.create_one_example = lambda query, passage: f"{query}|{passage}"
        columns = {"query_prompt": [None, "seek: "], "passage_prompt": [None, "text: "]}
        texts = {"query": ["where", "who"], "pos": [["here"]] * 2, "neg": [["there"]] * 2}
        made.dataset = Dataset.from_dict({**columns, **texts})
        assert made[0][0][0] == "Nonewhere|Nonehere"
        patch("prompts")
        assert made[0][0][0] == "find: where|here"
        assert made[1][0][0] == "seek: who|text: here"


class TestSubBatch:
    def test_upstream_stops_at_unequal_lengths(self, m3_model: Any) -> None:
        with pytest.raises(RuntimeError, match="Sizes of tensors must match"):
            step(m3_model, queries=in_parts(texts(3, 16), 2), passages=in_parts(texts(12, 40, seed=2), 5))

    @pytest.mark.parametrize("size", [1, 2, 5, 100])
    @pytest.mark.parametrize("kind", ["m3_model", "dense_model"])
    def test_gradients_are_the_whole_batchs(
        self, request: pytest.FixtureRequest, kind: str, size: int
    ) -> None:
        model = request.getfixturevalue(kind).double()  # in 32 bit rounding hides small gradients
        queries, passages = texts(3, 16), texts(12, 40, seed=2)
        loss, gradient = step(model, queries=queries, passages=passages)
        patch("sub-batch", *(["sparse-head"] if kind == "m3_model" else []))
        patched, other = step(model, queries=in_parts(queries, size), passages=in_parts(passages, size))
        assert patched == pytest.approx(loss, rel=1e-9)
        assert apart(gradient, other) < 1e-9

    def test_with_dropout_the_second_pass_repeats_the_first(self, dense_model: Any) -> None:
        """A finite difference agrees with the gradient only if both passes drop the same units."""
        patch("sub-batch")
        model = dense_model.double()
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.3
        inputs = {"queries": in_parts(texts(3, 8), 2), "passages": in_parts(texts(6, 12, seed=2), 2)}
        weight = model.model.embeddings.LayerNorm.weight

        def loss() -> torch.Tensor:
            torch.manual_seed(5)
            return model(**inputs).loss

        loss().backward()
        expected = float(weight.grad[3])
        with torch.no_grad():
            weight[3] += 1e-6
            above = float(loss())
            weight[3] -= 2e-6
            below = float(loss())
        assert expected == pytest.approx((above - below) / 2e-6, rel=1e-3)

    def test_activations_of_one_part_are_kept(self, dense_model: Any) -> None:
        queries, passages = texts(4, 16), texts(32, 64, seed=2)
        with Kept() as whole:
            dense_model(queries=queries, passages=passages)
        with Kept() as upstream:
            dense_model(queries=in_parts(queries, 4), passages=in_parts(passages, 4))
        patch("sub-batch")
        with Kept() as parts:
            dense_model(queries=in_parts(queries, 4), passages=in_parts(passages, 4))
        assert upstream.bytes > 0.5 * whole.bytes
        assert parts.bytes < 0.1 * whole.bytes


class TestRerankerBatch:
    def test_a_smaller_batch_is_grouped_by_its_own_queries(self, reranker_model: Any) -> None:
        pair, scores = texts(4, 16), [4.0, 3.0, 2.0, 1.0]
        reranker_model.train_group_size = 4
        logits = reranker_model.encode(pair).view(1, 4)
        teacher = torch.softmax(torch.tensor([scores]), -1)
        log = torch.log_softmax(logits, -1)
        right = float(-log[0, 0] - (log * teacher).sum())
        upstream = float(reranker_model(pair=pair, teacher_scores=scores).loss)
        patch("reranker-batch")
        assert float(reranker_model(pair=pair, teacher_scores=scores).loss) == pytest.approx(right, rel=1e-5)
        assert upstream != pytest.approx(right, rel=1e-2)

    def test_a_full_batch_is_upstreams(self, reranker_model: Any) -> None:
        reranker_model.train_group_size = 4
        loss, gradient = step(reranker_model, pair=texts(8, 16))
        patch("reranker-batch")
        patched, other = step(reranker_model, pair=texts(8, 16))
        assert patched == loss
        assert torch.equal(gradient, other)


class TestRegistry:
    def test_every_file_is_a_patch_and_every_patch_a_file(self) -> None:
        folder = Path(registry.__file__).parent
        files = {path.stem.replace("_", "-") for path in folder.glob("*.py") if path.stem[0] != "_"}
        assert files - {"registry"} == {item.name for item in PATCHES}

    def test_choice(self) -> None:
        everything, off = choose(M3, "all")
        assert {"sparse-head", "colbert-padding", "prompts"} <= {item.name for item in everything}
        assert off == []
        assert choose(M3, "none") == ([], [item.name for item in everything])
        some, off = choose(M3, "all, -sparse-head")
        assert "sparse-head" not in {item.name for item in some}
        assert off == ["sparse-head"]
        assert [item.name for item in choose(M3, "sparse-head")[0]] == ["sparse-head"]
        assert {item.name for item in choose(RERANKER, "all")[0]} == {
            "prompts",
            "reranker-batch",
            "file-modes",
            "sampling",
            "resume-weights",
            "skip-batches",
            "numbered-cpu",
            "intel-random-state",
            "loss-sums",
        }
        assert choose("my.trainer", "all") == ([], [])
        with pytest.raises(SystemExit, match="there is no patch sparse, coffee"):
            choose(M3, "sparse -coffee")

    def test_an_unknown_library_version_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from FlagEmbedding.finetune.embedder.encoder_only.m3 import EncoderOnlyEmbedderM3Model

        before = EncoderOnlyEmbedderM3Model.forward
        monkeypatch.setattr(registry, "version", lambda name: "1.9.0")
        with pytest.raises(SystemExit, match=r"sparse-head knows FlagEmbedding .*; installed is 1\.9\.0"):
            registry.apply(M3, "all")
        assert EncoderOnlyEmbedderM3Model.forward is before
        assert registry.apply(M3, "none")[0] == []

    def test_the_locked_version_is_known(self) -> None:
        for item in PATCHES:
            assert registry.version(item.library) in item.known

    def test_record(self) -> None:
        applied, _ = registry.apply(RERANKER, "all")
        version = registry.version("FlagEmbedding")
        assert {"name": "reranker-batch", "version": 1, "library": f"FlagEmbedding {version}"} in [
            item.record() for item in applied
        ]
