"""Curves as they are drawn: fewer points with the same spikes, and a smooth line through noise. Pure."""

import math
from collections.abc import Sequence

#: (step, value) pairs in the order of their steps.
Curve = Sequence[tuple[int, float]]

#: Points beyond which a screen shows no more: two for each pixel of a wide one.
POINTS = 2000


def thin(curve: Curve, points: int = POINTS) -> list[tuple[int, float]]:
    """At most so many points of a curve: of each equal stretch its lowest and its highest one.

    A mean would hide the single step whose gradient exploded; that step is what people look for. The first
    and the last point stay. Values that are no numbers (a loss of nan) stay too, one of a stretch, since a
    gap is drawn there.

    Args:
        curve: the points; unchanged when there are few enough.
        points: at least 4.
    """
    if len(curve) <= points:
        return list(curve)
    # Two for the ends, and room for three points in each stretch: lowest, highest, no number.
    broken = any(not math.isfinite(value) for _, value in curve)
    stretches = (points - 2) // (3 if broken else 2)
    inner = curve[1:-1]
    found = [curve[0]]
    for number in range(stretches):
        part = inner[number * len(inner) // stretches : (number + 1) * len(inner) // stretches]
        found += _extremes(part)
    return [*found, curve[-1]]


def _extremes(part: Curve) -> list[tuple[int, float]]:
    finite = [at for at, (_, value) in enumerate(part) if math.isfinite(value)]
    chosen = {at for at, (_, value) in enumerate(part) if not math.isfinite(value)}
    chosen = {min(chosen)} if chosen else set()
    if finite:
        chosen.add(min(finite, key=lambda at: part[at][1]))
        chosen.add(max(finite, key=lambda at: part[at][1]))
    return [part[at] for at in sorted(chosen)]


#: Weight of a new value in the smooth line: it follows about the last 20 logged values.
WEIGHT = 0.1


def smooth(curve: Curve) -> list[tuple[int, float]]:
    """Exponential moving average, corrected for its start as Adam's moments are (Kingma and Ba, 2015).

    A value that is no number is left out, so that one nan does not end the line.
    """
    found = []
    mean = share = 0.0
    for step, value in curve:
        if math.isfinite(value):
            mean += WEIGHT * (value - mean)
            share += WEIGHT * (1 - share)
            found.append((step, mean / share))
    return found
