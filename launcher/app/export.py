"""A run as one file: all that is needed to understand it and to repeat it, but data and weights."""

import json
from dataclasses import dataclass
from pathlib import Path

from launcher import archive, lock, manifest, paths, recipe, replay, runs
from launcher.app import origin, sameness
from launcher.errors import ChangedError, UsageError
from launcher.plan import RunPlan
from launcher.runs import Record

#: Bytes of a log's end.
_LOG = 256 * 1024


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
        RecordError: the record cannot be read.
        ChangedError: recipe, runtime or locks are not those of the run any more.
    """
    record = runs.load(folder)
    if record.result is None:
        raise UsageError(f"{record.id} has not ended", hint=f"launch runs stop {record.id}")
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
            "models": origin.models_of(record),
            "outputs": origin.outputs_of(record),
        },
        indent=2,
        ensure_ascii=False,
    )
    return text.encode() + b"\n"


def _record(record: Record, *, log: bool) -> dict[str, bytes]:
    names = ["plan.json", "result.json", "command", "models.json", "metrics.jsonl", "replay.json"]
    named = [record.folder / name for name in names]
    named += [record.folder / "attempts" / f"{attempt.number}.json" for attempt in record.attempts]
    found = {
        f"{origin.RECORD}/{file.relative_to(record.folder)}": file.read_bytes()
        for file in named
        if file.is_file()
    }
    if log and record.log.is_file():
        found[f"{origin.RECORD}/log.txt"] = record.log.read_bytes()[-_LOG:]
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
