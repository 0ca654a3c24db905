"""What would make a step fit, and how far it could go: the same estimate with other parameters."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from launcher.fit import Estimate, Probe, Shape, judge
from launcher.fit.probes import best
from launcher.fit.step import LANGUAGE, MOST, Device, Setup, bucketed, setup

_BATCH = "per_device_train_batch_size"

#: No search goes beyond.
_LARGEST_BATCH = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A recipe's step on a device, with everything that an answer needs to be asked again with other values.

    Attributes:
        values: all parameters of the recipe; a change is offered only where there is one.
        memory: of the device in bytes; None: unknown.
        probes: measured steps of this model, recipe, target and device.
        allowed: whether the recipe takes a set of values.
    """

    shape: Shape
    values: Mapping[str, str]
    data_format: str
    declared: str = ""
    device: Device
    memory: int | None
    world: int = 1
    longest: tuple[int, int] | None = None
    probes: Sequence[Probe] = ()
    allowed: Callable[[Mapping[str, str]], bool] = field(default=lambda values: True)

    def setup(self, changes: Mapping[str, str] | None = None) -> Setup:
        """The step, with some parameters changed."""
        return setup(
            {**self.values, **(changes or {})},
            data_format=self.data_format,
            declared=self.declared,
            device=self.device,
            world=self.world,
            memory=self.memory,
            longest=self.longest,
        )

    def answer(self, changes: Mapping[str, str] | None = None) -> Estimate:
        """The estimate, with some parameters changed."""
        return self.of(self.setup(changes))

    @property
    def bucketed(self) -> bool:
        """Whether batches are made by length, and the recipe's batch size is not used."""
        return bucketed(self.values)

    def longest_passage(self, step: Setup) -> int:
        """Tokens that a passage can have at most: the model's positions, of which a reranker's query takes
        its part; 0: there is no room for a passage."""
        if not self.shape.positions:
            return MOST
        shared = step.kind == "reranker" or step.kind in LANGUAGE
        return max(0, self.shape.positions - (step.query_length if shared else 0))

    @property
    def length_name(self) -> str:
        """The parameter that a step's second length is."""
        return next((name for name in _LENGTHS if name in self.values), _LENGTHS[0])

    @property
    def batches(self) -> tuple[int, int]:
        """The smallest batch, and what all are multiples of: GRPO compares the answers to one prompt, which
        come in one step. Source: TRL 1.2.0, grpo_config.py: generation_batch_size is divisible by
        num_generations."""
        answers = int(self.values.get("num_generations", "1") or 1)
        share = answers // math.gcd(
            answers, self.world * int(self.values.get("gradient_accumulation_steps", "1"))
        )
        return share, share

    @property
    def fewer(self) -> str:
        """What a smaller batch costs."""
        return _FEWER if "train_group_size" in self.values else _FEWER_ROWS

    def of(self, step: Setup) -> Estimate:
        """The estimate of a step."""
        return judge(self.shape, step, self.memory, best(self.probes, step))


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One or several parameters with other values.

    Attributes:
        values: parameter and its new value.
        price: what it costs beside memory.
        estimate: with it.
    """

    values: tuple[tuple[str, str], ...]
    price: str
    estimate: Estimate

    @property
    def options(self) -> str:
        """As the command line has it."""
        return " ".join(f"--{name.replace('_', '-')} {value}" for name, value in self.values)


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """How far a step could go, and what would make it smaller.

    Attributes:
        batch, length: the largest that fit with everything else as it is; 0: not even the smallest. None: the
            device's memory is unknown, or length buckets have sizes of their own.
        length_name: the parameter that ``length`` is a value of.
        cheapest: the change that makes it fit; None: it fits, or nothing does, or the memory is unknown.
        changes: every change by itself, cheapest first.
    """

    batch: int | None
    length: int | None
    length_name: str
    cheapest: Change | None
    changes: tuple[Change, ...]


#: Parameters that are a step's second length: of embedders and rerankers, of SFT, of GRPO, of answers.
_LENGTHS = ("passage_max_len", "max_seq_length", "max_completion_length", "max_new_tokens")

#: Parameter, value and price, the cheapest first. Prices: checkpointing computes every layer's forward pass
#: again, GradCache the whole encoder's (docs/patches.md).
_STEPS: Sequence[tuple[str, str, str]] = (
    ("patches", "all", "none: the same loss and gradients"),
    ("attention_dropout", "0", "no dropout of the attention weights"),
    ("optim", "adamw_torch_fused", "none: the same update"),
    ("unsloth", "true", "none: the same loss and gradients"),
    ("vllm_standby", "true", "a moment at each change between answering and learning"),
    ("gpu_memory_utilization", "0.7", "less room while it learns"),
    ("gpu_memory_utilization", "0.85", "less room while it learns"),
    ("use_vllm", "false", "answers come many times slower"),
    ("gradient_checkpointing", "true", "about a third more time"),
    ("use_gradient_checkpointing", "true", "about a third more time"),
    ("use_gradient_checkpointing", "unsloth", "about a third more time, and the host's memory"),
    ("precision", "bf16", "fewer digits in the activations"),
    ("deepspeed", "stage1", "communication"),
    ("deepspeed", "stage2", "communication"),
    ("optim", "adamw_bnb_8bit", "states in 8 bit"),
    ("optim", "adamw_8bit", "states in 8 bit"),
    ("freeze_word_embeddings", "true", "token embeddings stay as they are"),
    ("sub_batch_size", "8", "about a third more time"),
    ("sub_batch_size", "1", "about a third more time, small kernels"),
)
_LAST: Sequence[tuple[str, str, str]] = (
    ("method", "lora", "adapters are trained instead of the model"),
    ("load_in_4bit", "true", "a base model in 4 bit"),
)


def advise(question: Question) -> Advice:
    """Search by the same formulas: no guess of its own."""
    changes = tuple(_single(question))
    batch = length = None
    if question.memory is not None and not question.bucketed and _BATCH in question.values:
        batch = _largest(lambda n: replace(question.setup(), batch=n), question, _LARGEST_BATCH)
    sized = question.bucketed and question.values.get("bucket_batch_sizes")
    if question.memory is not None and not sized and question.length_name in question.values:
        # A length is the parameter's: data that is shorter does not limit what could be.
        free = replace(question, longest=None)
        most = question.longest_passage(free.setup())
        length = 8 * _largest(lambda n: replace(free.setup(), passage_length=8 * n), free, most // 8)
    cheapest = None
    if question.answer().verdict in ("tight", "does not fit"):
        cheapest = next((change for change in changes if change.estimate.verdict == "fits"), None)
        cheapest = cheapest or _together(question)
    return Advice(
        batch=batch, length=length, length_name=question.length_name, cheapest=cheapest, changes=changes
    )


def _largest(make: Callable[[int], Setup], question: Question, limit: int) -> int:
    """The largest number whose step fits; 0: none does."""
    low, high = 0, limit
    while low < high:
        middle = (low + high + 1) // 2
        fits = question.of(make(middle)).verdict == "fits"
        low, high = (middle, high) if fits else (low, middle - 1)
    return low


def _single(question: Question) -> Iterator[Change]:
    """Every change that the recipe has and that saves something, and the largest group and batch that fit."""
    before = question.answer()
    for name, value, price in (*_STEPS, *_smaller(question), *_LAST):
        change = _change(question, {name: value}, price)
        if change is None:
            continue
        mended = before.lacking > change.estimate.lacking and change.estimate.verdict != "does not fit"
        if mended or change.estimate.total < 0.995 * before.total:
            yield change


_FEWER, _FEWER_HARD = "fewer negatives in a batch", "fewer hard negatives a query"
_FEWER_ROWS = "more steps, or noisier ones"
_SHORTER, _SHORTER_ANSWERS = "longer texts are cut off", "longer answers are cut off"


def _smaller(question: Question, changed: Mapping[str, str] | None = None) -> Iterator[tuple[str, str, str]]:
    """The largest batch, group and length below the given ones that fit."""
    if question.memory is None:
        return
    step = question.setup(changed)
    length = step.passage_length
    most = min(length - 1, question.longest_passage(step))
    for name, now, most_, least, multiple, price in (
        ("per_device_train_batch_size", step.batch, step.batch - 1, *question.batches, question.fewer),
        ("train_group_size", step.group, step.group - 1, 2, 1, _FEWER_HARD),
        ("passage_max_len", length, most, 64, 8, _SHORTER),
        ("max_seq_length", length, most, 64, 8, _SHORTER),
        ("max_completion_length", length, most, 64, 8, _SHORTER_ANSWERS),
        ("max_new_tokens", length, most, 64, 8, _SHORTER_ANSWERS),
    ):
        if name not in question.values or now <= least:
            continue
        if name == "per_device_train_batch_size" and question.bucketed:
            continue
        found = _largest_value(question, name, {**(changed or {})}, most_ // multiple, least, multiple)
        if found:
            yield name, str(found), price


def _largest_value(
    question: Question, name: str, changed: dict[str, str], most: int, least: int, multiple: int
) -> int:
    low, high = (least - 1) // multiple, most
    while low < high:
        middle = (low + high + 1) // 2
        fits = question.answer({**changed, name: str(middle * multiple)}).verdict == "fits"
        low, high = (middle, high) if fits else (low, middle - 1)
    return low * multiple if low * multiple >= least else 0


def _together(question: Question) -> Change | None:
    """Changes one upon another until it fits: with batch and group as they are, and as a last resort with
    one query a batch, then with one hard negative a query too."""
    prices: dict[str, str] = {}
    taken: dict[str, str] = {}
    if (found := _upon(question, taken, prices)) is not None:
        return found
    for name, least, price in (
        ("per_device_train_batch_size", question.batches[0], question.fewer),
        ("train_group_size", 2, _FEWER_HARD),
    ):
        used = name in question.values and not (name == "per_device_train_batch_size" and question.bucketed)
        if not used or int(question.values[name]) <= least:
            continue
        taken, prices = {**taken, name: str(least)}, {**prices, name: price}
        if (found := _upon(question, taken, prices)) is not None:
            return found
    return None


def _upon(question: Question, sizes: Mapping[str, str], why: Mapping[str, str]) -> Change | None:
    """Changes upon smaller sizes, the cheapest first, until it fits; those that saved nothing are left
    out."""
    taken, prices = dict(sizes), dict(why)
    if taken:
        change = _change(question, taken, "; ".join(prices.values()))
        if change is None or change.estimate.verdict == "fits":
            return change
    for name, value, price in (*_STEPS, *_LAST):
        now = question.answer(taken).total
        change = _change(question, {**taken, name: value}, price)
        if change is None or change.estimate.total >= 0.995 * now:
            continue
        taken[name], prices[name] = value, price
        if change.estimate.verdict == "fits":
            return replace(change, price="; ".join(prices.values()))
        if (last := _with_smaller(question, taken, prices, mild=True)) is not None:
            return last
    return _with_smaller(question, taken, prices, mild=False)


def _with_smaller(
    question: Question, taken: Mapping[str, str], prices: Mapping[str, str], *, mild: bool
) -> Change | None:
    """What was taken, and the first smaller size that fits with it.

    Args:
        mild: at least half of the size that was asked for, before the model itself is changed.
    """
    for name, size, price in _smaller(question, taken):
        if mild and 2 * int(size) < int(question.values[name]):
            continue
        together = "; ".join([*prices.values(), price])
        if (change := _change(question, {**taken, name: size}, together)) is not None:
            return change
    return None


def _change(question: Question, changes: Mapping[str, str], price: str) -> Change | None:
    """A change, when the recipe has the parameters, takes the values, and they are not what it has
    already."""
    values = question.values
    if any(name not in values or values[name] == value for name, value in changes.items()):
        return None
    if "attention_dropout" in changes and float(values["attention_dropout"]) == 0:
        return None
    if "patches" in changes and question.setup().sparse_patch:
        return None
    if "deepspeed" in changes and question.world == 1:  # it shares out, and there is nobody to share with
        return None
    if not question.allowed({**values, **changes}):
        return None
    return Change(values=tuple(changes.items()), price=price, estimate=question.answer(changes))


def as_data(change: Change) -> dict[str, Any]:
    """For JSON."""
    return {
        "options": change.options,
        "price": change.price,
        "bytes": round(change.estimate.total),
        "verdict": change.estimate.verdict,
    }
