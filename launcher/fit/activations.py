"""Bytes that a forward pass keeps for the backward pass, counted operation by operation.

The idea is that of Korthikanti et al., "Reducing Activation Recomputation in Large Transformer Models"
(2022), section 4.1, whose sum is for layers in 16 bit throughout. transformers' trainers use autocast:
parameters and the residual stream stay in 32 bit, every linear layer keeps a 16-bit copy of its input, and
norms work in 32 bit. So the operations of transformers' layers are counted here, each with the type in which
autograd keeps it.
"""

from dataclasses import dataclass

from launcher.fit.arch import Shape
from launcher.fit.step import Setup


@dataclass(frozen=True, slots=True, kw_only=True)
class Types:
    """Bytes per number.

    Attributes:
        matmul: of what matrix products read and write.
        stream: of the residual stream, and of what norms read.
        autocast: parameters are in 32 bit and are cast for each product.
    """

    matmul: int
    stream: int
    autocast: bool


def types(setup: Setup) -> Types:
    """The number formats of a step. With DeepSpeed and with adapters the model itself is in 16 bit."""
    if setup.precision == "fp32":
        return Types(matmul=4, stream=4, autocast=False)
    if setup.stage is not None or setup.adapters:
        return Types(matmul=2, stream=2, autocast=False)
    return Types(matmul=2, stream=4, autocast=True)


def fused(shape: Shape, setup: Setup) -> bool:
    """Whether attention is computed without its table of scores.

    PyTorch's fused attention takes dropout on CUDA alone; on a CPU and on Intel's GPUs it falls back
    (docs/traps.md).
    """
    own = shape.attention_dropout if setup.attention_dropout is None else setup.attention_dropout
    return shape.fused and (setup.device == "cuda" or own == 0)


def layer(shape: Shape, setup: Setup, length: int) -> float:
    """Bytes per token that one layer keeps, scores aside.

    Args:
        length: of the text in tokens; the attention mask has a row of that length for every token.
    """
    found = _encoder_layer(shape, setup) if shape.kind == "encoder" else _decoder_layer(shape, setup)
    if types(setup).autocast and fused(shape, setup) and shape.kind == "encoder":
        found += 2 * length  # autocast makes a 16-bit copy of the mask for each layer, and attention keeps it
    return found


def _encoder_layer(shape: Shape, setup: Setup) -> float:
    """Query, key, value and their input; attention's result; two dropout masks; the norms' inputs; the
    feed-forward block's input, and what lies before and after its activation."""
    t, h, f = types(setup), shape.hidden, shape.ffn
    copies = 4 if t.autocast else 2  # query, key and value each cast their input for themselves
    # CUDA and XPU keep one byte per number of a dropout mask, a CPU the factors themselves.
    mask = (t.matmul if setup.device == "cpu" else 1) if shape.hidden_dropout else 0
    inner = 4 if shape.gated else 2
    return (
        h * (copies * t.matmul + 4 * t.matmul + 2 * mask + 2 * t.stream)
        + inner * f * t.matmul
        + 4 * shape.heads
    )


def _decoder_layer(shape: Shape, setup: Setup) -> float:
    """RMSNorm keeps its input in 32 bit; query, key, value after their rotation and attention's result; gate,
    its activation, the other branch and their product. Unsloth's kernels keep a norm's input as it is."""
    t, h, f = types(setup), shape.hidden, shape.ffn
    norm = t.matmul if setup.kernels == "unsloth" else 4
    inputs = (5 if t.autocast else 2) * t.matmul * h
    if not setup.adapters:
        inputs += shape.norms * t.stream * h  # a trained norm's weight needs what it is multiplied with
    per_head = 4 * (shape.queries + shape.keys) if shape.head_norms else 0
    attention = t.matmul * 2 * (shape.queries + shape.keys) + 4 * shape.heads
    return shape.norms * norm * h + inputs + per_head + attention + (4 if shape.gated else 2) * f * t.matmul


def scores(shape: Shape, setup: Setup, length: int) -> float:
    """Bytes per token and layer of attention that is not fused: the softmax's result, and with dropout the
    mask and the result after it, one number per head and position. Source: Korthikanti et al., 5·a·s²·b with
    a one-byte mask.
    """
    if fused(shape, setup):
        return 0.0
    t = types(setup)
    own = shape.attention_dropout if setup.attention_dropout is None else setup.attention_dropout
    soft = 4 if t.autocast else t.matmul  # autocast computes softmax in 32 bit
    mask = soft if setup.device == "cpu" else 1
    return shape.heads * length * (soft + (mask + soft if own else 0))


def boundary(shape: Shape, setup: Setup) -> float:
    """Bytes per token that lie between two layers: what checkpointing keeps."""
    return float(shape.hidden * types(setup).stream)


def embedding(shape: Shape, setup: Setup) -> float:
    """Bytes per token around the layers: the embeddings' sum, its dropout mask, the last hidden state."""
    t = types(setup)
    mask = (t.stream if setup.device == "cpu" else 1) if shape.hidden_dropout else 0
    return shape.hidden * (2 * t.stream + mask)


def passing(shape: Shape, setup: Setup) -> float:
    """Bytes per token that live for a moment while a layer's gradient is computed: those of the feed-forward
    block's two inner states."""
    return 2.0 * shape.ffn * types(setup).matmul


#: Logits that Unsloth's loss makes at a time on a CPU. Source: unsloth_zoo 2026.10.9, cpu/ops.py.
_CHUNK = 16 << 20


def logits(shape: Shape, setup: Setup, tokens: int) -> float:
    """Bytes of a language model's output: the logits, their 32-bit copy, its log-softmax, and both gradients.
    Unsloth's loss makes no whole table. Source: transformers, loss/loss_utils.py (upcast, cross entropy).
    """
    if setup.kernels == "unsloth":
        return 12.0 * min(_CHUNK, tokens * shape.vocabulary) if setup.device == "cpu" else 0.0
    size = types(setup).matmul
    return float(tokens * shape.vocabulary * (2 * size + (12 if size == 2 else 8)))
