"""The board without a socket: who may ask, what is answered, and what a client is sent again."""

import io
import json
import os
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from launcher.app import board as boards
from launcher.app import report as reports
from launcher.app import serving, standings
from launcher.app.board import Board
from launcher.app.serving import Answer, Gate
from launcher.app.standings import Standings
from launcher.metrics import reader
from tests.support import records

RUN = "20261121-080000-bge-m3-unified-aaaa"
PORT = 8123


@pytest.fixture
def parent(tmp_path: Path) -> Path:
    folder = tmp_path / "runs"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture
def board(parent: Path, monkeypatch: pytest.MonkeyPatch) -> Board:
    """One whose engines answer at once."""
    monkeypatch.setattr(Standings, "of", lambda _, folder: reports.standing(folder, None))
    return Board(parent)


@pytest.fixture
def gate() -> Gate:
    return Gate(port=PORT)


def headers(gate: Gate, **more: str) -> dict[str, str]:
    return {"Host": f"127.0.0.1:{PORT}", "Cookie": f"a=b; {gate.cookie}={gate.session}", **more}


# ------------------------------------------------------------------------------------------------ the gate
def test_the_cookie_opens(gate: Gate) -> None:
    assert gate.refusal("GET", "/", headers(gate)) is None
    assert gate.refusal("GET", "/api/runs", headers(gate, Host=f"localhost:{PORT}")) is None


def test_other_cookies_of_this_host_are_no_trouble(gate: Gate) -> None:
    cookie = f'prefs={{"a": [1, 2]}}; x=y=z; {gate.cookie}={gate.session}; "; odd'
    assert gate.refusal("GET", "/", headers(gate, Cookie=cookie)) is None


def test_what_is_no_address(gate: Gate) -> None:
    found = gate.refusal("GET", "//[", headers(gate))
    assert found is not None
    assert found.status == 400


@pytest.mark.parametrize(
    "host", ["", "example.org", f"example.org:{PORT}", "127.0.0.1", "127.0.0.1:1", "[::1]"]
)
def test_a_foreign_name_is_refused(gate: Gate, host: str) -> None:
    for target in ("/", f"/?token={gate.token}"):
        found = gate.refusal("GET", target, headers(gate, Host=host))
        assert found is not None
        assert found.status == 403
        assert not any(name == "Set-Cookie" for name, _ in found.more)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"])
def test_only_looking(gate: Gate, method: str) -> None:
    found = gate.refusal(method, "/", headers(gate))
    assert found is not None
    assert found.status == 405


@pytest.mark.parametrize(
    "cookie", ["", "x", "launch-board-8123=", "launch-board-8123=wrong", "launch-board-8123=ü"]
)
def test_without_the_cookie(gate: Gate, cookie: str) -> None:
    for target in ("/", "/api/runs", "/static/plotly.js", "/?token=", "/?token=wrong", "/?token=ü"):
        found = gate.refusal("GET", target, headers(gate, Cookie=cookie))
        assert found is not None
        assert found.status == 403
        assert gate.token.encode() not in found.body


def test_the_token_gives_the_cookie_and_leaves_the_address(gate: Gate) -> None:
    found = gate.refusal("GET", gate.url.partition(str(PORT))[2], {"Host": f"127.0.0.1:{PORT}"})
    assert found is not None
    sent = dict(found.more)
    assert (found.status, sent["Location"]) == (303, "/")
    assert sent["Set-Cookie"] == f"{gate.cookie}={gate.session}; Path=/; HttpOnly; SameSite=Strict"
    assert gate.token not in str(found)
    # the token is no cookie, and the cookie no token
    assert gate.refusal("GET", "/", headers(gate, Cookie=f"{gate.cookie}={gate.token}")) is not None
    again = gate.refusal("GET", f"/?token={gate.session}", {"Host": f"127.0.0.1:{PORT}"})
    assert again is not None
    assert again.status == 403


def test_every_board_has_its_own_secrets() -> None:
    one, other = Gate(port=1), Gate(port=1)
    assert len({one.token, other.token, one.session, other.session}) == 4
    assert len(one.token) >= 40


