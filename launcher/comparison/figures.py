"""The figures of a run that can be compared: their units, and which value of each is the better one. Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from launcher.texts import duration

Better = Literal["lower", "higher", ""]

_GIB = 1 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """What can be said of a run as one number.

    Attributes:
        key: its name for programs.
        title: its name for people.
        unit: ``s``, ``tokens/s``, ``share`` (0 to 1), ``bytes``, ``duration`` (seconds), ``steps``, or empty.
        better: which value is the better one; empty: neither.
        rate: it says how fast a step is, and so can be compared between runs of different length.
        loss: it is measured by what is being trained, and so can be compared only where that is the same.
    """

    key: str
    title: str
    unit: str = ""
    better: Better = ""
    rate: bool = False
    loss: bool = False


#: In the order in which people ask for them.
FIGURES = (
    Figure(key="loss", title="loss, last", better="lower", loss=True),
    Figure(key="train_loss", title="loss, mean of the training", better="lower", loss=True),
    Figure(key="seconds_per_step", title="seconds per step", unit="s", better="lower", rate=True),
    Figure(key="tokens_per_second", title="tokens per second", unit="tokens/s", better="higher", rate=True),
    Figure(key="padding", title="padding", unit="share", better="lower", rate=True),
    Figure(key="device_peak", title="peak memory, device", unit="bytes", better="lower"),
    Figure(key="ram_peak", title="peak memory, RAM", unit="bytes", better="lower"),
    Figure(key="seconds", title="wall time", unit="duration", better="lower"),
    Figure(key="steps", title="steps", unit="steps"),
)

#: What is better when it is larger. Of what else an evaluation reports only its loss has a known direction.
_HIGHER = re.compile(r"(ndcg|recall|mrr|map|precision|accuracy|f1|hit)", re.IGNORECASE)


def of_evaluation(key: str) -> Figure:
    """A figure that an evaluation reported: ``eval_loss``, ``dense nDCG@10``."""
    name = key.removeprefix("eval_")
    if name == "loss":
        return Figure(key=key, title="evaluation loss", better="lower", loss=True)
    better: Better = "higher" if _HIGHER.search(name) else ""
    return Figure(key=key, title=name if name == key else f"evaluation {name}", better=better)


def from_summary(summary: Mapping[str, Any], seconds: float | None) -> dict[str, float]:
    """The figures of a run.

    Args:
        summary: a :class:`launcher.metrics.Summary` as a mapping.
        seconds: wall time of a run that has ended.
    """
    found = {each.key: summary.get(each.key) for each in FIGURES} | {"seconds": seconds}
    found |= dict(summary.get("eval") or {})
    return {key: float(value) for key, value in found.items() if isinstance(value, int | float)}


def text(value: float, unit: str) -> str:
    """A value with its unit, as people read it; bytes in GiB or MiB."""
    if unit == "s":
        return f"{value:.3g} s"
    if unit == "tokens/s":
        return f"{value:,.0f}/s"
    if unit == "share":
        return f"{value:.1%}".replace("%", " %")
    if unit == "bytes":
        return _bytes(value)
    if unit == "duration":
        return duration(value)
    return f"{value:,.0f}" if unit == "steps" else f"{value:.4g}"


def _bytes(value: float) -> str:
    if value >= _GIB:
        return f"{value / _GIB:.2f} GiB"
    return f"{value / (1 << 20):.0f} MiB" if value >= 1 << 20 else f"{value / 1024:.0f} KiB"
