"""What a recipe's parameters ask of its data."""

from collections.abc import Mapping

from launcher.data import Rules
from launcher.recipe.refusals import says


def rules_of(format_: str, values: Mapping[str, str], *, launch: str) -> Rules:
    """The rules of a data format, as a run with these values needs them.

    Args:
        values: of the recipe's parameters; those that it does not have are off.
        launch: of the recipe; what ``torchrun`` starts are trainers, which load rows otherwise than tools.
    """
    group = values.get("train_group_size", "")
    return Rules(
        format=format_,
        scores=says(True, values.get("knowledge_distillation", "")),
        unified=says(True, values.get("unified_finetuning", "")),
        same_dataset=any(
            says(True, values.get(name, "")) for name in ("same_dataset_within_batch", "length_bucketing")
        ),
        group_size=int(group) if group.isdigit() else 0,
        reference=_reference(values),
        trained=launch == "torchrun",
    )


def _reference(values: Mapping[str, str]) -> str:
    """The column that the reward ``exact`` reads; empty: it is off, or the recipe has no rewards.

    What is on when nothing is named: recipes/llm/rewards.py.
    """
    named = {each.partition(":")[0].strip() for each in values.get("rewards", "").split(",")} - {""}
    on = "exact" in named if named else "rewards" in values and not values.get("reward_file")
    return values.get("answer_column", "") if on else ""
