"""The order of the rows in an epoch that is resumed in its middle.

The order follows from seed and epoch. accelerate 1.12 makes a new loader when it skips the batches that are
done, and the new one believes to be in its first epoch: resumed later, the rest of an epoch has the first
epoch's order, so rows are trained twice and others not at all. Newer versions pass the epoch on (seen in
1.15), as is done here.
"""

from typing import Any

from transformers import trainer


def apply() -> None:
    """Wrap the function where transformers calls it."""
    original = trainer.skip_first_batches

    def skip_first_batches(dataloader: Any, num_batches: int = 0) -> Any:
        skipped = original(dataloader, num_batches)
        if hasattr(dataloader, "iteration"):
            skipped.iteration = dataloader.iteration
        return skipped

    trainer.skip_first_batches = skip_first_batches
