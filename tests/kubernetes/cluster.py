"""A cluster's API on 127.0.0.1, as far as a run needs it: objects, watches, logs, and a test's faults.

It takes nothing that the official schemas do not know. Its nodes are in kubelet.py. Everything that went over
the wire is kept, so that a test can look for what should not have.
"""

import copy
import json
import re
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.kubernetes.rules import VERSION, Fault, Manifest, RefusedError, role, validate
from tests.support.ports import free_ports

_OBJECT = re.compile(
    r"/(?:api/v1|apis/(?P<group>[^/]+)/[^/]+)/namespaces/(?P<space>[^/]+)/(?P<plural>[a-z]+)"
    r"(?:/(?P<name>[^/]+)(?:/(?P<below>log))?)?"
)


def now(ago: float = 0) -> str:
    """The time as the cluster writes it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - ago))


class Cluster:
    """The objects, and what is done with them."""

    def __init__(self, *, trainer: bool = False) -> None:
        self.trainer, self.token = trainer, "token-1"
        self.objects: dict[tuple[str, str], Manifest] = {}
        self.events: list[tuple[int, str, Manifest]] = []
        self.logs: dict[str, list[bytes]] = {}
        self.closed: set[str] = set()
        self.faults: list[Fault] = []
        self.denied: set[str] = set()
        self.allowed = role()
        self.warnings: list[Manifest] = []
        self.wire: list[tuple[str, str, str]] = []
        self.oldest = 0  # versions below are gone
        self.drop_watch, self.drop_log = 0, 0  # after so many lines, once each
        self.changed = threading.Condition(threading.RLock())
        self.hooks: list[Any] = []  # called with (verb, plural, object)
        self.port = free_ports()  # where its nodes meet, which are all this machine
        self._version = 100
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Nobody answers any more."""
        self._server.shutdown()
        self._server.server_close()

    def all(self, plural: str) -> list[Manifest]:
        """The objects of a kind."""
        with self.changed:
            return [found for (kind, _), found in sorted(self.objects.items()) if kind == plural]

    def put(self, plural: str, manifest: Manifest, verb: str = "MODIFIED") -> None:
        """Store an object as it is now, and tell whoever watches."""
        with self.changed:
            self._version += 1
            manifest["metadata"]["resourceVersion"] = str(self._version)
            self.objects[plural, manifest["metadata"]["name"]] = manifest
            if plural == "pods":
                self.events.append((self._version, verb, copy.deepcopy(manifest)))
            self.changed.notify_all()

    def drop(self, plural: str, name: str) -> None:
        """Remove an object, and what it owns."""
        with self.changed:
            gone = self.objects.pop((plural, name), None)
            if gone is None:
                return
            self._version += 1
            if plural == "pods":
                gone["metadata"]["resourceVersion"] = str(self._version)
                self.events.append((self._version, "DELETED", copy.deepcopy(gone)))
                self.logs.pop(name, None)
            self.changed.notify_all()
            uid = gone["metadata"]["uid"]
            for kind, owned in [key for key, one in self.objects.items() if _owner(one) == uid]:
                if kind != "pods":  # those end first
                    self.drop(kind, owned)

    def say(self, pod: str, text: bytes, at: str = "") -> None:
        """A line of a pod's log."""
        with self.changed:
            stamp = at or f"{now()[:-1]}.{time.time_ns() % 10**9:09d}Z"
            self.logs.setdefault(pod, []).append(stamp.encode() + b" " + text + b"\n")
            self.changed.notify_all()

    def compact(self) -> None:
        """Forget all versions up to now: whoever watches from one of them is told that it is gone."""
        with self.changed:
            self._version += 1
            self.oldest = self._version
            self.changed.notify_all()

    def kubeconfig(self, exec_file: str = "") -> str:
        """What a user has; the token comes from a program where a file is given."""
        user: Manifest = {"token": self.token}
        if exec_file:
            user = {
                "exec": {
                    "apiVersion": "client.authentication.k8s.io/v1",
                    "command": "cat",
                    "args": [exec_file],
                    "interactiveMode": "Never",
                }
            }
        return json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "site",
                "clusters": [{"name": "site", "cluster": {"server": self.url}}],
                "users": [{"name": "me", "user": user}],
                "contexts": [
                    {"name": "site", "context": {"cluster": "site", "user": "me", "namespace": "team"}}
                ],
            }
        )

    # What requests do

    def create(self, plural: str, manifest: Manifest, query: dict[str, str]) -> Manifest:
        """Check an object, and keep it unless it is a rehearsal."""
        validate(manifest)
        with self.changed:
            if (plural, manifest["metadata"]["name"]) in self.objects:
                raise RefusedError(
                    409, "AlreadyExists", f"{plural} {manifest['metadata']['name']} already exists"
                )
            made = copy.deepcopy(manifest)
            made["metadata"] |= {"uid": str(uuid.uuid4()), "creationTimestamp": now()}
            if query.get("dryRun") == "All":
                return made
            self.put(plural, made, "ADDED")
        self._tell("create", plural, made)
        return made

    def delete(self, plural: str, name: str, body: Manifest) -> Manifest:
        """Delete an object; a pod first gets its time to end."""
        with self.changed:
            found = self.objects.get((plural, name))
        if found is None:
            raise _missing(plural, name)
        if plural == "pods":
            found["metadata"].setdefault("deletionTimestamp", now(-body.get("gracePeriodSeconds", 30)))
            found["metadata"]["deletionGracePeriodSeconds"] = body.get("gracePeriodSeconds", 30)
            self.put(plural, found)
        else:
            self.drop(plural, name)
        self._tell("delete", plural, found)
        return {"kind": "Status", "status": "Success"}

    def patch(self, plural: str, name: str, patch: Manifest) -> Manifest:
        """A merge patch."""
        with self.changed:
            found = self.objects.get((plural, name))
            if found is None:
                raise _missing(plural, name)
            _merge(found, patch)
            self.put(plural, found)
        self._tell("patch", plural, found)
        return found

    def _tell(self, verb: str, plural: str, found: Manifest) -> None:
        for hook in self.hooks:
            hook(verb, plural, found)

    def watch(self, query: dict[str, str]) -> Iterator[bytes]:
        """Events of pods from a version on."""
        version, sent = int(query["resourceVersion"]), 0
        deadline = time.monotonic() + min(float(query.get("timeoutSeconds", 60)), 60)
        while time.monotonic() < deadline:
            with self.changed:
                if version < self.oldest:
                    status = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"}
                    yield json.dumps({"type": "ERROR", "object": status}).encode() + b"\n"
                    return
                fresh = [event for event in self.events if event[0] > version]
                if not fresh:
                    self.changed.wait(0.2)
            for at, verb, pod in fresh:
                version = at
                if _selected(pod, query):
                    yield json.dumps({"type": verb, "object": pod}).encode() + b"\n"
                    sent += 1
                    if self.drop_watch and sent >= self.drop_watch:
                        self.drop_watch = 0
                        raise ConnectionAbortedError

    def log(self, pod: str, query: dict[str, str]) -> Iterator[bytes]:
        """The lines of a pod, from a second on."""
        if pod not in self.logs:
            raise RefusedError(400, "BadRequest", "container is waiting to start: ContainerCreating")
        at, since = 0, query.get("sinceTime", "")[:19]
        while True:
            with self.changed:
                lines = self.logs.get(pod)
                over = lines is None or pod in self.closed or query.get("follow") != "true"
                fresh = list(lines or [])[at:]
                if not fresh and not over:
                    self.changed.wait(0.2)
            for line in fresh:
                at += 1
                if line[:19].decode() >= since:
                    yield line
                    if self.drop_log and at >= self.drop_log:
                        self.drop_log = 0
                        raise ConnectionAbortedError
            if over and not fresh:
                return

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        cluster = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def handle_any(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                body = self.rfile.read(length)
                cluster.wire.append((self.command, self.path, body.decode()))
                try:
                    cluster.serve(self, body)
                except RefusedError as error:
                    self.answer(error.status, error.body)
                except ConnectionAbortedError:
                    self.abort()
                except (BrokenPipeError, ConnectionResetError):
                    self.close_connection = True

            do_GET = do_POST = do_PATCH = do_DELETE = handle_any  # noqa: N815

            def answer(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
                text = json.dumps(body).encode()
                self.send_response(status)
                for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def stream(self, lines: Iterator[bytes]) -> None:
                first = next(lines, None)  # what is wrong at the beginning is an answer of its own
                self.send_response(200)
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                line = first
                while line is not None:
                    self.wfile.write(f"{len(line):x}\r\n".encode() + line + b"\r\n")
                    self.wfile.flush()
                    line = next(lines, None)
                self.wfile.write(b"0\r\n\r\n")

            def abort(self) -> None:
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)

        return Handler

    def serve(self, request: Any, raw: bytes) -> None:
        """Answer one request."""
        address = urlsplit(request.path)
        query = {key: values[0] for key, values in parse_qs(address.query).items()}
        fault = self._fault(request.command, request.path)
        if fault is not None and not fault.done:
            self._fail(request, fault)
            return
        if request.headers.get("Authorization") != f"Bearer {self.token}":
            raise RefusedError(401, "Unauthorized", "the token has expired")
        body = json.loads(raw) if raw else {}
        found = _OBJECT.fullmatch(address.path)
        if found:
            self._judge(request.command, found, query)
        if found and found["plural"] == "pods" and query.get("watch") == "true":
            request.stream(self.watch(query))
        elif found and found["below"]:
            request.stream(self.log(found["name"], query))
        else:
            answer = self._answered(request.command, address.path, found, query, body)
            if fault is not None:
                self._fail(request, fault)
                return
            request.answer(201 if request.command == "POST" else 200, answer)

    def _judge(self, method: str, found: re.Match[str], query: dict[str, str]) -> None:
        """Refuse what the role does not say."""
        verb = {"POST": "create", "PATCH": "patch", "DELETE": "delete", "GET": "get"}[method]
        if method == "GET" and found["name"] is None:
            verb = "watch" if query.get("watch") == "true" else "list"
        resource = "/".join(filter(None, (found["plural"], found["below"])))
        if found["space"] != "team" or (found["group"] or "", resource, verb) not in self.allowed:
            raise RefusedError(403, "Forbidden", f"may not {verb} {resource} in {found['space']}")

    def _fault(self, method: str, path: str) -> Fault | None:
        with self.changed:
            for fault in self.faults:
                if fault.method == method and re.search(fault.path, path) and fault.times:
                    fault.times -= 1
                    return fault
        return None

    def _fail(self, request: Any, fault: Fault) -> None:
        if not fault.status:
            raise ConnectionAbortedError
        body = RefusedError(fault.status, "Test", fault.message, fault.details).body
        request.answer(fault.status, body, fault.headers)

    def _answered(
        self, method: str, path: str, found: re.Match[str] | None, query: dict[str, str], body: Manifest
    ) -> Manifest:
        if found is None:
            return self._of_cluster(path, body)
        plural, name = found["plural"], found["name"]
        if plural == "trainjobs" and not self.trainer:
            raise _missing(plural, name or "")
        if plural == "events":
            return {"items": self.warnings}
        if method == "POST":
            return self.create(plural, body, query)
        if method == "PATCH":
            return self.patch(plural, name, body)
        if method == "DELETE":
            return self.delete(plural, name, body)
        if name is None:
            with self.changed:
                items = [copy.deepcopy(one) for one in self.all(plural) if _selected(one, query)]
                return {"items": items, "metadata": {"resourceVersion": str(self._version)}}
        if (plural, name) not in self.objects:
            raise _missing(plural, name)
        return copy.deepcopy(self.objects[plural, name])

    def _of_cluster(self, path: str, body: Manifest) -> Manifest:
        if path == "/version":
            return {"gitVersion": f"v{VERSION}.0-fake"}
        if path.endswith("/selfsubjectaccessreviews"):
            asked = body["spec"]["resourceAttributes"]
            what = f"{asked['verb']} {asked['resource']}"
            return {**body, "status": {"allowed": what not in self.denied}}
        if self.trainer and path == "/apis/trainer.kubeflow.org/v1alpha1":
            return {"resources": [{"name": "trainjobs"}]}
        if self.trainer and path.endswith("/clustertrainingruntimes/torch-distributed"):
            return {"kind": "ClusterTrainingRuntime"}
        raise _missing(path, "")


def _missing(plural: str, name: str) -> RefusedError:
    return RefusedError(404, "NotFound", f'{plural} "{name}" not found', {"kind": plural, "name": name})


def _owner(manifest: Manifest) -> str:
    return str((manifest["metadata"].get("ownerReferences") or [{}])[0].get("uid", ""))


def _selected(manifest: Manifest, query: dict[str, str]) -> bool:
    labels = manifest["metadata"].get("labels") or {}
    wanted = [pair.partition("=") for pair in query.get("labelSelector", "").split(",") if pair]
    return all(labels.get(key) == value for key, _, value in wanted)


def _merge(found: Manifest, patch: Manifest) -> None:
    for key, value in patch.items():
        if isinstance(value, dict):
            _merge(found.setdefault(key, {}), value)
        else:
            found[key] = value
