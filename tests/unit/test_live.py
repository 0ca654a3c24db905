"""A run as it is watched: the numbers, the display at any width, and plain lines without a terminal."""

import io
import math
import time
from typing import Any

import pytest
from hypothesis import given
from rich.console import Console

from launcher.cli import failures, live, ui
from launcher.cli.live.screen import drawing
from launcher.cli.live.watched import Watched
from launcher.metrics import Event
from tests.unit.test_metrics import _EVENTS, begin, failed, step, usage

GIB = 1 << 30


def told(*events: Event) -> Watched:
    watched = Watched()
    for event in events:
        watched.take(event)
    return watched


def figures(watched: Watched) -> list[str]:
    return [str(figure) for figure in watched.shown(0.0).figures]


#: Two ranks on GPUs, resumed behind step 100.
TRAINING = (
    begin(world=2, at=100, max_steps=2000, epochs=2.0, time=1000.0, attempt=2),
    *(usage(110, rank=rank, steps=10, seconds=90.0, tokens=1000, padded=1000) for rank in (0, 1)),
    *(
        usage(
            *(120,),
            **{"rank": rank, "steps": 10, "seconds": 10.0 + 5 * rank, "tokens": 30_000, "padded": 40_000},
            **{"ram": 2 * GIB, "ram_peak": 3 * GIB, "device": (9 + rank) * GIB, "device_peak": 128 * GIB},
        )
        for rank in (0, 1)
    ),
    step(120, 0.41234, learning_rate=1.234e-5, grad_norm=1.8431, epoch=0.12, time=1034.0),
    {"event": "checkpoint", "rank": 0, "step": 110, "name": "checkpoint-110"},
)

NUMBERS = [
    *("loss 0.4123", "lr 1.2e-05", "grad norm 1.84", "1.50 s/it", "5,000 tokens/s", "padding 25 %"),
    *("GPU 10.0, peak 128 GiB", "RAM 4.0, peak 6.0 GiB", "saved checkpoint-110"),
]


class TestWatched:
    def test_the_numbers(self) -> None:
        assert figures(told(*TRAINING)) == NUMBERS

    def test_the_numbers_of_rewards(self) -> None:
        logged = {"reward": 0.61234, "kl": 0.01234, "completions/mean_length": 1212.4}
        found = figures(told(begin(), step(5, 0.1, **logged)))
        assert found[:4] == ["loss 0.1", "reward 0.6123", "KL 0.0123", "answers 1,212 tokens"]

    def test_where_it_is(self) -> None:
        shown = told(*TRAINING).shown(1044.0)
        assert (shown.phase, shown.step, shown.total, shown.epoch) == ("training", 120, 2000, "0.12/2")
        assert shown.elapsed == 44.0
        assert shown.left == 1.5 * 1880 - 10  # the ten seconds since the last report have passed
        assert told(*TRAINING[:1]).shown(1000.0).step == 100

    def test_the_first_steps_count_as_long_as_there_are_no_others(self) -> None:
        assert told(*TRAINING[:3]).pace == 9.0
        many = [usage(at, seconds=float(at)) for at in range(1, 41)]
        assert told(begin(), *many).pace == sum(range(31, 41)) / 10

    def test_without_usage_the_clock_is_enough(self) -> None:
        watched = told(begin(max_steps=4, time=100.0), step(2, 0.5, time=104.0))
        assert (watched.pace, watched.shown(104.0).left) == (2.0, 4.0)

    def test_an_attempt_begins_anew(self) -> None:
        watched = told(*TRAINING, failed(1, 2.0, "ValueError", "x"))
        assert watched.phase == "failed"
        watched.take(begin(at=110, max_steps=2000, attempt=3))
        assert (watched.phase, watched.step, figures(watched)) == ("training", 110, [])

    def test_the_end(self) -> None:
        watched = told(*TRAINING, {"event": "end", "rank": 0, "step": 2000})
        assert watched.phase == "saving"
        watched.close()
        assert watched.shown().phase == "done"
        stopped = told(*TRAINING)
        stopped.close()
        assert stopped.phase == "ended"

    @given(_EVENTS)
    def test_whatever_comes(self, events: list[Event]) -> None:
        shown = told(*events).shown()
        live.plain(shown)
        Console(file=io.StringIO(), width=80).print(drawing("x", shown, 80))


def drawn(width: int, *events: Event, title: str = "bge-m3-unified", closed: bool = False) -> list[str]:
    console = Console(file=io.StringIO(), width=width, legacy_windows=False)
    watched = told(*events)
    if closed:
        watched.close()
    console.print(drawing(title, watched.shown(1034.0), width))
    return str(console.file.getvalue()).splitlines()  # type: ignore[attr-defined]


