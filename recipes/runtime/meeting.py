"""Before torchrun starts on several nodes: are all there, alike, and on the same folders?

    python -m runtime.meeting RECIPE [TRAINER ARGUMENTS]

Printed are assignments for the shell that starts torchrun: the checkpoint to go on from after a restart by
the site's scheduler, and the interface for gloo where it would take a wrong one. A meeting that fails ends on
every node with the same message and exit code 84: torchrun's own rendezvous would say after ten minutes that
something timed out, and a folder that is not shared would be noticed when a checkpoint is missed.

The nodes talk through torch's own store, as torchrun's do. Node 0 holds it, judges, and says how it ended.
"""

import contextlib
import json
import os
import platform
import secrets
import shlex
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from runtime import events, facts, links, nodes, restarts
from runtime.nodes import NotMet, Settings

#: Seconds for which a folder is looked at: network file systems show a new file with delay. NFS asks its
#: server for a name it has not seen, at the latest when its attribute cache ends (acdirmin, 30 s: nfs(5)).
_LOOK = 30.0

#: Seconds that an answer may take beside what it is waited for.
_GRACE = 10.0

#: Seconds without a sign of node 0 while it reads checkpoints, many GB of them.
_SILENCE = 60.0


def main() -> None:
    """Meet, and print the assignments; a failure is on the record of every node."""
    # The shell evaluates what is printed here, and gloo prints there by itself (torch 2.8 and 2.9: "[Gloo]
    # Rank 0 is connected to …"): whatever is not the answer goes where errors go.
    answer = os.dup(1)
    os.dup2(2, 1)
    try:
        chosen = nodes.settings(os.environ)
        if chosen.nodes > 1:
            found = _Meeting(chosen, *sys.argv[1:]).hold()
        else:
            found = _resumed(*restarts.take(Path(os.environ["OUTPUT"])))
    except NotMet as failed:
        _fail(str(failed))
    except (OSError, ValueError) as error:
        _fail(f"this node cannot say what it has: {error}\nlook at the files that the message names")
    text = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in found.items())
    os.write(answer, text.encode())
    os._exit(0)  # gloo's threads may abort a process that ends in the usual way: see runtime.__main__.leave


def _fail(message: str) -> None:
    print(message, file=sys.stderr, flush=True)
    with contextlib.suppress(OSError, ValueError):
        first = int(os.environ.get("LAUNCH_NODE_RANK") or 0) * int(os.environ.get("NPROC") or 1)
        events.report("failure", rank=first, type="runtime.nodes.NotMet", message=message, traceback=message)
    os._exit(nodes.EXIT_CODE)  # a thread may hang in the store


def _resumed(checkpoint: str, said: list[str]) -> dict[str, str]:
    for line in said:
        print(line, file=sys.stderr)
    if not checkpoint:
        print("started again: there is no complete checkpoint, so from the beginning", file=sys.stderr)
        return {}
    print(f"started again: going on from {checkpoint}", file=sys.stderr)
    return {"LAUNCH_RESUME": f"{os.environ['OUTPUT']}/{checkpoint}"}


