"""A push, against a server on this machine that speaks as much of the hub's protocol as an upload needs."""

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from test_rows import ANIMALS, write

TOKEN = "hf_verysecrettoken"
Run = Callable[..., Any]


class Hub(ThreadingHTTPServer):
    """Keeps what was made and committed."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.made: dict[str, Any] = {}
        self.committed: list[dict[str, Any]] = []
        self.tokens: set[str | None] = set()
        self.there = self.stranger = self.full = False
        self.address = f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Hub

    def answer(self, status: int, content: object, **headers: str) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        self.server.tokens.add(self.headers.get("authorization"))
        if self.path == "/api/whoami-v2":
            self.answer(401, {"error": "Invalid"}) if self.server.stranger else self.answer(
                200, {"name": "me"}
            )
        elif self.server.there or self.server.made:
            self.answer(200, {"id": "me/rows", "sha": "0" * 40, "siblings": [], "private": True})
        else:
            self.answer(404, {"error": "Repository not found"}, X_Error_Code="RepoNotFound")

    def do_POST(self) -> None:
        self.server.tokens.add(self.headers.get("authorization"))
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        if self.path == "/api/repos/create":
            self.server.made = json.loads(body)
            self.answer(200, {"url": f"{self.server.address}/datasets/me/rows", "name": "me/rows"})
        elif "/preupload/" in self.path:
            files = json.loads(body)["files"]
            self.answer(
                200,
                {
                    "files": [
                        {"path": each["path"], "uploadMode": "regular", "shouldIgnore": False}
                        for each in files
                    ]
                },
            )
        elif "/commit/" in self.path and self.server.full:
            self.answer(403, {"error": "no space"})
        elif "/commit/" in self.path:
            self.server.committed += [json.loads(line) for line in body.splitlines()]
            url = f"{self.server.address}/datasets/me/rows/commit/1"
            self.answer(200, {"commitUrl": url, "commitOid": "1" * 40, "success": True})
        else:
            self.answer(200, {})

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub() -> Iterator[Hub]:
    found = Hub()
    thread = threading.Thread(target=found.serve_forever, daemon=True)
    thread.start()
    yield found
    found.shutdown()
    found.server_close()
    thread.join()


@pytest.fixture
def push(tmp_path: Path, run: Run, hub: Hub) -> Run:
    write(tmp_path / "data", ANIMALS[:3])

    def start(**variables: str) -> Any:
        given = {"HF_ENDPOINT": hub.address, "HF_HUB_OFFLINE": "1", **variables}
        return run("--data", tmp_path / "data", "--output", tmp_path / "out", "--push", "me/rows", **given)

    return start


def test_a_private_data_set_of_the_rows_alone(push: Run, hub: Hub, tmp_path: Path) -> None:
    done = push(HF_TOKEN=TOKEN)
    assert done.returncode == 0, done.stderr
    assert (hub.made["type"], hub.made["private"]) == ("dataset", True)
    paths = {each["value"]["path"] for each in hub.committed if each["key"] == "file"}
    assert paths == {"train.jsonl", "dev.jsonl", "profile.json"}
    assert hub.tokens == {f"Bearer {TOKEN}"}
    written = [path.read_text() for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert not any(TOKEN in text for text in [*written, done.stdout, done.stderr])


def test_refused_before_any_work(push: Run, hub: Hub, tmp_path: Path) -> None:
    done = push(HF_TOKEN="")
    assert (done.returncode, "--env HF_TOKEN" in done.stderr) == (1, True)
    hub.stranger = True  # of whom the hub hides what is there
    done = push(HF_TOKEN=TOKEN)
    assert (done.returncode, "does not know the token" in done.stderr) == (1, True)
    assert TOKEN not in done.stderr
    hub.stranger, hub.there = False, True
    done = push(HF_TOKEN=TOKEN)
    assert (done.returncode, "nothing is overwritten" in done.stderr) == (1, True)
    done = push(HF_TOKEN=TOKEN, HF_ENDPOINT="http://127.0.0.1:9")
    assert (done.returncode, "--network bridge" in done.stderr) == (1, True)
    assert not (tmp_path / "out").exists()
    assert not hub.made


def test_rows_that_cannot_be_pushed_are_there_and_named(push: Run, hub: Hub, tmp_path: Path) -> None:
    """The token comes with the line's end of its file."""
    hub.full = True
    done = push(HF_TOKEN=TOKEN + "\n")
    assert done.returncode == 1
    assert f"only the push is missing: {tmp_path / 'out'}" in done.stderr
    assert (tmp_path / "out" / "train.jsonl").exists()
    assert TOKEN not in done.stderr
