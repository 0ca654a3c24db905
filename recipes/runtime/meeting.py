"""Before torchrun starts on several nodes: are all there, alike, and on the same folders?

    python -m runtime.meeting RECIPE [TRAINER ARGUMENTS]

Printed are assignments for the shell that starts torchrun: the checkpoint to go on from after a restart by
the site's scheduler, and the interface for gloo where it would take a wrong one. A meeting that fails ends on
every node with the same message and exit code 84: torchrun's own rendezvous would say after ten minutes that
something timed out, and a folder that is not shared would be noticed when a checkpoint is missed.

The nodes talk through torch's own store, as torchrun's do. Node 0 holds it, judges, and says how it ended.
"""

import contextlib
import hashlib
import json
import os
import platform
import secrets
import shlex
import socket
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from datetime import timedelta
from importlib import metadata
from pathlib import Path
from typing import Any

from runtime import events, header, nodes, restarts
from runtime.nodes import NotMet, Settings

#: Libraries whose version decides what is trained.
_LIBRARIES = ("torch", "transformers", "accelerate", "FlagEmbedding", "trl", "peft", "deepspeed")

#: Seconds for which a folder is looked at: network file systems show a new file with delay. NFS asks its server
#: for a name it has not seen, at the latest when its attribute cache ends (acdirmin, 30 s: nfs(5)).
_LOOK = 30.0

#: Seconds that an answer may take beside what it is waited for.
_GRACE = 10.0

#: Seconds without a sign of node 0 while it reads checkpoints, many GB of them.
_SILENCE = 60.0

_TOKEN = ".meeting-"


def main() -> None:
    """Meet, and print the assignments; a failure is on the record of every node."""
    try:
        chosen = nodes.settings(os.environ)
        if chosen.nodes > 1:
            found = _Meeting(chosen, *sys.argv[1:]).hold()
        else:
            found = _resumed(*restarts.take(Path(os.environ["OUTPUT"])))
    except NotMet as failed:
        _fail(str(failed))
    print("\n".join(f"export {name}={shlex.quote(value)}" for name, value in found.items()))


