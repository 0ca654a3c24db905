"""Short trainings of a tiny model, in the process of the test."""

import json
import random
import runpy
import sys
from pathlib import Path
from typing import Any

M3 = "FlagEmbedding.finetune.embedder.encoder_only.m3"
DENSE = "FlagEmbedding.finetune.embedder.encoder_only.base"
RERANKER = "FlagEmbedding.finetune.reranker.encoder_only.base"
WORDS = "red green blue round square small large cold warm soft hard near far old new quick slow".split()


def rows(count: int, *, longest: int = 40, seed: int = 0) -> list[dict[str, Any]]:
    """Rows whose passages have very different lengths."""
    draw = random.Random(seed)  # noqa: S311 - no secret
    sizes = [draw.randint(1, longest) for _ in range(count)]

    def text(size: int) -> str:
        return " ".join(draw.choices(WORDS, k=draw.randint((size + 1) // 2, size)))

    return [
        {
            "query": f"what is {draw.choice(WORDS)} number {index}",
            "pos": [text(size)],
            "neg": [text(size) for _ in range(3)],
        }
        for index, size in enumerate(sizes)
    ]


def write(path: Path, content: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in content), encoding="utf-8")
    return path


def train(module: str, model: Path, data: Path, output: Path, **more: Any) -> Any:
    """Run a trainer's main program in this process."""
    switches = {
        "model_name_or_path": model,
        "train_data": data,
        "cache_path": output.parent / "cache",
        "output_dir": output,
        "max_steps": 2,
        "per_device_train_batch_size": 2,
        "train_group_size": 2,
        "query_max_len": 32,
        "passage_max_len": 64,
        "learning_rate": 1e-3,
        "use_cpu": True,
        "report_to": "none",
        "disable_tqdm": True,
        **({"query_instruction_for_retrieval": ""} if module != RERANKER else {}),
        **more,
    }
    words = [part for key, value in switches.items() for part in (f"--{key}", str(value))]
    before, sys.argv = sys.argv, [module, *words]
    try:
        return runpy.run_module(module, run_name="__main__", alter_sys=False)
    finally:
        sys.argv = before
