"""The connections of a meeting: a plain one to node 0, torch's store, and gloo among all nodes."""

import os
import socket
import threading
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

from runtime import nodes
from runtime.nodes import NotMet, Settings

#: How often gloo waits for its timeout before it gives a connection up, and once more: five times, measured
#: in torch 2.13 (four attempts at each pair, and the wait for the other side's).
_TRIES = 6


def load() -> None:
    """Import torch: seconds, on a busy machine many, that are not to be taken for a node's absence."""
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # it warns of every address without a name
    import torch.distributed  # noqa: F401


def taken(port: int) -> bool:
    """Whether a program of this machine listens there already."""
    with socket.socket() as tried:
        tried.settimeout(1)
        return tried.connect_ex(("127.0.0.1", port)) == 0


def connected(store: Any, chosen: Settings, seconds: float) -> str:
    """Let gloo connect all nodes, one process of each; why it did not, if so.

    It takes the interface and the ports that it will take for the training, on which a firewall or a loopback
    address would otherwise be met by every rank for itself. Targets that train by NCCL or CCL have gloo, too.
    """
    from torch import distributed

    try:
        distributed.init_process_group(
            "gloo",
            store=distributed.PrefixStore("gloo", store),
            rank=chosen.node,
            world_size=chosen.nodes,
            timeout=timedelta(seconds=max(2.0, seconds / _TRIES)),
        )
        distributed.barrier()
    except RuntimeError as error:
        return str(error).splitlines()[0]
    finally:
        if distributed.is_initialized():
            distributed.destroy_process_group()
    return ""


def store(host: str, chosen: Settings, *, leads: bool, why: str, give_up: Callable[[str], None]) -> Any:
    """torch's store; where something else listens, its client would wait without an end (seen in 2.13).

    Args:
        host: to connect to; who leads listens on every interface.
        leads: whether this node holds it.
        why: what is likely the reason when there is none.
        give_up: ends the process with a message.

    Raises:
        NotMet: there is none in time.
    """
    from torch.distributed import TCPStore

    failed = f"the meeting at {chosen.place} failed: {why}\nlook at the log of node 0, or give another port"
    clock = threading.Timer(chosen.timeout, give_up, [failed])
    clock.daemon = True
    clock.start()
    try:
        return TCPStore(
            host,
            chosen.port + 1,
            is_master=leads,
            wait_for_workers=False,
            timeout=timedelta(seconds=chosen.timeout),
        )
    except (RuntimeError, OSError) as error:
        raise NotMet(f"{failed}\n{str(error).splitlines()[0]}") from None
    finally:
        clock.cancel()


def reached(chosen: Settings, own: Mapping[str, Any]) -> tuple[str, str]:
    """This node's address on the way to node 0, and node 0's; a plain connection, which names its failure.

    Raises:
        NotMet: node 0 was not reached in time.
    """
    until = time.monotonic() + chosen.timeout
    while True:
        try:
            with socket.create_connection((chosen.host, chosen.port + 1), timeout=5) as connection:
                return str(connection.getsockname()[0]), str(connection.getpeername()[0])
        except OSError as error:
            why = f"{error.strerror or error}"
        if time.monotonic() > until:
            raise NotMet(nodes.unreached(chosen, own, why, os.environ.get("TARGET", "")))
        time.sleep(0.5)
