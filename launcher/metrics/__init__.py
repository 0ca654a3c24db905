"""What a trainer reported: ``metrics.jsonl``, read while it grows or afterwards; pure but for the reading.

Of a run on several nodes each node but the first has a file of its own; they are read as one.

The events are written by ``recipes/runtime`` (schema there and in docs/runs.md); a reader passes over what it
does not know, and over what has no sense: whatever the lines hold, none of these raises.
"""

from launcher.metrics.events import Event, attempts, current, finite, number, of_attempt, since, whole
from launcher.metrics.failures import Failure, failure
from launcher.metrics.reader import Reader, files, latest, read
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
    "files",
    "final_numbers",
    "finite",
    "latest",
    "number",
    "of_attempt",
    "read",
    "runtime",
    "since",
    "steps",
    "summary",
    "whole",
    "world_problem",
]
