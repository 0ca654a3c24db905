"""bitsandbytes has its native library for this device: without one it imports silently and fails later."""

from _common import Failed, main, need_device, require


def check() -> str:
    """The class of the loaded library tells; the library that is loaded depends on the device."""
    version = require("bitsandbytes")
    found = need_device()
    from bitsandbytes import cextension

    kind = type(cextension.lib).__name__
    if "Error" in kind or "Mock" in kind:
        raise Failed(f"bitsandbytes {version} has no native library for {found} ({kind})")
    return f"bitsandbytes {version}, {kind} on {found}"


main(check)
