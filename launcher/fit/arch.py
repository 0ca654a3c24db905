"""A model's shape and its exact number of parameters, from its config.json alone.

Every family is counted by the layers that transformers builds for it; ``tests/integration/test_fit.py``
compares the counts with models that transformers made. A type that is not listed is refused: a wrong number
is worse than none.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from launcher.errors import ModelConfigError

#: More than any field of a real configuration has; what is above is a damaged file.
_MOST = 1 << 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What memory depends on.

    Attributes:
        model_type: transformers' name of the family.
        hidden: width of the residual stream.
        ffn: width inside the feed-forward block.
        gated: the block has a gate beside it (SwiGLU, GeGLU): three matrices instead of two.
        queries, keys: widths of all query heads and of all key heads together.
        norms: normalisations in a layer, over the residual stream.
        head_norms: queries and keys are normalised per head too.
        positions: longest input in tokens; 0: no limit of its own.
        fused: transformers has a fused attention for this family.
        hidden_dropout, attention_dropout: probabilities while training.
        word_embeddings: parameters of the token embeddings.
        other_embeddings: positions, token types, the norm behind them.
        matrices: parameters in the matrices of one layer.
        vectors: parameters in the biases and norms of all layers.
        rest: norms behind the last layer, and what all layers share.
        pooler: parameters of the pooler that transformers adds to the bare encoder.
        adapted: (name, parameters per rank of its adapter) pairs of a decoder layer's matrices.
        largest_matrix: parameters of a layer's largest matrix.
        tied: the output layer is the token embeddings.
    """

    model_type: str
    kind: Literal["encoder", "decoder"]
    layers: int
    hidden: int
    ffn: int
    gated: bool
    heads: int
    queries: int
    keys: int
    norms: int = 2
    head_norms: bool = False
    vocabulary: int
    positions: int
    fused: bool = True
    hidden_dropout: float = 0.0
    attention_dropout: float = 0.0
    word_embeddings: int
    other_embeddings: int
    matrices: int
    vectors: int
    rest: int
    pooler: int
    adapted: tuple[tuple[str, int], ...] = ()
    largest_matrix: int
    tied: bool = False

    @property
    def backbone(self) -> int:
        """Parameters of what transformers' AutoModel loads."""
        return self.embeddings + self.layers * self.matrices + self.vectors + self.rest + self.pooler

    @property
    def embeddings(self) -> int:
        """Parameters of all embeddings."""
        return self.word_embeddings + self.other_embeddings

    @property
    def classifier(self) -> int:
        """Parameters of AutoModelForSequenceClassification with one label."""
        body = self.backbone - self.pooler
        h = self.hidden
        if self.kind == "decoder":
            return body + h
        if self.model_type in ("bert", "distilbert"):  # BERT classifies its pooler's output
            return body + (self.pooler or h * h + h) + h + 1
        if self.model_type == "modernbert":
            return body + h * h + h + h + 1
        return body + h * h + h + h + 1  # RoBERTa's family and MPNet: dense, then one output

    @property
    def causal(self) -> int:
        """Parameters of AutoModelForCausalLM."""
        return self.backbone + self.output

    @property
    def output(self) -> int:
        """Parameters of the output layer of a language model that are its own."""
        return 0 if self.tied else self.word_embeddings


def read(config: Mapping[str, Any]) -> Shape:
    """The shape that a config.json describes.

    Raises:
        ModelConfigError: the type is not known, or fields are missing or odd; all of them at once.
    """
    kind = config.get("model_type")
    make = _FAMILIES.get(kind) if isinstance(kind, str) else None
    if make is None:
        said = repr(kind)[:60] if kind else "no model_type"
        raise ModelConfigError(
            f"config.json says {said}, whose parameters cannot be counted",
            [],
            why="the estimate counts the layers of each family, and guesses none",
            hint=f"known are: {', '.join(sorted(_FAMILIES))}. The training itself may well run",
        )
    fields = _Fields(config)
    shape = make(fields)
    if fields.problems:
        raise ModelConfigError(f"config.json of a {kind} model cannot be used", fields.problems)
    return shape


