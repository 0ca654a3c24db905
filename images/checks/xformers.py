"""xformers was built for the torch that is here, and its operators load."""

import json
from importlib import metadata

from _common import Failed, main, require


def check() -> str:
    """Compare its build record with torch, then load the native library."""
    version = require("xformers")
    import torch

    record = next((f for f in metadata.files("xformers") or [] if f.name == "cpp_lib.json"), None)
    if record is None:
        raise Failed(f"xformers {version} has no build record, so no native operators")
    built = json.loads(record.locate().read_text(encoding="utf-8"))["version"]
    if built["torch"].split("+")[0] != torch.__version__.split("+")[0]:
        raise Failed(f"xformers {version} was built for torch {built['torch']}, here is {torch.__version__}")
    import xformers._cpp_lib as library

    if library._cpp_library_load_exception is not None:
        raise Failed(f"its native library does not load: {library._cpp_library_load_exception}")
    return f"xformers {version}, built for torch {built['torch']}"


main(check)
