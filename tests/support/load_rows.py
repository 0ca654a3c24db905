"""Runs inside the embedded environment: what FlagEmbedding's own loaders and collators make of files.

    python load_rows.py FOLDER

Each file of the folder is loaded and every row drawn, as trainings do it; one JSON object on
the last line says which files failed, and how.
"""

import json
import os
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "recipes"))

import datasets
from FlagEmbedding.abc.finetune.embedder import AbsDataset as embedder  # noqa: N813
from FlagEmbedding.abc.finetune.reranker import AbsDataset as reranker  # noqa: N813
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast


def tokenizer() -> Any:
    """A real one, with a vocabulary of next to nothing."""
    made = Tokenizer(models.WordLevel({"[UNK]": 0, "[PAD]": 1, "[SEP]": 2}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(
        single="$A [SEP]", pair="$A [SEP] $B [SEP]", special_tokens=[("[SEP]", 2)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=made, unk_token="[UNK]", pad_token="[PAD]")


def arguments(path: Path, cache: str, distillation: bool) -> Any:
    """As much of the trainer's arguments as loaders and collators read."""
    return SimpleNamespace(
        train_data=[str(path)],
        cache_path=cache,
        train_group_size=3,
        query_max_len=16,
        passage_max_len=16,
        max_example_num_per_dataset=1_000_000,
        query_instruction_for_retrieval="",
        query_instruction_format="{}{}",
        passage_instruction_for_retrieval=None,
        query_instruction_for_rerank=None,
        passage_instruction_for_rerank=None,
        knowledge_distillation=distillation,
        shuffle_ratio=0.0,
        small_threshold=0,
        drop_threshold=0,
        same_dataset_within_batch=True,
    )


def draw(path: Path, own: Any, cache: str, distillation: bool) -> None:
    """Every row, through dataset and collator of both kinds of trainer."""
    asked = arguments(path, cache, distillation)
    plain = embedder.AbsEmbedderTrainDataset(asked, own)
    collate = embedder.AbsEmbedderCollator(tokenizer=own, query_max_len=16, passage_max_len=16)
    rows = [plain[number] for number in range(len(plain))]
    assert all(isinstance(text, str) for query, passages, _ in rows for text in (query, *passages))
    collate(rows)
    same = embedder.AbsEmbedderSameDatasetTrainDataset(asked, 1, 0, own)
    collate_same = embedder.AbsEmbedderSameDatasetCollator(
        tokenizer=own, query_max_len=16, passage_max_len=16
    )
    for number in range(len(same)):
        collate_same([same[number]])
    pairs = reranker.AbsRerankerTrainDataset(asked, own)
    reranker.AbsRerankerCollator(tokenizer=own)([pairs[number] for number in range(len(pairs))])


def main(folder: Path) -> None:
    """Try all files."""
    from runtime.patches import PATCHES

    next(item for item in PATCHES if item.name == "prompts").apply()  # as every training has it
    datasets.disable_progress_bars()
    own, failed, files = tokenizer(), {}, sorted(folder.glob("*.jsonl"))
    for path in files:
        with tempfile.TemporaryDirectory() as cache:
            try:
                draw(path, own, cache, path.stem.endswith("scored"))
            except Exception as error:  # noqa: BLE001 - which one is the result
                failed[path.name] = f"{type(error).__name__}: {error.__cause__ or error}"[:300]
    print(json.dumps({"tried": len(files), "failed": failed}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
