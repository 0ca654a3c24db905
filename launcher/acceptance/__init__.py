"""What is proved on a real card, as data: the steps, the trainings, the sizes, and what each of them found.

Everything here is pure. The steps are run by :mod:`launcher.app.accept`; :mod:`~launcher.acceptance.judging`
says what their numbers mean, :mod:`~launcher.acceptance.report` writes them down.
"""

from dataclasses import dataclass, field
from typing import Any

#: In this order; each can be left out.
STEPS = ("facts", "checks", "curves", "speed")

#: What a step's part may be. ``needs-gpu``: undecided; ``left-out``: not in this target; ``not-run``: not
#: possible in this engine.
STATUSES = ("ok", "failed", "needs-gpu", "left-out", "not-run")

#: The type of torch's device, by the kind that the manifest names.
DEVICES = {"none": "cpu", "nvidia": "cuda", "intel": "xpu"}

#: Number formats that trainings are run in.
PRECISIONS = ("fp32", "bf16")

Pairs = tuple[tuple[str, str], ...]

#: Sizes of models, as parameters of the recipe tiny-xlmr. ``large`` is bge-reranker-v2-m3 (its config.json):
#: XLM-R large with 8192 positions. ``tiny`` is for machines where only the way is tried, not the speed.
SIZES: dict[str, Pairs] = {
    "tiny": (("layers", "2"), ("max_length", "1024")),
    "base": (
        *(("layers", "12"), ("hidden_size", "768"), ("heads", "12")),
        *(("embedding_rows", "250002"), ("max_length", "1024"), ("dropout", "0.1")),
    ),
    "large": (
        *(("layers", "24"), ("hidden_size", "1024"), ("heads", "16")),
        *(("embedding_rows", "250002"), ("max_length", "8192"), ("dropout", "0.1")),
    ),
}

#: Recipe, and the kind of tiny model that it trains.
CURVES = (("bge-reranker", "reranker"), ("bge-m3-unified", "m3"))

#: Five steps over all rows at once. No warm-up, which would leave the first step without effect.
CURVE_PARAMETERS: Pairs = (
    ("per_device_train_batch_size", "8"),
    ("train_group_size", "8"),
    ("query_max_len", "32"),
    ("passage_max_len", "64"),
    ("learning_rate", "1e-3"),
    ("warmup_ratio", "0"),
    ("max_steps", "5"),
)

#: The reranker's training whose speed and memory are measured; everything else is the recipe's default.
SPEED_RECIPE = "bge-reranker"
BATCH_SIZE, GROUP_SIZE, QUERY_LENGTH, PASSAGE_LENGTH = 4, 8, 512, 512
SPEED_PARAMETERS: Pairs = (
    ("per_device_train_batch_size", str(BATCH_SIZE)),
    ("train_group_size", str(GROUP_SIZE)),
    ("query_max_len", str(QUERY_LENGTH)),
    ("passage_max_len", str(PASSAGE_LENGTH)),
)

#: Raw arguments of both trainings. The trainer would save a checkpoint at its end: 6.8 GB of a large model.
ARGUMENTS = ("--save_strategy", "no")

#: Tokens of one step: every pair has both lengths, see :mod:`launcher.acceptance.texts`.
TOKENS = BATCH_SIZE * GROUP_SIZE * (QUERY_LENGTH + PASSAGE_LENGTH)

#: Steps before those that count: kernels are compiled and chosen, the allocator finds its blocks.
WARM_UP = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """What one check of the image said.

    Attributes:
        status: one of :data:`STATUSES`.
        seconds: wall time.
    """

    name: str
    status: str
    detail: str = ""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """One short training beside the recorded one.

    Attributes:
        status: ``ok`` or ``failed``.
        device: what the trainer says that it trained on, e.g. ``xpu:0``.
        losses: as the trainer logged them, rounded to 4 decimals.
        recorded: the same on the machine of the record.
        off: the largest difference; None without a comparison.
        tolerance: what ``off`` may be.
        same_start: the tiny model's weights are, bit by bit, those of the record; None: unknown.
    """

    recipe: str
    precision: str
    status: str
    detail: str = ""
    seconds: float = 0.0
    device: str = ""
    losses: tuple[float, ...] = ()
    recorded: tuple[float, ...] = ()
    off: float | None = None
    tolerance: float | None = None
    same_start: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """One training at full length.

    Attributes:
        unsloth: the model came through Unsloth.
        status: ``ok``, ``failed`` or ``left-out`` (not in this target).
        device: what the trainer says that it trained on, e.g. ``xpu:0``.
        seconds: wall time of the whole run, start and saving included.
        step_seconds: median of the measured steps.
        slowest, fastest: of the measured steps.
        steps: how many were measured, without the warm-up.
        peak_memory: bytes of tensors at most; on a CPU the peak resident set of the process.
        peak_reserved: bytes that torch's allocator had of the device at most; None on a CPU.
        parameters: of the recipe, all of them.
    """

    precision: str
    unsloth: bool
    status: str
    detail: str = ""
    seconds: float = 0.0
    device: str = ""
    step_seconds: float | None = None
    slowest: float | None = None
    fastest: float | None = None
    steps: int = 0
    peak_memory: int | None = None
    peak_reserved: int | None = None
    parameters: Pairs = ()

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.precision}, {'with' if self.unsloth else 'without'} unsloth"


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """A figure that somebody reported; nothing is judged by it.

    Attributes:
        precision, unsloth: of the training; empty and None: not said.
        step_seconds: or None.
        peak_memory_mb: as it was reported; which MB is not known.
    """

    card: str
    source: str
    precision: str = ""
    unsloth: bool | None = None
    step_seconds: float | None = None
    peak_memory_mb: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Everything that one run of ``launch accept`` found.

    Attributes:
        created: UTC, ISO 8601.
        complete: False when it was interrupted.
        steps: those that were asked for.
        size: of the model whose speed was measured: one of :data:`SIZES`, or ``given``.
        model: that model's id or shape, without any path.
        facts: of machine, engine and target; None when not asked for. Values are JSON.
        notes: what the launcher said while it planned.
        seconds: wall time.
    """

    schema: int = 1
    created: str
    target: str
    engine: str
    complete: bool
    steps: tuple[str, ...]
    size: str
    model: dict[str, Any] = field(default_factory=dict)
    facts: dict[str, Any] | None = None
    checks: tuple[Check, ...] = ()
    curves: tuple[Curve, ...] = ()
    speed: tuple[Speed, ...] = ()
    known: tuple[Known, ...] = ()
    notes: tuple[str, ...] = ()
    seconds: float = 0.0

    @property
    def failed(self) -> tuple[tuple[str, str], ...]:
        """(name, detail) of everything that failed."""
        parts: list[tuple[str, Check | Curve | Speed]] = [
            *((f"check {check.name}", check) for check in self.checks),
            *((f"losses of {curve.recipe}, {curve.precision}", curve) for curve in self.curves),
            *((f"speed, {speed.name}", speed) for speed in self.speed),
        ]
        return tuple((name, part.detail) for name, part in parts if part.status == "failed")
