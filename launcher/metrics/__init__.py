"""What a trainer reported: ``metrics.jsonl``, read while it grows or afterwards; pure but for the reading.

The events are written by ``recipes/runtime`` (schema there and in docs/runs.md); a reader passes over what it
does not know, and over what has no sense: whatever the lines hold, none of these raises.
"""

from launcher.metrics.events import Event, attempts, current, finite, number, of_attempt, whole
from launcher.metrics.failures import Failure, failure
from launcher.metrics.reader import Reader, latest, read
from launcher.metrics.series import Summary, curves, summary
from launcher.metrics.verdict import buckets, final_numbers, runtime, steps, world_problem

__all__ = [
    "Event",
    "Failure",
    "Reader",
    "Summary",
    "attempts",
    "buckets",
    "current",
    "curves",
    "failure",
    "final_numbers",
    "finite",
    "latest",
    "number",
    "of_attempt",
    "read",
    "runtime",
    "steps",
    "summary",
    "whole",
    "world_problem",
]
