"""Make a tiny XLM-RoBERTa with BGE-M3's heads, or a reranker's: new tokenizer, random weights.

Runs inside an environment, started by ``recipes/tiny-xlmr.sh``. The result has the architecture, the special
tokens and the files of BGE-M3 or of a BGE reranker, so that the real recipes train it, only a thousand times
smaller; or as large as the real ones, to measure what they take.
"""
# ruff: noqa: S106 - "<unk>" and its like are tokens, not passwords

import argparse
import json
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import rows
import torch
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from tokenizers.processors import TemplateProcessing
from transformers import (
    PreTrainedModel,
    XLMRobertaConfig,
    XLMRobertaForSequenceClassification,
    XLMRobertaModel,
    XLMRobertaTokenizerFast,
)

# XLM-R's own order: fairseq's four come first, <mask> comes last (XLMRobertaTokenizer).
_SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")
_MASK = "<mask>"
_IDS = frozenset({"id", "_id"})


def texts(path: Path) -> Iterator[str]:
    """Every string in the rows of a JSON-lines file, lists included, whatever the keys are called.

    Only ids are left out: thousands of numbers would take the place of words in a small vocabulary.

    Raises:
        SystemExit: a line is not JSON; the message names it.
    """
    for _, row in rows.read(path):
        values = row if isinstance(row, dict) else {"": row}
        for value in (value for key, value in values.items() if key not in _IDS):
            yield from (v for v in (value if isinstance(value, list) else [value]) if isinstance(v, str))


def train_tokenizer(corpus: Sequence[str], vocab_size: int, max_length: int) -> XLMRobertaTokenizerFast:
    """A Unigram tokenizer over the corpus, in the shape of XLM-R's.

    Normalisation is NFKC with case folding (SentencePiece's ``nmt_nfkc_cf``; XLM-R keeps case): a tiny
    model should not have to learn twice what a word means.

    Args:
        corpus: distinct texts.
        vocab_size: upper limit of the vocabulary, special tokens included; a small corpus gives less.
        max_length: in tokens, what the tokenizer reports as its model's limit.
    """
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.NFKC(),
            normalizers.Lowercase(),
            normalizers.Replace(Regex(r"\s+"), " "),
            normalizers.Strip(),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always"),
            pre_tokenizers.Punctuation(behavior="isolated"),
        ]
    )
    tokenizer.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
    tokenizer.train_from_iterator(
        corpus,
        trainers.UnigramTrainer(
            vocab_size=vocab_size - 1,  # <mask> comes on top
            special_tokens=list(_SPECIAL),
            unk_token="<unk>",
            show_progress=False,
        ),
    )
    tokenizer.model = _settled(json.loads(tokenizer.to_str())["model"]["vocab"])
    tokenizer.post_processor = TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> </s> $B </s>",
        special_tokens=[("<s>", 0), ("</s>", 2)],
    )
    tokenizer.add_special_tokens([_MASK])
    return XLMRobertaTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        sep_token="</s>",
        cls_token="<s>",
        unk_token="<unk>",
        pad_token="<pad>",
        mask_token=_MASK,
        model_max_length=max_length,
    )


def _settled(vocabulary: Sequence[tuple[str, float]]) -> models.Unigram:
    """The trained vocabulary in an order of its own.

    The trainer adds up floating-point numbers in the order of a randomised hash table: the last digits of its
    scores differ from run to run, and with them the order of the tokens and thus the weights of each one.
    """
    learned = [(token, round(score, 6)) for token, score in vocabulary[len(_SPECIAL) :]]
    learned.sort(key=lambda entry: (-entry[1], entry[0]))
    return models.Unigram([*((token, 0.0) for token in _SPECIAL), *learned], unk_id=_SPECIAL.index("<unk>"))


def configuration(
    *, vocabulary: int, layers: int, hidden_size: int, heads: int, max_length: int, dropout: float = 0.0
) -> XLMRobertaConfig:
    """The shape of an XLM-R for texts of up to ``max_length`` tokens, by default without dropout.

    Tiny models do not need it, and SDPA is several times slower with dropout on a CPU. XLM-R's own is 0.1.
    """
    return XLMRobertaConfig(
        vocab_size=vocabulary,
        hidden_size=hidden_size,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=4 * hidden_size,
        max_position_embeddings=max_length + 2,  # positions start behind the padding id
        type_vocab_size=1,
        layer_norm_eps=1e-5,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
        bos_token_id=0,
        pad_token_id=1,
        eos_token_id=2,
    )


