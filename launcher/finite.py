"""Data that JSON can hold: it knows no nan and no infinity, which a training that diverged reports. Pure."""

from collections.abc import Mapping
from math import isfinite


def plain(value: object) -> object:
    """The same data, with None for each number that is not finite; tuples become lists."""
    if isinstance(value, float):
        return value if isfinite(value) else None
    if isinstance(value, Mapping):
        return {name: plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    return value
