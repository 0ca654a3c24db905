"""Unsloth imports: it patches transformers, TRL and peft, and breaks where one is too new for it."""

from _common import main, need_device, require


def check() -> str:
    """Its import asks for a GPU before anything else."""
    require("torch")
    version = require("unsloth")
    found = need_device()
    from unsloth import FastLanguageModel

    return f"unsloth {version} on {found}, {FastLanguageModel.__name__} is there"


main(check)
