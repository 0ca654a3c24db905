"""What a recipe may ask of the runtime beside the trainer's own arguments; standard library only."""

import argparse
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The options before ``-m MODULE``.

    Attributes:
        patches: ``all``, ``none``, or a list of names; a name with a minus is left out of all.
        attention_dropout: probability; negative: the model's own.
        freeze_word_embeddings: leave the token embeddings as they are.
        length_bucketing: batches of texts of similar length, their size found by memory.
        max_batch_size: most queries per device in one batch, with length bucketing.
        bucket_batch_sizes: batch sizes that are given instead of measured, such as ``128:32,512:8``.
        memory_fraction: share of the device's free memory that a step may take, with length bucketing.
        unsloth: load the model through Unsloth.
    """

    patches: str = "all"
    attention_dropout: float = -1.0
    freeze_word_embeddings: bool = False
    length_bucketing: bool = False
    max_batch_size: int = 64
    bucket_batch_sizes: str = ""
    memory_fraction: float = 0.9
    unsloth: bool = False

    def record(self) -> dict[str, Any]:
        """As the run's record keeps them."""
        return asdict(self)


def parse(words: Sequence[str]) -> tuple[Options, str, list[str]]:
    """Split a command line into the runtime's options, the trainer's module, and the trainer's arguments.

    Raises:
        SystemExit: there is no ``-m MODULE``, or an option is wrong.
    """
    if "-m" not in words[:-1]:
        raise SystemExit("usage: python -m runtime [OPTIONS] -m MODULE [ARGS]")
    cut = list(words).index("-m")
    usual = Options()
    parser = argparse.ArgumentParser(prog="python -m runtime", allow_abbrev=False)
    parser.add_argument("--patches", default=usual.patches)
    parser.add_argument("--attention-dropout", type=float, default=usual.attention_dropout)
    parser.add_argument("--freeze-word-embeddings", type=_bool, default=usual.freeze_word_embeddings)
    parser.add_argument("--length-bucketing", type=_bool, default=usual.length_bucketing)
    parser.add_argument("--max-batch-size", type=_at_least_one, default=usual.max_batch_size)
    parser.add_argument("--bucket-batch-sizes", default=usual.bucket_batch_sizes)
    parser.add_argument("--memory-fraction", type=float, default=usual.memory_fraction)
    parser.add_argument("--unsloth", type=_bool, default=usual.unsloth)
    chosen = parser.parse_args(list(words[:cut]))
    if not 0 < chosen.memory_fraction <= 1:
        parser.error("--memory-fraction is above 0 and at most 1")
    if chosen.attention_dropout >= 1:
        parser.error("--attention-dropout is a probability below 1, or negative for the model's own")
    return Options(**vars(chosen)), words[cut + 1], list(words[cut + 2 :])


def _bool(word: str) -> bool:
    if word.lower() not in ("true", "false", "on", "off"):
        raise argparse.ArgumentTypeError(f"{word!r} is neither true nor false")
    return word.lower() in ("true", "on")


def _at_least_one(word: str) -> int:
    if not word.isdecimal() or int(word) < 1:
        raise argparse.ArgumentTypeError(f"{word!r} is not a whole number from 1 on")
    return int(word)
