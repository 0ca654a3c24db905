"""The model of a run: a folder as it is, or a hub id brought into the Hugging Face cache first.

The launcher downloads on the host, with the user's own endpoint, proxy and token; the run itself then
reads a folder and needs neither network nor token.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path

from launcher.errors import ModelNotFoundError
from launcher.plan import Model

#: What no recipe reads: other frameworks' weights, exported graphs, pictures.
_IGNORED = ["onnx/*", "*.onnx", "openvino/*", "*.msgpack", "*.h5", "*.ot", "imgs/*", "*.png", "*.jpg"]


def resolve(name: str, *, download: bool) -> Model:
    """Find a model, downloading it when it is a hub id that the cache lacks.

    Args:
        name: a folder, or an id such as ``BAAI/bge-m3``.
        download: False for a dry run, which fetches nothing and names the place where it would be.

    Raises:
        ModelNotFoundError: no such folder; or not in the cache and the hub does not give it.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        return _from_folder(name, folder.absolute())
    if folder.is_absolute() or name.startswith((".", "~")) or name.count("/") != 1:
        raise ModelNotFoundError(
            f"there is no model folder {name!r}",
            hint="give a folder, or an id on the hub such as BAAI/bge-m3",
        )
    return _from_hub(name, download=download)


def _from_folder(name: str, folder: Path) -> Model:
    if not (folder / "config.json").is_file():
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


def _from_hub(name: str, *, download: bool) -> Model:
    # Imported here: it takes longer than the launcher needs for everything else.
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    try:
        try:
            found = snapshot_download(name, local_files_only=True, ignore_patterns=_IGNORED)
        except LocalEntryNotFoundError:
            if not download:
                return _not_yet(name)
            found = snapshot_download(name, ignore_patterns=_IGNORED)
    except GatedRepoError:
        raise ModelNotFoundError(
            f"{name} is gated", hint="accept its terms on the hub, and set HF_TOKEN (it stays on the host)"
        ) from None
    except RepositoryNotFoundError:
        raise ModelNotFoundError(
            f"the hub has no model {name!r}", why="the id is wrong, or it is private and HF_TOKEN is not set"
        ) from None
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError, ValueError) as error:
        raise ModelNotFoundError(
            f"{name} is not in the cache, and cannot be downloaded",
            why=(str(error).splitlines() or [type(error).__name__])[0],
            hint="check network, HF_ENDPOINT (a mirror) and HF_HUB_OFFLINE; or give --model a local folder",
        ) from None
    snapshot = Path(found)
    return Model(name=name, path=snapshot, root=snapshot.parent.parent, revision=snapshot.name)


def _not_yet(name: str) -> Model:
    """Where the hub's library will put it; ``REVISION`` stands for the commit that only the hub knows."""
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    root = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=name, repo_type="model")
    return Model(name=name, path=root / "snapshots" / "REVISION", root=root, revision="REVISION")


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
