"""launcher.engines.kubernetes.logs and ledger: no line twice and none lost, whatever breaks."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.engines.kubernetes import logs
from launcher.engines.kubernetes.ledger import Cursor, Ledger, Noted, prefix, unnoted
from launcher.engines.kubernetes.reading import End
from launcher.errors import EngineGoneError
from launcher.plan import Folders, Start


def pod(node: int = 0) -> dict[str, Any]:
    return {
        "metadata": {
            "name": f"p{node}",
            "namespace": "team",
            "annotations": {"batch.kubernetes.io/job-completion-index": str(node)},
        },
        "status": {"containerStatuses": [{"name": "recipe", "state": {"running": {}}}]},
    }


class Breaking:
    """A log that breaks after so many lines each time, and begins at a whole second."""

    def __init__(self, lines: list[bytes], breaks: list[int]) -> None:
        self.all, self.breaks, self.said = lines, breaks, 0

    def lines(self, path: str, query: Mapping[str, str]) -> Iterator[bytes]:
        since = query.get("sinceTime", "")[:19].encode()
        count = self.breaks.pop(0) if self.breaks else None
        found = [line for line in self.all if line[:19] >= since]
        yield from found[:count]
        if count is not None and count < len(found):
            raise EngineGoneError("broken")


def stamped(entries: list[tuple[int, int, str]]) -> list[bytes]:
    """Lines in the order of their times, a few of them swapped within a second."""
    made, second = [], 0
    for step, nano, text in entries:
        second += step
        made.append(f"2026-01-01T00:{second // 60:02d}:{second % 60:02d}.{nano:09d}Z {text}".encode())
    return made


entries = st.lists(
    st.tuples(st.integers(0, 1), st.sampled_from([0, 5, 7]), st.sampled_from(["a", "b", ""])), max_size=30
)


@given(entries=entries, breaks=st.lists(st.integers(0, 12), max_size=4))
def test_a_log_that_breaks(entries: list[tuple[int, int, str]], breaks: list[int]) -> None:
    lines = stamped(entries)
    reader = logs.Reader(Breaking(lines, breaks), pod(), Cursor(), follow=True)  # type: ignore[arg-type]
    reader.ended.set()
    # a pause is for a cluster
    reader._over = SimpleNamespace(is_set=lambda: False, wait=lambda seconds: False)  # type: ignore[assignment]
    assert [text for _, _, text in reader.lines()] == [line.partition(b" ")[2] for line in lines]


@given(
    entries=entries, cuts=st.lists(st.tuples(st.integers(0, 12), st.booleans(), st.booleans()), max_size=4)
)
def test_launchers_that_are_killed(
    tmp_path_factory: pytest.TempPathFactory,
    entries: list[tuple[int, int, str]],
    cuts: list[tuple[int, bool, bool]],
) -> None:
    """Each brings some lines, and is killed: before or behind its note, and in the middle of a line."""
    folder, lines = tmp_path_factory.mktemp("run"), stamped(entries)
    log, ledger = folder / "log.txt", Ledger(_folders(folder), Start(run="r"))
    log.write_bytes(b"of an earlier start\n")
    begins = log.stat().st_size
    for count, noted_it, torn in [*cuts, (10**6, True, False)]:
        noted = ledger.read()
        with logs.Writer(log, begins, 1, noted) as writer:
            reader = logs.Reader(
                Breaking(lines, []),  # type: ignore[arg-type]
                pod(),
                noted.cursors.get("0", Cursor()),
                follow=False,
            )
            for number, line in enumerate(reader.lines()):
                if number == count:
                    break
                writer.take(line)
            if noted_it:
                writer.settle()
                ledger.write(noted)
        if torn:
            with log.open("ab") as stream:
                stream.write(b"the beginning of a li")
    brought = log.read_bytes()[begins:].split(b"\n")[:-1]
    assert brought == [line.partition(b" ")[2] for line in lines]


def _folders(folder: Path) -> Folders:
    (folder / "attempts").mkdir()
    return Folders(run=folder, output=folder, home=folder)


def test_the_ledger_is_read_back(tmp_path: Path) -> None:
    ledger = Ledger(_folders(tmp_path), Start(run="r", attempt=2))
    assert ledger.read() == Noted()
    noted = Noted(
        size=7,
        cursors={"0": Cursor(newest="2026-01-01T00:00:00.1Z", seen={"k": 2})},
        ends={"1": End(node=1, code=3, reason="Error", at="2026-01-01T00:00:00Z")},
        failed=("EngineError", "m", "w", "h"),
    )
    ledger.write(noted)
    assert ledger.read() == noted
    ledger.stop()
    assert ledger.read().stopped
    for text in ("", "[]", "{}", json.dumps({"version": 1, "size": "x"}), '{"version": 9}'):
        (tmp_path / "attempts" / "2.kubernetes").write_text(text)
        assert ledger.read().ends == {}
        assert ledger.stopped()


def test_one_holds_the_ledger(tmp_path: Path) -> None:
    ledger = Ledger(_folders(tmp_path), Start(run="r"))
    with ledger.held(wait=False) as first:
        assert first
        with ledger.held(wait=False) as second:
            assert not second
    with ledger.held(wait=True) as again:
        assert again


def test_lines_of_several_nodes_are_told_apart(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    log.write_bytes(
        b"x\n" + prefix(0, 2) + b"a\n" + prefix(11, 12) + b"b\n" + prefix(0, 2) + b"c\n[node0] torn"
    )
    assert unnoted(log, 2) == {0: 2, 11: 1}
    assert prefix(0, 1) == b""


def test_no_link_is_followed(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text("mine\n")
    (tmp_path / "log.txt").symlink_to(other)
    with pytest.raises(OSError, match="symbolic link"):
        logs.Writer(tmp_path / "log.txt", 0, 1, Noted())
    assert other.read_text() == "mine\n"
