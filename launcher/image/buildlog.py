"""What `docker buildx build --progress plain` prints, turned into progress and into an error's text."""

import re
from dataclasses import dataclass, field

from launcher.progress import Progress

_LINE = re.compile(r"^#(?P<step>\d+) (?P<text>.*)$")
_STEP = re.compile(r"^\[(?:(?P<stage>\S+) +)?(?P<n>\d+)/(?P<m>\d+)\] (?P<command>.*)$")
_LAYER = re.compile(r"seal\.py \S+ \S+ (?P<layer>[a-z0-9-]+)")
_TIMED = re.compile(r"^\d+\.\d+ ")
BASE_IMAGE = "base image"
TAIL = 25  # lines of a failed step: enough for a resolver's or apt's whole complaint


@dataclass(slots=True)
class BuildLog:
    """Follows one build, line by line.

    Attributes:
        progress: told about every finished step.
        task: the name of the build's progress bar.
        cached: titles of the steps that were taken from the cache.
        run: titles of the steps that were run, in the order of their end.
    """

    progress: Progress
    task: str
    cached: list[str] = field(default_factory=list)
    run: list[str] = field(default_factory=list)
    _titles: dict[str, str] = field(default_factory=dict)
    _ended: set[str] = field(default_factory=set)
    _output: dict[str, list[str]] = field(default_factory=dict)
    _loose: list[str] = field(default_factory=list)
    _failed: str = ""
    _started: bool = False

    def feed(self, line: str) -> None:
        """Take one line of the output."""
        match = _LINE.match(line.rstrip())
        if match is None:
            self._loose.append(line.rstrip())
            return
        step, text = match["step"], match["text"]
        named = _STEP.match(text)
        if named is not None:
            self._name(step, named)
        elif text == "CACHED":
            self._end(step, "cached", self.cached)
        elif text.startswith("DONE "):
            self._end(step, text.removeprefix("DONE "), self.run)
        elif text.startswith("ERROR"):
            self._failed = self._failed or step
            self._output.setdefault(step, []).append(text)
        else:
            self._output.setdefault(step, []).append(_TIMED.sub("", text))

    def finish(self) -> None:
        """The build has ended."""
        if self._started:
            self.progress.finish(self.task)

    def failure(self) -> tuple[str, str]:
        """The failed step's title and the last lines of its output."""
        lines = self._output.get(self._failed) or [line for line in self._loose if line]
        return self._titles.get(self._failed, "the build"), "\n".join(lines[-TAIL:])

    def _name(self, step: str, named: re.Match[str]) -> None:
        if step in self._titles or named["stage"] == "locks":
            return  # buildx repeats a step's name whenever it comes back to it
        self._titles[step] = title(named["command"])
        if not self._started:
            self._started = True
            self.progress.start(self.task, total=float(named["m"]))

    def _end(self, step: str, how: str, record: list[str]) -> None:
        name = self._titles.get(step)
        if name is not None and step not in self._ended:
            self._ended.add(step)
            self.progress.advance(self.task, 1)
            if name != BASE_IMAGE:  # never from the cache, and never work
                record.append(name)
                self.progress.say(f"  {name}: {how}")


def title(command: str) -> str:
    """A Dockerfile command in a few words."""
    layer = _LAYER.search(command)
    if layer is not None:
        return f"layer {layer['layer']}"
    if "dpkg --install" in command:
        return "drivers"
    if "apt" in command and command.startswith("RUN"):
        return "system packages"
    if command.startswith("FROM"):
        return BASE_IMAGE
    return command if len(command) <= 40 else f"{command[:39]}…"
