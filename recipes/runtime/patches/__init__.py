"""Changes to the trainers' libraries: named, versioned, each to be switched off, recorded, none silent.

A patch knows the exact library versions that it was tested with and refuses every other: a library that
has changed may have changed its meaning too. Each file here holds one patch: why, and what instead.
"""

from runtime.patches.registry import PATCHES, Patch, apply, choose

__all__ = ["PATCHES", "Patch", "apply", "choose"]
