"""``python -m runtime [OPTIONS] -m MODULE ARGS``: run a trainer's module with the launcher's parts in it.

Like ``python -m pdb -m …``: the module sees its own name and arguments as if it had been started alone.
The libraries are changed in this process only, by named patches; which ones are on is written into the
run's record before the trainer starts.
"""

import atexit
import contextlib
import os
import runpy
import sys
import threading
from typing import Any

from runtime import events, options, peers


def main() -> None:
    """Attach the callbacks, apply the patches, then become the trainer."""
    try:
        peers.attach()
        _train()
    except BaseException as error:
        events.report_failure(error)
        if not isinstance(error, SystemExit) or error.code not in (None, 0):
            peers.tell()
        raise
    leave()


def _train() -> None:
    chosen, module, arguments = options.parse(sys.argv[1:])
    sys.argv = [module, *arguments]
    if chosen.unsloth:
        from runtime import unsloth_loader

        unsloth_loader.attach(module)  # Unsloth wants to be imported before transformers

    from runtime import (
        bucketing,
        checkpoints,
        guards,
        losses,
        memory,
        metrics,
        model_options,
        patches,
        resume,
    )

    checkpoints.attach()  # first: what follows counts the time that it takes as the checkpoint's
    metrics.attach()
    losses.attach()  # behind metrics, which has the last step on record
    memory.attach()
    applied, off = patches.apply(module, chosen.patches)
    resume.attach(module, applied)
    guards.attach(module, applied)
    model_options.attach(module, chosen)
    if chosen.length_bucketing:
        bucketing.attach(module, chosen)
    metrics.report("runtime", patches=[patch.record() for patch in applied], off=off, options=chosen.record())
    with contextlib.suppress(memory.Probed):
        runpy.run_module(module, run_name="__main__", alter_sys=True)


def leave() -> None:
    """End a process that trained in a group, without the interpreter's own end.

    Gloo's threads free what Python knows of a tensor under the interpreter's lock. One that waits for it
    when the interpreter begins to end is ended by it in the middle of C++, and so is the finished training:
    SIGABRT, "terminate called without an active exception" (https://github.com/pytorch/pytorch/issues/190489).
    To destroy the group is not enough, as what holds it, DDP for one, holds its threads. So all that the
    interpreter does before that point is done here, in its order, and then the process ends, as children of
    multiprocessing do.
    """
    distributed: Any = sys.modules.get("torch.distributed")
    if distributed is None or not distributed.is_available() or not distributed.is_initialized():
        return
    distributed.destroy_process_group()
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
