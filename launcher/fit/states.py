"""Weights, gradients and the optimiser's states: bytes per parameter, and what several devices share."""

from dataclasses import dataclass

from launcher.errors import UsageError
from launcher.fit.arch import Shape
from launcher.fit.step import LANGUAGE, Setup

#: Bytes per parameter in 4 bit: NF4, and its scales in 8 bit per 64 parameters, with one 32-bit number per
#: 256 of them. Source: Dettmers et al., "QLoRA" (2023), section 3: 0.127 bits per parameter for the
#: constants.
NF4 = (4 + 0.127) / 8

#: Bytes per parameter of Adam's two moments in 32 bit (Kingma and Ba, 2015).
_ADAM = 8.0

#: The same in 8 bit: one byte each, and one 32-bit scale per 256. Source: bitsandbytes, block-wise
#: quantisation.
_ADAM8 = 2.0 + 2 * 4 / 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """Parameters by what happens to them.

    Attributes:
        all: of the model as it is loaded, heads included.
        trained: with gradient and optimiser states.
        trained_embeddings: those of them in embedding tables.
        matrices: in the layers' matrices, which autocast casts and QLoRA quantises.
        largest: of the largest tensor that is trained.
    """

    all: int
    trained: int
    trained_embeddings: int
    matrices: int
    largest: int


def count(shape: Shape, setup: Setup) -> Count:
    """Count the parameters of a step."""
    matrices = shape.layers * shape.matrices
    if setup.kind in LANGUAGE:
        everything = shape.causal
    elif setup.kind == "reranker":
        everything = shape.classifier
    else:
        everything = shape.backbone
    heads = shape.hidden**2 + shape.hidden + shape.hidden + 1 if setup.unified else 0
    if not setup.trains:
        return Count(all=everything, trained=0, trained_embeddings=0, matrices=matrices, largest=0)
    if setup.adapters:
        adapters = setup.rank * shape.layers * _adapted(shape, setup)
        return Count(
            all=everything,
            trained=adapters,
            trained_embeddings=0,
            matrices=matrices,
            largest=setup.rank * shape.ffn,
        )
    if setup.heads_only:
        return Count(
            all=everything + heads,
            trained=heads,
            trained_embeddings=0,
            matrices=matrices,
            largest=shape.hidden**2,
        )
    frozen = shape.word_embeddings if setup.frozen_embeddings else 0
    largest = shape.largest_matrix if frozen else max(shape.word_embeddings, shape.largest_matrix)
    # The bare encoder's pooler takes no part in an embedder's loss, and gets no gradient.
    idle = shape.pooler if setup.kind in ("dense", "m3") else 0
    return Count(
        all=everything + heads,
        trained=everything + heads - frozen - idle,
        trained_embeddings=shape.embeddings - frozen,
        matrices=matrices,
        largest=largest,
    )


def _adapted(shape: Shape, setup: Setup) -> int:
    """Parameters per rank of one layer's adapters.

    Raises:
        UsageError: no matrix of the model has one of the names.
    """
    known = dict(shape.adapted)
    chosen = [size for name, size in known.items() if not setup.targets or name in setup.targets]
    if not chosen:
        raise UsageError(
            f"--target-modules {','.join(setup.targets)}: a {shape.model_type} layer has none of them",
            hint=f"it has: {', '.join(known) or 'none that adapters are known for'}",
        )
    return sum(chosen)


@dataclass(frozen=True, slots=True, kw_only=True)
class States:
    """Bytes on one device.

    Attributes:
        casts: 16-bit copies of the matrices, while a forward pass lasts.
        buckets: DDP's second copy of the gradients, or DeepSpeed's communication buffers; always there.
            Of single processes accelerate wraps only one on a CPU that torchrun started (its accelerator.py:
            multi_device asks for more than one, MULTI_CPU does not).
        update: what an optimiser step takes for a moment.
        gathered: DeepSpeed's stage 3 gathers one layer at a time; or one matrix that QLoRA unpacks.
        doubled: a second gradient of the embeddings, while two encoder passes are added up.
        reference: a frozen copy of the model that GRPO compares with; with adapters it is the model without
            them (TRL 1.2.0, grpo_trainer.py: no copy for a PEFT model).
    """

    weights: float
    gradients: float
    optimiser: float
    casts: float
    buckets: float
    update: float
    gathered: float
    doubled: float
    reference: float = 0.0


