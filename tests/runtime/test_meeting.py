"""The meeting of several nodes: real processes, each of which takes itself for a node, on this machine."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from runtime import facts, links, nodes, restarts
from runtime.nodes import EXIT_CODE

RECIPE = """#!/usr/bin/env bash
# /// recipe
# summary = { en = "x", zh = "x" }
# [parameters.learning_rate]
# type = "float"
# default = 1e-5
# [parameters.base]
# type = "model"
# default = ""
# ///
"""


class Nodes:
    """Starts nodes, and has what they printed."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder, self.port = folder, port
        self.children: list[subprocess.Popen[str]] = []
        (folder / "recipe.sh").write_text(RECIPE)
        self.variables = {
            **{name: value for name, value in os.environ.items() if not name.startswith("LAUNCH_")},
            "LAUNCH_NODES": "2",
            "LAUNCH_RENDEZVOUS": f"127.0.0.1:{port}",
            "LAUNCH_RENDEZVOUS_TIMEOUT": "60",
            "LEARNING_RATE": "1e-5",
            "TARGET": "cpu",
            "NPROC": "3",
            "OUTPUT": str(folder / "output"),
            "LAUNCH_RUN_DIR": str(folder / "run"),
        }

    def start(self, node: int, **more: str) -> None:
        self.children.append(
            subprocess.Popen(
                [sys.executable, "-m", "runtime.meeting", str(self.folder / "recipe.sh"), "--x", "y"],
                env={**self.variables, "LAUNCH_NODE_RANK": str(node), **more},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )

    def ends(self, code: int) -> list[tuple[str, str]]:
        """What each printed and said, when all have ended as they should."""
        found = [child.communicate(timeout=90) for child in self.children]
        assert [child.returncode for child in self.children] == [code] * len(found), found
        return found


@pytest.fixture
def both(tmp_path: Path) -> Iterator[Nodes]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    found = Nodes(tmp_path, port - 1 if port % 2 else port)
    yield found
    for child in found.children:
        child.kill()
        child.wait()


def checkpoint(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "complete.json").write_text('{"schema": 1, "files": {}}')


def test_they_meet_and_take_one_checkpoint(both: Nodes, tmp_path: Path) -> None:
    output = tmp_path / "output"
    checkpoint(output / "checkpoint-5")
    (output / "checkpoint-10").mkdir()
    left = output / f"{facts.MARK}0123"
    left.write_text("of a node that was killed")
    for node in (0, 1):  # node 1 was started once more often, or less: node 0 says how often it was
        both.start(node, LAUNCH_RESTARTS="2" if node == 0 else "1", BASE=f"/another/path/on/{node}")
    resumed = f"export LAUNCH_RESUME={output}/checkpoint-5"
    (first, _), (second, _) = found = both.ends(0)
    assert first.splitlines() == [resumed]
    assert second.splitlines() == ["export LAUNCH_RESTARTS=2", resumed]
    for _, said in found:
        assert "checkpoint-10 is not complete (it was still being written)" in said
    assert sorted(path.name for path in output.iterdir()) == ["checkpoint-5", "incomplete-1-checkpoint-10"]
    assert list((tmp_path / "run").iterdir()) == []


def test_what_a_library_prints_is_not_for_the_shell(both: Nodes, tmp_path: Path) -> None:
    noisy = tmp_path / "noisy"
    noisy.mkdir()
    # As gloo does it in older versions of torch: from C++, past Python's own sys.stdout.
    text = (
        "import os, runtime.links\n"
        "load = runtime.links.load\n"
        "runtime.links.load = lambda: (os.write(1, b'[Gloo] Rank 0 is connected\\n'), load())\n"
    )
    (noisy / "sitecustomize.py").write_text(text)
    for node in (0, 1):
        both.start(node, PYTHONPATH=f"{noisy}:{os.environ.get('PYTHONPATH', '')}")
    for printed, said in both.ends(0):
        assert "[Gloo]" not in printed
        assert "[Gloo] Rank 0 is connected" in said


def test_what_is_not_alike_is_named(both: Nodes, tmp_path: Path) -> None:
    both.start(0)
    both.start(1, LEARNING_RATE="2e-5", NPROC="2")
    (_, said), (_, also) = both.ends(EXIT_CODE)
    assert said == also
    assert "parameter learning_rate: 1e-5 on node 0, 2e-5 on node 1" in said
    assert "processes on each node (NPROC): 3 on node 0, 2 on node 1" in said
    of_each = [(tmp_path / "run" / name).read_text() for name in ("metrics.jsonl", "metrics.1.jsonl")]
    assert ['"rank": 0' in of_each[0], '"rank": 2' in of_each[1]] == [True, True]
    assert all("runtime.nodes.NotMet" in text for text in of_each)


def test_a_name_that_node_0_itself_does_not_reach(both: Nodes) -> None:
    both.start(0, LAUNCH_RENDEZVOUS=f"no-such-host.invalid:{both.port}", LAUNCH_RENDEZVOUS_TIMEOUT="2")
    ((_, said),) = both.ends(EXIT_CODE)
    assert "node 0 (host " in said
    assert f"did not reach node 0 at no-such-host.invalid:{both.port + 1} within 2 s" in said


def test_two_of_one_rank(both: Nodes) -> None:
    for node in (0, 1, 1):
        both.start(node, LAUNCH_NODES="3", LAUNCH_RENDEZVOUS_TIMEOUT="60")
    for _, said in both.ends(EXIT_CODE):
        assert "several nodes say that they are node 1" in said


def test_what_listens_there_may_be_something_else(both: Nodes) -> None:
    """A program that accepts and says nothing: torch's client alone would wait for ever."""
    with socket.create_server(("127.0.0.1", both.port + 1)):
        both.start(0, LAUNCH_RENDEZVOUS_TIMEOUT="4")
        both.start(1, LAUNCH_RENDEZVOUS_TIMEOUT="4")
        (_, leads), (_, follows) = both.ends(EXIT_CODE)
    assert f"port {both.port + 1} of node 0 is taken by another program" in leads
    assert "node 0 went away, or what listens there is no meeting" in follows


def test_a_leader_that_goes_away(both: Nodes) -> None:
    both.start(0, LAUNCH_NODES="3")
    both.start(1, LAUNCH_NODES="3")
    deadline = time.monotonic() + 60
    while not links.taken(both.port + 1):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    time.sleep(5)  # node 1 is in the meeting
    both.children.pop(0).send_signal(signal.SIGKILL)
    ((_, said),) = both.ends(EXIT_CODE)
    assert "node 1" in said
    assert "look at the log of node 0" in said or "not reach node 0" in said


def test_a_restart_on_one_node_needs_no_meeting(both: Nodes, tmp_path: Path) -> None:
    checkpoint(tmp_path / "output" / "checkpoint-7")
    both.start(0, LAUNCH_NODES="1", LAUNCH_RESTARTS="1", LAUNCH_RENDEZVOUS="")
    ((printed, _),) = both.ends(0)
    assert printed == f"export LAUNCH_RESUME={tmp_path}/output/checkpoint-7\n"


def test_no_checkpoint_is_the_beginning(tmp_path: Path) -> None:
    assert restarts.take(tmp_path / "missing") == ("", [])


def test_data_of_one_name_and_another_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for node, text in enumerate(("a\n", "a\nb\n", "c\n")):
        folder = tmp_path / str(node) / "data"
        folder.mkdir(parents=True)
        (folder / "rows.jsonl").write_text(text)
        monkeypatch.setenv("DATA", str(folder))
        (tmp_path / "recipe.sh").write_text(RECIPE)
        chosen = nodes.settings({})
        found.append(facts.identity(chosen, tmp_path / "recipe.sh", ())["data"])
    assert found[0] != found[1]
    assert found[0] == found[2]


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert facts.write(tmp_path / "file", "0") != ""
    assert facts.write(tmp_path / "new", "0") == ""
    assert facts.there(tmp_path / "new", "0")
    assert not facts.there(tmp_path / "new", "1")
    assert not facts.there(tmp_path / "nowhere", "0")


def test_what_gloo_would_take_is_an_address_of_this_machine() -> None:
    owned = {address for each in facts.addresses().values() for address in each}
    assert facts.bound_by_gloo() in owned | {"127.0.1.1"}
