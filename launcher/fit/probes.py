"""A measured step, and what it says about steps of other sizes."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from launcher.fit.parts import Moment, Part
from launcher.fit.step import Setup

#: How far a measurement may bend an estimate: what is further off measured something else.
_LEAST, _MOST = 0.25, 4.0

#: What is there before the first step. torch's allocator does not count a GPU's context.
_LOADED = ("weights", "context")


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """One real step.

    Attributes:
        setup: the step that was measured.
        before: bytes when the model was loaded and nothing had been trained.
        peak: bytes at most, of the process on a CPU, of torch's allocator on a GPU.
        loaded, stepped: what was estimated for the first, and for the second beyond the first.
        when: date of the measurement.
    """

    setup: Setup
    before: float
    peak: float
    loaded: float
    stepped: float
    when: str = ""

    @property
    def factor(self) -> float:
        """Measured bytes of the step per estimated one."""
        measured = max(self.peak - self.before, 0.0)
        return min(_MOST, max(_LEAST, measured / self.stepped)) if self.stepped > 0 else 1.0

    def speaks_of(self, setup: Setup) -> bool:
        """Whether a step differs in its size alone, and in no option that changes how memory grows."""
        return _mode(setup) == _mode(self.setup)

    def correct(self, moment: Moment) -> Moment:
        """What was loaded is moved by the measured difference, all else is scaled."""
        return replace(moment, parts=tuple(self._corrected(part) for part in moment.parts))

    def _corrected(self, part: Part) -> Part:
        if part.name == "weights":
            return replace(part, bytes=max(0.0, part.bytes + self.before - self.loaded))
        return part if part.name in _LOADED else replace(part, bytes=part.bytes * self.factor)


def split(moment: Moment) -> tuple[float, float]:
    """Bytes of a moment that were there before the first step, and all others."""
    loaded = sum(part.bytes for part in moment.parts if part.name in _LOADED)
    return loaded, moment.total - loaded


def best(probes: Sequence[Probe], setup: Setup) -> Probe | None:
    """The probe of the same kind whose size is nearest; None: there is none."""
    fitting = [probe for probe in probes if probe.speaks_of(setup)]
    return min(fitting, key=lambda probe: abs(probe.setup.tokens - setup.tokens), default=None)


def _mode(setup: Setup) -> Setup:
    return replace(setup, batch=1, group=1, query_length=0, passage_length=0, generated=0, vllm=0)
