"""Saved files that others may read, as the caller's umask says.

safetensors writes ``model.safetensors`` with mode 0600, whatever the umask: a colleague, a web server or a
later run under another uid then cannot load the model.
"""

import os
from pathlib import Path
from typing import Any

from runtime.patches._saving import after_save


def apply() -> None:
    """Give what was saved the mode of any other new file."""
    after_save(_open_up)


def _open_up(trainer: Any, output: Path) -> None:
    umask = os.umask(0)
    os.umask(umask)
    for path in output.iterdir():
        if path.is_file() and path.stat().st_uid == os.getuid():
            path.chmod(path.stat().st_mode | (0o666 & ~umask))
