"""As many processes as the machine gives this one time for."""

from contextlib import AbstractContextManager
from math import ceil
from typing import Any

from launcher import workers
from launcher.host import cpu


def crew(jobs: int | None, work: int) -> AbstractContextManager[Any]:
    """Processes for ``work`` bytes; see :func:`launcher.workers.crew`. No thread may run yet.

    Args:
        jobs: processes; None: one for each core that the process may use, and has time for.
    """
    return workers.crew(jobs or cores(), work)


def cores() -> int:
    """The cores that this process may use: what the scheduler allows, and the quota of its control group.

    More processes than the quota has cores' worth of time for would only stop each other.
    """
    facts = cpu.facts()
    return min(facts.cores, max(1, ceil(facts.quota))) if facts.quota else facts.cores