def _fail(message: str) -> None:
    print(message, file=sys.stderr, flush=True)
    first = int(os.environ.get("LAUNCH_NODE_RANK") or 0) * int(os.environ.get("NPROC") or 1)
    with contextlib.suppress(OSError, ValueError):
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
        self._addresses = _addresses()
        self._folders = {
            name: Path(os.environ[name]) for name in ("OUTPUT", "LAUNCH_RUN_DIR") if os.environ.get(name)
        }
        self._token = secrets.token_hex(8)
        self._store: Any = None
        self._facts: dict[str, Any] = {
            **_identity(chosen, Path(recipe), arguments),
            "host": socket.gethostname(),
            "addresses": self._addresses,
            "token": self._token,
            "paths": {name: str(path) for name, path in self._folders.items()},
        }

    def hold(self) -> dict[str, str]:
        """Meet the others; the variables that this node's training gets.

        Raises:
            NotMet: with the message for this node.
        """
        self._facts["folders"] = {name: _written(path, self._token) for name, path in self._folders.items()}
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
                    (folder / f"{_TOKEN}{self._token}").unlink(missing_ok=True)

    # Node 0.

    def _leading(self) -> dict[str, str]:
        chosen, until = self._chosen, time.monotonic() + self._chosen.timeout
        self._store = self._hosted()
        self._say("facts", self._facts)
        others = range(1, chosen.nodes)
        came = self._collected("facts", others, until)
        facts = {0: self._facts, **came}
        if len(facts) < chosen.nodes:
            raise self._ended(nodes.missing(chosen, facts))
        if twice := [node for node in others if self._store.add(f"{node}/there", 0) > 1]:
            raise self._ended(
                f"several nodes say that they are node {twice[0]}: nothing is trained\n"
                "every node needs a LAUNCH_NODE_RANK of its own, from 0 on"
            )
        if lines := list(nodes.differences(facts)):
            raise self._ended(nodes.unlike(lines))
        look = min(_LOOK, max(5.0, until - time.monotonic()))
        self._say("roll", {"tokens": {node: each["token"] for node, each in facts.items()}, "look": look})
        found = {0: self._looked({node: each["token"] for node, each in facts.items()}, look)}
        found |= self._collected("seen", others, time.monotonic() + look + _GRACE)
        if silent := [node for node in others if node not in found]:
            raise self._ended(f"node {silent[0]} went away in the middle of the meeting\nlook at its log")
        if lines := nodes.unseen(found, facts):
            raise self._ended(nodes.not_shared(lines))
        checkpoint, said = self._checkpoint()
        self._say("end", {"problem": "", "checkpoint": checkpoint, "said": said})
        # The store goes with this process: the others must have read it.
        self._collected("left", others, time.monotonic() + _GRACE)
        for folder in self._folders.values():
            for left in folder.glob(f"{_TOKEN}*"):  # a node that was killed in an earlier meeting leaves one
                left.unlink(missing_ok=True)
        return self._variables(self._own_address(facts), checkpoint, said)

    def _hosted(self) -> Any:
        """The store, on every interface; node 0 itself needs no name to reach it."""
        chosen = self._chosen
        with socket.socket() as taken:
            taken.settimeout(1)
            if taken.connect_ex(("127.0.0.1", chosen.port + 1)) == 0:
                raise NotMet(
                    f"port {chosen.port + 1} of node 0 is taken by another program\n"
                    "the meeting wants the port behind that of LAUNCH_RENDEZVOUS: give another one"
                )
        return _store("127.0.0.1", chosen, leads=True, why="it could not be opened")

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

    def _own_address(self, facts: Mapping[int, Mapping[str, Any]]) -> str:
        """The address at which the others have reached this node, if it is one of its own (no translation)."""
        own = {each for owned in self._addresses.values() for each in owned}
        return next((str(each["to"]) for node, each in facts.items() if node and each["to"] in own), "")

    # The others.

    def _following(self) -> dict[str, str]:
        chosen = self._chosen
        own, self._facts["to"] = _reached(chosen, self._facts)
        self._store = _store(chosen.host, chosen, leads=False, why="what listens there is no meeting")
        self._store.add(f"{chosen.node}/there", 1)
        self._say("facts", self._facts)
        roll = self._answer("roll", chosen.timeout + _GRACE)
        tokens = {int(node): token for node, token in roll["tokens"].items()}
        self._say("seen", self._looked(tokens, roll["look"]))
        end = self._answer("end", roll["look"] + 2 * _GRACE)
        self._say("left", True)
        if end["checkpoint"]:
            _appears(self._folders["OUTPUT"] / end["checkpoint"] / "complete.json")
        return self._variables(own, end["checkpoint"], end["said"])

    def _answer(self, key: str, seconds: float) -> Any:
        """What node 0 says, as soon as it does; a sign of it gives it more time."""
        until, beats = time.monotonic() + seconds, 0
        while time.monotonic() < until:
            if self._store.check([f"0/{key}"]):
                return json.loads(self._store.get(f"0/{key}"))
            if self._store.check(["0/end"]):  # before what was asked for: it is over
                problem = json.loads(self._store.get("0/end"))["problem"]
                self._say("left", True)
                raise NotMet(problem)
            if (now := self._store.add("beat", 0)) > beats:
                until, beats = max(until, time.monotonic() + _SILENCE), now
            time.sleep(0.1)
        raise NotMet(f"node 0 is at {self._chosen.place}, and does not answer\nlook at its log")

    # Both.

    def _say(self, key: str, content: object) -> None:
        self._store.set(f"{self._chosen.node}/{key}", json.dumps(content))

    def _collected(self, key: str, of: range, until: float) -> dict[int, Any]:
        """What the nodes say, as soon as they do; at the end without those that do not."""
        found: dict[int, Any] = {}
        while len(found) < len(of):
            for node in of:
                if node not in found and self._store.check([f"{node}/{key}"]):
                    found[node] = json.loads(self._store.get(f"{node}/{key}"))
            if time.monotonic() > until:
                break
            time.sleep(0.05)
        return found

    def _looked(self, tokens: Mapping[int, str], seconds: float) -> dict[str, list[int]]:
        """Whose tokens are not there, by folder."""
        until = time.monotonic() + seconds
        while True:
            absent = {
                name: [node for node, token in tokens.items() if not _there(folder, token)]
                for name, folder in self._folders.items()
            }
            if not any(absent.values()) or time.monotonic() > until:
                return absent
            time.sleep(0.5)

    def _variables(self, address: str, checkpoint: str, said: list[str]) -> dict[str, str]:
        given = os.environ.get("LAUNCH_NODE_ADDRESS", "")
        own = {each for owned in self._addresses.values() for each in owned}
        interface = nodes.gloo_interface(
            given if given in own else address,
            self._addresses,
            _bound_by_gloo(),
            os.environ.get("GLOO_SOCKET_IFNAME", ""),
        )
        found = _resumed(checkpoint, said) if self._chosen.restarts else {}
        if interface:
            print(f"gloo is told to use {interface}: this host's name is not its address", file=sys.stderr)
            found["GLOO_SOCKET_IFNAME"] = interface
        return found


