"""launcher.app.groups: answers of a training by rewards are generated in whole groups, or nothing starts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.app import groups
from launcher.errors import UsageError


def asked(answers: int, each: int, steps: int, **more: str) -> dict[str, str]:
    return {
        "num_generations": str(answers),
        "per_device_train_batch_size": str(each),
        "gradient_accumulation_steps": str(steps),
        **more,
    }


@given(
    answers=st.integers(2, 9), each=st.integers(1, 12), steps=st.integers(1, 4), processes=st.integers(1, 4)
)
def test_whole_groups_or_nothing(answers: int, each: int, steps: int, processes: int) -> None:
    if processes * each * steps % answers == 0:
        groups.refuse(asked(answers, each, steps), processes)
    else:
        with pytest.raises(UsageError, match=f"{processes * each * steps} answers .* groups of {answers}"):
            groups.refuse(asked(answers, each, steps), processes)


def test_raw_arguments_and_other_recipes() -> None:
    groups.refuse(asked(8, 3, 1, generation_batch_size="16"), 1)
    groups.refuse(asked(8, 4, 1, steps_per_generation="2"), 1)
    with pytest.raises(UsageError, match="12 answers"):
        groups.refuse(asked(8, 8, 1, generation_batch_size="12"), 1)
    with pytest.raises(UsageError, match="nothing to compare"):
        groups.refuse(asked(1, 8, 1), 1)
    groups.refuse({"per_device_train_batch_size": "3", "gradient_accumulation_steps": "1"}, 1)
    groups.refuse(asked(8, 8, 1, generation_batch_size="many"), 1)  # the trainer's own parser says so
