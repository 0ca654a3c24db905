"""The embedded environment for people: where it is, how to enter it, a kernel of it for their own Jupyter."""

import os
from dataclasses import dataclass
from pathlib import Path

from launcher import jupyter, manifest, paths
from launcher.app import place
from launcher.errors import OutputError, UsageError
from launcher.image import environment
from launcher.manifest import Target
from launcher.progress import Progress
from launcher.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A complete environment.

    Attributes:
        notes: what the user should know.
    """

    target: Target
    folder: Path
    notes: tuple[str, ...]

    @property
    def activate(self) -> str:
        """The shell's line that enters it."""
        return f". {self.folder / 'bin' / 'activate'}"


def ensure(name: str, chosen: Settings, *, progress: Progress) -> Found:
    """The environment of a target, made when it is not there.

    Raises:
        LaunchError: there is no such target, or the environment cannot be made.
    """
    target, notes = manifest.shipped().target(name), list[str]()
    where = place.choose("venv", chosen, target, dry_run=False, notes=notes, progress=progress)
    return Found(target=target, folder=environment.folder(where.lock), notes=tuple(notes))


def kernels() -> Path:
    """Where this user's Jupyter looks for kernels: JUPYTER_DATA_DIR, otherwise the data folder of XDG.

    Source: jupyter_core.paths.jupyter_data_dir, on Linux.
    """
    own = os.environ.get("JUPYTER_DATA_DIR")
    data = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    folder = Path(own) if own else Path(data) / "jupyter"
    return folder.expanduser().absolute() / "kernels"


def register(found: Found, name: str | None) -> Path:
    """Make the environment a kernel of this user's Jupyter; returns the kernel's folder.

    Args:
        name: of the kernel; None: ``finetune-<target>``.

    Raises:
        OutputError: somebody else's kernel has that name.
        UsageError: no name for a kernel.
    """
    folder = _folder(found.target.name, name)
    _refuse_foreign(folder)
    shown = "" if name is None else f"{name} (fine-tuning, {found.target.name})"
    paths.write_atomic(folder / "kernel.json", jupyter.kernel(found.target, found.folder, name=shown))
    return folder


def unregister(target: str, name: str | None) -> Path | None:
    """Take it away again; returns the folder that it had, None when there was none.

    Raises:
        OutputError: it is somebody else's.
        UsageError: there is no such target, or no name for a kernel.
    """
    folder = _folder(manifest.shipped().target(target).name, name)
    _refuse_foreign(folder)
    if not folder.is_dir():
        return None
    (folder / "kernel.json").unlink()
    if not any(folder.iterdir()):  # logos that somebody put there stay
        folder.rmdir()
    return folder


def _folder(target: str, name: str | None) -> Path:
    wanted = jupyter.kernel_name(target) if name is None else name
    if not jupyter.KERNEL_NAME.fullmatch(wanted):
        raise UsageError(f"{wanted!r} is no kernel's name", hint="small letters, digits, - . _")
    return kernels() / wanted


def _refuse_foreign(folder: Path) -> None:
    if not folder.exists():
        return
    file = folder / "kernel.json"
    if not file.is_file() or not jupyter.is_ours(file.read_text(encoding="utf-8", errors="replace")):
        raise OutputError(
            f"{folder} is a kernel that the launcher did not write",
            why="it has the same name",
            hint="--register NAME gives this one another",
        )
