"""A training in numbers: its curves by step, and what they come to."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from launcher.metrics.events import Event, attempt, current, finite, number, numbers, of_kind, whole

Curve = tuple[tuple[int, float], ...]

#: What the trainer logs at a step, beside the numbers of an evaluation; the second line is of trainings by
#: rewards, which log ``rewards/NAME/mean`` for each function too.
_LOGGED = frozenset("loss learning_rate grad_norm".split())
_LOGGED |= frozenset("reward kl completions/mean_length completions/clipped_ratio".split())


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What a training came to; None for what was not reported.

    Attributes:
        steps: the last step that was reported.
        seconds_per_step: median over the steps, of the slowest rank, without checkpoints and evaluations. The
            first span that each attempt logged, in which caches fill, is left out when there is another.
        tokens_per_second: attended ones, the sum over the ranks, over the same spans.
        padding: share of all positions that were padding, 0 to 1.
        ram_peak: bytes, the sum of the ranks' peaks.
        device_peak: bytes that torch reserved, of the rank that reserved most.
        loss: the last that was logged; NaN if that is what it was.
        train_loss: the mean over all steps; of a run that was resumed, the mean of what was logged, as the
            trainer divides the losses since it was resumed by all of its steps.
        eval: the last of each number of an evaluation, ``eval_loss`` and its like.
    """

    steps: int | None = None
    seconds_per_step: float | None = None
    tokens_per_second: float | None = None
    padding: float | None = None
    ram_peak: int | None = None
    device_peak: int | None = None
    loss: float | None = None
    train_loss: float | None = None
    eval: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Span:
    """What all ranks said of the steps up to one step."""

    attempt: int
    step: int
    steps: int
    ranks: tuple[Event, ...]

    @property
    def seconds_per_step(self) -> float | None:
        """Of the slowest rank: the others wait for it."""
        paces = [
            seconds / steps
            for event in self.ranks
            if (seconds := finite(event, "seconds")) is not None and (steps := whole(event, "steps") or 0) > 0
        ]
        return max(paces, default=None)

    @property
    def tokens_per_second(self) -> float | None:
        """The sum over the ranks."""
        paces = [
            tokens / seconds
            for event in self.ranks
            if (tokens := finite(event, "tokens")) and (seconds := finite(event, "seconds") or 0) > 0
        ]
        return sum(paces) if paces else None

    def values(self, key: str) -> list[float]:
        """One number of every rank that reported it."""
        return [value for event in self.ranks if (value := finite(event, key)) is not None]


def _spans(events: list[Event]) -> list[_Span]:
    """The usages by step, in the order of the steps."""
    by_step: dict[tuple[int, int], dict[int, Event]] = defaultdict(dict)
    for event in of_kind(events, "usage"):
        step, steps = whole(event, "step"), whole(event, "steps")
        if step is not None and step >= 0 and steps is not None and steps > 0:
            by_step[step, attempt(event)][whole(event, "rank") or 0] = event
    return [
        _Span(
            attempt=number_of,
            step=step,
            steps=max(whole(event, "steps") or 0 for event in ranks.values()),
            ranks=tuple(ranks.values()),
        )
        for (step, number_of), ranks in sorted(by_step.items(), key=lambda item: item[0])
    ]


def curves(events: Iterable[Event]) -> dict[str, Curve]:
    """(step, value) by name, in the order of the steps: what the trainer logged, and what it took.

    Names are loss, learning_rate, grad_norm, eval_*, of trainings by rewards reward, rewards/NAME/mean, kl,
    completions/mean_length and completions/clipped_ratio (as they were logged), seconds_per_step (of the
    slowest rank), tokens_per_second and ram (sums over the ranks; bytes), device (bytes, the highest of a
    rank). Numbers that cannot be drawn (NaN, infinity) are left out, and so is a name without any number.
    """
    known = current(events)
    found: dict[str, dict[int, float]] = defaultdict(dict)
    for step, name, value in (*_logged(known), *_used(known)):
        found[name][step] = value
    return {name: tuple(sorted(points.items())) for name, points in found.items()}


