"""YAML that every reader reads alike, by PyYAML."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

#: What every version of YAML takes for a text without quotes: PyYAML writes 1.1 but for its y and n, others
#: read 1.2, where 1e-05 is a number.
_PLAIN = re.compile(r"[A-Za-z/][A-Za-z0-9_./@-]*(:[A-Za-z0-9_./@-]+)*")

#: Except these, which YAML 1.1 takes for truth or for nothing.
_WORDS = {"y", "n", "yes", "no", "on", "off", "true", "false", "null"}


def dumped(documents: Sequence[Mapping[str, Any]]) -> str:
    """Documents as one text; texts of several lines stay readable."""
    # Imported here: few commands write YAML.
    import yaml

    class Dumper(yaml.SafeDumper):  # type: ignore[misc]
        def text(self, value: str) -> Any:
            plain = _PLAIN.fullmatch(value) and value.lower() not in _WORDS
            style = None if plain else "|" if "\n" in value else '"'
            return self.represent_scalar("tag:yaml.org,2002:str", value, style=style)

        def ignore_aliases(self, data: Any) -> bool:
            return True  # the same list twice is written twice

    Dumper.add_representer(str, Dumper.text)
    shape = {"sort_keys": False, "allow_unicode": True, "width": 1 << 20}
    return "---\n".join(yaml.dump(dict(document), Dumper=Dumper, **shape) for document in documents)
