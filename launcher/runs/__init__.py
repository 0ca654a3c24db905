"""Run records: ``runs/<id>/`` holds what is needed to understand a run and to repeat it.

* ``plan.json``: the whole plan (secrets by name only), written before the start;
* ``command``: the engine's request as a line to paste;
* ``attempts/``: every start of it: when, where, from which checkpoint, and why it ended;
* ``log.txt``: the recipe's output; ``metrics.jsonl``: what the trainer reported (see recipes/runtime);
* ``result.json``: how it ended, written last, in one piece;
* ``output/``: the result, unless ``--output`` names another folder.

A launcher that follows a run holds its lock. Where none does, the next command that looks at the run asks the
engine, and concludes the record if the run has ended.
"""

from launcher.runs.attempt import Attempt, restore_result, set_aside_result
from launcher.runs.attempt import read as attempts
from launcher.runs.attempt import write as write_attempt
from launcher.runs.folder import (
    CLAIM,
    RESERVE,
    folders,
    make,
    moment,
    new_id,
    now,
    own,
    prepare,
    refuse_used_output,
    unclaim,
)
from launcher.runs.lock import Lock, followed
from launcher.runs.outputs import digests as outputs
from launcher.runs.record import Record, everything, find, load, tail
from launcher.runs.result import Result, finish, make_room, sweep

__all__ = [
    "CLAIM",
    "RESERVE",
    "Attempt",
    "Lock",
    "Record",
    "Result",
    "attempts",
    "everything",
    "find",
    "finish",
    "folders",
    "followed",
    "load",
    "make",
    "make_room",
    "moment",
    "new_id",
    "now",
    "outputs",
    "own",
    "prepare",
    "refuse_used_output",
    "restore_result",
    "set_aside_result",
    "sweep",
    "tail",
    "unclaim",
    "write_attempt",
]
