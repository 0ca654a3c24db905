"""What grows with the number of devices: bytes on the wire, negatives, operations, rows of a step. Pure
formulas; docs/scale.md says what follows from them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from launcher.fit import activations, parts, states
from launcher.fit.arch import Shape
from launcher.fit.step import Setup

#: Bytes of text of a token, for GRPO's answers on the wire: a round figure for English, not measured here.
_TEXT = 4

#: Of one answer: two lengths in 64 bit, whether it was cut off, and its reward in 32 bit. Source: TRL 1.2.0,
#: grpo_trainer.py, _generate and _calculate_rewards.
_ANSWER = 8 + 8 + 1 + 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """Bytes that one device sends in an optimiser step; it receives as many.

    Attributes:
        gradients: of what is trained, and with DeepSpeed the weights that come back.
        vectors: of queries and passages, for negatives across devices.
        answers: GRPO's rewards, lengths and, for its log, texts.
    """

    gradients: float
    vectors: float
    answers: float = 0.0

    @property
    def total(self) -> float:
        """Bytes of all of them."""
        return self.gradients + self.vectors + self.answers


def traffic(shape: Shape, setup: Setup) -> Traffic:
    """What a device sends.

    A ring's all-reduce sends 2(N-1)/N of the bytes that are summed, a reduce-scatter or an all-gather half of
    that (Patarasuk and Yuan, 2009). DDP sums 32-bit gradients, once per optimiser step (accelerate's
    no_sync). DeepSpeed's stages 1 and 2 scatter sums and gather weights, stage 3 gathers them once more for
    the backward pass (Rajbhandari et al., "ZeRO", 2020, section 7); stages 2 and 3 do so for every batch that
    is accumulated, because a device keeps only its part of the sums (DeepSpeed, issue 2252).
    """
    share = (setup.world - 1) / setup.world
    width = 4.0 if setup.stage is None or setup.precision == "fp32" else 2.0
    again = setup.accumulation
    passes = {None: 2.0, 0: 2.0, 1: 2.0, 2: again + 1.0, 3: 3.0 * again}[setup.stage]
    return Traffic(
        gradients=passes * share * width * states.count(shape, setup).trained,
        vectors=dense_vectors(shape, setup) * again if setup.cross_device else 0.0,
        answers=_answers(setup) if setup.kind == "grpo" else 0.0,
    )


def _answers(setup: Setup) -> float:
    """Every process gets everybody's: rewards because a group may lie on several, the rest for the log."""
    tokens = setup.query_length + setup.passage_length
    return float((setup.world - 1) * setup.generated * (_ANSWER + _TEXT * tokens))


def dense_vectors(shape: Shape, setup: Setup) -> float:
    """Bytes that a device sends so that all have its batch's dense vectors: an all-gather of what is
    (N-1) times as large. Source: FlagEmbedding 1.4.2, AbsModeling.py, _dist_gather_tensor."""
    texts = setup.batch * (1 + setup.group)
    return float((setup.world - 1) * texts * shape.hidden * activations.types(setup).matmul)


def sparse_vectors(shape: Shape, setup: Setup) -> float:
    """The same for the sparse head's vectors, a number per word of the vocabulary, **if** they were shared.
    FlagEmbedding 1.4.2 shares none (modeling.py of m3: "disable cross device negatives")."""
    return dense_vectors(shape, setup) / shape.hidden * shape.vocabulary


def colbert_vectors(shape: Shape, setup: Setup) -> float:
    """The same for ColBERT's, a vector per token, **if** they were shared: they are not."""
    texts = setup.batch * (1 + setup.group)
    return dense_vectors(shape, setup) / texts * setup.tokens


def negatives(setup: Setup) -> int:
    """Passages that a query's right one is compared with, by the dense vector."""
    if setup.kind == "reranker":
        return setup.group - 1
    shared = setup.world if setup.cross_device else 1
    return shared * setup.batch * setup.group - 1


def comparing(shape: Shape, setup: Setup) -> float:
    """Floating-point operations of a device for the table of similarities: two per pair and number of a
    vector, and twice as many backward. Every device makes the whole table."""
    queries = setup.batch * (setup.world if setup.cross_device else 1)
    return 6.0 * queries**2 * setup.group * shape.hidden


def devices_within(setup: Setup, memory: float) -> int:
    """The most devices whose table of similarities, without the vectors themselves, takes no more than
    ``memory`` bytes."""
    queries = math.sqrt(memory / (parts.pair(setup) * setup.group))
    return int(queries / setup.batch)


def weight(setup: Setup) -> float:
    """What is left of the gradient of the dense vector's contrastive loss, next to that of one device with
    everybody's batch.

    The vectors of other devices come without their gradient (torch's all_gather), so each process has only
    its own share of the loss's gradient; DDP then divides the sum of the shares by the number of processes
    once more. FlagEmbedding 1.4.2 does not multiply by it. Measured: tests/bench/training/wire.py.
    """
    return 1 / setup.world if setup.cross_device else 1.0


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Epoch:
    """One pass over the data.

    Attributes:
        rows: of one optimiser step, on all devices.
        steps: of the optimiser.
        left_out: rows that are in no step of the pass.
    """

    rows: int
    steps: int
    left_out: int


def epoch(files: Sequence[int], setup: Setup, *, same_dataset: bool) -> Epoch:
    """Steps over files of so many rows, the last, smaller batch left out.

    Args:
        same_dataset: a batch of all devices comes from one file, and each file leaves its own rest out
            (FlagEmbedding 1.4.2, AbsDataset.py, refresh_epoch). Otherwise what is no whole batch of a process
            is left out, and batches that are not enough for all (accelerate 1.15, BatchSamplerShard).
    """
    together = setup.batch * setup.world
    batches = sum(rows // together for rows in files) if same_dataset else sum(files) // together
    # transformers steps once more at the end of an epoch, with the batches that are left.
    steps = math.ceil(batches / setup.accumulation)
    left_out = sum(files) - batches * together
    return Epoch(rows=together * setup.accumulation, steps=steps, left_out=left_out)


def reached(share: float, answers: int) -> float:
    """How likely at least one of so many answers is as long as it may be, and everybody waits for it.

    Args:
        share: of all answers that are; they do not depend on each other.
    """
    return 1.0 - (1.0 - share) ** answers
