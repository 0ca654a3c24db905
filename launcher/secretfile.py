"""The file by which a run gets its secrets: in memory, for this user alone, and only until the run has it.

A container gets it mounted read-only, and the file's name on the machine goes as soon as the container has
started: what is mounted stays what it was. Without a container the entry removes it once it was read. So a
launcher that is killed can leave one behind only in the moment of a start; :func:`forget` and :func:`sweep`
remove those.
"""

import os
import shlex
import stat
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from launcher import paths
from launcher.errors import OutputError
from launcher.plan import ENVIRONMENT, Mount, RunPlan, Start

#: Where a container finds the file, and the program that reads it.
_FILE, _ENTRY = PurePosixPath("/launch/secrets"), PurePosixPath("/launch/entry.py")

#: Where a container of a node finds the folder of its own copy; it may take the file away.
NODE = PurePosixPath("/launch/secrets")

#: The folder beside the records for runs on nodes of a site; each user's own has its number behind it.
_SHARED = ".secrets"

#: Seconds after which no start needs its file any more; an engine may take ten minutes for one.
_STALE = 900.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretFile:
    """The file of one start, and how the program comes to it; the values are not here.

    Attributes:
        names: of the variables.
        path: of the file on this machine; it exists only while the run starts.
        seen: the same, as the program sees it.
        entry: the program that reads it, on this machine.
        entry_seen: the same, as the program sees it.
        python: what runs the entry, as the program sees it.
        owner: user and group of the program.
        masked: values that are printed are masked; not where people type.
    """

    names: tuple[str, ...]
    path: Path
    seen: str
    entry: Path
    entry_seen: str
    python: str
    owner: tuple[int, int]
    masked: bool = True

    def command(self, command: tuple[str, ...]) -> tuple[str, ...]:
        """The program, started with its secrets."""
        mode = "mask" if self.masked else "plain"
        return (self.python, "-I", "-S", self.entry_seen, mode, self.seen, *command)

    def mounts(self) -> tuple[Mount, ...]:
        """What a container needs of it."""
        return (
            Mount(source=self.entry, target=PurePosixPath(self.entry_seen), read_only=True),
            Mount(source=self.path, target=PurePosixPath(self.seen), read_only=True),
        )

    def around(self, line: str) -> str:
        """A printed command between what it needs: the file, from the caller's own variables, and its end."""
        file = shlex.quote(str(self.path))
        return f"{self.made()} && (trap {shlex.quote(f'rm -f {file}')} EXIT; {line})"

    def made(self) -> str:
        """What makes the file from the caller's own variables."""
        file, folder = shlex.quote(str(self.path)), shlex.quote(str(self.path.parent))
        variables = " ".join(f'"{name}=${{{name}?}}"' for name in self.names)
        steps = ["umask 077", f"mkdir -p {folder}", f"printf '%s\\0' {variables} >{file}"]
        if self.owner[0] != os.getuid():
            steps.append(f"chown {self.owner[0]}:{self.owner[1]} {file}")
        return f"({' && '.join(steps)})"


def in_container(plan: RunPlan, start: Start) -> SecretFile | None:
    """For a container; None: the plan has no secrets."""
    return _made(plan, start, seen=str(_FILE), entry=str(_ENTRY), python=f"{ENVIRONMENT}/bin/python")


def on_host(plan: RunPlan, start: Start, environment: Path) -> SecretFile | None:
    """For a process of this machine; None: the plan has no secrets.

    Args:
        environment: whose Python reads them.
    """
    return _made(plan, start, seen="", entry=str(_entry()), python=str(environment / "bin" / "python"))


def on_nodes(plan: RunPlan, start: Start, records: Path, *, seen: str, python: str = "") -> SecretFile | None:
    """For a run on nodes of a site; None: the plan has no secrets.

    The file lies beside the records, on the storage that all nodes have: the scheduler may start the run on
    others again. Each node copies it to its memory, and the program takes that copy away.

    Args:
        records: where runs' records lie.
        seen: the copy, as the program sees it; in a container it is below :data:`NODE`.
        python: what runs the entry; empty: the image's.
    """
    inside = {"entry": str(_ENTRY), "python": f"{ENVIRONMENT}/bin/python"}
    outside = {"entry": str(_entry()), "python": python}
    path = records / f"{_SHARED}-{os.getuid()}" / f"{start.run}.{start.attempt}"
    return _made(plan, start, seen=seen, path=path, **(outside if python else inside))