def states(shape: Shape, setup: Setup) -> States:
    """What stays from step to step, and what a step adds to it."""
    found = count(shape, setup)
    if not setup.trains:
        return _frozen(shape, setup, found)
    if setup.stage is not None and not setup.adapters:
        return _zero(shape, setup, found)
    weights, gathered = _weights(shape, setup, found)
    autocast = setup.precision != "fp32" and not setup.adapters
    return States(
        weights=weights,
        gradients=4.0 * found.trained,
        optimiser=_moments(found, setup),
        casts=2.0 * found.matrices if autocast else 0.0,
        buckets=4.0 * found.trained if setup.ddp else 0.0,
        update=_update(found, setup),
        gathered=gathered,
        doubled=4.0 * shape.word_embeddings if _twice(setup) else 0.0,
        reference=4.0 * found.all if setup.reference else 0.0,
    )


def _frozen(shape: Shape, setup: Setup, found: Count) -> States:
    """A model that is read and not trained."""
    base = 4.0 if setup.precision == "fp32" else 2.0
    packed = setup.method == "qlora"
    weights = NF4 * found.matrices + base * (found.all - found.matrices) if packed else base * found.all
    return States(
        weights=weights,
        gradients=0.0,
        optimiser=0.0,
        casts=0.0,
        buckets=0.0,
        update=0.0,
        gathered=base * shape.largest_matrix if packed else 0.0,
        doubled=0.0,
    )


def _twice(setup: Setup) -> bool:
    """Whether two encoder passes, queries and passages, each make a gradient of the token embeddings."""
    embedder = setup.kind in ("dense", "m3")
    return embedder and not (setup.adapters or setup.frozen_embeddings or setup.heads_only)


def _weights(shape: Shape, setup: Setup, found: Count) -> tuple[float, float]:
    """Weights, and the matrix that is unpacked at a time. Adapters are kept in 32 bit, as peft keeps them."""
    if not setup.adapters:
        return 4.0 * found.all, 0.0
    base = 4.0 if setup.precision == "fp32" else 2.0
    adapters = 4.0 * found.trained
    if setup.method == "lora":
        return base * found.all + adapters, 0.0
    rest = 4.0 if setup.prepared else base
    packed = NF4 * found.matrices + rest * (found.all - found.matrices)
    return packed + adapters, base * shape.largest_matrix


def _moments(found: Count, setup: Setup) -> float:
    """Adam's moments. transformers' Trainer leaves embedding tables of 8-bit optimisers in 32 bit
    (trainer.py, create_optimizer: register_module_override for nn.Embedding)."""
    if not _eight_bit(setup):
        return _ADAM * found.trained
    tables = found.trained_embeddings
    return _ADAM * tables + _ADAM8 * (found.trained - tables)


def _update(found: Count, setup: Setup) -> float:
    """PyTorch's default on a GPU updates all tensors at once, with one copy of them for the denominator (its
    manual, torch.optim, on foreach); on a CPU one tensor at a time, with its square root and its quotient.
    Fused and 8-bit kernels need nothing."""
    if "fused" in setup.optimiser or _eight_bit(setup):
        return 0.0
    return 8.0 * found.largest if setup.device == "cpu" else 4.0 * found.trained


def _eight_bit(setup: Setup) -> bool:
    return "8bit" in setup.optimiser


#: Elements in the buffers of ds_configs/: stage 1 reduces in pieces of 5e8, stage 2 in pieces of 2e8, two of
#: which are under way with overlap_comm.
_BUCKET = {1: 5e8, 2: 4e8}


def _zero(shape: Shape, setup: Setup, found: Count) -> States:
    """DeepSpeed in 16 bit: 2 bytes of weights and 2 of gradients; 12 of optimiser (32-bit weights and two
    moments) and 4 of 32-bit gradients, shared out from stage 1 on. In 32 bit there are no copies: 4, 4 and 8.
    Source: Rajbhandari et al., "ZeRO" (2020), figure 1, and DeepSpeed's estimate_zero2_model_states_mem_needs
    and estimate_zero3_model_states_mem_needs."""
    width = 4.0 if setup.precision == "fp32" else 2.0
    moments = _ADAM if setup.precision == "fp32" else _ADAM + 4.0 + 4.0
    stage, share = setup.stage or 0, 1 / setup.world
    part = share if stage >= 1 else 1.0
    sharded = share if stage >= 3 else 1.0
    layer = 4.0 * max(shape.word_embeddings, shape.matrices) if stage >= 3 else 0.0
    kept = 0.0 if setup.offload else 1.0
    elements = min(_BUCKET.get(stage, 0.0), found.trained) if setup.world > 1 else 0.0
    return States(
        weights=width * found.all * sharded * kept,
        gradients=width * found.trained * (share if stage >= 2 else 1.0) * kept,
        optimiser=moments * found.trained * part * kept,
        casts=0.0,
        buckets=width * elements,
        update=0.0,
        gathered=layer,
        doubled=width * shape.word_embeddings if _twice(setup) else 0.0,
    )
