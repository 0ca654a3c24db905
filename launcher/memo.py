"""What was parsed before need not be validated again: results kept beside the caches, as Python keeps .pyc.

Validating needs pydantic and packaging, which take longer to import than everything else that stands
between ``launch run`` and its container. A result is found by the sha256 of its source, of the code that
read it and of the Python that ran it, so that none of them can change unnoticed.
"""

import hashlib
import pickle
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from launcher import paths
from launcher.errors import ManifestError

T = TypeVar("T")

#: Results that are kept; each is a few KiB.
_KEPT = 64


def of_file(path: Path, code: Sequence[Path], kind: type[T], parse: Callable[[str], T], *, missing: str) -> T:
    """What a file of the project holds; see :func:`remembered`.

    Args:
        parse: makes it of the file's text.
        missing: what to say when there is no such file.

    Raises:
        ManifestError: it is not there, not UTF-8, or what ``parse`` finds wrong with it.
    """
    try:
        content = path.read_bytes()
        text = content.decode()
    except FileNotFoundError:
        raise ManifestError(missing, [f"{path} does not exist"]) from None
    except UnicodeDecodeError as error:
        raise ManifestError(f"{path} is not UTF-8", [str(error)]) from None
    return remembered(content, code, kind, lambda: parse(text))


def remembered(source: bytes, code: Sequence[Path], kind: type[T], make: Callable[[], T]) -> T:
    """The result of ``make()``, from an earlier time when nothing that decides it has changed.

    Args:
        source: what is parsed.
        code: files whose text decides the result.
        kind: the result's type; anything else on the disk counts as nothing.
        make: parses; what it raises is never kept.
    """
    digest = hashlib.sha256(sys.version.encode())
    for part in (source, *(file.read_bytes() for file in code)):
        digest.update(hashlib.sha256(part).digest())
    file = paths.cache() / "parsed" / digest.hexdigest()
    # The folder is the user's own, like that of .pyc files: whoever can write there can run code anyway.
    with suppress(OSError, pickle.PickleError, EOFError, AttributeError, ImportError, ValueError, TypeError):
        found = pickle.loads(file.read_bytes())  # noqa: S301
        if isinstance(found, kind):
            return found
    made = make()
    with suppress(OSError):  # a cache that cannot be written costs time, nothing else
        paths.write_atomic(file, pickle.dumps(made))
        for old in sorted(file.parent.iterdir(), key=lambda item: item.stat().st_mtime)[:-_KEPT]:
            old.unlink()
    return made
