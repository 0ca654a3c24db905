"""Manifests as YAML: the few lines of it that maps, lists, texts and numbers need.

Everything that could be read as something else is written as JSON, which is YAML, too.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

#: What every version of YAML reads as a text without quotes.
_PLAIN = re.compile(r"[A-Za-z/][A-Za-z0-9_./@-]*(:[A-Za-z0-9_./@-]+)*")

#: Except these, which YAML 1.1 reads as truth or as nothing.
_WORDS = {"y", "n", "yes", "no", "on", "off", "true", "false", "null"}


def dumped(documents: Sequence[Mapping[str, Any]]) -> str:
    """Several documents as one text."""
    return "---\n".join("".join(f"{line}\n" for line in _lines(document)) for document in documents)


def _lines(value: Any) -> Iterator[str]:
    """The lines of a value; a scalar is one."""
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from _entry(f"{_scalar(key)}:", item, indent="  ")
    elif isinstance(value, list | tuple) and value:
        for item in value:
            first, *rest = _lines(item)
            yield f"- {first}"
            yield from (f"  {line}" for line in rest)
    else:
        yield _scalar(value)


def _entry(key: str, value: Any, *, indent: str) -> Iterator[str]:
    if isinstance(value, Mapping | list | tuple) and value:
        yield key
        deeper = "" if isinstance(value, list | tuple) else indent
        yield from (f"{deeper}{line}" for line in _lines(value))
    else:
        yield f"{key} {_scalar(value)}"


def _scalar(value: Any) -> str:
    if isinstance(value, str):
        if _PLAIN.fullmatch(value) and value.lower() not in _WORDS:
            return value
        # As JSON, but for what it writes as two: YAML has one escape for it.
        return '"' + "".join(map(_character, value)) + '"'
    return json.dumps(value)


def _character(character: str) -> str:
    return json.dumps(character)[1:-1] if character <= "\uffff" else f"\\U{ord(character):08x}"
