"""The text ``None`` before a query or passage that has no instruction.

Upstream formats ``str.format(prompt, query)``: in same-dataset mode always, in plain mode when an
instruction is given. With no instruction, and in every row whose ``prompt`` is null (also one that merely
lacks the key, in a file where another row has it), the prompt is ``None`` and the model learns from
"Nonehow do I …". A reranker's ``query_prompt`` and ``passage_prompt`` are formatted in the same way. Here a
missing prompt is the instruction, and a missing instruction is the empty text.
"""

from typing import Any

from FlagEmbedding.abc.finetune.embedder.AbsDataset import (
    AbsEmbedderSameDatasetTrainDataset,
    AbsEmbedderTrainDataset,
)
from FlagEmbedding.abc.finetune.reranker.AbsDataset import AbsRerankerTrainDataset


def apply() -> None:
    """Fill in what is missing before upstream formats it."""
    AbsEmbedderSameDatasetTrainDataset._create_batch_data = _batch(
        AbsEmbedderSameDatasetTrainDataset._create_batch_data
    )
    AbsEmbedderTrainDataset.__getitem__ = _item(AbsEmbedderTrainDataset.__getitem__, ("prompt",))
    AbsRerankerTrainDataset.__getitem__ = _item(
        AbsRerankerTrainDataset.__getitem__, ("query_prompt", "passage_prompt")
    )


def _batch(original: Any) -> Any:
    def _create_batch_data(self: Any, batch_raw_data: dict[str, Any]) -> Any:
        instruction = self.args.query_instruction_for_retrieval or ""
        prompts = batch_raw_data.get("prompt") or [None] * len(batch_raw_data["query"])
        filled = [instruction if prompt is None else prompt for prompt in prompts]
        return original(self, batch_raw_data={**batch_raw_data, "prompt": filled})

    return _create_batch_data


def _item(original: Any, keys: tuple[str, ...]) -> Any:
    def __getitem__(self: Any, item: Any) -> Any:  # noqa: N807 - it replaces the class's own
        whole = self.dataset
        present = [key for key in keys if key in whole.column_names]
        row = whole[item] if present else {}  # most data has no prompts: no row is read twice
        missing = [key for key in present if row[key] is None]
        try:
            self.dataset = whole.remove_columns(missing) if missing else whole
            return original(self, item)
        finally:
            self.dataset = whole

    return __getitem__