class TestDrawing:
    @pytest.mark.parametrize(("width", "rows"), [(60, 5), (80, 3), (100, 3), (140, 2), (250, 1)])
    def test_it_fits(self, width: int, rows: int) -> None:
        bar, *numbers = drawn(width, *TRAINING, title="a title that is longer than its place, as some are")
        assert len(numbers) == rows
        assert max(map(len, [bar, *numbers])) <= width
        for part in NUMBERS:
            assert part in "".join(numbers)
        assert "120/2000" in bar
        assert "epoch 0.12/2" in bar
        assert "47 min 00 s left" in bar
        assert ("34 s " in bar) == (width >= 100)

    def test_the_phases(self) -> None:
        assert drawn(80)[0].endswith("running  0 s")
        failing = drawn(80, *TRAINING, failed(1, 2.0, "ValueError", "x"))
        assert failing[0].startswith("✗ bge-m3-unified")
        assert "failed" in failing[0]
        end = {"event": "end", "rank": 0, "step": 2000}
        assert "saving" in drawn(80, *TRAINING, end)[0]
        done = drawn(80, *TRAINING, end, closed=True)[0]
        assert done.startswith("✓ bge-m3-unified")
        assert "done" in done

    def test_a_title_is_no_markup(self) -> None:
        assert "[red]x" in drawn(80, title="[red]x")[0]

    def test_a_broken_loss_is_red(self) -> None:
        console = Console(file=io.StringIO(), width=80, force_terminal=True, color_system="standard")
        console.print(drawing("x", told(begin(), step(1, math.nan)).shown(0.0), 80))
        assert "\x1b[1;31mnan" in str(console.file.getvalue())  # type: ignore[attr-defined]


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().err.splitlines()


class TestPlainLines:
    def test_while_it_runs(self, capsys: pytest.CaptureFixture[str]) -> None:
        now = time.time()
        with live.LiveView("x", output=True) as view:
            view.line("[red]as it is")
            view.event(begin(max_steps=4, time=now - 8, epochs=2.0))
            view.event(step(2, 0.5, learning_rate=1e-5, time=now - 4, epoch=1.0))
            view.event(step(3, 0.4, time=now - 2))
            view.event(step(4, 0.25, time=now))
            view.event({"event": "end", "rank": 0, "step": 4})
            view.event({"event": "unknown"})
            view.stopping(grace=20.0)
        first, second, third, last = lines(capsys)
        assert first == "[red]as it is"
        assert second.startswith("step 2/4  epoch 1.00/2  loss 0.5  lr 1e-05  2.00 s/it  left ")
        assert third.startswith("step 4/4")
        assert last == "stopping; killed in 20 s, or at once with another Ctrl-C"

    def test_what_is_history_is_told_in_one_line(self, capsys: pytest.CaptureFixture[str]) -> None:
        """Attached to a run that has gone on for hours."""
        began = time.time() - 9000
        past = [step(at, 1.0 / at, time=began + at) for at in range(1, 5000)]
        with live.LiveView("x", output=False) as view:
            for event in (begin(max_steps=9000, time=began), *past):
                view.event(event)
            assert lines(capsys) == []
            view.event(step(5000, 0.125, time=time.time()))
            (new,) = lines(capsys)
            assert new.startswith("step 5000/9000  loss 0.125")
            view.event(step(5001, 0.1, time=time.time()))
        (last,) = lines(capsys)
        assert last.startswith("step 5001/9000  loss 0.1 ")

    def test_the_last_word_of_a_run_that_was_over(self, capsys: pytest.CaptureFixture[str]) -> None:
        with live.LiveView("x", output=False) as view:
            for event in (*TRAINING, {"event": "end", "rank": 0, "step": 120}):
                view.event(event)
        (line,) = lines(capsys)
        assert line.startswith("step 120/2000")


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    stream = io.StringIO()
    monkeypatch.setattr(ui, "err", Console(file=stream, width=60), raising=False)
    return stream


class TestFailures:
    TAIL = ("Root Cause (first observed failure):", "rank 0: Connection closed by peer")

    def test_the_rank_that_broke_and_not_the_log(self, said: io.StringIO) -> None:
        peer = failed(0, 1.0, "RuntimeError", "Connection closed by peer")
        failures.print_end(
            [peer, step(7, 0.1), failed(1, 2.0, "ValueError", "[bad] row " + "x" * 60)], self.TAIL
        )
        head, *rest = said.getvalue().splitlines()
        assert head == "rank 1 failed after step 7; rank 0 failed with it"
        assert rest == ["Traceback …", "ValueError: [bad] row " + "x" * 60]

    def test_a_refusal_needs_no_traceback(self, said: io.StringIO) -> None:
        failures.print_end(
            [failed(0, 1.0, "SystemExit", "nothing is trained:\nmax_len: never read")], self.TAIL
        )
        assert said.getvalue().splitlines() == [
            "rank 0 failed before the first step",
            "nothing is trained:",
            "max_len: never read",
        ]

    @pytest.mark.parametrize(
        "events", [[], [failed(0, 1.0, "SystemExit", "exit code 2")], [{"event": "failure"}]]
    )
    def test_without_a_reason_the_log_is_shown(self, said: io.StringIO, events: list[Any]) -> None:
        failures.print_end(events, self.TAIL)
        assert said.getvalue().splitlines()[:2] == list(self.TAIL)
