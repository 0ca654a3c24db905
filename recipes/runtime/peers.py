"""On several nodes, a rank that fails ends all others, also those that have no connection to it yet.

On one machine torchrun ends its other processes. Between machines nobody does: ranks that have a connection
to the failed one notice that it closes, but those that still wait for their first one (it failed before that:
a device or a library that one node lacks) do so for half an hour, the trainers' ddp_timeout. So the rank that
fails says so in the store that torchrun's agents keep for the ranks, and a thread of each other rank asks.
"""

import os
import sys
import threading
import time
from datetime import timedelta
from typing import Any

#: Seconds between two questions; of 512 ranks the store then answers 170 in a second.
_EVERY = 3.0

#: Seconds in which a rank may end by itself, with its own words, after another has failed.
_GRACE = 10.0

_KEY = "launch/failed"

_store: Any = None


def attach() -> None:
    """Watch over the other ranks; on one node, and without torchrun, nothing happens."""
    global _store
    if int(os.environ.get("LAUNCH_NODES") or 1) == 1 or "TORCHELASTIC_RUN_ID" not in os.environ:
        return
    from torch.distributed import TCPStore

    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    _store = TCPStore(address, port, is_master=False, timeout=timedelta(seconds=60))
    threading.Thread(target=_watch, args=(_store,), daemon=True).start()


def tell() -> None:
    """Say that this rank has failed."""
    if _store is None:
        return
    try:
        _store.set(_KEY, os.environ.get("RANK", "0"))
    except RuntimeError:
        return  # the store is gone, and so is node 0: everybody notices


def _watch(store: Any) -> None:
    try:
        while not store.check([_KEY]):
            time.sleep(_EVERY)
        rank = store.get(_KEY).decode()
    except RuntimeError:
        return  # the store is gone with node 0's torchrun, and this node's then ends its ranks
    if rank == os.environ.get("RANK"):
        return
    time.sleep(_GRACE)
    print(f"rank {rank} has failed, and this one ends with it", file=sys.stderr, flush=True)
    os._exit(1)
