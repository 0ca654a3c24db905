"""The display on a terminal: a bar, and below it the numbers; rich is imported while the engine starts."""

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from launcher.cli.live.watched import Figure, Shown
from launcher.texts import duration

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live
    from rich.spinner import Spinner

#: Columns that a number with its words takes; three of them fit beside each other into 80.
_CELL = 26

#: From this width on, the time that has passed is shown too.
_WIDE = 100

#: Mark and colour of a run that is over; before that there is a spinner.
_MARKS = {"done": ("✓", "green"), "failed": ("✗", "red"), "ended": ("-", "dim")}


class Screen:
    """Draws a run four times a second, and lines above it.

    Args:
        title: what runs.
        read: how it is now.
    """

    def __init__(self, title: str, read: Callable[[], Shown]) -> None:
        self._title, self._read = title, read
        self._thread = threading.Thread(target=self._make, daemon=True)
        self._live: Live | None = None
        self._spinner: Spinner | None = None

    def _make(self) -> None:
        from rich.live import Live
        from rich.spinner import Spinner

        from launcher.cli import ui

        self._spinner = Spinner("dots", style="cyan")
        live = Live(console=ui.err, get_renderable=self._render, refresh_per_second=4)
        live.start(refresh=True)
        self._live = live

    def open(self) -> None:
        """Begin to draw."""
        self._thread.start()

    def close(self) -> None:
        """Draw for the last time."""
        self._drawn().stop()

    def say(self, text: str) -> None:
        """One line above the display."""
        self._drawn().console.print(text, markup=False, highlight=False, soft_wrap=True)

    def _drawn(self) -> "Live":
        self._thread.join()
        if self._live is None:
            raise RuntimeError("the progress display could not be made")
        return self._live

    def _render(self) -> "RenderableType":
        from launcher.cli import ui

        return drawing(self._title, self._read(), ui.err.width, self._spinner)


def drawing(title: str, shown: Shown, width: int, spinner: Any = "") -> "RenderableType":
    """The bar and the numbers, for a terminal of a width in columns."""
    from rich.console import Group
    from rich.padding import Padding

    bar = _bar(title, shown, width, spinner)
    if not shown.figures:
        return bar
    return Group(bar, Padding(_numbers(shown.figures, max(1, (width - 2) // _CELL)), (0, 0, 0, 2)))


def _bar(title: str, shown: Shown, width: int, spinner: Any) -> "RenderableType":
    from rich.progress_bar import ProgressBar
    from rich.table import Column, Table
    from rich.text import Text

    grid = Table(
        Column(width=1),
        Column(no_wrap=True, overflow="ellipsis", max_width=max(8, width // 4)),
        Column(ratio=1),
        Column(no_wrap=True),
        Column(no_wrap=True),
        box=None,
        show_header=False,
        expand=True,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    training = shown.phase == "training"
    mark: Any = _MARKS.get(shown.phase, spinner)
    if isinstance(mark, tuple):
        mark = Text(*mark)
    known = shown.total > 0
    bar = ProgressBar(
        total=None if shown.phase == "running" else shown.total or 1,
        completed=shown.step,
        complete_style="red" if shown.phase == "failed" else "cyan",
        finished_style="green",
    )
    steps = Text(f"{shown.step}/{shown.total}" if known else "")
    about = [] if training else [shown.phase]
    about += [f"epoch {shown.epoch}"] if shown.epoch else []
    about += (
        [duration(int(shown.elapsed))]
        if shown.elapsed is not None and (width >= _WIDE or not training)
        else []
    )
    about += [f"{duration(int(shown.left))} left"] if shown.left is not None and training else []
    grid.add_row(mark, Text(title), bar, steps, Text("  ".join(about), "dim"))
    return grid


def _numbers(figures: tuple[Figure, ...], columns: int) -> "RenderableType":
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2, 0, 0))
    for _ in range(columns):
        grid.add_column(no_wrap=True, width=_CELL - 2)
    cells = [
        Text(" ").join(
            Text(part, style)
            for part, style in (
                (figure.before, "dim"),
                (figure.value, "bold red" if figure.alarming else ""),
                (figure.after, "dim"),
            )
            if part
        )
        for figure in figures
    ]
    for start in range(0, len(cells), columns):
        grid.add_row(*cells[start : start + columns])
    return grid
