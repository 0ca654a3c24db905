"""What of a recipe's parameters decides about memory: one frozen value, made from their texts."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, get_args

from launcher.errors import UsageError

_Word = TypeVar("_Word", bound=str)

Kind = Literal["dense", "m3", "reranker", "sft", "grpo", "generate", "merge"]
Device = Literal["cuda", "xpu", "cpu"]

#: Formats of a recipe's data, and what is trained on them; a header that says ``fit`` says it itself.
_KINDS: Mapping[str, Kind] = {
    "embedder": "dense",
    "reranker": "reranker",
    "llm": "sft",
    "sft": "sft",
    "plain": "sft",
    "grpo": "grpo",
}

#: Kinds of language models, and those of them that are trained.
LANGUAGE = ("sft", "grpo", "generate", "merge")
_TUNED = ("sft", "grpo")

#: Largest batch, group or length that is judged: far beyond what any device holds, and still exact numbers.
MOST = 1 << 20

#: A size of ``--bucket-batch-sizes``, as recipes/runtime/batching.py reads it.
_SIZE = re.compile(r"(?:\d{1,9}/)?(\d{1,9}):0*([1-9]\d{0,8})", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """A training step, as far as memory sees it.

    Attributes:
        kind: ``dense`` and ``m3`` embed queries and passages, a ``reranker`` reads both as one text; the
            others are language models: ``sft`` learns rows, ``grpo`` what rewards say of its own answers,
            ``generate`` answers, ``merge`` puts adapters into weights.
        device: decides which kernels there are.
        batch: queries (language models: rows, ``grpo``: completions) per device and step.
        group: passages per query; 1 for language models.
        query_length, passage_length: tokens after padding; ``grpo`` and ``generate`` have prompt and
            completion in them, ``sft`` has its length in the second.
        precision: of the activations.
        world: processes; on one machine, one device each.
        ddp: accelerate wraps the model in DDP: there are several processes and no DeepSpeed, or one on a CPU
            that torchrun started (its accelerator.py, prepare_model and multi_device).
        accumulation: batches per optimiser step.
        checkpointing: only the layers' inputs are kept for the backward pass.
        sub_batch: texts that are encoded at a time, 0: all.
        optimiser: transformers' name.
        stage: DeepSpeed's ZeRO stage; None: no DeepSpeed.
        offload: optimiser and parameters lie in the host's memory.
        frozen_embeddings: token embeddings are not trained.
        heads_only: M3's two heads alone are trained.
        unified: M3's sparse and ColBERT heads are trained.
        cross_device: an embedder's queries are compared with the passages of all processes.
        distilled: the teacher's scores weight a loss per passage of the group (m3_kd_loss).
        sparse_patch: the sparse head keeps columns for the batch's words alone (``recipes/runtime/patches``).
        attention_dropout: probability; None: the model's own.
        method: what of a language model is trained.
        rank: of LoRA's adapters.
        targets: names of the matrices that get adapters; empty: all of the layers'.
        kernels: ``unsloth`` makes no whole table of logits.
        offloaded: checkpoints are moved to the host's memory.
        generated: completions that are generated at a time.
        reference: a second, frozen model says how far the trained one has gone.
        vllm: bytes that vLLM takes for itself on the device; 0: it does not run there.
        standby: vLLM gives its cache back while the model is trained.
        prepared: what 4 bit does not hold is cast to 32 bit (peft's prepare_model_for_kbit_training); the
            recipes leave that out.
    """

    kind: Kind
    device: Device = "cuda"
    batch: int = 1
    group: int = 1
    query_length: int = 0
    passage_length: int = 512
    precision: Literal["fp32", "bf16", "fp16"] = "bf16"
    world: int = 1
    ddp: bool = True
    accumulation: int = 1
    checkpointing: bool = False
    sub_batch: int = 0
    optimiser: str = "adamw_torch"
    stage: int | None = None
    offload: bool = False
    frozen_embeddings: bool = False
    heads_only: bool = False
    unified: bool = False
    cross_device: bool = False
    distilled: bool = False
    sparse_patch: bool = True
    attention_dropout: float | None = None
    method: Literal["full", "lora", "qlora"] = "full"
    rank: int = 16
    targets: tuple[str, ...] = ()
    kernels: Literal["plain", "unsloth"] = "plain"
    offloaded: bool = False
    generated: int = 0
    reference: bool = False
    vllm: int = 0
    standby: bool = False
    prepared: bool = False

    @property
    def texts(self) -> tuple[tuple[int, int], ...]:
        """(number, length in tokens) of the texts of one step; every encoder pass is a pair of its own."""
        if self.kind == "reranker" or self.kind in LANGUAGE:
            return ((self.batch * self.group, self.query_length + self.passage_length),)
        return ((self.batch, self.query_length), (self.batch * self.group, self.passage_length))

    @property
    def tokens(self) -> int:
        """Padded tokens of one step."""
        return sum(count * length for count, length in self.texts)

    @property
    def adapters(self) -> bool:
        """Whether adapters are trained instead of the model."""
        return self.method != "full"

    @property
    def trains(self) -> bool:
        """Whether anything is trained."""
        return self.kind not in LANGUAGE or self.kind in _TUNED


def kind_of(data_format: str, values: Mapping[str, str], *, declared: str = "") -> Kind:
    """What a recipe does, by its header's data format and parameters.

    Args:
        declared: the header's ``fit``; empty: it says nothing.

    Raises:
        UsageError: nothing whose memory is counted.
    """
    kind = next((item for item in get_args(Kind) if item == declared), None) or _KINDS.get(data_format)
    if kind is None:
        raise UsageError(
            "what this recipe takes is not counted",
            why="the estimate counts the step of a training, and the weights and caches of a language model",
            hint="launch fit lists the recipes that it knows; a header says it by fit = …",
        )
    return "m3" if kind == "dense" and "unified_finetuning" in values else kind


def bucketed(values: Mapping[str, str]) -> bool:
    """Whether batches are made by length; the batch size among the values is not used then."""
    return _Values(values).flag("length_bucketing")


def setup(
    values: Mapping[str, str],
    *,
    data_format: str,
    declared: str = "",
    device: Device,
    world: int = 1,
    memory: int | None = None,
    longest: tuple[int, int] | None = None,
) -> Setup:
    """The step of a recipe's parameters.

    Args:
        values: the recipe's parameters as texts, all of them; those that a recipe lacks have the trainer's
            default.
        data_format, declared: of the recipe's header, see :func:`kind_of`.
        memory: of the device in bytes, of which vLLM takes its share; None: unknown.
        longest: tokens that the longest query and passage of the data have at most; None: unknown.

    Raises:
        UsageError: the recipe trains nothing, or a value is not what its name says.
    """
    read = _Values(values)
    kind = kind_of(data_format, values, declared=declared)
    deepspeed = read.text("deepspeed", "none")
    stage = re.match(r"stage(\d)", deepspeed)
    query, passage = _lengths(read, kind, longest)
    batch = read.count("per_device_train_batch_size", 8 if kind not in LANGUAGE or kind in _TUNED else 1)
    checkpoints = read.text("use_gradient_checkpointing", "none")
    sizes = _sizes(read.text("bucket_batch_sizes", ""))
    if bucketed(values):
        batch, passage = _bucketed(sizes, passage)
    dropout = read.number("attention_dropout", -1.0)
    patches = [word.strip() for word in read.text("patches", "all").split(",")]
    return Setup(
        kind=kind,
        device=device,
        batch=batch,
        group=read.count("train_group_size", 8) if kind not in LANGUAGE else 1,
        query_length=query,
        passage_length=passage,
        precision=read.choice("precision", ("fp32", "bf16", "fp16"), "fp32"),
        world=world,
        ddp=stage is None and (world > 1 or device == "cpu"),
        accumulation=read.count("gradient_accumulation_steps", 1),
        checkpointing=read.flag("gradient_checkpointing") or checkpoints in ("true", "unsloth"),
        sub_batch=max(0, read.count("sub_batch_size", 0, least=-1)) if kind in ("dense", "m3") else 0,
        optimiser=read.text("optim", "adamw_torch"),
        stage=int(stage[1]) if stage else None,
        offload="offload" in deepspeed,
        frozen_embeddings=read.flag("freeze_word_embeddings"),
        heads_only=kind == "m3" and read.flag("fix_encoder"),
        unified=kind == "m3" and read.flag("unified_finetuning"),
        cross_device=kind in ("dense", "m3") and read.flag("negatives_cross_device"),
        distilled=read.flag("knowledge_distillation") and read.text("kd_loss_type", "") == "m3_kd_loss",
        sparse_patch="sparse-head" in patches or ("all" in patches and "-sparse-head" not in patches),
        attention_dropout=None if dropout < 0 else dropout,
        **_language(read, kind, device, memory),
    )


def _language(read: "_Values", kind: Kind, device: Device, memory: int | None) -> dict[str, Any]:
    """What only the recipes of language models have."""
    if kind not in LANGUAGE:
        return {}
    tuned = kind in _TUNED
    packed = read.flag("load_in_4bit")
    method = read.choice("method", ("full", "lora"), "full") if tuned else "full"
    unsloth = tuned and read.flag("unsloth")
    named = read.text("target_modules", "all-linear")
    vllm = kind == "grpo" and device == "cuda" and read.flag("use_vllm")
    share = read.number("gpu_memory_utilization", 0.5)
    return {
        "method": "qlora" if packed and (method == "lora" or not tuned) else method,
        "rank": read.count("r", 16),
        "targets": () if named == "all-linear" else tuple(filter(None, re.split(r"[,\s]+", named))),
        "kernels": "unsloth" if unsloth else "plain",
        # Where weights and host share one memory, nothing is won by moving.
        "offloaded": unsloth and device != "cpu" and read.text("use_gradient_checkpointing", "") == "unsloth",
        "generated": _generated(read, kind),
        "reference": kind == "grpo" and method == "full" and read.number("beta", 0.0) > 0,
        "vllm": round(share * memory) if vllm and memory else 0,
        "standby": vllm and unsloth and read.flag("vllm_standby"),
    }


def _generated(read: "_Values", kind: Kind) -> int:
    """Completions that one device generates at a time: those of all steps until the optimiser's. Source: TRL
    1.2.0, grpo_config.py: steps_per_generation is gradient_accumulation_steps unless it is given."""
    if kind == "grpo":
        steps = read.count("gradient_accumulation_steps", 1)
        return read.count("per_device_train_batch_size", 8) * steps
    return 1 if kind == "generate" else 0


def _lengths(read: "_Values", kind: Kind, longest: tuple[int, int] | None) -> tuple[int, int]:
    """Query and passage in tokens, as they are padded; shorter when the data has nothing as long."""
    if kind == "sft":
        passage = read.count("max_seq_length", 2048)
        return 0, min(passage, longest[1]) if longest and not read.flag("packing") else passage
    if kind in LANGUAGE:
        prompt = read.count("max_prompt_length", 512, least=0)
        answer = read.count("max_completion_length", read.count("max_new_tokens", 256))
        return min(prompt, longest[0]) if longest else prompt, answer
    query, passage = read.count("query_max_len", 32), read.count("passage_max_len", 128)
    if longest and kind == "reranker":
        query, passage = _pair(query, passage, longest)
    elif longest:
        query, passage = min(query, longest[0]), min(passage, longest[1])
    multiple = max(1, read.count("pad_to_multiple_of", 1, least=0))
    return math.ceil(query / multiple) * multiple, math.ceil(passage / multiple) * multiple


def _pair(query: int, passage: int, longest: tuple[int, int]) -> tuple[int, int]:
    """A reranker's query and passage share their tokens: what one leaves the other may take. Source:
    FlagEmbedding 1.4.2, abc/finetune/reranker/AbsDataset.py, create_one_example."""
    first = min(query + passage // 4, longest[0])
    return first, min(passage + query // 2, query + passage - first, longest[1])


def _sizes(text: str) -> list[tuple[int, int]]:
    """``"128:32,1/512:8"`` as (longest passage in tokens, queries).

    Raises:
        UsageError: it is not of that form.
    """
    found = []
    for word in filter(None, text.replace(" ", "").split(",")):
        match = _SIZE.fullmatch(word)
        if match is None:
            raise UsageError(
                f"--bucket-batch-sizes: {word!r} is no size",
                why="the trainer would refuse it at its start",
                hint="longest passage in tokens:queries, such as 128:32,512:8, or 1/128:16 for one source",
            )
        found.append((int(match[1]), int(match[2])))
    return found


def _bucketed(sizes: list[tuple[int, int]], passage: int) -> tuple[int, int]:
    """The largest batch of length buckets: of the given sizes, otherwise the one query that must fit at
    least."""
    within = [(max(1, min(length, passage)), size) for length, size in sizes]
    length, size = max(within, key=lambda pair: pair[0] * pair[1], default=(passage, 1))
    return size, length


class _Values:
    """Reads texts as numbers and booleans; recipes check them too, plans that were written by hand need
    not."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = values

    def text(self, name: str, default: str) -> str:
        return self._values.get(name, default)

    def flag(self, name: str) -> bool:
        return self._values.get(name, "false").lower() in ("true", "1", "yes")

    def number(self, name: str, default: float) -> float:
        try:
            value = float(self._values.get(name, default))
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise UsageError(f"--{name.replace('_', '-')} takes a number, not {self._values[name]!r}")
        return value

    def count(self, name: str, default: int, *, least: int = 1) -> int:
        text = self._values.get(name, str(default))
        if not re.fullmatch(r"-?\d{1,9}", text, re.ASCII) or not least <= int(text) <= MOST:
            raise UsageError(
                f"--{name.replace('_', '-')} {text}: the estimate needs a whole number from {least} to {MOST}"
            )
        return int(text)

    def choice(self, name: str, choices: tuple[_Word, ...], default: _Word) -> _Word:
        text = self._values.get(name, default)
        found = next((item for item in choices if item == text), None)
        if found is None:
            raise UsageError(f"--{name.replace('_', '-')} {text}: it is one of {', '.join(choices)}")
        return found
