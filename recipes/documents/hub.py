"""A data set on the hub: private unless asked otherwise, and never one that is there already."""

import os
from pathlib import Path
from typing import Any

TOKEN = "HF_TOKEN"  # noqa: S105 - the variable's name


class PushError(Exception):
    """Nothing can be pushed; the message says why, without the token."""


def check(repo: str) -> None:
    """Find out before any work whether a push can succeed.

    Raises:
        PushError: no token, or none that the hub knows; no network; or the data set exists.
    """
    from huggingface_hub.errors import HFValidationError

    if "/" not in repo:
        raise PushError(f"--push-to-hub {repo}: OWNER/NAME is needed")
    api = _api()
    try:
        api.whoami()  # to somebody whom it does not know the hub says of any data set that there is none
        if api.repo_exists(repo, repo_type="dataset"):
            raise PushError(f"the data set {repo} exists on the hub: nothing is overwritten, name another")
    except HFValidationError as error:
        raise PushError(f"--push-to-hub {repo}: {error}") from None
    except OSError as error:
        raise PushError(_why(repo, error)) from None


def push(folder: Path, names: list[str], repo: str, *, private: bool) -> str:
    """Make the data set and upload some files of a folder; its address.

    Raises:
        PushError: what the hub said, or that it did not answer.
    """
    api = _api()
    try:
        api.create_repo(repo, repo_type="dataset", private=private, exist_ok=False)
        done = api.upload_folder(
            repo_id=repo, repo_type="dataset", folder_path=folder, allow_patterns=names, commit_message="Rows"
        )
    except OSError as error:
        raise PushError(_why(repo, error)) from None
    return str(done)


def _api() -> Any:
    token = _token()
    if not token:
        raise PushError(f"--push-to-hub needs a token that may write: --env {TOKEN} --network bridge")
    # Recipes run offline in containers, where models are folders; a push is asked for by name.
    os.environ["HF_HUB_OFFLINE"] = "0"
    from huggingface_hub import HfApi, constants

    constants.HF_HUB_OFFLINE = False
    return HfApi(token=token)


def _why(repo: str, error: OSError) -> str:
    """What the hub answered, or that it did not."""
    said, answer = masked(str(error))[:300], getattr(error, "response", None)
    if answer is None:
        return f"the hub cannot be reached ({said}): a container has a network with --network bridge only"
    if answer.status_code == 401:
        return f"the hub does not know the token; give a valid one with --env {TOKEN}: {said}"
    return f"the hub refuses {repo}: {said}"


def _token() -> str:
    """Without the line's end that a file of it has: the client would repeat both in its error."""
    return os.environ.get(TOKEN, "").strip()


def masked(text: str) -> str:
    """A text without the token."""
    token = _token()
    return text.replace(token, "…") if token else text