def _made(
    plan: RunPlan, start: Start, *, seen: str, entry: str, python: str, path: Path | None = None
) -> SecretFile | None:
    if not plan.secrets:
        return None
    path = path or _folder() / f"{start.run}.{start.attempt}"
    return SecretFile(
        names=plan.secrets,
        path=path,
        seen=seen or str(path),
        entry=_entry(),
        entry_seen=entry,
        python=python,
        owner=(plan.uid, plan.gid),
    )


def _entry() -> Path:
    """The launcher's own, whatever recipes a plan names: a repeated run may bring older ones."""
    return paths.recipes() / "runtime" / "entry.py"


def _folder() -> Path:
    """The first of the folders that is, or can be, this user's alone."""
    for folder in paths.secrets():
        with suppress(OSError):
            if _private(folder) if os.path.lexists(folder) else _safe(folder.parent):
                return folder
    raise OutputError(
        "there is no place for the file of the secrets",
        why=f"none of {', '.join(map(str, paths.secrets()))} can be this user's alone",
        hint="give LAUNCH_SECRETS_DIR a folder that you may write to, in memory if there is one",
    )


def _safe(parent: Path) -> bool:
    """Whether nobody else could put another folder in the place of one that is made here."""
    found = parent.stat()
    return os.access(parent, os.W_OK) and (_own(found) or bool(found.st_mode & stat.S_ISVTX))


def _private(folder: Path) -> bool:
    found = folder.lstat()
    return stat.S_ISDIR(found.st_mode) and _own(found) and not found.st_mode & 0o077


def _own(found: os.stat_result) -> bool:
    return found.st_uid == os.getuid()


@contextmanager
def handed(file: SecretFile | None, values: Mapping[str, str], *, read: bool = False) -> Iterator[None]:
    """The file is there while the block starts a program, and gone behind it.

    Args:
        file: None: there is nothing to hand over.
        values: of its variables, by name.
        read: the program removes it when it has read it: behind the block it may not have come to that.

    Raises:
        OutputError: it cannot be written.
    """
    if file is None:
        yield
        return
    sweep()
    _write(file, values)
    try:
        yield
    except BaseException:
        _remove(file.path)
        raise
    if not read:
        _remove(file.path)


def encoded(names: tuple[str, ...], values: Mapping[str, str]) -> bytes:
    """The file's content: NAME=VALUE, each ended by a zero byte."""
    return b"".join(os.fsencode(f"{name}={values[name]}") + b"\0" for name in names)


def _write(file: SecretFile, values: Mapping[str, str]) -> None:
    try:
        file.path.parent.mkdir(mode=0o700, exist_ok=True)
        if not _private(file.path.parent):
            raise PermissionError(13, f"{file.path.parent} is not this user's alone")
        _remove(file.path)
        # Made anew, and 0600 from its first moment: nobody has it open.
        descriptor = os.open(file.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            if os.getuid() == 0 and file.owner[0] != 0:  # under sudo: without capabilities root's is closed
                os.fchown(descriptor, *file.owner)
            stream.write(encoded(file.names, values))
    except OSError as error:
        _remove(file.path)
        raise OutputError(
            "the file of the secrets cannot be written",
            why=f"{file.path}: {error.strerror or error}",
            hint="LAUNCH_SECRETS_DIR names another folder",
        ) from None


def forget(run: str, records: Path | None = None) -> None:
    """Remove what a killed launcher has left of a run's starts.

    Args:
        run: its id.
        records: where its record lies: what is beside it for the nodes of a site is needed until its end.
    """
    shared = [] if records is None else sorted(records.glob(f"{_SHARED}-*/{run}.*"))
    for file in (*_left(), *shared):
        if file.name.rpartition(".")[0] == run:
            _remove(file)


def sweep() -> None:
    """Remove what no start can need any more."""
    for file in _left():
        with suppress(OSError):
            if time.time() - file.lstat().st_mtime > _STALE:
                _remove(file)


def _left() -> Iterator[Path]:
    for folder in paths.secrets():
        with suppress(OSError):
            if _private(folder):
                yield from list(folder.iterdir())


def _remove(file: Path) -> None:
    with suppress(OSError):
        file.unlink()
