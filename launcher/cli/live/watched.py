"""What is known of a run while it goes on: fed with its events, for whoever shows it; it reads the clock."""

import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from launcher.metrics import Event, finite, number, whole

#: Logs over which pace and speed are averaged: long enough to be steady, short enough to follow a change.
_WINDOW = 10

_GIB = 1 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One number with the words before and after it."""

    value: str
    before: str = ""
    after: str = ""
    alarming: bool = False

    def __str__(self) -> str:
        return " ".join(part for part in (self.before, self.value, self.after) if part)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """One moment of a run.

    Attributes:
        phase: running (nothing was reported yet), training, saving or failed; at the very end done or ended.
        step, total: optimiser steps; a total of 0 is unknown.
        epoch: as text, with how many there are; empty when unknown.
        figures: what is worth showing, in reading order.
        elapsed, left: seconds; None: unknown.
    """

    phase: str
    step: int
    total: int
    epoch: str
    figures: tuple[Figure, ...]
    elapsed: float | None
    left: float | None


class Watched:
    """Collects what the events say; whatever they hold, it does not raise."""

    def __init__(self) -> None:
        self._begin({"time": time.time()})
        self.phase = "running"

    def _begin(self, event: Event) -> None:
        """Forget the attempt before this one; it continues at its own step."""
        self.phase = "training"
        self.step = whole(event, "step") or 0
        self.total = whole(event, "max_steps") or 0
        self._start, self._epochs = self.step, finite(event, "epochs")
        self._began = self._at = finite(event, "time")
        self._logged: Event = {}
        self._checkpoint = ""
        self._ranks: dict[int, deque[Event]] = {}
        self._last: dict[int, Event] = {}

    def take(self, event: Event) -> None:
        """Learn from one event."""
        kind, first_rank = event.get("event"), whole(event, "rank") == 0
        if kind == "begin" and first_rank:
            self._begin(event)
        elif kind == "usage":
            self._usage(event)
        elif kind == "step":
            self._logged = {**self._logged, **event}
            self.step = whole(event, "step") or self.step
            self._at = finite(event, "time") or self._at
        elif kind == "checkpoint" and isinstance(event.get("name"), str):
            self._checkpoint = event["name"]
        elif kind == "end" and first_rank:
            self.phase, self.step = "saving", whole(event, "step") or self.step
        elif kind == "failure":
            self.phase = "failed"

    def close(self) -> None:
        """The run is over; one that was not about to save anything ended otherwise."""
        self.phase = {"saving": "done", "failed": "failed"}.get(self.phase, "ended")

    def _usage(self, event: Event) -> None:
        rank = whole(event, "rank") or 0
        window = self._ranks.get(rank)
        if window is None:
            window = self._ranks[rank] = deque(maxlen=_WINDOW)
        elif len(window) == 1 and window[0] is self._last[rank]:
            window.clear()  # the first steps fill caches: they count as long as there are no others
        window.append(event)
        self._last.setdefault(rank, event)

    @property
    def done(self) -> bool:
        """The last step was reported."""
        return 0 < self.total <= self.step

    @property
    def pace(self) -> float | None:
        """Seconds per step: of the slowest rank, or by the clock where no rank said what its steps took."""
        paces = [
            _sum(window, "seconds") / steps
            for window in self._ranks.values()
            if (steps := _sum(window, "steps")) > 0
        ]
        if paces:
            return max(paces)
        if self._began is None or self._at is None or self.step <= self._start:
            return None
        return max(0.0, self._at - self._began) / (self.step - self._start)

    def shown(self, now: float | None = None) -> Shown:
        """How it is at a moment.

        Args:
            now: seconds since the epoch; None: the clock's.
        """
        now = time.time() if now is None else now
        pace, left = self.pace, None
        if pace is not None and self.total:
            since = now - self._at if self._at is not None else 0.0
            left = max(0.0, pace * max(0, self.total - self.step) - max(0.0, since))
        return Shown(
            phase=self.phase,
            step=self.step,
            total=self.total,
            epoch=self._epoch(),
            figures=tuple(self._figures(pace)),
            elapsed=None if self._began is None else max(0.0, now - self._began),
            left=left,
        )

    def _epoch(self) -> str:
        epoch = finite(self._logged, "epoch")
        if epoch is None:
            return ""
        return f"{epoch:.2f}" + (f"/{self._epochs:g}" if self._epochs else "")

    def _figures(self, pace: float | None) -> Iterator[Figure]:
        if (loss := number(self._logged, "loss")) is not None:
            yield Figure(before="loss", value=f"{loss:.4g}", alarming=finite(self._logged, "loss") is None)
        yield from self._answers()
        if (rate := number(self._logged, "learning_rate")) is not None:
            yield Figure(before="lr", value=f"{rate:.2g}")
        if (norm := number(self._logged, "grad_norm")) is not None:
            yield Figure(
                before="grad norm", value=f"{norm:.3g}", alarming=finite(self._logged, "grad_norm") is None
            )
        if pace is not None:
            yield Figure(value=f"{pace:.2f}" if pace >= 1 else f"{pace:.3g}", after="s/it")
        yield from self._speed()
        yield from self._memory("device", "GPU", max)
        yield from self._memory("ram", "RAM", sum)
        if self._checkpoint:
            yield Figure(before="saved", value=self._checkpoint)

    def _answers(self) -> Iterator[Figure]:
        """Of trainings by rewards: what the answers get, how long they are, how far the model has gone."""
        if (reward := number(self._logged, "reward")) is not None:
            alarming = finite(self._logged, "reward") is None
            yield Figure(before="reward", value=f"{reward:.4g}", alarming=alarming)
        if (divergence := number(self._logged, "kl")) is not None:
            yield Figure(before="KL", value=f"{divergence:.3g}")
        if (length := finite(self._logged, "completions/mean_length")) is not None:
            yield Figure(before="answers", value=f"{length:,.0f}", after="tokens")

    def _speed(self) -> Iterator[Figure]:
        windows = list(self._ranks.values())
        speed = sum(
            _sum(window, "tokens") / seconds for window in windows if (seconds := _sum(window, "seconds")) > 0
        )
        if speed > 0:
            yield Figure(value=f"{speed:,.0f}", after="tokens/s")
        padded = sum(_sum(window, "padded") for window in windows)
        if padded > 0:
            share = 1 - sum(_sum(window, "tokens") for window in windows) / padded
            yield Figure(before="padding", value=f"{100 * share:.0f}", after="%")

    def _memory(self, key: str, label: str, together: Callable[[list[float]], float]) -> Iterator[Figure]:
        newest = [window[-1] for window in self._ranks.values() if window]
        now = [value for event in newest if (value := finite(event, key)) is not None]
        peak = [value for event in newest if (value := finite(event, f"{key}_peak")) is not None]
        if now and peak:
            yield Figure(
                before=label,
                value=f"{_gib(together(now))}, peak {_gib(together(peak))}",
                after="GiB",
            )


def _sum(window: "deque[Event]", key: str) -> float:
    return sum(finite(event, key) or 0.0 for event in window)


def _gib(count: float) -> str:
    found = count / _GIB
    return f"{found:.0f}" if found >= 100 else f"{found:.1f}"
