"""Options that change the loaded model, not the library: attention dropout, frozen word embeddings."""

from collections.abc import Callable
from typing import Any

from torch import nn

from runtime import trainers
from runtime.options import Options


def attach(module: str, options: Options) -> None:
    """Change the model as soon as it is loaded.

    Raises:
        SystemExit: an option is asked for that this trainer cannot follow.
    """
    changes: list[Callable[[nn.Module], None]] = []
    if options.attention_dropout >= 0:
        changes.append(lambda model: set_attention_dropout(model, options.attention_dropout))
    if options.freeze_word_embeddings:
        changes.append(freeze_word_embeddings)
    if not changes:
        return
    if module not in trainers.RUNNERS:
        raise SystemExit(f"attention dropout and frozen embeddings: {module} is not known")
    runner = trainers.runner(module)
    runner.load_tokenizer_and_model = _followed(runner.load_tokenizer_and_model, changes)


def _followed(original: Any, changes: list[Callable[[nn.Module], None]]) -> Any:
    def load_tokenizer_and_model(self: Any) -> Any:
        tokenizer, model = original(self)
        for change in changes:
            change(model.model)
        return tokenizer, model

    return load_tokenizer_and_model


def set_attention_dropout(model: nn.Module, probability: float) -> None:
    """Set the dropout of the attention weights, in the modules and in the configuration that is saved.

    PyTorch's fused attention falls back to the plain one wherever it has to drop weights on a CPU, and then
    keeps the whole matrix: 150 instead of 46 KB per token and layer of XLM-R large at 512 tokens.

    Args:
        model: an encoder of transformers (BERT, XLM-R and what shares their layers).
        probability: from 0 to below 1.

    Raises:
        SystemExit: dropout is asked for, and the model has no attention that is known here.
    """
    found = 0
    for module in model.modules():
        if type(module).__name__.endswith("SelfAttention"):
            found += 1
            module.dropout.p = probability
            if hasattr(module, "dropout_prob"):  # what fused attention reads
                module.dropout_prob = probability
    if not found:
        message = f"attention dropout: {type(model).__name__} has no layer …SelfAttention"
        if probability:
            raise SystemExit(message)
        print(f"{message}; it keeps its own")
        return
    model.config.attention_probs_dropout_prob = probability


def freeze_word_embeddings(model: nn.Module) -> None:
    """Leave the token embeddings as they are: no gradient, no optimiser states, no update.

    Of bge-m3's 568M parameters 256M are word embeddings; without their gradient and Adam's two moments a
    training in 32 bit needs 3.1 GB less.
    """
    model.get_input_embeddings().requires_grad_(False)
