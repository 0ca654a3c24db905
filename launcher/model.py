"""The model of a run: a folder as it is, or a hub id brought into the Hugging Face cache first.

The launcher downloads on the host, with the user's own endpoint, proxy and token; the run itself then
reads a folder and needs neither network nor token.

A snapshot in the cache need not be the whole model: transformers, for one, caches only the files that it
loads itself. A recipe would then train random heads without a word, so what the launcher knows to be
complete has a marker in the launcher's own cache.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from launcher import paths
from launcher.errors import ModelConfigError, ModelNotFoundError
from launcher.plan import Model

#: What no recipe reads: other frameworks' weights, exported graphs, pictures.
_IGNORED = ["onnx/*", "*.onnx", "openvino/*", "*.msgpack", "*.h5", "*.ot", "imgs/*", "*.png", "*.jpg"]

#: The file that a folder of adapters has.
ADAPTERS = "adapter_config.json"

#: Seconds that the hub has to answer what belongs to a snapshot.
_PATIENCE = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved:
    """A model, and whether all of it is known to be there.

    Attributes:
        complete: False for a snapshot that something else may have cached in part, while the hub has not
            said what belongs to it; True for a folder, which is the caller's affair.
    """

    model: Model
    complete: bool = True


def resolve(name: str, *, download: bool, adapters: bool = False) -> Resolved:
    """Find a model, downloading it when it is a hub id that the cache lacks.

    Args:
        name: a folder, or an id such as ``BAAI/bge-m3``.
        download: False for a dry run, which fetches and asks nothing, and names the place where it would be.
        adapters: a folder of adapters will do, too.

    Raises:
        ModelNotFoundError: no such folder; or not (completely) in the cache and the hub does not give it.
    """
    folder = folder_of(name)
    if is_folder(name):
        return Resolved(model=_from_folder(name, folder.absolute(), adapters=adapters))
    if not may_be_id(name):
        raise _no_folder(name)
    return _from_hub(name, download=download)


def may_be_id(name: str) -> bool:
    """Whether a name that is no folder could be an id on the hub: owner and name."""
    return name.count("/") == 1 and not name.startswith((".", "~", "/"))


def folder_of(name: str) -> Path:
    """The folder that a model's name may be; a user that does not exist has none."""
    try:
        return Path(name).expanduser()
    except RuntimeError:
        return Path(name)


def is_folder(name: str) -> bool:
    """Whether a model's name is a folder of this machine; one that no file system takes is none."""
    try:
        return folder_of(name).is_dir()
    except (OSError, ValueError):
        return False


def holds_adapters(folder: Path) -> bool:
    """Whether a folder holds adapters (LoRA and its like) and no whole model."""
    return (folder / ADAPTERS).is_file() and not (folder / "config.json").is_file()


def _from_folder(name: str, folder: Path, *, adapters: bool = False) -> Model:
    if holds_adapters(folder) and not adapters:
        raise ModelNotFoundError(
            f"{name} holds adapters, and no whole model",
            why="a LoRA training writes what it changed; the rest is its base",
            hint=f"launch run llm-merge --model {name}   makes a model of both; llm-ask takes adapters",
        )
    if not (folder / "config.json").is_file() and not holds_adapters(folder):
        raise ModelNotFoundError(
            f"{name} is not a model",
            why=f"{folder} holds no config.json",
            hint="give the folder that holds it",
        )
    # A snapshot of the cache consists of links into ../../blobs, so the whole entry is needed, also when the
    # folder is itself a link to one.
    real = folder.resolve()
    if real.parent.name == "snapshots":
        return Model(name=name, path=real, root=real.parent.parent)
    return Model(name=name, path=folder, root=folder)


def _from_hub(name: str, *, download: bool) -> Resolved:
    # Imported here: it takes longer than the launcher needs for everything else.
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        snapshot = Path(snapshot_download(name, local_files_only=True, ignore_patterns=_IGNORED))
    except LocalEntryNotFoundError:
        if not download:
            return Resolved(model=_not_yet(name))
        snapshot = _download(name)
        _mark(snapshot, [str(file.relative_to(snapshot)) for file in snapshot.rglob("*") if file.is_file()])
        complete = True
    except (OSError, ValueError) as error:
        raise _unavailable(name, error) from None
    else:
        complete = _is_marked(snapshot) or (download and _completed(name, snapshot))
    root = snapshot.parent.parent
    return Resolved(
        model=Model(name=name, path=snapshot, root=root, revision=snapshot.name), complete=complete
    )


def of_revision(name: str, revision: str) -> Model:
    """A commit of a model on the hub, downloaded when it is not in the cache.

    Raises:
        ModelNotFoundError: it is not in the cache, and the hub does not give it.
    """
    snapshot = _download(name, revision)
    return Model(name=name, path=snapshot, root=snapshot.parent.parent, revision=snapshot.name)


def config(name: str) -> dict[str, Any]:
    """A model's config.json: of a folder, or from the hub, which sends this one file.

    Raises:
        ModelNotFoundError: no such folder; or it is not in the cache and the hub does not give it.
        ModelConfigError: it is not a JSON object.
    """
    folder = folder_of(name)
    if is_folder(name):
        file = _from_folder(name, folder.absolute()).path / "config.json"
    elif not may_be_id(name):
        raise _no_folder(name)
    else:
        file = _config_from_hub(name)
    return read_config(file)