class _Meeting:
    """One node's part in it.

    Args:
        recipe: the file that was started.
        arguments: the trainer's, behind it.
    """

    def __init__(self, chosen: Settings, recipe: str, *arguments: str) -> None:
        self._chosen = chosen
        self._addresses = facts.addresses()
        self._folders = {
            name: Path(os.environ[name]) for name in ("OUTPUT", "LAUNCH_RUN_DIR") if os.environ.get(name)
        }
        self._token = secrets.token_hex(8)
        self._store: Any = None
        self._facts: dict[str, Any] = {
            **facts.identity(chosen, Path(recipe), arguments),
            "host": platform.node(),
            "addresses": self._addresses,
            "token": self._token,
            "paths": {name: str(path) for name, path in self._folders.items()},
        }

    def hold(self) -> dict[str, str]:
        """Meet the others; the variables that this node's training gets.

        Raises:
            NotMet: with the message for this node.
        """
        links.load()
        try:
            return self._leading() if self._chosen.node == 0 else self._following()
        except (RuntimeError, OSError) as error:  # the store's errors are torch's, of this class
            raise NotMet(
                f"node {self._chosen.node} lost the others in the middle of the meeting\n{error}\n"
                "look at the log of node 0: it has ended, or the network between them has"
            ) from None
        finally:
            for folder in self._folders.values():
                with contextlib.suppress(OSError):
                    (folder / f"{facts.MARK}{self._token}").unlink(missing_ok=True)

    # Node 0.

    def _leading(self) -> dict[str, str]:
        until = time.monotonic() + self._chosen.timeout
        everyone = self._gathered(until)
        others = range(1, self._chosen.nodes)
        look = min(_LOOK, max(5.0, until - time.monotonic()))
        tokens = {node: each["token"] for node, each in everyone.items()}
        self._say("roll", {"tokens": tokens, "look": look})
        variables = self._interface(self._own_address(everyone))
        found = {0: self._tried(tokens, look)}
        until = time.monotonic() + look + _GRACE
        found |= self._collected("tried", others, until, each=self._refuse_twice)
        if silent := [node for node in others if node not in found]:
            raise self._ended(f"node {silent[0]} went away in the middle of the meeting\nlook at its log")
        if lines := nodes.unconnected(found, everyone):
            raise self._ended(nodes.no_network(lines, self._facts["target"]))
        if lines := nodes.unseen(found, everyone):
            raise self._ended(nodes.not_shared(lines))
        checkpoint, said = self._checkpoint()
        # A site may have started some nodes more often than others: the first node's count is that of all.
        restarted = self._chosen.restarts
        self._say("end", {"problem": "", "checkpoint": checkpoint, "said": said, "restarts": restarted})
        # The store goes with this process: the others must have read it.
        self._collected("left", others, time.monotonic() + _GRACE)
        for folder in self._folders.values():
            for left in folder.glob(f"{facts.MARK}*"):  # of a node that was killed in an earlier meeting
                left.unlink(missing_ok=True)
        return variables | self._resumed(checkpoint, said)

    def _gathered(self, until: float) -> dict[int, dict[str, Any]]:
        """What all nodes say of themselves, when all have come and are alike."""
        chosen = self._chosen
        self._store = self._hosted()
        self._introduce()
        try:
            links.reached(chosen, self._facts)  # torchrun will, and its ranks here: by the same name
        except NotMet as failed:
            raise self._ended(str(failed)) from None
        came = self._collected("facts", range(1, chosen.nodes), until, each=self._refuse_twice)
        everyone = {0: self._facts, **came}
        if len(everyone) < chosen.nodes:
            raise self._ended(nodes.missing(chosen, everyone))
        if lines := list(nodes.differences(everyone)):
            raise self._ended(nodes.unlike(lines))
        return everyone

    def _hosted(self) -> Any:
        """The store, on every interface; node 0 itself needs no name to reach it."""
        chosen = self._chosen
        if links.taken(chosen.port + 1):
            raise NotMet(
                f"port {chosen.port + 1} of node 0 is taken by another program\n"
                "the meeting wants the port behind that of LAUNCH_RENDEZVOUS: give another one"
            )
        return links.store("127.0.0.1", chosen, leads=True, why="it could not be opened", give_up=_fail)

    def _refuse_twice(self, node: int) -> None:
        if self._store.add(f"{node}/there", 0) > 1:
            raise self._ended(
                f"several nodes say that they are node {node}: nothing is trained\n"
                "every node needs a LAUNCH_NODE_RANK of its own, from 0 on"
            )

    def _ended(self, problem: str) -> NotMet:
        """Let the others know, those that are there."""
        self._say("end", {"problem": problem})
        self._collected("left", range(1, self._chosen.nodes), time.monotonic() + 2)
        return NotMet(problem)

    def _checkpoint(self) -> tuple[str, list[str]]:
        """What all go on from: node 0 looks, and nobody else, so that all take the same."""
        if not self._chosen.restarts:
            return "", []
        done = threading.Event()

        def beat() -> None:
            while not done.wait(2):
                self._store.add("beat", 1)

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            return restarts.take(self._folders["OUTPUT"])
        finally:
            done.set()
            thread.join()

    def _own_address(self, everyone: Mapping[int, Mapping[str, Any]]) -> str:
        """The address at which the others have reached this node, unless it was translated on the way."""
        own = {each for owned in self._addresses.values() for each in owned}
        return next((str(each["to"]) for node, each in everyone.items() if node and each["to"] in own), "")

    # The others.

    def _following(self) -> dict[str, str]:
        chosen = self._chosen
        own, self._facts["to"] = links.reached(chosen, self._facts)
        self._store = links.store(
            chosen.host,
            chosen,
            leads=False,
            why="node 0 went away, or what listens there is no meeting",
            give_up=_fail,
        )
        self._store.add(f"{chosen.node}/there", 1)
        self._introduce()
        roll = self._answer("roll", chosen.timeout + _GRACE)
        tokens = {int(node): token for node, token in roll["tokens"].items()}
        variables = self._interface(own)
        self._say("tried", self._tried(tokens, roll["look"]))
        end = self._answer("end", roll["look"] + 2 * _GRACE)
        self._say("left", True)
        if end["checkpoint"]:
            _appears(self._folders["OUTPUT"] / end["checkpoint"] / "complete.json")
        self._chosen = replace(chosen, restarts=end["restarts"])
        counted = {"LAUNCH_RESTARTS": str(end["restarts"])}
        return variables | counted | self._resumed(end["checkpoint"], end["said"])

    def _answer(self, key: str, seconds: float) -> Any:
        """What node 0 says, as soon as it does; a sign of it gives it more time."""
        until, beats = time.monotonic() + seconds, 0
        while time.monotonic() < until:
            if self._store.check(["0/end"]):
                problem = json.loads(self._store.get("0/end"))["problem"]
                if problem:
                    self._say("left", True)
                    raise NotMet(problem)
            if self._store.check([f"0/{key}"]):
                return json.loads(self._store.get(f"0/{key}"))
            if (now := self._store.add("beat", 0)) > beats:
                until, beats = max(until, time.monotonic() + _SILENCE), now
            time.sleep(0.1)
        raise NotMet(f"node 0 is at {self._chosen.place}, and does not answer\nlook at its log")

    # Both.

    def _introduce(self) -> None:
        """Leave this node's token in the folders, then say who it is."""
        self._facts["folders"] = {
            name: facts.write(path, self._token) for name, path in self._folders.items()
        }
        self._say("facts", self._facts)

    def _say(self, key: str, content: object) -> None:
        self._store.set(f"{self._chosen.node}/{key}", json.dumps(content))

    def _collected(
        self, key: str, of: range, until: float, each: Callable[[int], None] = lambda _: None
    ) -> dict[int, Any]:
        """What the nodes say, as soon as they do; at the end without those that do not.

        Args:
            each: is called for every node again and again.
        """
        found: dict[int, Any] = {}
        while len(found) < len(of):
            for node in of:
                each(node)
                if node not in found and self._store.check([f"{node}/{key}"]):
                    found[node] = json.loads(self._store.get(f"{node}/{key}"))
            if time.monotonic() > until:
                break
            time.sleep(0.05)
        return found

    def _tried(self, tokens: Mapping[int, str], seconds: float) -> dict[str, Any]:
        """Whether this node reaches the others as the training will, and sees their tokens.

        Returns:
            ``network`` and ``at``: why gloo did not connect all nodes (empty: it did), and where it is on
            this one; ``folders``: by folder the nodes whose tokens are not there.
        """
        until = time.monotonic() + seconds
        interface = os.environ.get("GLOO_SOCKET_IFNAME")
        why = links.connected(self._store, self._chosen, seconds)
        return {
            "network": why,
            "at": interface or facts.bound_by_gloo(),
            "folders": self._absent(tokens, until),
        }

    def _absent(self, tokens: Mapping[int, str], until: float) -> dict[str, list[int]]:
        while True:
            absent = {
                name: [node for node, token in tokens.items() if not facts.there(folder, token)]
                for name, folder in self._folders.items()
            }
            if not any(absent.values()) or time.monotonic() > until:
                return absent
            time.sleep(0.5)

    def _interface(self, address: str) -> dict[str, str]:
        """The variable that tells gloo its interface, where that is needed; this process has it, too."""
        given = os.environ.get("LAUNCH_NODE_ADDRESS", "")
        own = {each for owned in self._addresses.values() for each in owned}
        interface = nodes.gloo_interface(
            given if given in own else address,
            self._addresses,
            facts.bound_by_gloo(),
            os.environ.get("GLOO_SOCKET_IFNAME", ""),
        )
        if not interface:
            return {}
        print(f"gloo is told to use {interface}: this host's name is no address there", file=sys.stderr)
        os.environ["GLOO_SOCKET_IFNAME"] = interface
        return {"GLOO_SOCKET_IFNAME": interface}

    def _resumed(self, checkpoint: str, said: list[str]) -> dict[str, str]:
        return _resumed(checkpoint, said) if self._chosen.restarts else {}


def _appears(file: Path) -> None:
    """Wait until this node sees what node 0 has found.

    Raises:
        NotMet: it does not.
    """
    until = time.monotonic() + _LOOK
    while not file.is_file():
        if time.monotonic() > until:
            raise NotMet(f"{file} is not seen here, and node 0 sees it\nlook at what this node has mounted")
        with contextlib.suppress(OSError):
            list(file.parent.parent.iterdir())
        time.sleep(0.5)


if __name__ == "__main__":
    main()
