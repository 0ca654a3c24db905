"""vLLM's compiled operators load with this torch, and its transformers is below 5."""

from importlib import metadata

from _common import Failed, main, require


def check() -> str:
    """Import the native module, not only the package."""
    version = require("vllm")
    if int(metadata.version("transformers").split(".")[0]) >= 5:
        raise Failed(f"vllm {version} breaks on transformers {metadata.version('transformers')}")
    import torch  # noqa: F401 - brings the libraries that the module links to
    import vllm._C  # noqa: F401

    return f"vllm {version}, native operators load"


main(check)
