"""The memory of a training step, part by part, at the moment when it is largest.

On a GPU not everything is there at once: gradients grow while activations go, and the optimiser's step needs
no activations. So four moments of a step are added up, and the largest counts. On a CPU freed memory stays
with the process, and all parts are added up.
"""

from dataclasses import dataclass

from launcher.fit import activations, states
from launcher.fit.arch import Shape
from launcher.fit.states import States
from launcher.fit.step import LANGUAGE, Setup

_MIB = 1 << 20

#: What a process takes before it loads a model, in bytes. CPU: resident set of Python with the trainer's
#: libraries, measured with the cpu environment (tests/bench/fit.py). GPUs: driver's context and the
#: libraries' kernels; a round figure for CUDA with lazy loading, not measured here, and taken over for
#: Intel's.
CONTEXT = {"cpu": 512 * _MIB, "cuda": 512 * _MIB, "xpu": 512 * _MIB}

#: The same on a CPU with TRL, peft and their libraries, with Unsloth and without: measured, 600 MiB.
_LANGUAGE_CONTEXT = 600 * _MIB

#: What the allocator holds and cannot use, as a share of what comes and goes in a step. On GPUs about 10 % by
#: experience with the caching allocator; on a CPU it is counted otherwise, see _on_cpu.
FRAGMENTATION = {"cpu": 0.0, "cuda": 0.1, "xpu": 0.1}

#: Copies of ColBERT's table of similarities that live at once, as in recipes/runtime/bucketing.py.
_COPIES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One part of the memory of one device, in bytes."""

    name: str
    bytes: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """What is there at one moment of a step."""

    name: str
    parts: tuple[Part, ...]

    @property
    def total(self) -> float:
        """Bytes of all parts."""
        return sum(part.bytes for part in self.parts)


def moments(shape: Shape, setup: Setup, *, context: bool = True) -> tuple[Moment, ...]:
    """The moments of a step that can be its largest.

    Args:
        context: False leaves out the process's own memory and fragmentation: what torch's allocator counts.
    """
    state = states.states(shape, setup)
    lasting = {
        "weights": state.weights,
        "reference": state.reference,
        "optimiser": state.optimiser,
        "communication": state.buckets,
    }
    if context:
        more = setup.device == "cpu" and setup.kind in LANGUAGE
        lasting["context"] = _LANGUAGE_CONTEXT if more else CONTEXT[setup.device]
    found = _on_cpu(shape, setup, state) if setup.device == "cpu" else _on_gpu(shape, setup, state)
    made = []
    for name, passing in found.items():
        spare = FRAGMENTATION[setup.device] * sum(passing.values()) if context else 0.0
        together = {**lasting, **passing, "fragmentation": spare}
        parts = tuple(Part(name=key, bytes=size) for key, size in together.items() if size)
        made.append(Moment(name=name, parts=parts))
    return tuple(made)


def _on_gpu(shape: Shape, setup: Setup, state: States) -> dict[str, dict[str, float]]:
    """What comes and goes, at the moments that can be the largest."""
    answering = {"generation": _generation(shape, setup, state)} if setup.generated or setup.vllm else {}
    if not setup.trains:
        return answering or {"merge": {"gathered layer": 4.0 * shape.largest_matrix}}
    kept = state.gradients if setup.accumulation > 1 else 0.0
    loss, layers, last = _passes(shape, setup)
    gathered = {"gathered layer": state.gathered}
    if setup.vllm and not setup.standby:
        gathered["vLLM"] = _vllm(setup, state)
    return {
        **answering,
        "loss": {"gradients": kept, "autocast copies": state.casts, **loss, **gathered},
        "layers' backward": {"gradients": kept, **layers, **gathered},
        "end of the backward": {"gradients": state.gradients + state.doubled, **last, **gathered},
        "optimiser's step": {
            "gradients": state.gradients,
            "update": state.update,
            "vLLM": gathered.get("vLLM", 0.0),
        },
    }


def _generation(shape: Shape, setup: Setup, state: States) -> dict[str, float]:
    """While the model answers: the keys and values of all tokens so far, and one layer of the prompts.

    Source: transformers' DynamicCache keeps two numbers per key width, layer and token, in the model's type;
    logits are made for the last token alone, in 32 bit for the sampling.
    """
    if setup.vllm:
        return {"vLLM": _vllm(setup, state)}
    tokens = setup.generated * (setup.query_length + setup.passage_length)
    prompts = setup.generated * setup.query_length
    return {
        "KV cache": _cache(shape, setup, tokens),
        "activations": prompts * activations.layer(shape, setup, setup.query_length),
        "logits": 4.0 * setup.generated * shape.vocabulary,
        "gathered layer": state.gathered,
    }


def lacking(shape: Shape, setup: Setup) -> float:
    """Bytes that vLLM lacks in its share: it holds the weights and at least one answer's keys and values,
    or does not start."""
    if not setup.vllm:
        return 0.0
    answer = _cache(shape, setup, setup.query_length + setup.passage_length)
    whole = float(activations.types(setup).matmul * states.count(shape, setup).all)
    shared = states.states(shape, setup).weights if setup.kernels == "unsloth" else whole
    return max(0.0, min(shared, whole) + answer - setup.vllm)


def _cache(shape: Shape, setup: Setup, tokens: int) -> float:
    """Bytes of the keys and values of some tokens."""
    return 2.0 * activations.types(setup).matmul * shape.layers * shape.keys * tokens


def _vllm(setup: Setup, state: States) -> float:
    """vLLM's share of the device. Unsloth lets it use the weights that are trained, which are counted
    already (fast_inference); TRL's has its own copy in its share."""
    return max(0.0, setup.vllm - (state.weights if setup.kernels == "unsloth" else 0.0))


