"""One case: its folders, its programs, its moments, and what the recipe itself noted."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.faults import recipes

#: Seconds after which something that was waited for counts as never coming.
PATIENCE = 40.0

#: When a fault comes, in the life of a run.
MOMENTS = ("early", "record", "attempt", "start", "running", "ending", "concluding")


@dataclass(frozen=True, slots=True)
class Done:
    """A command that has ended."""

    arguments: tuple[str, ...]
    code: int
    out: str
    err: str


@dataclass
class Case:
    """A run that something happens to.

    Attributes:
        hit: the fault reached recipe, supervisor, container or disk: it may end as it did not want to.
        asked: somebody asked for the end: ``stopped`` is a true answer.
        removed: somebody deleted the record.
        full: there was no room for the record, or it could not be written.
        lost_log: the engine's copy of the output was taken away before it was in the log.
        unreadable: the record was damaged on purpose: nothing may be said of its end.
    """

    folder: Path
    state_home: Path
    kind: str
    seed: int
    engine: str = "venv"
    runs: Path = field(init=False)
    output: Path = field(init=False)
    chance: random.Random = field(init=False)
    mark: str = field(init=False)
    code: int = field(init=False)
    hit: bool = False
    asked: bool = False
    removed: bool = False
    unreadable: bool = False
    full: bool = False
    lost_log: bool = False
    moment: str = ""
    programs: list[tuple[subprocess.Popen[bytes], tuple[str, ...], Path]] = field(default_factory=list)
    commands: list[Done] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True)
        self.runs, self.output = self.folder / "runs", self.folder / "out"
        self.chance = random.Random(self.seed)  # noqa: S311 - a case, not a secret
        self.mark = f"fault-{os.getpid()}-{self.seed:x}"
        self.code = self.chance.choice((0, 0, 0, 7))

    def environment(self) -> dict[str, str]:
        """Variables of every command: runs are remembered where the campaign looks."""
        return {
            **os.environ,
            "LAUNCH_RUNS_DIR": str(self.runs),
            "LAUNCH_LANG": "en",
            "XDG_STATE_HOME": str(self.state_home),
            "LAUNCH_STOP_GRACE": "1",
        }

    def command(self, *arguments: object) -> "subprocess.Popen[bytes]":
        """Start a ``launch`` and go on."""
        given = tuple(map(str, arguments))
        said = self.folder / f"said-{len(self.programs)}"
        with said.open("wb") as stream:
            program = subprocess.Popen(
                [sys.executable, "-m", "launcher", *given],
                cwd=self.folder,
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                start_new_session=True,
            )
        self.programs.append((program, given, said))
        return program

    def call(self, *arguments: object, timeout: float = 120) -> Done:
        """A ``launch`` to its end."""
        done = subprocess.run(
            [sys.executable, "-m", "launcher", *map(str, arguments)],
            cwd=self.folder,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
        )
        self.commands.append(Done(tuple(map(str, arguments)), done.returncode, done.stdout, done.stderr))
        return self.commands[-1]

    def run(
        self, *options: object, steps: int = 4, pace: float = 0.05, trainer: bool = False, **variables: object
    ) -> "subprocess.Popen[bytes]":
        """``launch run`` of one of the recipes."""
        file = self.folder / ("trainer.sh" if trainer else "steps.sh")
        if not file.exists():
            file.write_text(recipes.trainer() if trainer else recipes.plain(), encoding="utf-8")
        given = {"FAULT_MARK": self.mark, "STEPS": steps, "PACE": pace, "CODE": self.code, **variables}
        return self.command(
            *("run", file, "--target", "cpu", "--engine", self.engine, "--output", self.output),
            *(["--nproc", "1"] if trainer else []),
            *(part for name, value in given.items() for part in ("--env", f"{name}={value}")),
            *options,
        )

    @property
    def record(self) -> Path | None:
        """The record of the case's run, as soon as it can be read."""
        found = [file.parent for file in self.runs.glob("[!.]*/plan.json")]
        return found[0] if found else None

    def notes(self) -> list[list[str]]:
        """What the recipe noted, in whole lines."""
        with suppress(FileNotFoundError):
            text = (self.output / "progress").read_bytes().decode(errors="replace")
            return [line.split() for line in text[: text.rfind("\n") + 1].splitlines() if line.strip()]
        return []

    def noted(self, *words: str) -> bool:
        """Whether a line begins with these words."""
        return any(tuple(line[: len(words)]) == words for line in self.notes())

    def process(self, attempt: int = 1) -> dict[str, Any]:
        """Who the supervisor says it is."""
        with suppress(OSError, ValueError, TypeError):
            record = self.record
            if record is not None:
                return dict(json.loads((record / "attempts" / f"{attempt}.process").read_bytes()))
        return {}

    def container(self) -> str:
        """Status of the first start's container, as the engine has it; empty: there is none."""
        if self.engine != "docker" or (record := self.record) is None:
            return ""
        command = ["docker", "inspect", "--format", "{{.State.Status}}", f"launch-{record.name}"]
        return subprocess.run(command, capture_output=True, text=True).stdout.strip()

    def ended(self) -> bool:
        """Whether the recipe has ended, as whoever keeps its exit code has it."""
        return self.container() == "exited" if self.engine == "docker" else "code" in self.process()

    def supervisor(self) -> int:
        """Process id of the supervisor; 0: none is known."""
        said = self.process()
        return 0 if "code" in said else int(said.get("pid", 0))

    def recipe(self) -> int:
        """Process id of the recipe; 0: none is known."""
        begun = [int(line[1]) for line in self.notes() if line[0] == "start"]
        return begun[-1] if begun and self.engine == "venv" else 0

    def wait(self, what: Callable[[], object], *, unless: Callable[[], object] | None = None) -> bool:
        """Look very often until something is so, or can no longer be."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            if what():
                return True
            if unless is not None and unless():
                return bool(what())
            time.sleep(0.004)
        self.problems.append("what the fault waits for never came")
        return False

    def until(self, moment: str, launcher: "subprocess.Popen[bytes]") -> None:
        """Wait for a moment of the run's life; one that is over already does not hold the fault up."""
        self.moment = moment

        def ended() -> bool:
            return launcher.poll() is not None

        def attempted() -> bool:
            return self.record is not None and (self.record / "attempts" / "1.json").exists()

        step = str(self.chance.randint(1, 3))
        waiting: dict[str, Callable[[], object]] = {
            "record": lambda: self.record,
            "attempt": attempted,
            "created": self.container,
            "start": lambda: self.process() or self.container() not in ("", "created"),
            "running": lambda: self.noted("step", step),
            "ending": lambda: self.noted("finished"),
            "concluding": self.ended,
        }
        if moment == "early":
            time.sleep(self.chance.uniform(0, 1.0))
        else:
            self.wait(waiting[moment], unless=ended)
        time.sleep(self.chance.choice((0, 0.002, 0.01, 0.05)) * self.chance.random())

    def finish(self) -> None:
        """Wait for all programs of the case, and undo what would hold them up."""
        deadline = time.monotonic() + PATIENCE + 20
        for program, arguments, _ in self.programs:
            try:
                program.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                self.problems.append(f"launch {' '.join(arguments[:3])} never ended")
                send(program.pid, signal.SIGKILL)
                program.wait()

    def said(self) -> Iterator[Done]:
        """All commands of the case with their ends."""
        yield from self.commands
        for program, arguments, said in self.programs:
            text = said.read_text(errors="replace") if said.exists() else ""
            yield Done(arguments, program.returncode, "", text)

    def left(self) -> list[str]:
        """Processes that carry the case's mark in their environment."""
        return [f"{pid} {name}" for pid, name in marked(self.mark)]


def marked(mark: str) -> Iterator[tuple[int, str]]:
    """Living processes with a mark among their variables."""
    wanted = f"FAULT_MARK={mark}".encode()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                if wanted in (entry / "environ").read_bytes().split(b"\0"):
                    fields = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()
                    if fields[0] not in "ZX":
                        line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                        yield int(entry.name), line[:80]


def send(pid: int, number: int, *, group: bool = False) -> None:
    """Send a signal to a process that may be gone."""
    if pid > 1:
        with suppress(ProcessLookupError):
            if group:
                os.killpg(pid, number)
            else:
                os.kill(pid, number)
