"""Run records: ``runs/<id>/`` holds what is needed to understand a run and to repeat it.

* ``plan.json``: the whole plan (secrets by name only), written before the start;
* ``command``: the engine's request as a line to paste;
* ``log.txt``: the recipe's output; ``metrics.jsonl``: what the trainer reported (see recipes/runtime);
* ``result.json``: how it ended, written last, in one piece;
* ``output/``: the result, unless ``--output`` names another folder.
"""

from launcher.runs.folder import CLAIM, folders, new_id, now, own, prepare, refuse_used_output, unclaim
from launcher.runs.record import Record, everything, find, load
from launcher.runs.result import Result, finish

__all__ = [
    "CLAIM",
    "Record",
    "Result",
    "everything",
    "find",
    "finish",
    "folders",
    "load",
    "new_id",
    "now",
    "own",
    "prepare",
    "refuse_used_output",
    "unclaim",
]
