"""What the numbers of a training say: its losses beside the recorded ones, its pace, its memory."""

import itertools
import math
import statistics
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from launcher.acceptance import WARM_UP, Curve, Known, Speed
from launcher.errors import RecordError

#: The trainer rounds a loss to 4 decimals (transformers, ``Trainer._maybe_log_save_evaluate``).
_ROUNDING = 1e-4


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Recorded(_Strict):
    losses: tuple[float, ...] = Field(min_length=2)
    weights_sha256: str


class _Known(_Strict):
    card: str
    source: str
    precision: str = ""
    unsloth: bool | None = None
    step_seconds: float | None = None
    peak_memory_mb: float | None = None


class Record(_Strict):
    """``images/acceptance.toml``.

    Attributes:
        tolerance: by precision, the share of a recorded curve's fall that a loss may be off.
        machine: where the curves were recorded.
        data_sha256: of the rows of :func:`launcher.acceptance.texts.short`.
        curves: by recipe.
        known: figures that others reported.
    """

    schema_: int = Field(alias="schema", ge=1, le=1)
    machine: str
    data_sha256: str
    tolerance: dict[str, float]
    curves: dict[str, _Recorded]
    known: tuple[_Known, ...] = ()

    def reported(self) -> tuple[Known, ...]:
        """The figures of others."""
        return tuple(Known(**each.model_dump()) for each in self.known)


def read(text: str, *, source: str) -> Record:
    """The record of curves.

    Args:
        source: the file's name, for errors.

    Raises:
        RecordError: it is damaged.
    """
    try:
        return Record.model_validate(tomllib.loads(text))
    except (ValidationError, tomllib.TOMLDecodeError) as error:
        raise RecordError(f"{source} cannot be read", why=str(error)) from None


def curve(
    record: Record,
    recipe: str,
    precision: str,
    events: Sequence[Mapping[str, Any]],
    *,
    device: str,
    weights_sha256: str = "",
    seconds: float = 0.0,
) -> Curve:
    """Judge the losses of one short training by the recorded ones.

    The measure is the recorded curve's own fall: a share of the losses themselves would let a curve pass
    that does not fall at all.

    Args:
        events: of metrics.jsonl.
        device: type of the device that it should have trained on.
        weights_sha256: of the model that it started from; empty: unknown.
    """
    reference = record.curves[recipe]
    losses = tuple(float(event["loss"]) for event in events if "loss" in event)
    found = Curve(
        recipe=recipe,
        precision=precision,
        status="failed",
        seconds=seconds,
        device=_device(events),
        losses=losses,
        recorded=reference.losses,
        same_start=weights_sha256 == reference.weights_sha256 if weights_sha256 else None,
    )
    if elsewhere := _elsewhere(found.device, device):
        return replace(found, detail=elsewhere)
    return _judged(found, record.tolerance[precision])


def _device(events: Sequence[Mapping[str, Any]]) -> str:
    return next((str(event.get("device", "")) for event in events if event.get("event") == "begin"), "")


def _elsewhere(found: str, wanted: str) -> str:
    """What is wrong with the device of a training; empty: nothing. Trainers take the CPU without a word."""
    good = found.split(":")[0] == wanted
    return "" if good else f"it trained on {found or 'an unknown device'}, not on {wanted}"


def _judged(found: Curve, share: float) -> Curve:
    """A curve with its verdict; ``share`` is of the recorded fall."""
    losses, recorded = found.losses, found.recorded
    if len(losses) != len(recorded):
        return replace(found, detail=f"{len(losses)} of {len(recorded)} steps were logged")
    if not all(map(math.isfinite, losses)):
        return replace(found, detail=f"not finite: {' '.join(map(str, losses))}")
    off = round(max(abs(one - other) for one, other in zip(losses, recorded, strict=True)), 6)
    tolerance = round(share * (max(recorded) - min(recorded)) + _ROUNDING, 6)
    good = off <= tolerance
    detail = "" if good else f"off by {off:.4f} from the recorded losses, {tolerance:.4f} is allowed"
    if not good and found.same_start is False:
        detail += "; the tiny model's first weights are not those of the record, which may be why"
    return replace(found, status="ok" if good else "failed", detail=detail, off=off, tolerance=tolerance)


def speed(found: Speed, events: Sequence[Mapping[str, Any]], *, device: str) -> Speed:
    """A training's pace and memory from its events; ``failed`` when they do not say.

    The time of a step is that between its line and the one before: each is written after the loss has come
    from the device, so that no step is still under way.

    Args:
        found: what is known of it already.
        events: of metrics.jsonl.
        device: type of the device that it should have trained on.
    """
    ends = [event for event in events if event.get("event") == "end"]
    times = [float(event["time"]) for event in events if "loss" in event]
    paces = [after - before for before, after in itertools.pairwise(times)][WARM_UP - 1 :]
    found = replace(found, device=_device(events), status="failed")
    if elsewhere := _elsewhere(found.device, device):
        return replace(found, detail=elsewhere)
    if not paces or not ends:
        return replace(found, detail=f"{len(times)} steps were logged, too few to measure")
    peak, reserved = _memory(events)
    return replace(
        found,
        status="ok",
        step_seconds=round(statistics.median(paces), 4),
        slowest=round(max(paces), 4),
        fastest=round(min(paces), 4),
        steps=len(paces),
        peak_memory=peak,
        peak_reserved=reserved,
    )


def _memory(events: Sequence[Mapping[str, Any]]) -> tuple[int | None, int | None]:
    """What the training took at most, and what torch's allocator had reserved for it; None: unknown.

    The runtime's event ``memory`` tells the two apart on GPUs alone.
    """
    for event in reversed(events):
        if event.get("event") == "memory":
            return (event["allocated"], event["peak"]) if "allocated" in event else (event["peak"], None)
    return None, None
