"""Short trainings of a tiny language model in processes of their own: Unsloth changes the libraries for good.

    python llm_trainings.py SPEC.json

SPEC is a list of arguments of ``llm.sft``, each a list of words; all are trained one after the other in this
process, as ``python -m runtime -m llm.sft`` does it.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any


def words(tiny: Path, folder: Path, **more: Any) -> list[str]:
    """Arguments of a training that ends after a few steps."""
    given = {
        "model_name_or_path": tiny / "model",
        "train_data": tiny / "train.jsonl",
        "cache_path": folder / "cache",
        "output_dir": folder / "out",
        "max_seq_length": 128,
        "lora_alpha": 32,
        "learning_rate": 3e-3,
        "per_device_train_batch_size": 8,
        "max_steps": 6,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "use_cpu": True,
        "disable_tqdm": True,
        "gradient_checkpointing": False,
        "bf16": False,
        "ddp_find_unused_parameters": False,
        **more,
    }
    return [
        word
        for name, value in given.items()
        for word in (f"--{name}", str(value).lower() if isinstance(value, bool) else str(value))
    ]


def separate(specs: list[list[str]], folder: Path, *, processes: int = 1, **variables: str) -> str:
    """Train one after the other in new processes; returns what they said."""
    spec = folder / "spec.json"
    spec.write_text(json.dumps(specs), encoding="utf-8")
    rendezvous = ("--rdzv_backend", "c10d", "--rdzv_endpoint", "127.0.0.1:0", "--local_addr", "127.0.0.1")
    torchrun = ("-m", "torch.distributed.run", "--nproc_per_node", str(processes), *rendezvous)
    done = subprocess.run(
        [sys.executable, *torchrun, __file__, str(spec)],
        env={**os.environ, "OMP_NUM_THREADS": "1", **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
    return done.stdout + done.stderr


def losses(folder: Path) -> list[float]:
    """The loss of every step, as the record has it."""
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [event["loss"] for event in map(json.loads, lines) if "loss" in event]


def main() -> None:
    """Train every one of the list."""
    from runtime import checkpoints, memory, metrics, patches, resume, unsloth_loader
    from runtime.__main__ import leave

    specs = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    if "--unsloth" in specs[0]:
        unsloth_loader.attach("llm.sft")
    from llm import sft

    os.environ["LAUNCH_RUN_DIR"] = "set"
    checkpoints.attach()
    metrics.attach()
    memory.attach()
    resume.attach("llm.sft", patches.apply("llm.sft", "all")[0])
    for spec in specs:
        os.environ["LAUNCH_RUN_DIR"] = str(Path(spec[spec.index("--output_dir") + 1]).parent)
        sys.argv = ["llm.sft", *spec]
        sft.main()
    leave()  # as a recipe's process: Gloo's threads may abort an interpreter that ends by itself


if __name__ == "__main__":
    main()
