"""Free memory of the device can be read. Some Intel drivers cannot tell; its whole memory is known then.

The length buckets and `launch fit --probe` do the same: what this process has not taken counts as free.
"""

from _common import Failed, main, need_device, require


def check() -> str:
    """``mem_get_info``, or what stands in for it."""
    require("torch")
    import torch

    found = need_device()
    module = getattr(torch, found)
    total = int(module.get_device_properties(0).total_memory)
    if total <= 0:
        raise Failed(f"{module.get_device_name(0)} says that it has {total} bytes of memory")
    try:
        free, known = module.mem_get_info(0)
    except (RuntimeError, AttributeError) as error:
        reason = str(error).splitlines()[0][:120]
        return f"mem_get_info does not work ({reason}); {total / 2**30:.1f} GiB is taken to be free instead"
    if not 0 <= free <= known:
        raise Failed(f"mem_get_info says that {free} of {known} bytes are free")
    return f"{free / 2**30:.1f} of {known / 2**30:.1f} GiB are free"


main(check)
