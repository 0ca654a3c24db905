"""What grows with the number of devices: bytes on the wire, negatives, operations. Pure formulas."""

from dataclasses import dataclass

from launcher.fit import activations, states
from launcher.fit.arch import Shape
from launcher.fit.step import Setup


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """Bytes that one device sends in an optimiser step; it receives as many.

    Attributes:
        gradients: of what is trained, and with DeepSpeed the weights that come back.
        vectors: of queries and passages, for negatives across devices.
    """

    gradients: float
    vectors: float

    @property
    def total(self) -> float:
        """Bytes of both."""
        return self.gradients + self.vectors


def traffic(shape: Shape, setup: Setup) -> Traffic:
    """What a device sends.

    A ring's all-reduce sends 2(N-1)/N of the bytes that are summed, a reduce-scatter or an all-gather half of
    that (Patarasuk and Yuan, 2009). DDP sums 32-bit gradients. DeepSpeed's stages 1 and 2 scatter sums and
    gather weights, stage 3 gathers them once more for the backward pass (Rajbhandari et al., "ZeRO", 2020,
    section 7).
    """
    share = (setup.world - 1) / setup.world
    width = 4.0 if setup.stage is None or setup.precision == "fp32" else 2.0
    passes = 3.0 if setup.stage == 3 else 2.0
    gathered = 0.0
    if setup.cross_device:
        texts = setup.batch * (1 + setup.group)
        gathered = (setup.world - 1) * texts * shape.hidden * float(activations.types(setup).matmul)
    return Traffic(
        gradients=passes * share * width * states.count(shape, setup).trained,
        vectors=gathered * setup.accumulation,
    )


def negatives(setup: Setup) -> int:
    """Passages that a query's right one is compared with."""
    if setup.kind == "reranker":
        return setup.group - 1
    shared = setup.world if setup.cross_device else 1
    return shared * setup.batch * setup.group - 1


def operations(shape: Shape, setup: Setup) -> float:
    """Floating-point operations of a device's optimiser step, attention's tables and embeddings left out.

    Two per parameter and token forward, four backward, two more with checkpoints (Kaplan et al., 2020,
    section 2.1; Korthikanti et al., 2022). Adapters need no gradient of the weights below them: two less.
    """
    passes = 6 + 2 * setup.checkpointing - 2 * setup.adapters
    matrices = shape.layers * shape.matrices
    if setup.kind in ("sft", "grpo"):
        matrices += shape.word_embeddings  # the output layer
    return float(passes * matrices * setup.tokens * setup.accumulation)
