"""torchao loads its C++ extensions: built for another torch it skips them with one line in the log."""

import logging

from _common import Failed, main, require


def check() -> str:
    """Import it and read what it logs."""
    version = require("torchao")
    said: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    for name in ("", "torchao"):
        logging.getLogger(name).addHandler(handler)
    import torchao

    skipped = [line for line in said if "Skipping import of cpp extensions" in line]
    if skipped:
        raise Failed(skipped[0])
    return f"torchao {version}, extensions loaded by {torchao.__name__}"


main(check)
