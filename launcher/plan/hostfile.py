"""The file that names hosts for DeepSpeed's launcher: ``NAME slots=N``, one host on each line.

Read as deepspeed/launcher/runner.py of 0.19.8 reads it (``_parse_hostfile``), and stricter: what it would
hand on to pdsh, or to a shell, as something else than a name is refused.
"""

import re

from launcher.errors import UsageError

#: What DeepSpeed's launcher takes for a host, and may follow behind it.
_LINE = re.compile(r"(\S+)\s+slots=([0-9]+)(?:\s+(?:#.*|max_slots=[0-9]+))?")

#: A name for ssh, with or without a user. Brackets, commas and colons mean something to pdsh.
_NAME = re.compile(r"(?:[A-Za-z0-9_][A-Za-z0-9_.-]*@)?[A-Za-z0-9][A-Za-z0-9_.-]*")


def hostfile(text: str, source: str) -> tuple[tuple[str, ...], int]:
    """The hosts in their order, and how many processes each has.

    Args:
        text: of the file.
        source: what it is called.

    Raises:
        UsageError: no such file, a host comes twice, there is only one, or not all have the same slots.
    """
    slots: dict[str, int] = {}
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        found = _LINE.fullmatch(line)
        if found is None or not _NAME.fullmatch(found[1]):
            raise UsageError(
                f"{source}, line {number}: {line!r} names no host",
                hint="each line is NAME slots=N, e.g. worker-1 slots=8, with a name that ssh takes",
            )
        if found[1] in slots:
            raise UsageError(f"{source}, line {number}: {found[1]} is there twice", hint="give it more slots")
        slots[found[1]] = int(found[2])
    if len(slots) < 2:
        raise UsageError(
            f"{source} names {'one host' if slots else 'no host'}",
            hint="several machines are at least two lines NAME slots=N; for one, run launch there",
        )
    counts = set(slots.values())
    if len(counts) > 1 or counts == {0}:
        said = ", ".join(f"{name} {count}" for name, count in slots.items())
        raise UsageError(
            f"{source}: every host needs the same number of slots, at least 1 ({said})",
            why="the recipe starts as many processes on each node",
        )
    return tuple(slots), counts.pop()
