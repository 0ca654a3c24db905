"""How things are called on a cluster, and how it writes sizes; pure."""

import hashlib
import re
from typing import Any

from launcher.errors import UsageError
from launcher.plan import Start

#: Labels of everything that is made for a run. START is one start's; all its objects are found by it.
RUN, START, RECIPE, TARGET = "launch.run", "launch.start", "launch.recipe", "launch.target"
MANAGER = "app.kubernetes.io/managed-by"

#: Who made an object (one call of the launcher), and that all that belongs to it is there.
TOKEN, COMPLETE = "launch.token", "launch.complete"

#: Kueue's, of what waits in a queue of it. Source: https://kueue.sigs.k8s.io/docs/tasks/run/jobs/
QUEUE = "kueue.x-k8s.io/queue-name"

#: The number of a pod of an Indexed Job: an annotation since 1.21, a label since 1.28.
INDEX = "batch.kubernetes.io/job-completion-index"

#: 63 is the limit of a label and of a host name. JobSet adds ``-node-0-`` and a number to it.
_LONGEST = 50

_DIGEST = re.compile(r"[^\s@]+@sha256:[0-9a-f]{64}")

#: Docker's letters (launcher.app.plan._SIZE) stand for powers of 1024, which have an i here.
_SIZE = re.compile(r"([0-9]+)([kmgKMG]?)")

_TOLERATION = re.compile(r"(?P<key>[^=:\s]+)(?:=(?P<value>[^:\s]*))?(?::(?P<effect>\w+))?")
_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")


def of(start: Start) -> str:
    """The name of one start's objects: an RFC 1035 label, the same for whoever asks again.

    Ids that differ only in what is cut off, or in their letters' case, still get different names.
    """
    said = f"{start.run}/{start.attempt}"
    short = re.sub(r"[^a-z0-9]+", "-", start.run.lower())
    digest = hashlib.sha256(said.encode()).hexdigest()[:8]
    return f"launch-{short[: _LONGEST - 16].strip('-')}-{digest}"


def label(text: str) -> str:
    """A text as a label's value: 63 characters of a few kinds; what does not fit is cut, and marked."""
    plain = re.sub(r"[^A-Za-z0-9_.-]+", "-", text).strip("-_.")
    if plain == text and len(text) <= 63:
        return text
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    return f"{plain[:54].rstrip('-_.')}-{digest}".lstrip("-_.")


def quantity(size: str) -> str:
    """A size such as ``16g`` as the cluster writes it: ``16Gi``."""
    found = _SIZE.fullmatch(size)
    if found is None:  # the planning has checked it
        raise UsageError(f"{size!r} is no size")
    number, letter = found.groups()
    return number + {"": "", "k": "Ki", "m": "Mi", "g": "Gi"}[letter.lower()]


def by_digest(image: str) -> str:
    """The image's reference, if it names one image for ever.

    Raises:
        UsageError: it names a tag, or nothing.
    """
    if not _DIGEST.fullmatch(image):
        raise UsageError(
            f"--k8s-image {image}: the image is named by its digest, NAME@sha256:…",
            why="a tag may be another image by the time the last node pulls it",
            hint="launch image push prints the digest of what it has pushed",
        )
    return image


def toleration(text: str) -> dict[str, Any]:
    """``KEY[=VALUE][:EFFECT]`` as a pod has it.

    Raises:
        UsageError: it is something else.
    """
    found = _TOLERATION.fullmatch(text)
    if found is None or found["effect"] not in (None, *_EFFECTS):
        raise UsageError(
            f"--k8s-toleration takes KEY[=VALUE][:EFFECT], not {text!r}",
            hint=f"effects: {', '.join(_EFFECTS)}; none: all of them",
        )
    made = {"key": found["key"], "operator": "Exists" if found["value"] is None else "Equal"}
    if found["value"] is not None:
        made["value"] = found["value"]
    if found["effect"]:
        made["effect"] = found["effect"]
    return made
