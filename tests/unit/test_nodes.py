"""recipes/runtime/nodes.py: what several nodes are asked for, and what is said when they do not fit."""

import contextlib
import ipaddress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.errors import NodesError
from tests.unit.test_runtime import load

nodes = load("nodes")

TWO = {"LAUNCH_NODES": "2", "LAUNCH_NODE_RANK": "1", "LAUNCH_RENDEZVOUS": "n1:29500"}


def facts(**more: Any) -> dict[str, Any]:
    return {
        "run": "x-0",
        "nodes": 2,
        "nproc": 4,
        "target": "cuda",
        "versions": {"python": "3.11.2", "torch": "2.8.0"},
        "recipe": "a" * 64,
        "arguments": "b" * 64,
        "parameters": {"learning_rate": "1e-5"},
        "runtime": "c" * 64,
        "data": "d" * 64,
        "host": "n1",
        "addresses": {"lo": ["127.0.0.1", "::1"], "eth0": ["10.0.0.1", "fe80::1"]},
        "folders": {"OUTPUT": ""},
        "paths": {"OUTPUT": "/output"},
        **more,
    }


def test_the_launcher_knows_the_exit_code() -> None:
    assert NodesError.exit_code == nodes.EXIT_CODE


def test_settings() -> None:
    alone = nodes.settings({})
    assert (alone.nodes, alone.node, alone.restarts, alone.timeout) == (1, 0, 0, 60)
    found = nodes.settings({**TWO, "NPROC": "4", "LAUNCH_RUN_ID": "r", "LAUNCH_RESTARTS": "2"})
    assert (found.host, found.port, found.place, found.run) == ("n1", 29500, "n1:29501", "r")
    assert found.restarts == 2
    assert nodes.settings({**TWO, "LAUNCH_RENDEZVOUS": "[fd00::1]:1"}).host == "fd00::1"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"LAUNCH_NODES": "two"}, "LAUNCH_NODES is 'two'"),
        ({"LAUNCH_NODES": "0"}, "LAUNCH_NODES is '0'"),
        ({"LAUNCH_NODE_RANK": "2"}, "LAUNCH_NODE_RANK is 2: 2 nodes have the ranks 0 to 1"),
        ({"LAUNCH_NODE_RANK": ""}, "LAUNCH_NODE_RANK is ''"),
        ({"LAUNCH_RENDEZVOUS": ""}, "LAUNCH_RENDEZVOUS is ''"),
        ({"LAUNCH_RENDEZVOUS": "n1"}, "LAUNCH_RENDEZVOUS is 'n1'"),
        ({"LAUNCH_RENDEZVOUS": "fd00::1:29500"}, "HOST:PORT of node 0"),
        ({"LAUNCH_RENDEZVOUS": "n1:65535"}, "HOST:PORT of node 0"),
        ({"LAUNCH_RENDEZVOUS_TIMEOUT": "0"}, "a whole number from 1 on"),
    ],
)
def test_wrong_settings(wrong: dict[str, str], said: str) -> None:
    with pytest.raises(nodes.NotMet, match=said.replace("(", r"\(")):
        nodes.settings({**TWO, **wrong})


@given(st.dictionaries(st.sampled_from(sorted({*TWO, "NPROC", "LAUNCH_RESTARTS"})), st.text(max_size=12)))
def test_any_settings_are_read_or_named(variables: dict[str, str]) -> None:
    with contextlib.suppress(nodes.NotMet):
        found = nodes.settings(variables)
        assert 0 <= found.node < found.nodes


