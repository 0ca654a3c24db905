"""Several nodes of one training: who they are, what must be the same on all, and what to say when it is not.

Everything here is judged from facts that ``meeting`` has gathered. Standard library only.
"""

import ipaddress
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

#: The exit code of a meeting that failed: the launcher's NodesError.
EXIT_CODE = 84

#: Seconds in which all nodes must be there.
TIMEOUT = 60

Facts = Mapping[str, Any]

#: What is compared, and how it is called.
_COMPARED = {
    "run": "run (LAUNCH_RUN_ID)",
    "nodes": "number of nodes (LAUNCH_NODES)",
    "nproc": "processes on each node (NPROC)",
    "target": "TARGET",
    "versions": "version",
    "recipe": "recipe",
    "arguments": "trainer's arguments",
    "parameters": "parameter",
    "runtime": "recipes/ (the runtime beside the recipe)",
    "data": "data (names and sizes of the files)",
}

#: Which variables choose the interface of what a target trains with. Sources: gloo's is read in torch
#: (ProcessGroupGloo.cpp), NCCL's in its documentation (env), CCL's in oneCCL (internal_kvs.hpp), and the last
#: one in libfabric's manual (fi_tcp), which is what oneCCL sends through.
_INTERFACES = {
    "cpu": ("GLOO_SOCKET_IFNAME",),
    "xpu": ("CCL_KVS_IFACE", "FI_TCP_IFACE", "GLOO_SOCKET_IFNAME"),
}
_OF_NVIDIA = ("NCCL_SOCKET_IFNAME", "GLOO_SOCKET_IFNAME")


class NotMet(Exception):  # noqa: N818 - it is how a meeting ends
    """The nodes do not train together; the first line says what happened, the last one what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the variables say.

    Attributes:
        nodes, node: how many there are, and which this is.
        nproc: processes on each.
        host, port: of node 0, where torchrun's store will listen; the meeting has the next port.
        timeout: seconds in which all must be there.
        restarts: how often the site's scheduler has started this again.
        run: its id, which is the same on all nodes.
    """

    nodes: int
    node: int
    nproc: int
    host: str
    port: int
    timeout: int
    restarts: int
    run: str

    @property
    def place(self) -> str:
        """Where the meeting is."""
        return f"{self.host}:{self.port + 1}"


def settings(variables: Mapping[str, str]) -> Settings:
    """Read them.

    Raises:
        NotMet: one is missing, or is no number that it can be.
    """
    nodes = _number(variables, "LAUNCH_NODES", 1, lowest=1)
    restarts = _number(variables, "LAUNCH_RESTARTS", 0)
    host, port = _endpoint(variables.get("LAUNCH_RENDEZVOUS", "")) if nodes > 1 else ("", 0)
    node = _number(variables, "LAUNCH_NODE_RANK", 0 if nodes == 1 else None)
    if node >= nodes:
        raise NotMet(f"LAUNCH_NODE_RANK is {node}: {nodes} nodes have the ranks 0 to {nodes - 1}")
    return Settings(
        nodes=nodes,
        node=node,
        nproc=_number(variables, "NPROC", 1, lowest=1),
        host=host,
        port=port,
        timeout=_number(variables, "LAUNCH_RENDEZVOUS_TIMEOUT", TIMEOUT, lowest=1),
        restarts=restarts,
        run=variables.get("LAUNCH_RUN_ID", "launch"),
    )


def _number(variables: Mapping[str, str], name: str, usual: int | None, *, lowest: int = 0) -> int:
    text = variables.get(name) or ("" if usual is None else str(usual))
    if not text.isdecimal() or int(text) < lowest:
        raise NotMet(f"{name} is {text!r}: it is a whole number from {lowest} on")
    return int(text)


def _endpoint(text: str) -> tuple[str, int]:
    found = re.fullmatch(r"(\[[^\]]+\]|[^:\s]+):(\d+)", text)
    if found is None or not 1 <= int(found[2]) <= 65534:
        raise NotMet(
            f"LAUNCH_RENDEZVOUS is {text!r}: it is HOST:PORT of node 0, by an address that all nodes reach"
        )
    return found[1].strip("[]"), int(found[2])


def called(node: int, facts: Facts | None) -> str:
    """A node with its host and address, as far as they are known."""
    if facts is None:
        return f"node {node}"
    where = ", ".join(f"{address} on {name}" for name, address in places(facts["addresses"]))
    return f"node {node} (host {facts['host']}, {where or 'no address'})"


def places(addresses: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, str]]:
    """(interface, address) of what others could reach: neither loopback nor addresses of one link alone."""
    for name, each in addresses.items():
        for address in each:
            found = ipaddress.ip_address(address)
            if not found.is_loopback and not found.is_link_local:
                yield name, address


def missing(chosen: Settings, came: Mapping[int, Facts]) -> str:
    """What is said when not all nodes came."""
    gone = [f"{node}" for node in range(chosen.nodes) if node not in came]
    return "\n".join(
        (
            "the nodes did not find each other:"
            f" {len(came)} of {chosen.nodes} came to {chosen.place} within {chosen.timeout} s",
            f"there: {', '.join(called(node, came[node]) for node in sorted(came))};"
            f" not there: node {', '.join(gone)}",
            f"look at the log of node {gone[0]}: whether it started, and what it says of {chosen.place}."
            " A node that starts late, as one that first pulls an image does, wants a longer"
            " LAUNCH_RENDEZVOUS_TIMEOUT",
        )
    )