def _logged(events: list[Event]) -> Iterator[tuple[int, str, float]]:
    for event in of_kind(events, "step"):
        step = whole(event, "step")
        for name in event if step is not None else ():
            value = finite(event, name) if _drawn(name) else None
            if step is not None and value is not None:
                yield step, name, value


def _drawn(name: str) -> bool:
    by_function = name.startswith("rewards/") and name.endswith("/mean")
    return name in _LOGGED or name.startswith("eval_") or by_function


def _used(events: list[Event]) -> Iterator[tuple[int, str, float]]:
    for span in _spans(events):
        if (pace := span.seconds_per_step) is not None:
            yield span.step, "seconds_per_step", pace
        if (speed := span.tokens_per_second) is not None:
            yield span.step, "tokens_per_second", speed
        if ram := span.values("ram"):
            yield span.step, "ram", sum(ram)
        if device := span.values("device"):
            yield span.step, "device", max(device)


def summary(events: Iterable[Event]) -> Summary:
    """What a training came to, without what a later attempt did again."""
    known = current(events)
    spans = _spans(known)
    steady = _without_first(spans)
    padded, tokens = (
        sum(value for span in spans for value in span.values(key)) for key in ("padded", "tokens")
    )
    logged: dict[str, float] = {}
    for event in of_kind(known, "step"):
        logged |= numbers(event)
    done = [whole(event, "step") for kind in ("step", "usage", "end") for event in of_kind(known, kind)]
    ram, device = _peaks(spans, "ram_peak"), _peaks(spans, "device_peak")
    return Summary(
        steps=max((step for step in done if step is not None), default=None),
        seconds_per_step=_median_per_step(steady),
        tokens_per_second=_tokens_per_second(steady),
        padding=1 - tokens / padded if padded > 0 else None,
        ram_peak=int(sum(ram)) if ram else None,
        device_peak=int(max(device)) if device else None,
        loss=logged.get("loss"),
        train_loss=_train_loss(known, logged.get("train_loss")),
        eval={name: value for name, value in logged.items() if name.startswith("eval_")},
    )


def _without_first(spans: list[_Span]) -> list[_Span]:
    first = {span.attempt: span.step for span in reversed(spans)}
    rest = [span for span in spans if span.step != first[span.attempt]]
    return rest or spans


def _median_per_step(spans: list[_Span]) -> float | None:
    """Each span counts as many times as it has steps."""
    paces = sorted((pace, span.steps) for span in spans if (pace := span.seconds_per_step) is not None)
    half, passed = sum(steps for _, steps in paces) / 2, 0
    for pace, steps in paces:
        passed += steps
        if passed >= half:
            return pace
    return None


def _tokens_per_second(spans: list[_Span]) -> float | None:
    tokens: dict[int, float] = defaultdict(float)
    seconds: dict[int, float] = defaultdict(float)
    for event in (event for span in spans for event in span.ranks):
        rank = whole(event, "rank") or 0
        tokens[rank] += finite(event, "tokens") or 0
        seconds[rank] += finite(event, "seconds") or 0
    speed = sum(tokens[rank] / seconds[rank] for rank in tokens if seconds[rank] > 0)
    return speed if speed > 0 else None


def _peaks(spans: list[_Span], key: str) -> list[float]:
    """The highest that each rank reported."""
    found: dict[int, float] = {}
    for event in (event for span in spans for event in span.ranks):
        value, rank = finite(event, key), whole(event, "rank") or 0
        if value is not None:
            found[rank] = max(value, found.get(rank, value))
    return list(found.values())


def _train_loss(events: list[Event], reported: float | None) -> float | None:
    """The trainer's own; of a resumed run the mean of what was logged, over the steps that it covers."""
    if not any((number(event, "step") or 0) > 0 for event in of_kind(events, "begin")):
        return reported
    losses = {
        step: loss
        for event in of_kind(events, "step")
        if (loss := number(event, "loss")) is not None and (step := whole(event, "step")) is not None
    }
    total, before = 0.0, 0
    for step in sorted(losses):
        total += losses[step] * (step - before)
        before = step
    return total / before if before > 0 else reported
