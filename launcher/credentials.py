"""What looks like a credential, and so is not recorded. Pure; names of variables, addresses, arguments."""

import re
from collections.abc import Iterable, Mapping

_NAME = re.compile(r"TOKEN(?!IZER)|SECRET|PASSWORD|PASSWD|(^|_|API)KEY$|CREDENTIAL", re.IGNORECASE)
_ADDRESS = re.compile(r"://[^/@\s]+@")
_ARGUMENT = re.compile(r"--?[\w-]*(token|secret|password|api[_-]?key)(=|$)", re.IGNORECASE)

#: Characters below which a secret's value may stand in an option by chance, as "true" does: as for masks.
_SHORTEST = 8


def in_name(name: str) -> bool:
    """Whether a variable of such a name holds one; docs/secrets.md says which names do."""
    return bool(_NAME.search(name))


def in_address(value: str) -> bool:
    """Whether a value carries a user's name and password, as a proxy's address does."""
    return bool(_ADDRESS.search(value))


def in_argument(argument: str) -> bool:
    """Whether a program's option is one for a credential."""
    return bool(_ARGUMENT.match(argument))


def said(options: Iterable[str], variables: Iterable[str], secrets: Mapping[str, str]) -> str:
    """Which credential stands in what would be recorded, never its value; empty: none."""
    options = list(options)
    recorded = [*options, *variables]
    for name, value in secrets.items():
        lines = [line.strip() for line in value.splitlines()]
        if any(line in each for line in lines if len(line) >= _SHORTEST for each in recorded):
            return f"the value of {name}, which an option holds too,"
    if any(map(in_address, options)):
        return "an address with a user's name or password"
    return ""