#: Parts that are made of few large blocks.
_LARGE = ("update", "logits", "sparse head", "similarities")


def _on_cpu(shape: Shape, setup: Setup, state: States) -> dict[str, dict[str, float]]:
    """Everything together: the C library keeps what is freed, with blocks in use in between, and the resident
    set does not shrink. Only large blocks go back at once (mallopt(3), M_MMAP_THRESHOLD: at most 32 MiB), and
    of them the largest part counts."""
    passing: dict[str, float] = _generation(shape, setup, state) if setup.generated else {}
    if not setup.trains:
        return {
            "generation" if passing else "merge": passing or {"gathered layer": 4.0 * shape.largest_matrix}
        }
    passing |= {
        "gradients": state.gradients,
        "autocast copies": state.casts,
        "update": max(state.update, state.doubled),
        "gathered layer": state.gathered,
    }
    for moment in _passes(shape, setup):
        for name, size in moment.items():
            passing[name] = max(size, passing.get(name, 0.0))
    largest = max(_LARGE, key=lambda name: passing.get(name, 0.0))
    return {
        "whole step": {name: size for name, size in passing.items() if name not in _LARGE or name == largest}
    }


def peak(shape: Shape, setup: Setup, *, context: bool = True) -> Moment:
    """The moment with the most memory."""
    return max(moments(shape, setup, context=context), key=lambda moment: moment.total)


def _passes(shape: Shape, setup: Setup) -> tuple[dict[str, float], dict[str, float], dict[str, float]]:
    """Activations and heads when the loss is computed, while layers go backward, and when the last one
    has."""
    texts = setup.texts
    if setup.sub_batch:
        texts = (
            max(
                ((min(count, setup.sub_batch), length) for count, length in texts), key=lambda t: t[0] * t[1]
            ),
        )
    live, live_scores = _live(shape, setup, texts)
    kept, kept_scores = _kept(shape, setup, texts)
    heads = _heads(shape, setup)
    vectors = _vectors(shape, setup)
    if setup.heads_only or setup.sub_batch:
        # No pass keeps anything while the loss is computed; a part is computed again when its gradient is
        # due.
        loss = {"activations": vectors + live, "attention scores": live_scores, **heads}
    else:
        loss = {"activations": kept, "attention scores": kept_scores, **heads}
    if setup.heads_only:
        return loss, {"activations": vectors}, {"activations": vectors}
    again, again_scores = (live, live_scores) if setup.checkpointing else (0.0, 0.0)
    passing = max(count * length for count, length in texts) * activations.passing(shape, setup)
    layers = {
        "activations": kept + again + passing + (vectors if setup.sub_batch else 0.0),
        "attention scores": kept_scores + again_scores,
    }
    last = {"activations": live + passing, "attention scores": live_scores}
    return loss, layers, last