def build(config: XLMRobertaConfig, seed: int) -> tuple[XLMRobertaModel, torch.nn.Linear, torch.nn.Linear]:
    """The random encoder, sparse head and colbert head of one seed.

    XLM-R draws every weight with a standard deviation of 0.02, which suits a width of 1024 and weeks of
    training. A few hundred steps need a start from which a gradient leads somewhere. Every weight stays
    random; these scales differ, and each was measured by leaving it out:

    * values and outputs of the attention: 1/sqrt(width) (LeCun et al., "Efficient BackProp", 1998). At 0.02
      the first token's vector, which is the dense embedding, hardly hears the words, and does not learn to;
    * positions: a tenth of the words, since which words there are comes before their order;
    * the last layer's gain: 0.3, and small sparse weights with a positive bias. Otherwise one step at the
      large learning rate of the embeddings takes every output of the sparse head's ReLU below zero for good.
    """
    torch.manual_seed(seed)
    encoder = XLMRobertaModel(config)
    sparse = torch.nn.Linear(config.hidden_size, 1)
    colbert = torch.nn.Linear(config.hidden_size, config.hidden_size)
    with torch.no_grad():
        encoder.embeddings.position_embeddings.weight.mul_(0.1)
        for layer in encoder.encoder.layer:
            for linear in (layer.attention.self.value, layer.attention.output.dense):
                torch.nn.init.normal_(linear.weight, std=config.hidden_size**-0.5)
        encoder.encoder.layer[-1].output.LayerNorm.weight.fill_(0.3)
        torch.nn.init.normal_(sparse.weight, std=0.02)
        sparse.bias.fill_(0.2)
    return encoder, sparse, colbert


def reranker(encoder: XLMRobertaModel, seed: int) -> XLMRobertaForSequenceClassification:
    """The encoder with a random head that scores, which a trainer would otherwise draw by its own seed."""
    torch.manual_seed(seed)
    encoder.config.num_labels = 1
    model = XLMRobertaForSequenceClassification(encoder.config)
    encoder.pooler = None  # a reranker has none
    model.roberta = encoder
    return model


def save(
    folder: Path,
    tokenizer: XLMRobertaTokenizerFast,
    model: PreTrainedModel,
    *heads: torch.nn.Linear,
) -> None:
    """Write the model's files; ``config.json`` comes last, so a folder that has one is complete.

    Args:
        heads: none, or BGE-M3's: the sparse one, then ColBERT's.
    """
    partial = folder / ".partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    tokenizer.save_pretrained(partial)
    model.save_pretrained(partial, safe_serialization=True)
    for name, head in zip(("sparse", "colbert"), heads, strict=False):
        torch.save(head.state_dict(), partial / f"{name}_linear.pt")
    for path in sorted(partial.iterdir(), key=lambda path: path.name == "config.json"):
        path.chmod(0o644)  # safetensors writes 0600, whatever the umask says
        path.replace(folder / path.name)
    partial.rmdir()


def main() -> None:
    """Make the model and say what it is."""
    arguments = _arguments()
    found = list(dict.fromkeys(text for path in rows.files(arguments.data) for text in texts(path)))
    if not found:
        sys.exit("there is no text in " + ", ".join(map(str, arguments.data)))
    tokenizer = train_tokenizer(found, arguments.vocab_size, arguments.max_length)
    config = configuration(
        vocabulary=max(len(tokenizer), arguments.embedding_rows),
        layers=arguments.layers,
        hidden_size=arguments.hidden_size,
        heads=arguments.heads,
        max_length=arguments.max_length,
        dropout=arguments.dropout,
    )
    model, *heads = build(config, arguments.seed)
    if arguments.kind == "reranker":
        model, heads = reranker(model, arguments.seed), []
    save(arguments.output, tokenizer, model, *heads)
    parameters = sum(p.numel() for part in (model, *heads) for p in part.parameters())
    print(f"tiny XLM-R: {len(found)} texts, {len(tokenizer)} tokens, {parameters:,} parameters")


def _arguments() -> argparse.Namespace:
    """The command line, as the recipe gives it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, nargs="+", required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--kind", choices=["m3", "reranker"], required=True)
    parser.add_argument("--dropout", type=float, required=True)
    for name in ("vocab-size", "embedding-rows", "layers", "hidden-size", "heads", "max-length", "seed"):
        parser.add_argument(f"--{name}", type=int, required=True)
    return parser.parse_args()


if __name__ == "__main__":
    main()
