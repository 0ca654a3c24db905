"""Whether a run was repeated: what must be the same before, and what came out equal. Pure."""

from launcher.replay.differences import KINDS, NOTED, Comparison, Difference, Fact, compare
from launcher.replay.equality import Equality, judge

__all__ = ["KINDS", "NOTED", "Comparison", "Difference", "Equality", "Fact", "compare", "judge"]