class _Fields:
    """Reads fields, and collects what is wrong with them; a wrong one counts as 1 until that is said."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.config = config
        self.problems: list[str] = []

    def kind(self) -> str:
        return str(self.config["model_type"])

    def count(self, name: str, default: int | None = None, *, least: int = 1) -> int:
        value = self.config.get(name)
        if value is None and default is not None:
            return default
        if isinstance(value, int) and not isinstance(value, bool) and least <= value < _MOST:
            return value
        wanted = f"a whole number from {least} on"
        self.problems.append(f"{name}: {'is missing' if value is None else repr(value)[:60]}; it is {wanted}")
        return max(least, 1)

    def share(self, name: str, default: float) -> float:
        value = self.config.get(name, default)
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1:
            return float(value)
        self.problems.append(f"{name}: {repr(value)[:60]}; it is a probability")
        return 0.0

    def flag(self, name: str, default: bool) -> bool:
        value = self.config.get(name, default)
        if isinstance(value, bool):
            return value
        self.problems.append(f"{name}: {repr(value)[:60]}; it is true or false")
        return default

    def divided(self, whole: str, amount: int, parts: int) -> int:
        if amount % parts and not self.problems:  # what is wrong already divides by nothing
            self.problems.append(f"{whole}: {amount} cannot be shared out to {parts} heads")
        return max(1, amount // parts)


def _bert(fields: _Fields) -> Shape:
    """BERT and the families that share its layers. Source: transformers, modeling_bert.py,
    modeling_xlm_roberta.py, modeling_mpnet.py, modeling_distilbert.py."""
    kind = fields.kind()
    names = _DISTILBERT if kind == "distilbert" else _BERT
    h, f = fields.count(names["hidden"]), fields.count(names["ffn"])
    layers, heads = fields.count(names["layers"]), fields.count(names["heads"])
    fields.divided(names["hidden"], h, heads)
    positions = fields.count("max_position_embeddings")
    types = fields.count("type_vocab_size", 2) if kind not in ("distilbert", "mpnet") else 0
    vocabulary = fields.count("vocab_size")
    relative = fields.count("relative_attention_num_buckets", 32) * heads if kind == "mpnet" else 0
    return Shape(
        model_type=kind,
        kind="encoder",
        layers=layers,
        hidden=h,
        ffn=f,
        gated=False,
        heads=heads,
        queries=h,
        keys=h,
        vocabulary=vocabulary,
        # RoBERTa's positions begin behind the padding token's.
        positions=positions - (0 if kind in ("bert", "distilbert") else 2),
        fused=kind != "mpnet",
        hidden_dropout=fields.share(names["dropout"], 0.1),
        attention_dropout=fields.share(names["attention_dropout"], 0.1),
        word_embeddings=vocabulary * h,
        other_embeddings=(positions + types) * h + 2 * h,
        matrices=4 * h * h + 2 * h * f,
        vectors=layers * (4 * h + f + h + 4 * h),
        rest=relative,
        pooler=0 if kind == "distilbert" else h * h + h,
        largest_matrix=h * f,
    )


_BERT = {
    "hidden": "hidden_size",
    "ffn": "intermediate_size",
    "layers": "num_hidden_layers",
    "heads": "num_attention_heads",
    "dropout": "hidden_dropout_prob",
    "attention_dropout": "attention_probs_dropout_prob",
}
_DISTILBERT = {
    "hidden": "dim",
    "ffn": "hidden_dim",
    "layers": "n_layers",
    "heads": "n_heads",
    "dropout": "dropout",
    "attention_dropout": "attention_dropout",
}


def _modernbert(fields: _Fields) -> Shape:
    """Source: transformers, modeling_modernbert.py: no positions, a gate, no norm before the first
    attention."""
    h, f = fields.count("hidden_size"), fields.count("intermediate_size")
    layers, heads = fields.count("num_hidden_layers"), fields.count("num_attention_heads")
    fields.divided("hidden_size", h, heads)
    vocabulary = fields.count("vocab_size")
    norm = h * (2 if fields.flag("norm_bias", False) else 1)
    biases = 4 * h if fields.flag("attention_bias", False) else 0
    biases += 2 * f + h if fields.flag("mlp_bias", False) else 0
    return Shape(
        model_type="modernbert",
        kind="encoder",
        layers=layers,
        hidden=h,
        ffn=f,
        gated=True,
        heads=heads,
        queries=h,
        keys=h,
        vocabulary=vocabulary,
        positions=fields.count("max_position_embeddings", 8192),
        attention_dropout=fields.share("attention_dropout", 0.0),
        word_embeddings=vocabulary * h,
        other_embeddings=norm,
        matrices=4 * h * h + 3 * h * f,
        vectors=layers * (biases + 2 * norm) - norm,
        rest=norm,
        pooler=0,
        largest_matrix=2 * h * f,
    )


#: Biases of query, key and value; norms of the residual stream in a layer; norms per head; tied by default.
@dataclass(frozen=True, slots=True, kw_only=True)
class _Decoder:
    qkv_bias: bool = False
    norms: int = 2
    head_norms: bool = False
    tied: bool = False
    head_dim: int = 0


_DECODERS: Mapping[str, _Decoder] = {
    "llama": _Decoder(),
    "mistral": _Decoder(),
    "qwen2": _Decoder(qkv_bias=True),
    "qwen3": _Decoder(head_norms=True, head_dim=128),
    "gemma": _Decoder(tied=True, head_dim=256),
    "gemma2": _Decoder(norms=4, tied=True, head_dim=256),
    "gemma3_text": _Decoder(norms=4, head_norms=True, tied=True, head_dim=256),
    "phi3": _Decoder(),
}


def _decoder(fields: _Fields) -> Shape:
    """Source: transformers, modeling_llama.py and its relatives; phi3 joins matrices, which counts the
    same."""
    kind = fields.kind()
    family = _DECODERS[kind]
    h, f = fields.count("hidden_size"), fields.count("intermediate_size")
    layers, heads = fields.count("num_hidden_layers"), fields.count("num_attention_heads")
    kv = fields.count("num_key_value_heads", heads)
    fields.divided("num_attention_heads", heads, kv)
    own = family.head_dim or (
        fields.divided("hidden_size", h, heads) if fields.config.get("head_dim") is None else 1
    )
    width = fields.count("head_dim", own)
    q, k = heads * width, kv * width
    bias = family.qkv_bias or (kind in _BIASED and fields.flag("attention_bias", False))
    vectors = (q + 2 * k if bias else 0) + family.norms * h + (2 * width if family.head_norms else 0)
    if kind in _BIASED and bias and not family.qkv_bias:
        vectors += h  # the output projection's
    if kind == "llama" and fields.flag("mlp_bias", False):
        vectors += 2 * f + h
    vocabulary = fields.count("vocab_size")
    return Shape(
        model_type=kind,
        kind="decoder",
        layers=layers,
        hidden=h,
        ffn=f,
        gated=True,
        heads=heads,
        queries=q,
        keys=k,
        norms=family.norms,
        head_norms=family.head_norms,
        vocabulary=vocabulary,
        positions=fields.count("max_position_embeddings", 0, least=0),
        attention_dropout=fields.share("attention_dropout", 0.0),
        word_embeddings=vocabulary * h,
        other_embeddings=0,
        matrices=2 * h * q + 2 * h * k + 3 * h * f,
        vectors=layers * vectors,
        rest=h,
        pooler=0,
        adapted=_adapted(kind, h, f, q, k),
        largest_matrix=max(h * f, h * q),
        tied=fields.flag("tie_word_embeddings", family.tied),
    )


def _adapted(kind: str, h: int, f: int, q: int, k: int) -> tuple[tuple[str, int], ...]:
    """An adapter has rank × (inputs + outputs) parameters (Hu et al., "LoRA", 2021, section 4.1)."""
    inner: tuple[tuple[str, int], ...]
    if kind == "phi3":
        inner = (("qkv_proj", h + q + 2 * k), ("gate_up_proj", h + 2 * f))
    else:
        inner = (
            ("q_proj", h + q),
            ("k_proj", h + k),
            ("v_proj", h + k),
            ("gate_proj", h + f),
            ("up_proj", h + f),
        )
    return (*inner, ("o_proj", q + h), ("down_proj", f + h))


#: Families whose configuration can ask for biases in the attention.
_BIASED = ("llama", "qwen3", "gemma", "gemma2", "gemma3_text")

_FAMILIES: Mapping[str, Callable[[_Fields], Shape]] = {
    **dict.fromkeys(("bert", "roberta", "xlm-roberta", "camembert", "mpnet", "distilbert"), _bert),
    "modernbert": _modernbert,
    **dict.fromkeys(_DECODERS, _decoder),
}
