"""What TRL forgets of a training when it is resumed."""

import os
from pathlib import Path
from typing import Any


def count_on(trainer: Any) -> None:
    """Let a resumed training go on counting its tokens; TRL begins at 0."""
    from runtime import resume

    resume.carry("num_tokens", lambda each: getattr(each, "_total_train_tokens", None))
    if folder := os.environ.get("LAUNCH_RESUME"):
        done = resume.carried(Path(folder), trainer.args.process_index, "num_tokens")
        trainer._total_train_tokens = done or 0
