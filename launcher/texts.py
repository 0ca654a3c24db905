"""Quantities and verdicts as people read them. Pure, and cheap to import: every verb does."""

#: How the verdict on a run begins whose end was asked for: by a signal, or by a command.
STOPPED_BY = "stopped by "

#: Three centuries: what is longer was never measured.
_LONGEST = 1e10


def duration(seconds: float) -> str:
    """``42 s``, ``3 min 05 s``, ``2 h 07 min``; – for what is no span of time."""
    if not abs(seconds) < _LONGEST:
        return "–"
    if seconds < 60:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"
