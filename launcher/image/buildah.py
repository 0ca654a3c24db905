"""Images built by ``podman build`` from the same Dockerfile, where the engine is Podman."""

import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from launcher.errors import BuildError
from launcher.image.buildlog import BASE_IMAGE, TAIL, title
from launcher.progress import Progress

#: The first Podman whose builder knows named contexts (its release notes, 4.0.0), and the first that knows
#: ``RUN --network`` (the builder in its source, vendor/github.com/openshift/imagebuilder/dispatchers.go).
_CONTEXTS, _RUN_NETWORK = (4, 0), (4, 5)

#: Why two builds differ.
UNREPRODUCIBLE = "Podman's builder writes the clock into layers and history"

_STEP = re.compile(r"^(?:\[(?P<stage>\d+)/(?P<stages>\d+)\] )?STEP (?P<n>\d+)/(?P<m>\d+): (?P<command>.*)$")
_DONE = re.compile(r"^--> (?P<cached>Using cache )?[0-9a-f]{8,}")


def version(said: Mapping[str, Any]) -> str:
    """The builder in words.

    Args:
        said: by the engine, of its version.

    Raises:
        BuildError: it is too old, or the command is not here.
    """
    name = f"Podman {said.get('Version', '?')}"
    if _numbers(str(said.get("Version", ""))) < _CONTEXTS:
        raise BuildError(
            f"{name} cannot build this image",
            why="it does not know named build contexts",
            hint="install Podman 4.0 or newer; or bring an image that Docker has built: "
            "docker save IMAGE | podman load",
        )
    if shutil.which("podman") is None:
        raise BuildError(
            "the podman command is missing",
            why="Podman's builder is not behind its socket",
            hint="install podman; or bring an image: docker save IMAGE | podman load",
        )
    return f"{name}'s own builder"


def dockerfile(file: Path, version: str, folder: Path) -> Path:
    """The Dockerfile as this Podman can read it.

    Before 4.5 ``RUN`` has no ``--network``. The installer is offline and checks hashes in any case.

    Args:
        file: the target's own.
        version: of Podman.
        folder: where a changed copy may be written.
    """
    if _numbers(version) >= _RUN_NETWORK:
        return file
    copy = folder / "Dockerfile"
    text = file.read_text(encoding="utf-8")
    copy.write_text(text.replace("RUN --network=none", "RUN"), encoding="utf-8")
    return copy


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) if part.isdigit() else 0 for part in version.split(".")[:2])


@dataclass(slots=True)
class Log:
    """Follows one ``podman build``, line by line; see :class:`launcher.image.buildlog.BuildLog`."""

    progress: Progress
    task: str
    cached: list[str] = field(default_factory=list)
    run: list[str] = field(default_factory=list)
    _title: str = "the build"
    _counted: bool = False
    _started: bool = False
    _output: list[str] = field(default_factory=list)

    def feed(self, line: str) -> None:
        """Take one line of the output."""
        named, done = _STEP.match(line), _DONE.match(line)
        if named is not None:
            self._output.clear()
            self._title = title(named["command"])
            self._counted = named["stage"] == named["stages"]  # the others are no part of the image
            if self._counted and not self._started:
                self._started = True
                self.progress.start(self.task, total=float(named["m"]))
        elif done is not None and self._counted:
            self._counted = False
            self.progress.advance(self.task, 1)
            if self._title != BASE_IMAGE:
                (self.cached if done["cached"] else self.run).append(self._title)
                self.progress.say(f"  {self._title}: {'cached' if done['cached'] else 'done'}")
        else:
            self._output.append(line.rstrip())

    def finish(self) -> None:
        """The build has ended."""
        if self._started:
            self.progress.finish(self.task)

    def failure(self) -> tuple[str, str]:
        """The failed step's title and the last lines of its output."""
        return self._title, "\n".join(line for line in self._output[-TAIL:] if line)