def test_headers_keep_browsers_close() -> None:
    found = dict(Answer(status=200, body=b"x").headers)
    assert found["Cache-Control"] == "no-store"
    assert found["Referrer-Policy"] == "no-referrer"
    assert found["X-Content-Type-Options"] == "nosniff"
    assert found["Cross-Origin-Resource-Policy"] == "same-origin"
    assert "default-src 'none'; script-src 'self'" in found["Content-Security-Policy"]
    assert "frame-ancestors 'none'" in found["Content-Security-Policy"]


# ----------------------------------------------------------------------------------------------- addresses
@pytest.mark.parametrize(
    "target",
    [
        "/run/",
        "/run/unknown",
        "/run/..",
        "/run/%2e%2e",
        "/run/..%2f..%2fetc",
        f"/run/{RUN}/log.txt",
        f"/run/{RUN[:-1]}",
        "/api/run/..",
        "/static/",
        "/static/../page.py",
        "/static/%2e%2e%2fpage.py",
        "/static/base.html.j2",
        "/etc/passwd",
        "//",
    ],
)
def test_only_records_and_known_files(board: Board, parent: Path, target: str) -> None:
    records.make(parent, RUN)
    assert serving.answer(target, board).status == 404


def test_pages_and_files(board: Board, parent: Path) -> None:
    records.make(parent, RUN, log=records.HOSTILE)
    for target, kind in (
        ("/", "text/html"),
        (f"/run/{RUN}", "text/html"),
        ("/api/runs", "application/json"),
        (f"/api/run/{RUN}", "application/json"),
        ("/static/board.js", "text/javascript"),
        ("/static/base.css", "text/css"),
    ):
        found = serving.answer(target, board)
        assert found.status == 200, target
        assert found.kind.startswith(kind)
    html = serving.answer(f"/run/{RUN}", board).body.decode()
    assert "<img" not in html
    assert 'src="/static/live.js"' in html


# ------------------------------------------------------------------------------------------------ the list
def test_the_list(board: Board, parent: Path) -> None:
    records.make(parent, RUN)
    records.make(parent, "20261121-090000-bge-m3-unified-bbbb", steps=30, ended=None)
    records.make(parent, "20261121-100000-encode-cccc", recipe="encode", world_size=0, ended=9)
    broken = parent / "20261121-110000-x-dddd"
    broken.mkdir()
    (broken / "plan.json").write_text("no plan")
    rows = boards.as_data(board.runs())["runs"]
    assert [row["state"] for row in rows] == ["failed", "failed", "open", "done"]
    assert rows[0]["said"].startswith("its record cannot be read: ")
    assert rows[1]["progress"] == ""
    assert (rows[2]["progress"], rows[2]["share"], rows[2]["loss"]) == ("30 of 100", 30.0, "0.6")
    assert rows[2]["started"] == "2026-11-21 09:00"
    assert (rows[3]["progress"], rows[3]["took"]) == ("100 of 100", "42 s")