def read_config(file: Path) -> dict[str, Any]:
    """A config.json, or an adapter_config.json.

    Raises:
        ModelConfigError: it cannot be read, or is not a JSON object.
    """
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelConfigError(
            f"{file} cannot be read", [str(error)[:200]], why="a download broke off, or it is another file"
        ) from None
    if not isinstance(found, dict):
        raise ModelConfigError(f"{file} is not a model's configuration", ["it is no JSON object"])
    return found


def _config_from_hub(name: str) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        HfHubHTTPError,
        RepositoryNotFoundError,
    )

    try:
        return Path(hf_hub_download(name, "config.json", etag_timeout=_PATIENCE))
    except (
        EntryNotFoundError,
        GatedRepoError,
        RepositoryNotFoundError,
        HfHubHTTPError,
        OSError,
        ValueError,
    ) as error:
        raise ModelNotFoundError(
            f"config.json of {name} is not in the cache and cannot be downloaded",
            why=(str(error).splitlines() or [type(error).__name__])[0],
            hint="check the id, the network, HF_ENDPOINT (a mirror) and HF_TOKEN; or give a local folder",
        ) from None


def _no_folder(name: str) -> ModelNotFoundError:
    return ModelNotFoundError(
        f"there is no model folder {name!r}", hint="give a folder, or an id on the hub such as BAAI/bge-m3"
    )


def _download(name: str, revision: str | None = None) -> Path:
    """All files of a revision from the hub; those that are there stay as they are.

    Raises:
        ModelNotFoundError: the hub does not give them.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

    try:
        return Path(snapshot_download(name, revision=revision, ignore_patterns=_IGNORED))
    except GatedRepoError:
        raise ModelNotFoundError(
            f"{name} is gated", hint="accept its terms on the hub, and set HF_TOKEN (it stays on the host)"
        ) from None
    except RepositoryNotFoundError:
        raise ModelNotFoundError(
            f"the hub has no model {name!r}", why="the id is wrong, or it is private and HF_TOKEN is not set"
        ) from None
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise _unavailable(name, error) from None


def _unavailable(name: str, error: Exception) -> ModelNotFoundError:
    return ModelNotFoundError(
        f"{name} is not in the cache, or not all of it, and cannot be downloaded",
        why=(str(error).splitlines() or [type(error).__name__])[0],
        hint="check network, HF_ENDPOINT (a mirror) and HF_HUB_OFFLINE; or give a local folder",
    )


def _completed(name: str, snapshot: Path) -> bool:
    """Ask the hub once what belongs to a cached snapshot, and fetch what is missing.

    The question is one of its own, because the hub's library takes a partial snapshot for the answer when the
    network is down.

    Returns:
        False when the hub does not answer: then nobody knows.

    Raises:
        ModelNotFoundError: files are missing, and the hub does not give them.
    """
    from huggingface_hub import HfApi

    try:
        siblings = HfApi().model_info(name, revision=snapshot.name, timeout=_PATIENCE).siblings or []
    except Exception:  # noqa: BLE001 - whichever HTTP library it uses, of three so far: there was no answer
        return False
    names = [file.rfilename for file in siblings]
    wanted = [name for name in names if not any(fnmatch(name, pattern) for pattern in _IGNORED)]
    if _missing(snapshot, wanted):
        _download(name, snapshot.name)
    if missing := _missing(snapshot, wanted):
        raise _unavailable(name, OSError(f"{', '.join(missing)} did not come"))
    _mark(snapshot, wanted)
    return True


def _marker(snapshot: Path) -> Path:
    return paths.cache() / "models" / f"{snapshot.parent.parent.name}@{snapshot.name}"


def _mark(snapshot: Path, names: Sequence[str]) -> None:
    """Remember what belongs to a snapshot: files may go again, and other caches have other parts of it."""
    with suppress(OSError):  # without it the hub is asked again, nothing else
        paths.write_atomic(_marker(snapshot), "".join(f"{name}\n" for name in sorted(names)))


def _is_marked(snapshot: Path) -> bool:
    try:
        names = _marker(snapshot).read_text(encoding="utf-8").splitlines()
    except OSError:
        return False
    return bool(names) and not _missing(snapshot, names)


def _missing(snapshot: Path, names: Sequence[str]) -> list[str]:
    return [name for name in names if not (snapshot / name).is_file()]


def _not_yet(name: str) -> Model:
    """Where the hub's library will put it; ``REVISION`` stands for the commit that only the hub knows."""
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    root = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=name, repo_type="model")
    return Model(name=name, path=root / "snapshots" / "REVISION", root=root, revision="REVISION")


def size(model: Model) -> int:
    """Bytes of a folder's weights; 0: it holds none, or is not there."""
    return sum(file.stat().st_size for file in _weights(model.path)) if model.path.is_dir() else 0


def size_on_hub(name: str, *, patience: float) -> int:
    """Bytes that a model takes, as the hub says; 0: it does not say.

    Args:
        name: its id.
        patience: seconds that the hub has.
    """
    from huggingface_hub import HfApi

    try:
        found = HfApi().model_info(name, files_metadata=True, timeout=patience).siblings or []
    except Exception:  # noqa: BLE001 - as in _completed: there was no answer
        return 0
    wanted = [file for file in found if not any(fnmatch(file.rfilename, each) for each in _IGNORED)]
    return sum(file.size or 0 for file in wanted)


def weights_sha256(model: Model) -> str:
    """sha256 over the names and bytes of a folder's weights, in the order of their names."""
    digest = hashlib.sha256()
    for file in _weights(model.path):
        digest.update(file.name.encode() + b"\0")
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def _weights(folder: Path) -> Iterator[Path]:
    yield from sorted(file for file in folder.iterdir() if file.suffix in (".safetensors", ".bin", ".pt"))
