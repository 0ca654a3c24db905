"""A run as one file: all that is needed to understand it and to repeat it, but data and weights."""

import json
import os
from dataclasses import dataclass
from pathlib import Path

from launcher import archive, lock, manifest, metrics, paths, recipe, replay
from launcher.app import origin, sameness
from launcher.errors import ChangedError, RecordError
from launcher.plan import RunPlan
from launcher.runs import Record

#: Bytes of a log's end.
_LOG = 256 * 1024

#: Files of a record, where they are there.
_NAMES = ("plan.json", "result.json", "command", "models.json", "replay.json")


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """A run in one file.

    Attributes:
        content: the bytes; of the same record always the same ones.
        names: of the files in it.
        notes: what whoever gives it away should know.
    """

    content: bytes
    names: tuple[str, ...]
    notes: tuple[str, ...]


def export(folder: Path, *, log: bool) -> Exported:
    """Put a run into one file.

    Args:
        folder: of its record.
        log: with the end of what the recipe printed.

    Raises:
        UsageError: it has not ended.
        RecordError: the record cannot be read, or holds links.
        ChangedError: recipe, runtime or locks are not those of the run any more.
    """
    _refuse_links(folder)
    record = origin.ended(folder)
    changed = replay.compare(sameness.of_code(record.plan)).differences
    if changed:
        raise ChangedError(
            f"{record.id} cannot be exported: what it was made with has changed",
            [f"{each.kind}: {each}" for each in changed],
            why="the file would hold something else than what ran",
            hint="go back to the state of the run, e.g. git checkout, and export again",
        )
    sources, where = _sources(record.plan)
    files = {
        **_record(record, log=log),
        **{f"{origin.SOURCE}/{name}": path.read_bytes() for name, path in sources.items()},
        **_images(record.plan),
    }
    files[origin.MANIFEST] = _manifest(record, where)
    content = archive.pack(files)
    notes = [f"{record.plan.recipe}: {len(files)} files, {len(content) >> 10} KiB; no data, no weights"]
    notes += [
        f"{file.path.name} is not in it: elsewhere, launch runs replay needs --file {name}=PATH"
        for name, file in record.plan.files
    ]
    if f"{origin.RECORD}/log.txt" in files:
        notes.append("it holds what the recipe printed last; --no-log leaves that out")
    notes.append("plan and result hold paths and facts of this machine; no values of secrets")
    return Exported(content=content, names=tuple(sorted(files)), notes=tuple(notes))


def _manifest(record: Record, recipe_path: str) -> bytes:
    """What a reader looks at first."""
    text = json.dumps(
        {
            "schema": origin.SCHEMA,
            "run": record.id,
            "recipe": recipe_path,
            "data": [
                {"name": file.path.name, "sha256": file.sha256, "size": file.size, "rows": file.rows}
                for file in record.plan.data
            ],
            "files": {
                name: {"name": file.path.name, "sha256": file.sha256} for name, file in record.plan.files
            },
            "models": origin.models_of(record),
            "outputs": origin.outputs_of(record),
        },
        indent=2,
        ensure_ascii=False,
    )
    return text.encode() + b"\n"


def _refuse_links(folder: Path) -> None:
    """A recipe may write into its record: a link of it would put any file of the caller's into the export.

    Raises:
        RecordError: there are links among what is exported, or what is looked at for it.
    """
    named = [*(folder / name for name in (*_NAMES, "log.txt", "attempts")), *metrics.files(folder)]
    links = [path for path in (*named, *(folder / "attempts").glob("*")) if path.is_symlink()]
    if links:
        raise RecordError(
            f"{folder.name} is not exported: {', '.join(str(path.relative_to(folder)) for path in links)}",
            why="a record has no symbolic links there; the recipe may have made them, to files of yours",
            hint="look where they lead; to export it all the same, put the real files there",
        )


def _read(file: Path, last: int | None = None) -> bytes:
    """A file of the record, or its ``last`` bytes; never through a link."""
    with os.fdopen(os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as stream:
        if last is not None:
            stream.seek(max(0, stream.seek(0, os.SEEK_END) - last))
        return stream.read()


def _record(record: Record, *, log: bool) -> dict[str, bytes]:
    named = [*(record.folder / name for name in _NAMES), *metrics.files(record.folder)]
    named += [record.folder / "attempts" / f"{attempt.number}.json" for attempt in record.attempts]
    found = {
        f"{origin.RECORD}/{file.relative_to(record.folder)}": _read(file) for file in named if file.is_file()
    }
    if log and record.log.is_file():
        found[f"{origin.RECORD}/log.txt"] = _read(record.log, _LOG)
    return found


def _sources(plan: RunPlan) -> tuple[dict[str, Path], str]:
    """Recipe and all that its runtime's hash covers, by name; and the recipe's own name."""
    found = {str(file.relative_to(plan.recipes.parent)): file for file in recipe.runtime_files(plan.recipes)}
    shipped = plan.recipe_path.parent == plan.recipes
    where = f"{'recipes' if shipped else 'recipe'}/{plan.recipe_path.name}"
    return {**found, where: plan.recipe_path}, where


def _images(plan: RunPlan) -> dict[str, bytes]:
    """The manifest and the target's locks."""
    images, target = paths.images(), manifest.shipped().target(plan.target)
    named = ["manifest.toml", *(f"locks/{name}" for name in lock.file_names(target))]
    return {f"images/{name}": (images / name).read_bytes() for name in named}