def _store(host: str, chosen: Settings, *, leads: bool, why: str) -> Any:
    """torch's store; where something else listens, its client would wait without an end (seen in 2.13).

    Raises:
        NotMet: there is none in time.
    """
    from torch.distributed import TCPStore  # seconds, and only where there are several nodes

    failed = f"the meeting at {chosen.place} failed: {why}\nlook at the log of node 0, or give another port"
    clock = threading.Timer(chosen.timeout, _fail, [failed])
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


def _reached(chosen: Settings, facts: Mapping[str, Any]) -> tuple[str, str]:
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
            raise NotMet(nodes.unreached(chosen, facts, why, os.environ.get("TARGET", "")))
        time.sleep(0.5)


def _addresses() -> dict[str, list[str]]:
    """Every address of this machine, by interface."""
    import psutil  # accelerate brings it

    families = (socket.AF_INET, socket.AF_INET6)
    return {
        name: [each.address.partition("%")[0] for each in owned if each.family in families]
        for name, owned in psutil.net_if_addrs().items()
    }


def _bound_by_gloo() -> str:
    """The address that gloo takes when it is told no interface; see :func:`nodes.gloo_interface`."""
    with contextlib.suppress(OSError):
        for family, kind, protocol, _, address in socket.getaddrinfo(
            socket.gethostname(), None, type=socket.SOCK_STREAM
        ):
            with contextlib.suppress(OSError), socket.socket(family, kind, protocol) as tried:
                tried.bind(address)
                return str(address[0])
    return "127.0.0.1"


def _identity(chosen: Settings, recipe: Path, arguments: tuple[str, ...]) -> dict[str, Any]:
    """What must be the same on all nodes."""
    head = header.read(recipe.read_text(encoding="utf-8"))
    target = os.environ.get("TARGET", "")
    own_to_a_machine = ("model", "file")  # such a parameter is a path
    parameters: Mapping[str, Any] = head.get("parameters", {})  # type: ignore[assignment]
    return {
        "run": chosen.run,
        "nodes": chosen.nodes,
        "nproc": chosen.nproc,
        "target": target,
        "versions": {"python": platform.python_version(), **dict(_versions())},
        "recipe": hashlib.sha256(recipe.read_bytes()).hexdigest(),
        "arguments": hashlib.sha256("\0".join(arguments).encode()).hexdigest(),
        "parameters": {
            name: os.environ.get(name.upper(), "")
            for name, parameter in parameters.items()
            if parameter["type"] not in own_to_a_machine
        },
        "runtime": _digest(_sources()),
        "data": _digest(_sizes(os.environ.get("DATA", ""))),
    }


def _versions() -> Iterator[tuple[str, str]]:
    for name in _LIBRARIES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            yield name, metadata.version(name)


def _sources() -> Iterator[str]:
    """The runtime's own files; two checkouts of one version are the same."""
    own = Path(__file__).parent
    for file in sorted(own.rglob("*.py")):
        yield f"{file.relative_to(own)} {hashlib.sha256(file.read_bytes()).hexdigest()}"


def _sizes(paths: str) -> Iterator[str]:
    """Name and size of every file of the data; where it lies may differ."""
    for path in map(Path, filter(None, paths.split(":"))):
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            size = file.stat().st_size if file.is_file() else -1
            yield f"{file.relative_to(path.parent)} {size}"


def _digest(lines: Iterator[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _written(folder: Path, token: str) -> str:
    """Leave this node's token in a folder; why not, if that cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / f"{_TOKEN}{token}").open("w") as stream:
            stream.write(token)
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        return error.strerror or str(error)
    return ""


def _there(folder: Path, token: str) -> bool:
    """Whether a node's token is in a folder; listing it first makes network file systems ask their server."""
    with contextlib.suppress(OSError):
        os.listdir(folder)
        return (folder / f"{_TOKEN}{token}").read_text(encoding="utf-8") == token
    return False


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
            os.listdir(file.parent.parent)
        time.sleep(0.5)


if __name__ == "__main__":
    main()
