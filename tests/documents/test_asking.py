"""Questions by an endpoint, against a real server on this machine."""

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from conftest import lines
from documents import asking
from documents.asking import MalformedError
from test_rows import ANIMALS, write

KEY = "sk-very-secret"
Run = Callable[..., Any]


class Server(ThreadingHTTPServer):
    """Answers as an OpenAI-compatible server does; ``plan`` says what goes wrong first."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.seen: list[dict[str, Any]] = []
        self.plan: list[tuple[int, str]] = []
        self.reply = lambda body: json.dumps(
            {"questions": [{"question": f"What of {body}?", "answer": "This."}]}
        )
        self.lock = threading.Lock()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        with self.server.lock:
            seen = {"path": self.path, "key": self.headers.get("authorization"), **body}
            self.server.seen.append(seen)
            status, text = self.server.plan.pop(0) if self.server.plan else (200, "")
        if status == 200:
            asked = body["messages"][1]["content"].splitlines()[-1][:40]
            text = json.dumps({"choices": [{"message": {"content": self.server.reply(asked)}}]})
        content = text.encode()
        self.send_response(status)
        self.send_header("content-length", str(len(content)))
        self.send_header("retry-after", "0.1")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    found = Server()
    thread = threading.Thread(target=found.serve_forever, daemon=True)
    thread.start()
    yield found
    found.shutdown()
    thread.join()


@pytest.fixture
def ask(tmp_path: Path, run: Run, server: Server) -> Run:
    """Start with questions; the key is in the environment."""
    write(tmp_path / "data", ANIMALS[:4])

    def start(*arguments: object, key: str = KEY) -> Any:
        return run(
            *("--data", tmp_path / "data", "--output", tmp_path / "out", "--rows", "questions"),
            *("--endpoint", server.address, "--endpoint-model", "tiny", "--dev", 0.25, *arguments),
            OPENAI_API_KEY=key,
        )

    return start


def test_chats_and_no_trace_of_the_key(ask: Run, server: Server, tmp_path: Path) -> None:
    server.plan = [(429, "slow down"), (503, "starting")]
    done = ask()
    assert done.returncode == 0, done.stderr
    rows = lines(tmp_path / "out" / "train.jsonl")
    assert len(rows) == 9
    assert [each["role"] for each in rows[0]["messages"]] == ["user", "assistant"]
    assert len(server.seen) == 12 + 2
    assert {(each["path"], each["key"], each["model"]) for each in server.seen} == {
        ("/v1/chat/completions", f"Bearer {KEY}", "tiny")
    }
    written = [path.read_text() for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert not any(KEY in text for text in [*written, done.stdout, done.stderr])


def test_a_key_with_its_files_line_end_works_and_one_with_more_is_not_repeated(
    ask: Run, server: Server, tmp_path: Path
) -> None:
    done = ask("--output", tmp_path / "more", key=f"{KEY}\nsecond")
    assert (done.returncode, "OPENAI_API_KEY holds a character" in done.stderr) == (1, True)
    assert KEY not in done.stderr
    assert not server.seen
    assert ask(key=f"{KEY}\n").returncode == 0
    assert server.seen[0]["key"] == f"Bearer {KEY}"


@pytest.mark.parametrize("address", ["127.0.0.1:8000/v1", "http://me:secret@127.0.0.1/v1", "ftp://a/v1"])
def test_what_is_no_address_is_refused_and_not_repeated(ask: Run, tmp_path: Path, address: str) -> None:
    done = ask("--endpoint", address)
    assert (done.returncode, "--endpoint is an address" in done.stderr) == (64, True)
    assert "secret" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_half_a_character_in_a_reply_spoils_no_file(ask: Run, server: Server, tmp_path: Path) -> None:
    server.reply = lambda _: '{"questions": [{"question": "Who \\ud83d?", "answer": "One \ud83d."}]}'
    assert ask().returncode == 0
    assert lines(tmp_path / "out" / "train.jsonl")[0]["messages"] == [
        {"role": "user", "content": "Who ??"},
        {"role": "assistant", "content": "One ?."},
    ]


def test_pairs_in_chinese(ask: Run, server: Server, tmp_path: Path) -> None:
    assert ask("--question-rows", "pairs", "--language", "zh", "--questions", 5).returncode == 0
    (row, *_) = lines(tmp_path / "out" / "train.jsonl")
    assert set(row) == {"query", "pos", "neg"}
    assert row["neg"]
    assert "5 个问题" in server.seen[0]["messages"][1]["content"]


def test_who_starts_again_asks_for_the_rest_only(ask: Run, server: Server, tmp_path: Path) -> None:
    server.plan = [(200, "")] * 5 + [(400, f"bad key {KEY}")] * 50
    done = ask("--requests", 1)
    assert done.returncode == 1
    assert "says 400: bad key …" in done.stderr
    assert KEY not in done.stderr
    assert not (tmp_path / "out" / "train.jsonl").exists()
    kept = lines(tmp_path / "out" / "answers.jsonl")
    assert len(kept) == 5
    with (tmp_path / "out" / "answers.jsonl").open("a") as stream:
        stream.write('{"mark": "cut off')
    server.plan, server.seen = [], []
    assert ask().returncode == 0
    assert len(server.seen) == 12 - 5
    assert len(lines(tmp_path / "out" / "train.jsonl")) == 9


def test_answers_of_an_earlier_run_are_data(ask: Run, server: Server, tmp_path: Path) -> None:
    assert ask().returncode == 0
    first = (tmp_path / "out" / "train.jsonl").read_bytes()
    server.seen = []
    again = ("--data", tmp_path / "data", tmp_path / "out" / "answers.jsonl", "--output", tmp_path / "again")
    assert ask(*again).returncode == 0
    assert not server.seen
    assert (tmp_path / "again" / "train.jsonl").read_bytes() == first


def test_replies_that_cannot_be_used_are_counted_and_named(ask: Run, server: Server, tmp_path: Path) -> None:
    good = server.reply
    server.reply = lambda body: "I am sorry." if "otter" in body else good(body)
    done = ask()
    assert done.returncode == 0
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert len(report["malformed"]) == 3
    assert all(each.startswith("otter.md: ") for each in report["malformed"])
    assert "3 replies that could not be used" in done.stdout


def test_a_server_that_is_not_there(ask: Run, server: Server) -> None:
    server.server_close()
    done = ask("--endpoint", "http://127.0.0.1:9/v1")
    assert done.returncode == 1
    assert "cannot be reached" in done.stderr


@pytest.mark.parametrize(
    "reply",
    [
        '{"questions": [{"question": " q ", "answer": "a"}]}',
        '```json\n{"questions": [{"question": "q", "answer": "a"}]}\n```',
        '{"questions": [{"question": "q", "answer": "a"}, {"question": "q", "answer": null}]}',
        '<think>{}</think>{"questions": [{"question": "q", "answer": "a"}, {"question": "", "answer": ""}]}',
    ],
)
def test_replies(reply: str) -> None:
    assert asking.parsed(reply) == [("q", "a")]


@pytest.mark.parametrize(
    "reply", ["", "no", "{}", '{"questions": 3}', '{"questions": []}', "[" * 99999, '{"questions": ["q"]}']
)
def test_malformed_replies(reply: str) -> None:
    with pytest.raises(MalformedError):
        asking.parsed(reply)
