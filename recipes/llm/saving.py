"""The result of training a language model: the adapters or the model, with tokenizer and chat template."""

import os
from pathlib import Path
from typing import Any

from llm.options import ModelOptions


def save(trainer: Any, tokenizer: Any, options: ModelOptions, method: str) -> None:
    """Write the result into the trainer's output; merged when that is wanted.

    Args:
        trainer: after its training; every process calls this.
        tokenizer: saved beside the weights.
        options: of the model.
        method: ``lora`` (the adapters; with all weights trained, the model), or a merged form, which has the
            adapters in its folder ``adapter``.
    """
    output = Path(trainer.args.output_dir)
    trainer.model.config.use_cache = True  # what was switched off for the training
    merged = method != "lora" and options.method == "lora"
    folder = output / "adapter" if merged else output
    trainer.save_model(str(folder))
    if trainer.is_world_process_zero():
        tokenizer.save_pretrained(folder)
        _open_up(folder)
        if merged:
            from llm.merging import merge

            merge(folder, output, method, Path(options.model_name_or_path))
    trainer.accelerator.wait_for_everyone()


def _open_up(folder: Path) -> None:
    """safetensors writes files with mode 0600, whatever the umask: others shall read a result."""
    umask = os.umask(0)
    os.umask(umask)
    for path in folder.iterdir():
        if path.is_file() and path.stat().st_uid == os.getuid():
            path.chmod(path.stat().st_mode | (0o666 & ~umask))