def _kept(shape: Shape, setup: Setup, texts: tuple[tuple[int, int], ...]) -> tuple[float, float]:
    """Activations and scores that all layers keep until their backward pass."""
    total, scores = 0.0, 0.0
    for count, length in texts:
        tokens = count * length
        total += tokens * activations.embedding(shape, setup)
        if setup.checkpointing:
            layers = 0 if setup.offloaded else shape.layers
            total += layers * tokens * activations.boundary(shape, setup)
        else:
            total += shape.layers * tokens * activations.layer(shape, setup, length)
            scores += shape.layers * tokens * activations.scores(shape, setup, length)
        total += _mask(shape, setup, count, length)
    return total, scores


def _live(shape: Shape, setup: Setup, texts: tuple[tuple[int, int], ...]) -> tuple[float, float]:
    """One layer of the largest pass."""
    count, length = max(texts, key=lambda text: text[0] * text[1])
    tokens = count * length
    return tokens * activations.layer(shape, setup, length), tokens * activations.scores(shape, setup, length)


def _mask(shape: Shape, setup: Setup, count: int, length: int) -> float:
    """An encoder's attention mask: a table per text, made once for all layers (transformers,
    modeling_attn_mask_utils)."""
    return 4.0 * count * length**2 if shape.kind == "encoder" and count > 1 else 0.0


def _heads(shape: Shape, setup: Setup) -> dict[str, float]:
    """What the loss itself takes: M3's heads, or a language model's logits."""
    if setup.kind in LANGUAGE:
        # GRPO asks for the logits of its own answers alone (TRL: logits_to_keep).
        length = setup.passage_length if setup.kind == "grpo" else setup.passage_length + setup.query_length
        return {"logits": activations.logits(shape, setup, setup.batch * length)}
    if setup.kind == "reranker":
        return {}
    compared = {"similarities": _similarities(shape, setup)}
    if not setup.unified:
        return compared
    size = activations.types(setup).matmul
    pairs = setup.batch**2 * setup.group * setup.query_length * setup.passage_length
    # Per token: the product's input, the masked and the normalised vector in 32 bit, and what the scores
    # read.
    colbert = shape.hidden * (8 + 2 * size) * setup.tokens + _COPIES * size * pairs
    return {**compared, "sparse head": _sparse(shape, setup, size), "colbert": float(colbert)}


#: Bytes per pair of query and passage while the contrastive loss goes backward, by the bytes of a matrix
#: product's numbers; with m3_kd_loss some more for each passage of a group. Measured with FlagEmbedding 1.4.2
#: and torch 2.13 on a CPU: 16.1 and 14.1; of groups of 4 and 8: 32.1 and 48.1; in 16 bit of 8: 44.1.
_PAIR, _DISTILLED = {4: 16, 2: 14}, {4: 16, 2: 12}
_PASSAGE = 4


def _similarities(shape: Shape, setup: Setup) -> float:
    """The table of all queries and all passages, which every process makes whole, and the others' vectors: as
    they came, joined, and their gradient. Source: FlagEmbedding 1.4.2, AbsModeling.py,
    _compute_cross_device_neg_loss and _dist_gather_tensor. Matryoshka dimensions are not counted."""
    size = activations.types(setup).matmul
    shared = setup.cross_device and setup.world > 1
    queries = setup.batch * (setup.world if shared else 1)
    vectors = 3.0 * size * shape.hidden * queries * (1 + setup.group) if shared else 0.0
    return float(pair(setup) * queries**2 * setup.group) + vectors


def pair(setup: Setup) -> int:
    """Bytes of a pair of query and passage in the table of similarities."""
    size = activations.types(setup).matmul
    return _DISTILLED[size] + _PASSAGE * setup.group if setup.distilled else _PAIR[size]


def _sparse(shape: Shape, setup: Setup, size: int) -> float:
    """Upstream makes tokens × vocabulary, and a second one by scattering into it; texts × vocabulary in 64
    bit say where the maximum was. Patched: texts × the batch's own words, before and after scattering.
    Source: FlagEmbedding 1.4.2, modeling.py of m3, _sparse_embedding;
    recipes/runtime/patches/sparse_head.py."""
    texts = sum(count for count, _ in setup.texts)
    if setup.sparse_patch:
        return 2.0 * size * texts * min(shape.vocabulary, setup.tokens)
    largest = max(count * length for count, length in setup.texts)
    return 2.0 * size * largest * shape.vocabulary + 8.0 * texts * shape.vocabulary


def _vectors(shape: Shape, setup: Setup) -> float:
    """What is left of a pass: one vector a text, or with ColBERT one a token."""
    texts = sum(count for count, _ in setup.texts)
    return 4.0 * shape.hidden * (setup.tokens if setup.unified else texts)
