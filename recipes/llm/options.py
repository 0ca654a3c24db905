"""Arguments of the language-model trainers, before any library is there to read them; standard library only.

Unsloth has to be imported before transformers and TRL, and whether it shall be is an argument itself.
"""

import argparse
from collections.abc import Sequence
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, TypeVar

Parsed = TypeVar("Parsed")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelOptions:
    """Which model, what of it is trained, and how it is loaded.

    Attributes:
        model_name_or_path: a folder, or an id on the hub.
        max_seq_length: tokens of a row at most.
        method: ``lora`` trains adapters, ``full`` all weights.
        load_in_4bit: the frozen weights in 4 bit (NF4); with adapters alone.
        lora_r, lora_alpha, lora_dropout, bias, use_rslora: the adapters', as peft's LoraConfig has them.
        target_modules: ``all-linear``, or names separated by commas.
        use_gradient_checkpointing: ``none``, ``true``, or ``unsloth``, its own.
        random_state: seed of the adapters' first weights.
        precision: of the activations: ``fp32``, ``bf16`` or ``fp16``.
        unsloth: load and train through Unsloth.
        trust_remote_code: run Python that comes with the model.
    """

    model_name_or_path: str
    max_seq_length: int = 2048
    method: str = field(default="lora", metadata={"choices": ("lora", "full")})
    load_in_4bit: bool = False
    lora_r: int = 16
    lora_alpha: int = 16
    lora_dropout: float = 0.0
    target_modules: str = "all-linear"
    bias: str = field(default="none", metadata={"choices": ("none", "all", "lora_only")})
    use_gradient_checkpointing: str = field(default="none", metadata={"choices": ("none", "true", "unsloth")})
    use_rslora: bool = False
    random_state: int = 3407
    precision: str = field(default="fp32", metadata={"choices": ("fp32", "bf16", "fp16")})
    unsloth: bool = False
    trust_remote_code: bool = False

    @property
    def quantized(self) -> bool:
        """Whether the frozen weights are in 4 bit."""
        return self.load_in_4bit and self.method == "lora"


def parse(words: Sequence[str], kind: type[Parsed]) -> tuple[Parsed, list[str]]:
    """The fields of a dataclass as ``--name value``; returns it, and the words that are not its own.

    A field is of str, int, float, bool, or a tuple of texts (several words); without a default it is needed.

    Raises:
        SystemExit: a value that the field cannot have, or a needed one is missing.
    """
    parser = argparse.ArgumentParser(prog=kind.__module__, allow_abbrev=False, add_help=False)
    for each in fields(kind):  # type: ignore[arg-type]
        several = each.type is not str and "tuple" in str(each.type)
        more: dict[str, Any] = (
            {"nargs": "+"} if several else {"type": _bool if each.type is bool else each.type}
        )
        if several:
            more["type"] = str
        if choices := each.metadata.get("choices"):
            more["choices"] = choices
        needed = each.default is MISSING
        parser.add_argument(
            f"--{each.name}", required=needed, default=None if needed else each.default, **more
        )
    found, rest = parser.parse_known_args(list(words))
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in vars(found).items()}
    return kind(**values), rest


def _bool(word: str) -> bool:
    if word.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"{word!r} is neither true nor false")
    return word.lower() == "true"
