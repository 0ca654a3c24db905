"""Answers in groups: what a training by rewards needs of its batch, asked before anything starts.

GRPO compares the answers to one prompt with each other, so all of them have to be in one batch of generation.
TRL (0.20 and 1.2: ``GRPOConfig.__post_init__``) stops otherwise, after its imports; Unsloth takes another
batch size than was asked for.
"""

from collections.abc import Mapping

from launcher.errors import UsageError


def refuse(values: Mapping[str, str], processes: int) -> None:
    """Refuse a batch that does not hold whole groups; recipes without groups pass.

    Args:
        values: of the recipe's parameters, overridden by raw trainer arguments.
        processes: the world size.

    Raises:
        UsageError: with the numbers.
    """
    try:
        answers = int(values["num_generations"])
        each, steps = (
            int(values[name]) for name in ("per_device_train_batch_size", "gradient_accumulation_steps")
        )
        steps = int(values.get("steps_per_generation", steps))
        batch = int(values.get("generation_batch_size", processes * each * steps))
    except (KeyError, ValueError):  # another recipe; or raw arguments that the trainer's parser refuses
        return
    if answers < 2:
        raise UsageError(
            f"--num-generations {answers}: there is nothing to compare an answer with",
            why="what is learned is how the answers to one prompt differ",
            hint="--num-generations 4, or more",
        )
    if batch % answers:
        raise UsageError(
            f"{batch} answers cannot be shared out in groups of {answers}",
            why=f"{processes} processes x --per-device-train-batch-size {each} x {steps} batches at a time",
            hint=f"a multiple of --num-generations, e.g. --per-device-train-batch-size {answers}",
        )
