"""A causal language model and its tokenizer, ready to be trained: through Unsloth, or transformers and peft.

Both ways get the same adapters with the same first weights, so that what Unsloth changes is speed and memory.
Where a library would quietly do something else than was asked for, the training stops here.
"""

import os
from pathlib import Path
from typing import Any

from llm.options import ModelOptions

#: Of torch's types by the names of the parameter ``precision``.
_TYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}


def load(options: ModelOptions, *, device: str, **more: Any) -> tuple[Any, Any]:
    """The model, with its adapters where there are any, and its tokenizer.

    Args:
        options: what is wanted.
        device: where it will be trained, with its number: ``cpu``, ``cuda:0``, ``xpu:1``.
        more: for Unsloth's ``from_pretrained`` alone (``fast_inference`` and what belongs to it).

    Raises:
        SystemExit: the folder holds adapters alone, or the library loaded something else than was asked for.
    """
    if (Path(options.model_name_or_path) / "adapter_config.json").is_file():
        raise SystemExit(
            f"{options.model_name_or_path} holds adapters, no whole model: merge them first"
            " (launch run llm-merge)"
        )
    model, tokenizer = _by_unsloth(options, more) if options.unsloth else _by_transformers(options, device)
    if options.quantized and not any(type(each).__name__ == "Linear4bit" for each in model.modules()):
        raise SystemExit(
            "the weights were not loaded in 4 bit: bitsandbytes cannot do it with this model here"
        )
    if tokenizer.eos_token_id is None:
        raise SystemExit("the tokenizer has no end-of-text token: the model could not learn where to stop")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.padding_side = "right"
    if name := os.environ.get("LAUNCH_MODEL_NAME"):
        model.config._name_or_path = name  # model cards name their base by it
    model.config.use_cache = False  # a cache is for generating; with one, packed rows would see each other
    return model, tokenizer


def with_adapters(model: Any, options: ModelOptions) -> Any:
    """The model with LoRA adapters around it; as it is when all weights are trained."""
    if options.method == "full":
        return model
    import torch

    names = targets(model, options.target_modules)
    shared = {
        "r": options.lora_r,
        "lora_alpha": options.lora_alpha,
        "lora_dropout": options.lora_dropout,
        "bias": options.bias,
        "target_modules": names,
        "use_rslora": options.use_rslora,
    }
    if options.unsloth:
        from unsloth import FastLanguageModel

        adapted = FastLanguageModel.get_peft_model(
            model,
            random_state=options.random_state,
            use_gradient_checkpointing=_checkpointing(options),
            max_seq_length=options.max_seq_length,
            **shared,
        )
    else:
        from peft import LoraConfig, get_peft_model

        if options.use_gradient_checkpointing != "none":
            model.enable_input_require_grads()  # recomputed layers need an input that asks for gradients
        torch.manual_seed(options.random_state)
        adapted = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **shared))
    name_base(adapted, options.model_name_or_path)
    return adapted


def name_base(model: Any, folder: str) -> None:
    """Let the adapters say which model they belong to: what the user named, not a container's path.

    Also its class, and its commit when it came from the hub: layers of the same names and sizes are no proof.

    Args:
        model: with adapters.
        folder: where the base was read.
    """
    place = Path(folder).resolve()
    name = os.environ.get("LAUNCH_MODEL_NAME") or (str(place) if place.is_dir() else "")
    classes = getattr(model.config, "architectures", None) or [""]
    for config in model.peft_config.values():
        if name:
            config.base_model_name_or_path = name
        if place.parent.name == "snapshots":  # of the hub's cache
            config.revision = place.name
        if classes[0] and not config.auto_mapping:
            config.auto_mapping = {"base_model_class": classes[0], "parent_library": "transformers"}


def targets(model: Any, wanted: str) -> list[str]:
    """The last names of the layers that get adapters.

    ``all-linear`` is every linear layer but the output's, resolved here: Unsloth takes the word for a few
    architectures only, and lists are written into the adapters' configuration.

    Raises:
        SystemExit: a name that no layer of the model has.
    """
    from torch import nn

    output = model.get_output_embeddings()
    layers = {
        name.rpartition(".")[2]: each for name, each in model.named_modules() if isinstance(each, nn.Linear)
    }
    if wanted.strip() == "all-linear":
        return sorted(name for name, each in layers.items() if each is not output)
    names = [word.strip() for word in wanted.split(",") if word.strip()]
    known = {name.rpartition(".")[2] for name, _ in model.named_modules()}
    if missing := [name for name in names if name not in known]:
        raise SystemExit(
            f"target_modules: the model has no layer {', '.join(missing)};"
            f" linear ones are {', '.join(sorted(layers))}"
        )
    return names


def _by_unsloth(options: ModelOptions, more: dict[str, Any]) -> tuple[Any, Any]:
    import torch
    from unsloth import FastLanguageModel

    loaded: tuple[Any, Any] = FastLanguageModel.from_pretrained(
        model_name=options.model_name_or_path,
        max_seq_length=options.max_seq_length,
        dtype=getattr(torch, _stored(options)),
        load_in_4bit=options.quantized,
        full_finetuning=options.method == "full",
        use_gradient_checkpointing=_checkpointing(options),
        trust_remote_code=options.trust_remote_code,
        **more,
    )
    return loaded


def _by_transformers(options: ModelOptions, device: str) -> tuple[Any, Any]:
    import torch
    import transformers

    kind = getattr(torch, _stored(options))
    old = tuple(map(int, transformers.__version__.split(".")[:2])) < (4, 56)
    kept: dict[str, Any] = {"torch_dtype" if old else "dtype": kind}
    if options.quantized:
        kept["device_map"] = {"": device}
        kept["quantization_config"] = transformers.BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=kind,
        )
    own = {"trust_remote_code": options.trust_remote_code}
    model = transformers.AutoModelForCausalLM.from_pretrained(options.model_name_or_path, **kept, **own)
    for each in model.modules() if device == "cpu" else ():
        # On CPUs with bf16 instructions bitsandbytes repacks the weights for a pass without gradients and
        # never unpacks them: from the first evaluation on gradients are wrong (0.50.2, read; Unsloth's
        # backend does the same).
        if hasattr(each, "support_avx512bf16_for_cpu"):
            each.support_avx512bf16_for_cpu = False
    return model, transformers.AutoTokenizer.from_pretrained(options.model_name_or_path, **own)


def _stored(options: ModelOptions) -> str:
    """Of the weights: those that are trained stay in 32 bit, small updates are lost in 16."""
    return "float32" if options.method == "full" else _TYPES[options.precision]


def _checkpointing(options: ModelOptions) -> bool | str:
    """As Unsloth spells it."""
    wanted = options.use_gradient_checkpointing
    return wanted if wanted == "unsloth" else wanted == "true"
