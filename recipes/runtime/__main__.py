"""``python -m runtime [OPTIONS] -m MODULE ARGS``: run a trainer's module with the launcher's parts in it.

Like ``python -m pdb -m …``: the module sees its own name and arguments as if it had been started alone.
The libraries are changed in this process only, by named patches; which ones are on is written into the
run's record before the trainer starts.
"""

import contextlib
import runpy
import sys
from typing import Any

from runtime import options


def main() -> None:
    """Attach the metrics callback, apply the patches, then become the trainer."""
    chosen, module, arguments = options.parse(sys.argv[1:])
    sys.argv = [module, *arguments]
    if chosen.unsloth:
        from runtime import unsloth_loader

        unsloth_loader.attach(module)  # Unsloth wants to be imported before transformers

    from runtime import bucketing, guards, memory, metrics, model_options, patches

    metrics.attach()
    memory.attach()
    applied, off = patches.apply(module, chosen.patches)
    guards.attach(module, applied)
    model_options.attach(module, chosen)
    if chosen.length_bucketing:
        bucketing.attach(module, chosen)
    metrics.report("runtime", patches=[patch.record() for patch in applied], off=off, options=chosen.record())
    with contextlib.suppress(memory.Probed):
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    leave_group()


def leave_group() -> None:
    """End this process's part in the process group, which trainers leave to the interpreter's end.

    There Gloo's threads may still hold tensors: freeing one takes the interpreter's lock, which is gone by
    then, and the finished training ends with SIGABRT (https://github.com/pytorch/pytorch/pull/179291). One
    such end was seen in some hundred runs of two processes; that this was its cause is inferred.
    """
    distributed: Any = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


if __name__ == "__main__":
    main()
