"""What the nodes have in the place of this machine's folders; pure but for links that it resolves."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from launcher.errors import UncoveredError, UsageError
from launcher.plan import Mount

#: A claim, and a folder in it; or a folder of every node.
_SOURCE = re.compile(r"pvc:(?P<claim>[a-z0-9]([a-z0-9.-]*[a-z0-9])?)(/(?P<below>.+))?|host:(?P<path>/.*)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    """A folder of this machine, and what the nodes have for it.

    Attributes:
        folder: of this machine, absolute.
        claim: of a persistent volume; empty: ``path`` of the node.
        path: of the node; empty for a claim.
        below: folder in the claim; empty: its root.
    """

    folder: Path
    claim: str = ""
    path: str = ""
    below: str = ""

    def manifest(self, name: str) -> dict[str, Any]:
        """The pod's volume."""
        if self.claim:
            return {"name": name, "persistentVolumeClaim": {"claimName": self.claim}}
        return {"name": name, "hostPath": {"path": self.path, "type": "Directory"}}


def parsed(text: str) -> tuple[str, str]:
    """``FOLDER=pvc:NAME[/SUBPATH]`` or ``FOLDER=host:PATH``: what the plan keeps of it.

    Raises:
        UsageError: it is something else.
    """
    folder, _, source = text.partition("=")
    found = _SOURCE.fullmatch(source)
    if not folder or found is None or ".." in PurePosixPath(source).parts:
        raise UsageError(
            f"--k8s-volume takes FOLDER=pvc:NAME[/SUBPATH] or FOLDER=host:PATH, not {text!r}",
            why="FOLDER is where this machine has what the nodes mount",
        )
    return str(Path(folder).expanduser().absolute()), source


def read(pairs: Iterable[tuple[str, str]]) -> tuple[Volume, ...]:
    """The plan's pairs, those of the longest folders first: they win.

    Raises:
        UsageError: a pair of a plan that was written by hand.
    """
    made = []
    for folder, source in pairs:
        found = _SOURCE.fullmatch(source)
        if found is None:
            raise UsageError(f"a volume of the plan is neither pvc:NAME nor host:PATH: {source!r}")
        made.append(
            Volume(
                folder=Path(folder),
                claim=found["claim"] or "",
                path=found["path"] or "",
                below=(found["below"] or "").strip("/"),
            )
        )
    return tuple(sorted(made, key=lambda volume: len(volume.folder.parts), reverse=True))


def mounted(
    mounts: Iterable[Mount], volumes: tuple[Volume, ...]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The pod's volumes, and its container's mounts of them.

    Raises:
        UncoveredError: a mount lies below none of the volumes; all such mounts.
    """
    used: dict[tuple[str, str], tuple[str, Volume]] = {}
    found, missing = [], list[str]()
    for mount in mounts:
        placed = _placed(mount.source, volumes)
        if placed is None:
            missing.append(f"{mount.source} (there: {mount.target})")
            continue
        volume, inside = placed
        name, _ = used.setdefault((volume.claim, volume.path), (f"shared-{len(used)}", volume))
        entry: dict[str, Any] = {"name": name, "mountPath": str(mount.target)}
        if below := "/".join(part for part in (volume.below, inside) if part):
            entry["subPath"] = below
        if mount.read_only:
            entry["readOnly"] = True
        found.append(entry)
    if missing:
        raise UncoveredError(
            "the nodes do not have these folders",
            missing,
            why="each must lie below the FOLDER of a --k8s-volume, which this machine and the nodes share",
            hint="--k8s-volume FOLDER=pvc:NAME or FOLDER=host:PATH; LAUNCH_RUNS_DIR, LAUNCH_CACHE_DIR, "
            "HF_HOME and --output move the launcher's own folders",
        )
    return [volume.manifest(name) for name, volume in used.values()], found


def _placed(source: Path, volumes: tuple[Volume, ...]) -> tuple[Volume, str] | None:
    """The volume that a folder lies in, and where; as it is written, otherwise where its links lead."""
    for resolve in (False, True):
        wanted = source.resolve() if resolve else source
        for volume in volumes:
            folder = volume.folder.resolve() if resolve else volume.folder
            if wanted.is_relative_to(folder):
                inside = str(wanted.relative_to(folder))
                return volume, "" if inside == "." else inside
    return None
