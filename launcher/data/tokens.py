"""Lengths in tokens, by the model's own tokenizer; the library is loaded when somebody asks."""

from collections.abc import Callable, Sequence
from pathlib import Path

from launcher.errors import ModelNotFoundError, UsageError


def counter(model: Path) -> Callable[[Sequence[str]], Sequence[int]]:
    """A function that counts the tokens of texts, special tokens included, nothing cut off.

    Args:
        model: a folder with ``tokenizer.json``, or that file.

    Raises:
        UsageError: the library is not installed.
        ModelNotFoundError: there is no such file, or it is none of a tokenizer.
    """
    file = model / "tokenizer.json" if model.is_dir() else model
    try:
        from tokenizers import Tokenizer
    except ImportError:
        raise UsageError(
            "token lengths need the package tokenizers",
            why="few people need it, so it does not come with the launcher",
            hint='pip install tokenizers, or "finetune-launch[data]"; lengths in characters need nothing',
        ) from None
    if not file.is_file():
        raise ModelNotFoundError(
            f"{model} has no tokenizer.json",
            why="token lengths are counted by the model's own tokenizer",
            hint="--model takes a folder on this machine; without it lengths are in characters",
        )
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # noqa: BLE001 - the library raises nothing more specific
        raise ModelNotFoundError(f"{file} is not a tokenizer: {error}") from None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return lambda texts: [len(each.ids) for each in tokenizer.encode_batch([*texts])]
