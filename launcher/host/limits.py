"""Limits of this process, which what it starts without a container inherits."""

import resource

from launcher.diagnosis.facts import Limits


def facts() -> Limits:
    """The soft limits: those that count until a program raises them."""

    def soft(which: int) -> int | None:
        found = resource.getrlimit(which)[0]
        return None if found == resource.RLIM_INFINITY else found

    return Limits(
        nofile=soft(resource.RLIMIT_NOFILE),
        memlock=soft(resource.RLIMIT_MEMLOCK),
        stack=soft(resource.RLIMIT_STACK),
    )
