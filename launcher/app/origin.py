"""A run that is to be repeated: of its record here, or of the file that was exported elsewhere."""

import json
import shutil
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from launcher import archive, metrics, paths, runs
from launcher.app import runs as seen
from launcher.errors import RecordError, UsageError
from launcher.plan import RunPlan
from launcher.runs import Record

SCHEMA = 1

#: Parts of an exported file.
MANIFEST, RECORD, SOURCE = "export.json", "record", "source"


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """What a record says that a repetition is measured by.

    Attributes:
        run: its id.
        where: the record's folder, or the exported file.
        plan: as it was recorded; of a file, recipe and runtime are in ``staged``.
        image_digest: None without a container.
        models: what the record says of each model, see :func:`launcher.app.sameness.of_model`.
        host: facts of its machine.
        outputs: sha256 of the files of its result; None: nobody knows any more.
        staged: a folder of recipe and runtime that becomes part of the new record; None: they are the plan's.
    """

    run: str
    where: Path
    plan: RunPlan
    image_digest: str | None
    models: dict[str, dict[str, str]]
    host: dict[str, Any] = field(default_factory=dict)
    events: list[metrics.Event] = field(default_factory=list)
    outputs: dict[str, str] | None = None
    staged: Path | None = None


def of_record(folder: Path) -> Origin:
    """A run by its record.

    Raises:
        RecordError, UsageError: see :func:`ended`.
    """
    record = ended(folder)
    return _origin(record, record.id, folder, outputs_of(record))


def ended(folder: Path) -> Record:
    """The record of a run that has ended; it is looked at, for its launcher may have been killed before.

    Raises:
        RecordError: it cannot be read.
        UsageError: it has not ended, or nobody knows.
    """
    found = seen.look(folder)
    if found.record is None:
        raise RecordError(f"{folder.name} cannot be read: {found.why}")
    if found.record.result is None:
        raise UsageError(
            f"{folder.name} has not ended: {found.state}",
            why=found.why,
            hint=f"launch runs show {folder.name}; launch runs stop {folder.name} ends it",
        )
    return found.record


def _origin(record: Record, run: str, where: Path, outputs: dict[str, str] | None) -> Origin:
    result = record.result or {}
    return Origin(
        run=run,
        where=where,
        plan=_with_absolute_data(record.plan),
        image_digest=record.attempts[-1].image_digest if record.attempts else result.get("image_digest"),
        models=models_of(record),
        host=dict(result.get("host") or {}),
        events=metrics.read(record.metrics),
        outputs=outputs,
    )


def _with_absolute_data(plan: RunPlan) -> RunPlan:
    """Older plans have data files as they were typed; the inputs beside them are absolute."""

    def absolute(path: Path) -> Path:
        folders = (folder for given in plan.inputs for folder in given.parents)
        fitting = (folder / path for folder in folders if _among(folder / path, plan.inputs))
        return path if path.is_absolute() else next(fitting, path)

    return replace(plan, data=tuple(replace(file, path=absolute(file.path)) for file in plan.data))


def _among(path: Path, inputs: tuple[Path, ...]) -> bool:
    return any(path == given or given in path.parents for given in inputs)


def outputs_of(record: Record) -> dict[str, str] | None:
    """Digests of a run's result; of a record that has none yet they are taken from what lies there."""
    result = record.result or {}
    if result.get("outputs"):
        return dict(result["outputs"])
    if result.get("exit_code") or not record.output.is_dir():
        return None
    return runs.outputs(record.output, trained=record.plan.world_size > 0)


def models_of(record: Record) -> dict[str, dict[str, str]]:
    """What a record says of each model; the one to start from is ``model``."""
    result, noted = record.result or {}, record.folder / "models.json"
    if noted.is_file():
        return dict(json.loads(noted.read_bytes()))
    first = {"model": result["model"]} if result.get("model") else {}
    return {**first, **result.get("models", {})}


def of_kept(folder: Path, run: str, where: Path) -> Origin:
    """A run by the content of its file, kept in the record of a repetition.

    Raises:
        RecordError: it is damaged.
    """
    try:
        outputs = json.loads((folder / MANIFEST).read_bytes())["outputs"]
    except (OSError, KeyError, ValueError, TypeError, RecursionError):
        raise RecordError(f"{folder / MANIFEST} cannot be read") from None
    return _origin(runs.load(folder / RECORD), run, where, outputs)


def of_file(file: Path) -> Origin:
    """A run by the file that was exported; recipe and runtime are unpacked beside the records.

    Raises:
        RecordError: not such a file, damaged, or of another version.
    """
    if (size := file.stat().st_size) > archive.MOST_BYTES:  # e.g. weights: refused unread
        raise RecordError(
            f"{file} is not a run in one file",
            why=f"it has {size >> 20} MiB; such a file has at most {archive.MOST_BYTES >> 20}",
            hint="launch runs export RUN makes one",
        )
    files = archive.unpack(file.read_bytes(), str(file))
    try:
        manifest = json.loads(files[MANIFEST])
        schema, run, recipe_path = manifest["schema"], str(manifest["run"]), str(manifest["recipe"])
        outputs = manifest["outputs"]
    except (KeyError, ValueError, TypeError, RecursionError):
        raise RecordError(
            f"{file} is not a run in one file", hint="launch runs export RUN makes one"
        ) from None
    if schema != SCHEMA:
        raise RecordError(
            f"{file} has the version {schema}, this launcher reads {SCHEMA}",
            why="it was written by another version of the launcher",
        )
    if f"{SOURCE}/{recipe_path}" not in files:
        raise RecordError(f"{file} is damaged: it has no {recipe_path}")
    paths.runs().mkdir(parents=True, exist_ok=True)
    staged = Path(tempfile.mkdtemp(prefix=".replay-", dir=paths.runs()))
    try:
        staged.chmod(0o755)  # a container's user reads recipes in it
        for name, content in files.items():
            paths.write_atomic(staged / name, content)
        record = runs.load(staged / RECORD)
        origin = _origin(record, run, file.absolute(), outputs)
    except BaseException:
        shutil.rmtree(staged)
        raise
    return replace(origin, staged=staged, plan=rebased(origin.plan, staged / SOURCE, recipe_path))


def rebased(plan: RunPlan, source: Path, recipe_path: str) -> RunPlan:
    """The plan with recipe and runtime of a folder.

    Args:
        plan: any.
        source: holds ``recipes/`` and ``ds_configs/``.
        recipe_path: of the recipe, in it.
    """
    return replace(plan, recipes=source / "recipes", recipe_path=source / recipe_path)
