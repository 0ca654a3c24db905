"""Quantities as people read them."""

import pytest

from launcher import comparison
from launcher.cli import ui
from launcher.texts import duration


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "0 s"),
        (7.25, "7.25 s"),
        (59, "59 s"),
        (60, "1 min 00 s"),
        (425, "7 min 05 s"),
        (3599.7, "1 h 00 min"),
        (90_000, "25 h 00 min"),
        (float("nan"), "–"),
        (float("inf"), "–"),
        (1e300, "–"),
    ],
)
def test_a_span_of_time_is_the_same_everywhere(seconds: float, said: str) -> None:
    assert duration(seconds) == ui.duration(seconds) == comparison.text(seconds, "duration") == said