def unreached(chosen: Settings, own: Facts, why: str, target: str) -> str:
    """What another node says when it does not reach node 0."""
    variables = " or ".join(interface_variables(target))
    return "\n".join(
        (
            f"the nodes did not find each other: {called(chosen.node, own)} did not reach node 0"
            f" at {chosen.place} within {chosen.timeout} s: {why}",
            f"node 0 has not started, it is not {chosen.host}, or a firewall is between them",
            "LAUNCH_RENDEZVOUS must be an address of node 0 on a network that all nodes have; between nodes"
            f" all TCP ports must be open (here {chosen.port}, {chosen.port + 1}, and ports that the system"
            f" chooses). Where a node has several networks, {variables} names the interface to train through",
        )
    )


def interface_variables(target: str) -> tuple[str, ...]:
    """The variables that choose the interface, of a target."""
    return _INTERFACES.get(target, _OF_NVIDIA)


def differences(all_facts: Mapping[int, Facts]) -> Iterator[str]:
    """What is not the same on all nodes, one line each; node 0 is what the others are compared with."""
    first = all_facts[0]
    for node in sorted(all_facts)[1:]:
        facts = all_facts[node]
        for key, name in _COMPARED.items():
            mine, other = first[key], facts[key]
            if mine == other:
                continue
            if isinstance(mine, dict) and isinstance(other, dict):
                for each in sorted(mine.keys() | other.keys()):
                    if mine.get(each) != other.get(each):
                        yield (
                            f"{name} {each}: {mine.get(each, 'none')} on node 0,"
                            f" {other.get(each, 'none')} on node {node} (host {facts['host']})"
                        )
            elif isinstance(mine, str) and re.fullmatch(r"[0-9a-f]{64}", mine):
                yield f"{name}: another on node {node} (host {facts['host']}) than on node 0"
            else:
                yield f"{name}: {mine} on node 0, {other} on node {node} (host {facts['host']})"
        for name, why in facts["folders"].items():
            if why:
                yield f"{name}: node {node} (host {facts['host']}) cannot write there: {why}"
    for name, why in first["folders"].items():
        if why:
            yield f"{name}: node 0 (host {first['host']}) cannot write there: {why}"


def unlike(lines: Sequence[str]) -> str:
    """What is said of :func:`differences`."""
    return "\n".join(
        (
            "the nodes are not alike: nothing is trained",
            *lines,
            "every node needs the same image or environment, the same recipe and options, and the same files",
        )
    )


def unconnected(found: Mapping[int, Facts], all_facts: Mapping[int, Facts]) -> list[str]:
    """Which node did not get a connection to all others, one line each.

    Args:
        found: of each node, what ``meeting`` tried there.
    """
    return [
        f"{called(node, all_facts[node])}, gloo at {found[node]['at']}: {found[node]['network']}"
        for node in sorted(found)
        if found[node]["network"]
    ]


def no_network(lines: Sequence[str], target: str) -> str:
    """What is said of :func:`unconnected`."""
    variables = " and ".join(interface_variables(target))
    return "\n".join(
        (
            "the nodes found each other, and cannot exchange tensors: nothing is trained",
            *lines,
            "between nodes all TCP ports must be open. The interface must be one on which the nodes reach"
            f" each other, and not loopback: {variables} names it",
        )
    )


def unseen(found: Mapping[int, Facts], all_facts: Mapping[int, Facts]) -> list[str]:
    """Which node does not see what others wrote into a folder, one line each.

    Args:
        found: of each node, what ``meeting`` tried there.
    """
    return [
        f"{name} ({all_facts[node]['paths'][name]}): node {node} (host {all_facts[node]['host']}) does not"
        f" see what node {', '.join(map(str, others))} wrote there"
        for node in sorted(found)
        for name, others in sorted(found[node]["folders"].items())
        if others
    ]


def not_shared(lines: Sequence[str]) -> str:
    """What is said of :func:`unseen`."""
    return "\n".join(
        (
            "the nodes do not have the same folder: nothing is trained",
            *lines,
            "result and record lie on storage that all nodes mount (NFS, Lustre, a shared volume):"
            " node 0 writes checkpoints, and every node reads them when the training goes on",
        )
    )


def gloo_interface(
    address: str, addresses: Mapping[str, Sequence[str]], chosen_by_gloo: str, set_by_user: str
) -> str:
    """The interface that gloo must be told; empty: it finds it, or the user has said one.

    Without the variable gloo takes the first address of the machine's own name that it can bind to, else
    127.0.0.1 (torch, ProcessGroupGloo.cpp, createDefaultDevice). Debian's installer and many clusters write
    the name as 127.0.1.1 into /etc/hosts: every rank then tells the others a loopback address, and they
    connect to themselves. So where gloo's own choice is not on the interface on which the nodes have just
    met, it is told that one. NCCL is not: it leaves loopback and Docker's bridges out by itself, and a node's
    fast network may be another one than that of the meeting.

    Args:
        address: of this node, by which the others are reached; empty: not known.
        addresses: by interface, all that this node has.
        chosen_by_gloo: the address that it would take.
        set_by_user: GLOO_SOCKET_IFNAME, as it is.
    """
    if set_by_user or not address:
        return ""
    of = {each: name for name, owned in addresses.items() for each in owned}
    wanted, taken = of.get(address, ""), of.get(chosen_by_gloo, "")
    return "" if not wanted or wanted == taken else wanted
