"""A plan made elsewhere, with what it names found here: data by content, models by digest, files as given."""

import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from launcher import data, model
from launcher.data import DataFile
from launcher.errors import ChangedError, RecordError, UsageError
from launcher.plan import Model, RunPlan
from launcher.progress import Progress

#: Where files lie in a record whose names had to be kept.
INPUTS = "inputs"


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """The data of a plan as it is here.

    Attributes:
        inputs: the paths that the recipe gets.
        files: the plan's, with their paths in ``inputs``; digests as they were recorded.
        found: where each of ``files`` is now, in the same order.
        kept: (path, file) pairs: what must be made at a path of the record, so that a file keeps its name.
    """

    inputs: tuple[Path, ...]
    files: tuple[DataFile, ...]
    found: tuple[Path, ...]
    kept: tuple[tuple[Path, Path], ...] = ()


def as_it_was(plan: RunPlan) -> Data:
    """The data at the paths that the plan names."""
    return Data(inputs=plan.inputs, files=plan.data, found=tuple(file.path for file in plan.data))


def find(plan: RunPlan, given: Sequence[Path], run: Path, progress: Progress) -> Data:
    """The plan's files among those that are given: by content, otherwise by name.

    Trainers read meaning from names and from the order of files, so both stay as they were: a file of another
    name becomes a link of the old one in the record, and a folder a folder of hard links or copies there.

    Args:
        plan: whose files they are.
        given: files, and folders that are looked through.
        run: the folder of the new record; nothing is made.
        progress: told about hashing.

    Raises:
        UsageError: a path that is not there.
        ChangedError: files that are not among them, each with its hash and rows.
        RecordError: a plan whose files would lie outside the record.
    """
    found = _matched(plan.data, _files(given), progress)
    missing = [file for file, path in zip(plan.data, found, strict=True) if path is None]
    if missing:
        raise ChangedError(
            f"{len(missing)} of {len(plan.data)} data files are not among what --data names",
            [
                f"data: {file.path.name}: sha256 {file.sha256}, {file.rows} rows, {file.size} bytes"
                for file in missing
            ],
            why="they are looked for by their sha256; a file that has changed must have kept its name",
            hint="--data PATH may be repeated, and may be a folder",
        )
    paths = tuple(path for path in found if path is not None)
    where = dict(zip((file.path for file in plan.data), paths, strict=True))
    inputs, places, kept = _inputs(plan, where, run / INPUTS)
    files = tuple(replace(file, path=places[file.path]) for file in plan.data)
    return Data(inputs=inputs, files=files, found=paths, kept=kept)


def _inputs(
    plan: RunPlan, where: Mapping[Path, Path], folder: Path
) -> tuple[tuple[Path, ...], dict[Path, Path], tuple[tuple[Path, Path], ...]]:
    """What the recipe gets, where each file of the plan lies in it, and what must be made for that.

    Args:
        where: the plan's path of each file, and where it is now.
        folder: of the new record, for what must keep its name.
    """
    inputs: list[Path] = []
    places: dict[Path, Path] = {}
    kept: list[tuple[Path, Path]] = []
    for number, path in enumerate(plan.inputs):
        own = folder / str(number) / path.name
        if path in where and where[path].name == path.name:
            inputs.append(where[path])
            places.setdefault(path, where[path])
            continue
        inputs.append(own)
        for file in (each for each in where if path == each or path in each.parents):
            place = own / file.relative_to(path)
            if ".." in (path.name, *file.relative_to(path).parts):  # the plan may be somebody else's
                raise RecordError(f"the plan has a data file {file}, which would lie elsewhere")
            kept.append((place, where[file]))
            places.setdefault(file, place)
    return tuple(inputs), places, tuple(kept)


def make(moved: Data) -> None:
    """Make what keeps its name in a record: links of single files; hard links or copies in folders.

    A container sees one folder at a time, and could not follow a link out of it.
    """
    for path, file in moved.kept:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path in moved.inputs:
            path.symlink_to(file)
            continue
        with suppress(OSError):
            os.link(file.resolve(), path)
            continue
        shutil.copyfile(file, path)


def _files(given: Sequence[Path]) -> list[Path]:
    absent = [str(path) for path in given if not path.exists()]
    if absent:
        raise UsageError(f"--data {', '.join(absent)}: does not exist")
    return list(dict.fromkeys(path.absolute() for each in given for path in _below(each)))


def _below(path: Path) -> Iterator[Path]:
    yield from (path,) if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())


def _matched(wanted: Sequence[DataFile], files: Sequence[Path], progress: Progress) -> list[Path | None]:
    """For each wanted file the one of its content, or the unused one of its name."""
    sizes = {file.size for file in wanted}
    fitting = [path for path in files if path.stat().st_size in sizes]
    progress.start("hashing", total=sum(path.stat().st_size for path in fitting), unit="bytes")
    digests: dict[str, list[Path]] = {}
    for path in fitting:
        digests.setdefault(_sha256(path, progress), []).append(path)
    progress.finish("hashing")
    found: list[Path | None] = []
    for file in wanted:
        same = digests.get(file.sha256, [])
        named = [path for path in same if path.name == file.path.name]
        found.append(next(iter((*named, *same)), None))
    used = {path for path in found if path is not None}
    for position, file in enumerate(wanted):
        if found[position] is None:
            named = [path for path in files if path.name == file.path.name and path not in used]
            found[position] = named[0] if len(named) == 1 else None
    return found


def _sha256(path: Path, progress: Progress) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
            progress.advance("hashing", len(block))
    return digest.hexdigest()


def fingerprints(moved: Data) -> tuple[str, ...]:
    """sha256 of each file as it is here; empty for one that is not."""
    return tuple(data.fingerprint(path) for path in moved.found)


def with_models(plan: RunPlan, given: Mapping[str, Path]) -> RunPlan:
    """The plan with its models where they are here.

    Args:
        plan: as it was recorded.
        given: folders by parameter; ``model`` is the one to start from.

    Raises:
        UsageError: the plan names no such model.
        ModelNotFoundError: no such folder, or the hub does not give the revision.
    """
    names = [*(["model"] if plan.model else []), *(name for name, _ in plan.models)]
    unknown = [name for name in given if name not in names]
    if unknown:
        raise UsageError(
            f"--model: the run has no model {', '.join(unknown)}", why=f"it has {', '.join(names) or 'none'}"
        )
    return replace(
        plan,
        model=_here(plan.model, given.get("model")) if plan.model else None,
        models=tuple((name, _here(used, given.get(name))) for name, used in plan.models),
    )


def with_files(plan: RunPlan, given: Mapping[str, Path]) -> RunPlan:
    """The plan with the files of its parameters where they are here; digests as they were recorded.

    Args:
        plan: as it was recorded.
        given: files by parameter.

    Raises:
        UsageError: the plan names no such file.
    """
    names = [name for name, _ in plan.files]
    unknown = [name for name in given if name not in names]
    if unknown:
        raise UsageError(
            f"--file: the run has no file {', '.join(unknown)}", why=f"it has {', '.join(names) or 'none'}"
        )
    here = {name: path.expanduser().absolute() for name, path in given.items()}
    return replace(
        plan,
        files=tuple((name, replace(file, path=here.get(name, file.path))) for name, file in plan.files),
    )


def _here(used: Model, given: Path | None) -> Model:
    if given is not None:
        return model.resolve(str(given), download=False).model
    if not used.path.is_dir() and used.revision:
        return model.of_revision(used.name, used.revision)
    return used
