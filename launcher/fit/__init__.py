"""Will a training fit into memory? An estimate from a recipe's parameters and a model's config.json alone.

Pure and fast: nothing is loaded, started or asked, so that a run can be judged before it starts. What the
figures are worth is in docs/fit.md.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from launcher.fit import parts, states
from launcher.fit.arch import Shape, read
from launcher.fit.parts import Moment, Part
from launcher.fit.probes import Probe
from launcher.fit.step import Device, Setup, setup

__all__ = [
    "Estimate",
    "Moment",
    "Part",
    "Probe",
    "Setup",
    "Shape",
    "Verdict",
    "estimate",
    "judge",
    "read",
    "setup",
]

Verdict = Literal["fits", "tight", "does not fit", "unknown"]

#: Share of a device's memory up to which a step fits; what is above, up to all of it, is tight.
ROOM = 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What a step takes on one device.

    Attributes:
        moment: when it takes the most.
        parts: at that moment; they add up to ``total``.
        total: bytes.
        memory: of the device, in bytes; None: unknown.
        lacking: bytes that a program's own share of the device is too small by.
        parameters, trained: counted from the configuration.
        probe: the measured step that corrected it; None: nothing was measured.
    """

    moment: str
    parts: tuple[Part, ...]
    total: float
    memory: int | None
    parameters: int
    trained: int
    lacking: float = 0.0
    probe: Probe | None = None

    @property
    def verdict(self) -> Verdict:
        """Up to 90 % of the memory it fits, up to all of it it is tight."""
        if self.memory is None:
            return "unknown"
        if self.total > self.memory or self.lacking:
            return "does not fit"
        return "tight" if self.total > ROOM * self.memory else "fits"


def estimate(
    values: Mapping[str, str],
    config: Mapping[str, Any],
    memory: int | None,
    world_size: int = 1,
    *,
    data_format: str,
    device: Device,
    longest: tuple[int, int] | None = None,
    probe: Probe | None = None,
) -> Estimate:
    """Estimate a recipe's step.

    Args:
        values: the recipe's parameters as texts.
        config: the model's config.json.
        memory: of one device in bytes; None: unknown, and then there is no verdict. Processes on a CPU share
            it: give each its part.
        world_size: processes in all, one device each.
        data_format: of the recipe's header; decides what is trained.
        device: ``cuda``, ``xpu`` or ``cpu``.
        longest: tokens of the data's longest query and passage at most; None: as long as the parameters let
            them be.
        probe: a step of the same kind that was measured.

    Raises:
        ModelConfigError: the model's parameters cannot be counted.
        UsageError: the recipe trains nothing, or a value is not usable.
    """
    step = setup(values, data_format=data_format, device=device, world=world_size, longest=longest)
    return judge(read(config), step, memory, probe)


def judge(shape: Shape, step: Setup, memory: int | None, probe: Probe | None = None) -> Estimate:
    """The same, of what was read already."""
    moment = parts.peak(shape, step)
    counted = states.count(shape, step)
    found = Estimate(
        moment=moment.name,
        parts=moment.parts,
        total=moment.total,
        memory=memory,
        parameters=counted.all,
        trained=counted.trained,
        lacking=parts.lacking(shape, step),
    )
    return found if probe is None or not probe.speaks_of(step) else _corrected(shape, step, found, probe)


def _corrected(shape: Shape, step: Setup, found: Estimate, probe: Probe) -> Estimate:
    """Scale what comes and goes by what the probe measured."""
    from dataclasses import replace

    candidates = [probe.correct(moment) for moment in parts.moments(shape, step)]
    most = max(candidates, key=lambda moment: moment.total)
    return replace(found, moment=most.name, parts=most.parts, total=most.total, probe=probe)