def test_nothing_is_read_twice(board: Board, parent: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quiet = records.make(parent, RUN)
    growing = records.make(parent, "20261121-090000-bge-m3-unified-bbbb", steps=30, ended=None)
    board.runs()
    read: list[Path] = []
    really = boards.glance
    monkeypatch.setattr(boards, "glance", lambda folder: read.append(folder) or really(folder))
    board.runs()
    assert read == []  # it goes on: of that its engine is asked alone
    records.write_events(growing, records.events(31, first=31))
    assert board.runs()[0].step == 31
    assert read == [growing]
    (quiet / "plan.json").unlink()  # removed, by whoever
    assert len(board.runs()) == 1


def test_a_glance_at_a_long_run(parent: Path) -> None:
    folder = records.make(parent, RUN, steps=2000, of=5000, ended=None)
    assert (folder / "metrics.jsonl").stat().st_size > 10 * reader._ENDS
    with (folder / "metrics.jsonl").open("ab") as stream:
        stream.write(b'{"event": "step", "loss": 1.5, "st')  # being written
    found = boards.glance(folder)
    assert (found.step, found.max_steps) == (2000, 5000)
    assert found.loss == pytest.approx(3 / 2000 + 0.5)


@pytest.mark.parametrize(
    "odd",
    [
        {"exit_code": "x"},
        {"exit_code": None},
        {"started": "yesterday"},
        {"started": "2026-11-21T08:00:00"},  # whose morning?
        {"seconds": "long"},
        {"seconds": float("nan")},
        {"seconds": float("inf")},
        {"schema": 2},
    ],
    ids=str,
)
def test_a_damaged_record_is_a_row_that_says_so(board: Board, parent: Path, odd: dict[str, Any]) -> None:
    records.make(parent, RUN)
    records.end(records.make(parent, "20261121-090000-bge-m3-unified-bbbb"), **odd)
    damaged, good = json.loads(serving.answer("/api/runs", board).body)["runs"]
    assert (damaged["state"], good["state"]) == ("failed", "done")
    assert damaged["said"].startswith("its record cannot be read: ")


def test_no_text_of_a_record_breaks_an_answer(board: Board, parent: Path) -> None:
    folder = records.make(parent, RUN)
    records.end(folder, exit_code=1, error="half of a sign: \ud800")
    for target in ("/api/runs", f"/api/run/{RUN}", f"/run/{RUN}"):
        assert b"half of a sign: ?" in serving.answer(target, board).body
    with (folder / "metrics.jsonl").open("a") as stream:
        stream.write("[" * 100_000 + "\n")
    assert boards.as_data(board.runs())["runs"][0]["progress"] == "100 of 100"


def test_what_nobody_thought_of_is_answered(monkeypatch: pytest.MonkeyPatch, gate: Gate) -> None:
    def odd(*_: object) -> Answer:
        raise AttributeError("a list has no such thing")

    monkeypatch.setattr(serving, "answer", odd)
    sent = io.BytesIO()
    request: Any = object.__new__(serving._Handler)
    request.server, request.wfile = SimpleNamespace(gate=gate, shown=None), sent
    request.command, request.path, request.headers = "GET", "/", headers(gate)
    request.requestline, request.request_version = "GET / HTTP/1.1", "HTTP/1.1"
    request.do_GET()
    assert sent.getvalue().startswith(b"HTTP/1.0 500 ")
    assert b"a list has no such thing" in sent.getvalue()


# ------------------------------------------------------------------------------------- engines that are asked
def test_a_silent_engine_delays_nobody(parent: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    silent = records.make(parent, RUN, steps=30, ended=None)
    records.make(parent, "20261121-090000-bge-m3-unified-bbbb")
    speaks, asked = threading.Event(), []

    def standing(folder: Path, _: object) -> tuple[str, str]:
        asked.append(folder)
        assert speaks.wait(30)
        return "open", "running"

    monkeypatch.setattr(reports, "standing", standing)
    board = Board(parent)
    for _ in range(3):
        assert [each.state for each in board.runs()] == ["done", "open"]
        assert board.runs()[1].said == "its engine has not answered yet"
        told = board.since(silent, "")
        assert told["said"] == board.story(silent).said == "its engine has not answered yet"
    assert asked == [silent]  # and not again before it has answered
    speaks.set()
    until(lambda: board.runs()[1].said == "running")
    assert board.since(silent, told["cursor"])["said"] == "running"  # although nothing else is new
    assert asked == [silent]


def test_an_engine_is_asked_again_after_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Path] = []

    def standing(folder: Path, _: object) -> tuple[str, str]:
        asked.append(folder)
        if len(asked) == 1:
            raise RuntimeError("odd")
        return "open", f"answer {len(asked)}"

    monkeypatch.setattr(reports, "standing", standing)
    known = Standings()
    until(lambda: known.of(tmp_path)[1] == "its engine cannot be asked: odd")
    assert asked == [tmp_path]
    monkeypatch.setattr(standings, "EVERY", 0.0)
    known._due.clear()
    until(lambda: known.of(tmp_path)[1] == "answer 3")


def test_an_end_is_not_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reports, "standing", lambda *_: ("failed", "exit code 9"))
    known = Standings()
    known._ask(tmp_path)  # the result is written by now; a resume takes it away again
    assert known.of(tmp_path) == ("open", "its engine has not answered yet")


def until(true: Any) -> None:
    deadline = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


# ---------------------------------------------------------------------------------------------- one run
def merged(series: dict[str, Any], new: dict[str, Any], start: int | None) -> dict[str, Any]:
    """What the page's script does with an answer."""
    if start is None:
        return dict(new)
    out = dict(series)
    for name, (steps, values) in new.items():
        old = [pair for pair in zip(*series.get(name, ([], [])), strict=True) if pair[0] < start]
        out[name] = [[step for step, _ in old] + steps, [value for _, value in old] + values]
    return out


