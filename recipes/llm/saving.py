"""The result of training a language model: the adapters or the model, with tokenizer and chat template."""

import os
from pathlib import Path
from typing import Any

from llm.options import ModelOptions

#: Memory that merging takes beside the weights: the prompts' activations, and the largest layer once more.
_BESIDE = 1.25


def refuse(options: ModelOptions, method: str) -> None:
    """Refuse before a training what could not be merged after it.

    Raises:
        SystemExit: the base is stored in few bits, or a library is missing.
    """
    base = Path(options.model_name_or_path)
    if _merges(options, method) and base.is_dir():
        from llm import merging

        merging.refuse_base(base, merging.canonical(method))


def save(trainer: Any, tokenizer: Any, options: ModelOptions, method: str) -> None:
    """Write the result into the trainer's output; merged when that is wanted.

    Args:
        trainer: after its training; every process calls this.
        tokenizer: saved beside the weights.
        options: of the model.
        method: ``lora`` (the adapters; with all weights trained, the model), or a merged form, which has the
            adapters in its folder ``adapter``.

    Raises:
        SystemExit: it cannot be merged; the adapters are there.
    """
    output = Path(trainer.args.output_dir)
    trainer.model.config.use_cache = True  # what was switched off for the training
    if options.method == "full":
        from llm import generating

        # Whoever loads the model stops where its answers end; old versions of transformers do not see to it.
        trainer.model.generation_config.eos_token_id = generating.ends(trainer.model, tokenizer)
    merged = _merges(options, method)
    folder = output / "adapter" if merged else output
    trainer.save_model(str(folder))
    if trainer.is_world_process_zero():
        tokenizer.save_pretrained(folder)
        card = output / "README.md"
        if merged and card.is_file():  # TRL writes one with each checkpoint; it is about the adapters
            card.replace(folder / card.name)
        _open_up(folder)
        if merged:
            _merge(trainer.args.device, folder, output, options, method)
    trainer.accelerator.wait_for_everyone()


def _merges(options: ModelOptions, method: str) -> bool:
    return method != "lora" and options.method == "lora"


def _merge(device: Any, folder: Path, output: Path, options: ModelOptions, method: str) -> None:
    from llm import adapters, merging

    try:
        base = adapters.locate(adapters.read(folder), options.model_name_or_path)
        place, precision = _place(device, adapters.weights(base), options.precision)
        merging.merge(folder, output, method, base, precision=precision, device=place)
    except SystemExit as error:
        raise SystemExit(
            f"{error}\nthe training is done and its adapters are whole, in {folder}:"
            " recipe llm-merge can merge them later"
        ) from None


def _place(device: Any, weights: int, precision: str) -> tuple[str, str]:
    """Where to merge, and in what: on the training's device, if the model fits beside what is left there.

    Args:
        device: of the training.
        weights: how many the base has.
        precision: of the training.
    """
    if device.type != "cpu":
        import torch

        library = getattr(torch, device.type)
        library.empty_cache()
        free, _ = library.mem_get_info(device)
        if free > _BESIDE * weights * (4 if precision == "fp32" else 2):
            return f"{device.type}:{device.index or 0}", precision
        print("the device has no room for the whole model beside the trained one: merging in main memory")
    return "cpu", "bf16" if precision == "fp16" else precision


def _open_up(folder: Path) -> None:
    """safetensors writes files with mode 0600, whatever the umask: others shall read a result."""
    umask = os.umask(0)
    os.umask(umask)
    for path in folder.iterdir():
        if path.is_file() and path.stat().st_uid == os.getuid():
            path.chmod(path.stat().st_mode | (0o666 & ~umask))