def test_nodes_that_are_alike() -> None:
    same = facts(host="n2", addresses={"eth1": ["10.0.0.2"]}, paths={"OUTPUT": "/elsewhere"})
    assert list(nodes.differences({0: facts(), 1: same})) == []


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"nproc": 2}, "processes on each node (NPROC): 4 on node 0, 2 on node 1 (host n2)"),
        ({"recipe": "e" * 64}, "recipe: another on node 1 (host n2) than on node 0"),
        (
            {"data": "e" * 64},
            "data (names and sizes of the files): another on node 1 (host n2) than on node 0",
        ),
        (
            {"versions": {"python": "3.11.2", "torch": "2.9.0"}},
            "version torch: 2.8.0 on node 0, 2.9.0 on node 1 (host n2)",
        ),
        ({"versions": {"python": "3.11.2"}}, "version torch: 2.8.0 on node 0, none on node 1 (host n2)"),
        (
            {"parameters": {"learning_rate": "1"}},
            "parameter learning_rate: 1e-5 on node 0, 1 on node 1 (host n2)",
        ),
        ({"folders": {"OUTPUT": "No space"}}, "OUTPUT: node 1 (host n2) cannot write there: No space"),
    ],
)
def test_what_differs_is_named(other: dict[str, Any], said: str) -> None:
    found = list(nodes.differences({0: facts(), 1: facts(host="n2", **other)}))
    assert found == [said]
    assert said in nodes.unlike(found)


def test_who_came_and_who_did_not() -> None:
    chosen = nodes.settings({**TWO, "LAUNCH_NODES": "4", "LAUNCH_NODE_RANK": "0"})
    said = nodes.missing(chosen, {0: facts(), 2: facts(host="n3", addresses={})})
    assert "2 of 4 came to n1:29501 within 60 s" in said
    assert "node 0 (host n1, 10.0.0.1 on eth0), node 2 (host n3, no address); not there: node 1, 3" in said


@pytest.mark.parametrize(
    ("target", "variables"),
    [
        ("cpu", "GLOO_SOCKET_IFNAME names"),
        ("cuda", "NCCL_SOCKET_IFNAME or GLOO_SOCKET_IFNAME names"),
        ("cuda-vllm", "NCCL_SOCKET_IFNAME or GLOO_SOCKET_IFNAME names"),
        ("xpu", "CCL_KVS_IFACE or FI_TCP_IFACE or GLOO_SOCKET_IFNAME names"),
    ],
)
def test_what_to_set_when_node_0_is_not_reached(target: str, variables: str) -> None:
    said = nodes.unreached(nodes.settings(TWO), facts(), "Connection refused", target)
    assert "node 1 (host n1, 10.0.0.1 on eth0) did not reach node 0 at n1:29501 within 60 s" in said
    assert "Connection refused" in said
    assert "29500, 29501" in said
    assert variables in said


def test_folders_that_are_not_one() -> None:
    everyone = {0: facts(), 1: facts(host="n2")}
    found = {node: {"network": "", "at": "eth0", "folders": {"OUTPUT": [1 - node]}} for node in (0, 1)}
    said = nodes.unseen(found, everyone)
    assert said[1] == "OUTPUT (/output): node 1 (host n2) does not see what node 0 wrote there"
    assert nodes.unconnected(found, everyone) == []
    found[1]["network"] = "Connection refused"
    (line,) = nodes.unconnected(found, everyone)
    assert line == "node 1 (host n2, 10.0.0.1 on eth0), gloo at eth0: Connection refused"


@pytest.mark.parametrize(
    ("address", "taken", "by_user", "told"),
    [
        ("10.0.0.1", "127.0.1.1", "", "eth0"),  # the host's name is a loopback address
        ("10.0.0.1", "192.168.0.1", "", "eth0"),  # it is the address of another network
        ("10.0.0.1", "10.0.0.1", "", ""),
        ("10.0.0.1", "10.0.0.7", "", ""),  # a second address of the same interface
        ("10.0.0.1", "127.0.1.1", "ib0", ""),
        ("", "127.0.1.1", "", ""),
        ("203.0.113.9", "127.0.1.1", "", ""),  # translated on the way: none of this node's
    ],
)
def test_gloo_is_told_an_interface_where_it_takes_another(
    address: str, taken: str, by_user: str, told: str
) -> None:
    addresses = {"lo": ["127.0.0.1"], "eth0": ["10.0.0.1", "10.0.0.7"], "eth1": ["192.168.0.1"]}
    assert nodes.gloo_interface(address, addresses, taken, by_user) == told


@given(st.lists(st.ip_addresses().map(str), max_size=6))
def test_addresses_that_others_cannot_reach_are_not_shown(addresses: list[str]) -> None:
    for _, address in nodes.places({"eth0": addresses}):
        assert not ipaddress.ip_address(address).is_loopback
        assert not ipaddress.ip_address(address).is_link_local
