"""What is installed is what the locks say: nothing more, nothing less, nothing else."""

import re
from importlib import metadata

from _common import Failed, canonical, left_out, locked, main


def check() -> str:
    """Compare names and versions both ways."""
    wanted = locked()
    found: dict[str, str] = {}
    problems = []
    for distribution in metadata.distributions():
        name = canonical(distribution.metadata["Name"])
        if name in found:
            problems.append(f"{name} is installed twice")
        found[name] = distribution.version
    problems += [f"{name} {wanted[name]} is not installed" for name in sorted(wanted.keys() - found.keys())]
    problems += [f"{name} {found[name]} is in no lock" for name in sorted(found.keys() - wanted.keys())]
    problems += [
        f"{name} is {found[name]}, locked is {wanted[name]}"
        for name in sorted(wanted.keys() & found.keys())
        if found[name] != wanted[name]
    ]
    waiting = [
        f"{distribution.metadata['Name']} needs {requirement}, which was left out"
        for distribution in metadata.distributions()
        for requirement in distribution.requires or []
        if "extra ==" not in requirement
        and canonical(re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0]) in left_out()
    ]
    # Without torch nothing can train, and nobody takes such an image for a whole one.
    if "torch" not in left_out():
        problems += waiting
    if problems:
        raise Failed("; ".join(problems))
    done = f"{len(found)} distributions, as locked"
    return f"{done}; {len(waiting)} requirements wait for what was left out" if waiting else done


main(check)
