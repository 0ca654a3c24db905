"""Where things lie: the assets that ship with the launcher, the caches, the runs; atomic writes."""

import errno
import hashlib
import os
import stat
import tempfile
from pathlib import Path
from typing import BinaryIO

from platformdirs import user_cache_path, user_config_path, user_state_path

from launcher.errors import SettingsError

_APP = "finetune-launch"


def assets() -> Path:
    """The folder that holds ``images/``, ``recipes/`` and ``ds_configs/``.

    In a checkout that is the repository's root, in an installed wheel ``launcher/_assets``.
    """
    package = Path(__file__).resolve().parent
    packaged = package / "_assets"
    return packaged if packaged.is_dir() else package.parent


def is_checkout() -> bool:
    """True when the assets are a writable source tree, where locks and Dockerfiles are made."""
    return (assets() / "pyproject.toml").is_file()


def images() -> Path:
    """The manifest, the locks, the Dockerfiles and the checks."""
    return assets() / "images"


def recipes() -> Path:
    """The recipe catalogue; nothing is registered by hand, the folder is the list."""
    return assets() / "recipes"


def cache() -> Path:
    """Wheels and embedded environments; ``LAUNCH_CACHE_DIR`` moves it.

    Raises:
        SettingsError: this user has no home folder, so that "~" would be a folder's name.
    """
    override = os.environ.get("LAUNCH_CACHE_DIR")
    found = Path(override).expanduser().absolute() if override else user_cache_path(_APP)
    if not found.is_absolute():
        raise SettingsError(
            "there is no place for the cache",
            [f"HOME is not set, and user id {os.getuid()} has no home folder"],
            hint="set HOME or LAUNCH_CACHE_DIR",
        )
    return found


def known_runs() -> Path:
    """Links to the records of all runs of this user, wherever they lie."""
    return user_state_path(_APP) / "runs"


def config_file() -> Path:
    """The user's settings file; it need not exist."""
    return user_config_path(_APP) / "config.toml"


def secrets() -> tuple[Path, ...]:
    """Where files of secrets may lie for a moment, the first choice first: in memory, and of this user alone.

    ``LAUNCH_SECRETS_DIR`` is for engines that do not see this machine's memory. XDG_RUNTIME_DIR is made for
    it; who has none has /dev/shm; both are emptied when the machine is restarted. The last may be a disk.
    """
    runtime = [os.environ.get(name) for name in ("LAUNCH_SECRETS_DIR", "XDG_RUNTIME_DIR")]
    own = f"{_APP}-{os.getuid()}"
    shared = [Path("/dev/shm") / own, Path(tempfile.gettempdir()) / own]  # noqa: S108 - checked by who uses it
    return (*(Path(each).absolute() / _APP for each in runtime if each), *shared)


def runs() -> Path:
    """The folder of run records: ``LAUNCH_RUNS_DIR``, otherwise ``runs`` in the working folder."""
    return Path(os.environ.get("LAUNCH_RUNS_DIR") or "runs").expanduser().absolute()


def open_plain(file: Path) -> BinaryIO:
    """Open for reading what a recipe may have put in the place of a record's file: a file and nothing else.

    A link could show any file of the user on a page that is passed on, and a pipe would never answer.

    Raises:
        OSError: it is a link, no file, or not there.
    """
    handle = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(errno.EINVAL, "no file", str(file))
    return os.fdopen(handle, "rb")


def sha256(file: Path) -> str:
    """Of a file's bytes, in hexadecimal; the file is read in blocks."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_atomic(path: Path, content: str | bytes, *, mode: int = 0o644) -> None:
    """Write a file so that it is never seen half-written: temporary file, fsync, rename.

    Args:
        path: the file; its folder is made when missing.
        content: text (written as UTF-8) or bytes.
        mode: permission bits of the finished file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    data = content.encode() if isinstance(content, str) else content
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        Path(temporary).chmod(mode)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make a rename durable (a file's name is data of its folder)."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