def test_a_client_is_sent_what_is_new(board: Board, parent: Path) -> None:
    folder = records.make(parent, RUN, steps=20, ended=None)
    first = board.since(folder, "")
    assert (first["from"], first["state"], first["short"]) == (None, "open", "20 %")
    assert board.since(folder, first["cursor"]) == {"cursor": first["cursor"], "same": True}
    records.write_events(folder, records.events(25, first=21))
    second = board.since(folder, first["cursor"])
    assert second["from"] == 18
    assert second["series"]["loss"][0] == list(range(18, 26))
    assert next(tile["value"] for tile in second["tiles"] if tile["key"] == "steps") == "25"
    # a rank that reports late changes a point that was sent already
    late = {"event": "usage", "rank": 2, "step": 25, "steps": 1, "seconds": 9.0, "tokens": 1, "padded": 1}
    records.write_events(folder, [late])
    third = board.since(folder, second["cursor"])
    whole = merged(merged(first["series"], second["series"], 18), third["series"], third["from"])
    assert whole == board.since(folder, "")["series"]


def test_a_new_attempt_is_sent_whole(board: Board, parent: Path) -> None:
    folder = records.make(parent, RUN, steps=20, ended=None)
    cursor = board.since(folder, "")["cursor"]
    again = {"event": "begin", "rank": 0, "world_size": 2, "max_steps": 100, "step": 10, "attempt": 2}
    records.write_events(folder, [again, *({**e, "attempt": 2} for e in records.events(12, first=11))])
    found = board.since(folder, cursor)
    assert found["from"] is None
    assert found["series"]["loss"][0] == list(range(1, 13))


def test_the_end_and_the_log_are_news(board: Board, parent: Path) -> None:
    folder = records.make(parent, RUN, steps=20, ended=None)
    cursor = board.since(folder, "")["cursor"]
    with (folder / "log.txt").open("a") as stream:
        stream.write("another line\n")
    found = board.since(folder, cursor)
    assert found["log"].endswith("another line")
    records.end(folder, exit_code=1)
    assert board.since(folder, found["cursor"])["state"] == "failed"


@pytest.mark.parametrize(
    "cursor", ["x", "1.2", "1.-2.3.4.5.6", "1.x.3.4.5.6", "9.9.9.9.9.9", "1.99999999999.1.1.1.1"]
)
def test_a_foreign_cursor_is_no_trouble(board: Board, parent: Path, cursor: str) -> None:
    folder = records.make(parent, RUN, steps=20, ended=None)
    found = board.since(folder, cursor)
    assert found["series"]["loss"][0][-1] == 20
    json.dumps(found, allow_nan=False)


def test_events_of_few_runs_are_kept(board: Board, parent: Path) -> None:
    for number in range(12):
        board.since(records.make(parent, f"20261121-0800{number:02d}-x-aaaa", steps=2, ended=None), "")
    assert len(board._watched) == boards._WATCHED


def test_what_a_link_leads_to_is_not_shown(board: Board, parent: Path, tmp_path: Path) -> None:
    folder = records.make(parent, RUN, steps=20, ended=None)
    private = tmp_path / "private"
    private.write_text('{"event": "step", "rank": 0, "step": 1, "loss": 0.1234}\nprivate words\n')
    for name in ("log.txt", "metrics.jsonl", "command"):
        (folder / name).unlink()
        (folder / name).symlink_to(private)
    for said in (board.runs()[0].said, board.story(folder).said, board.since(folder, "")["said"]):
        assert said.endswith("; metrics.jsonl is a link, not shown")
    for target in ("/api/runs", f"/api/run/{RUN}", f"/run/{RUN}"):
        body = serving.answer(target, board).body
        assert b"private words" not in body
        assert b"0.1234" not in body
    assert b"log.txt is a link, not shown" in body
    assert b"command is a link, not shown" in body


def test_a_pipe_keeps_nobody_waiting(board: Board, parent: Path) -> None:
    folder = records.make(parent, RUN)
    for name in ("log.txt", "metrics.jsonl", "command"):
        (folder / name).unlink()
        os.mkfifo(folder / name)
    assert (board.runs()[0].step, board.story(folder).log) == (0, "")
