"""The files by which sentence-transformers knows how a text becomes one vector.

Without them it pools by the mean, whatever was trained: BGE-M3 pools by CLS, and its vectors are then wrong
without a word (FlagEmbedding's #1326 and #76). The format is that of sentence-transformers' own
``modules.json``; its older module names are read by old and new versions alike.
"""

import json
from pathlib import Path
from typing import Any

from runtime.patches._saving import after_save

_MODULES = "sentence_transformers.models"
_POOLING = {"cls": "cls_token", "mean": "mean_tokens", "last_token": "lasttoken"}
_OTHERS = ("max_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens")


def apply() -> None:
    """Describe the trained pooling beside the weights."""
    after_save(_describe, embedders_only=True)


def _describe(trainer: Any, output: Path) -> None:
    args, data_args = trainer.args, trainer.runner.data_args
    parts = [("", "Transformer"), ("1_Pooling", "Pooling")]
    if args.normalize_embeddings:
        parts.append(("2_Normalize", "Normalize"))
        (output / "2_Normalize").mkdir(exist_ok=True)
    _write(
        output / "modules.json",
        [
            {"idx": index, "name": str(index), "path": path, "type": f"{_MODULES}.{kind}"}
            for index, (path, kind) in enumerate(parts)
        ],
    )
    chosen = _POOLING[args.sentence_pooling_method]
    modes = {f"pooling_mode_{mode}": mode == chosen for mode in (*_POOLING.values(), *_OTHERS)}
    dimension = trainer.runner.model.model.config.hidden_size
    _write(output / "1_Pooling" / "config.json", {"word_embedding_dimension": dimension, **modes})
    _write(output / "config_sentence_transformers.json", _configuration(args, data_args))


def _configuration(args: Any, data_args: Any) -> dict[str, Any]:
    """Similarity, and the instructions as prompts where they are mere prefixes."""
    given = {
        "query": (data_args.query_instruction_for_retrieval, data_args.query_instruction_format),
        "document": (data_args.passage_instruction_for_retrieval, data_args.passage_instruction_format),
    }
    prompts = {
        name: form.format(text, "")
        for name, (text, form) in given.items()
        if text and form.endswith("{}") and form.count("{}") == 2
    }
    similarity = "cosine" if args.normalize_embeddings else "dot"
    return {"prompts": prompts, "default_prompt_name": None, "similarity_fn_name": similarity}


def _write(path: Path, content: Any) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
