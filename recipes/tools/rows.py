"""The rows of JSON-lines files, for the programs beside the recipes; standard library only."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def read(path: Path) -> Iterator[tuple[int, Any]]:
    """Line number and content of every line that is not blank.

    Raises:
        SystemExit: a line is not JSON; the message names it.
    """
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                yield number, json.loads(line)
            except json.JSONDecodeError as error:
                sys.exit(f"{path}:{number}: not JSON: {error}")
