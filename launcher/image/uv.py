"""uv, the resolver and installer: how it is called, and what it says with host names left out.

It runs in a temporary folder, whose generated ``uv.toml`` is its project configuration: the user's own
``uv.toml`` still applies below it (mirrors, credentials), the one of a checkout does not.
"""

import os
import re
import ssl
import sys
import tempfile
from collections.abc import Mapping, Sequence
from importlib.metadata import version as installed_version
from pathlib import Path

import uv as uv_package

from launcher import process, settings
from launcher.errors import ProgramError
from launcher.manifest import Target

_ARCHITECTURES = {"linux/amd64": "x86_64"}
_HOST = re.compile(r"(?<=://)[^/\s`'\"]+")


def version() -> str:
    """The version of the uv that is used."""
    return installed_version("uv")


def architecture(target: Target) -> str:
    """The machine name of a target's platform, e.g. ``x86_64``."""
    return _ARCHITECTURES[target.platform]


def platform(target: Target) -> str:
    """uv's name of a target's platform, e.g. ``x86_64-manylinux_2_36``."""
    return f"{architecture(target)}-manylinux_{target.glibc.replace('.', '_')}"


def masked(text: str) -> str:
    """The text with the hosts of all addresses left out: an index is the user's own affair."""
    return _HOST.sub("…", text)


def run(
    arguments: Sequence[str],
    *,
    files: Mapping[str, str] | None = None,
    result: str = "",
    env: Mapping[str, str] | None = None,
    timeout: float | None = None,
) -> str:
    """Run uv with the user's own package indexes.

    Args:
        arguments: after the program's name.
        files: texts that are written into its working folder first, by file name.
        result: the file there whose text is returned; without it, its standard output is.
        env: further variables.
        timeout: seconds that it may take.

    Raises:
        ProgramError: it failed, or took longer; ``output`` is what it said, without host names.
    """
    indexes = settings.indexes()
    with tempfile.TemporaryDirectory(prefix="launch-uv-") as temporary:
        folder = Path(temporary)
        for name, text in (files or {}).items():
            (folder / name).write_text(text, encoding="utf-8")
        argv = [uv_package.find_uv_bin(), *arguments]
        variables = {**_certificates(), **indexes.uv_environment(), "UV_NO_PROGRESS": "1", **(env or {})}
        done = process.run(argv, env=variables, cwd=folder, timeout=timeout, check=False)
        if done.returncode != 0:
            said = masked(done.stderr.strip() or done.stdout.strip())
            raise ProgramError(f"uv {arguments[0]} failed", returncode=done.returncode, output=said, why=said)
        return (folder / result).read_text(encoding="utf-8") if result else done.stdout


def _certificates() -> dict[str, str]:
    """uv trusts roots of its own; a CA that the machine trusts beside them is only in the machine's store."""
    store = ssl.get_default_verify_paths()
    chosen = os.environ.get("UV_SYSTEM_CERTS")
    return {} if chosen or not (store.cafile or store.capath) else {"UV_SYSTEM_CERTS": "true"}


def index_arguments() -> tuple[str, ...]:
    """The options that make uv look where the user's pip looks."""
    return settings.indexes().uv_arguments()


def places() -> list[str]:
    """All addresses and folders of packages that the user's settings name, for pip and for uv."""
    indexes = settings.indexes()
    found = [indexes.index_url.value or "", *indexes.find_links.value]
    for variable in ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_INDEX", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS"):
        # uv's lists are separated by spaces or commas, an index may stand as name=address
        found += [item.split("=", 1)[-1] for item in re.split(r"[\s,]+", os.environ.get(variable, ""))]
    return [place for place in found if place]


def compile_requirements(
    requirements: Sequence[str],
    target: Target,
    *,
    arguments: Sequence[str] = (),
    files: Mapping[str, str] | None = None,
    result: str = "",
) -> str:
    """``uv pip compile`` for a target's platform and Python; see :func:`run`."""
    argv = [
        "pip", "compile", "requirements.in", "--no-header", "--no-annotate", "--no-sources",
        # The launcher's own Python runs the resolve, for whichever version it is made.
        "--python", sys.executable, "--no-python-downloads",
        "--python-version", target.python, "--python-platform", platform(target),
        "--resolution", "highest", *index_arguments(), *arguments,
    ]  # fmt: skip
    return run(
        argv, files={**(files or {}), "requirements.in": "\n".join(requirements) + "\n"}, result=result
    )
