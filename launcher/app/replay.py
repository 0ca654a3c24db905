"""Repeat a run: check that all it names is what it was, run the same plan again, compare what came out."""

import json
import os
import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import launcher
from launcher import data, finite, host, manifest, metrics, paths, recipe, replay, runs, settings
from launcher.app import accelerators, execute, files, moving, origin, overrides, place, preflight, sameness
from launcher.app import plan as planning
from launcher.app.execute import Begun
from launcher.app.moving import Data
from launcher.app.origin import Origin
from launcher.app.plan import Planned
from launcher.app.rules import rules_of
from launcher.data import DataFile, documents
from launcher.engines.base import Engine
from launcher.errors import ChangedError, RecordError, UsageError
from launcher.host import Host
from launcher.plan import RunPlan
from launcher.progress import Progress
from launcher.replay import Comparison, Equality, Fact
from launcher.runs import Record

SCHEMA = 1

#: In the record of a repetition: what it repeats, what differed, what came out.
FILE = "replay.json"

#: There too, of a run in one file: that file's content, whose recipe and runtime are used.
KEPT = "origin"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the command line says.

    Attributes:
        data: files and folders that hold the data now; empty: it is where it was.
        models: folders by parameter; ``model`` is the one to start from.
        files: files by parameter.
        allowed: kinds of differences.
    """

    data: tuple[Path, ...] = ()
    models: Mapping[str, Path] = field(default_factory=dict)
    files: Mapping[str, Path] = field(default_factory=dict)
    output: Path | None = None
    secrets: Mapping[str, str] = field(default_factory=dict)
    allowed: Collection[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """A repetition that may begin."""

    run: str
    origin: Origin
    planned: Planned
    moved: Data
    comparison: Comparison
    allowed: tuple[str, ...]


def load(name: str) -> Origin:
    """A run by its id or record, or by the file that was exported.

    Raises:
        RecordError, UsageError: see :mod:`launcher.app.origin`.
    """
    return origin.of_file(Path(name)) if Path(name).is_file() else origin.of_record(runs.find(name))


def prepare(of: Origin, asked: Asked, progress: Progress) -> Ready:
    """Compare, and plan the repetition; nothing is left behind when it is refused.

    Raises:
        ChangedError: what differs and was not allowed, everything at once.
        UsageError: a secret is missing, a variable, path or model that is none.
        DeviceError, CheckError, OutOfMemoryError: this machine is not fit for it.
    """
    try:
        return _prepared(of, asked, progress)
    except BaseException:
        if of.staged is not None:
            shutil.rmtree(of.staged)
        raise


def _prepared(of: Origin, asked: Asked, progress: Progress) -> Ready:
    overrides.check_secrets(of.plan, asked.secrets)
    run = runs.new_id(of.plan.recipe)
    folder = paths.runs() / run
    moved = moving.find(of.plan, asked.data, folder, progress) if asked.data else moving.as_it_was(of.plan)
    plan = moving.with_files(moving.with_models(of.plan, asked.models), asked.files)
    machine, engine = host.facts(), place.known(plan)
    fingerprints = moving.fingerprints(moved)
    comparison = replay.compare(_facts(of, plan, moved, fingerprints, machine, engine))
    _refuse(of, comparison, asked.allowed)
    if fingerprints != tuple(file.sha256 for file in plan.data):
        moved = replace(moved, files=_checked(plan, moved, progress))
    plan = replace(
        plan,
        launcher=launcher.version(),
        recipe_sha256=recipe.load(plan.recipe_path).sha256,
        runtime_sha256=recipe.runtime_sha256(plan.recipes),
        inputs=moved.inputs,
        data=moved.files,
        files=files.as_they_are(plan.files),
        output=asked.output.absolute() if asked.output else None,
    )
    if of.staged is not None:
        inside = str(plan.recipe_path.relative_to(plan.recipes.parent))
        plan = origin.rebased(plan, folder / KEPT / origin.SOURCE, inside)
    planned = _placed(plan, asked.secrets, machine, progress)
    said = preflight.ready(planned, dry_run=False)
    planned = replace(planned, notes=(*planned.notes, *said))
    return Ready(
        run=run,
        origin=of,
        planned=planned,
        moved=moved,
        comparison=comparison,
        allowed=tuple(sorted(asked.allowed)),
    )


def _facts(
    of: Origin,
    plan: RunPlan,
    moved: Data,
    fingerprints: Sequence[str],
    machine: Host,
    engine: Engine[Any],
) -> list[Fact]:
    found = list(sameness.of_code(plan))
    # Of other packages it is another image anyway.
    if not any(fact.kind == "lock" and fact.was != fact.now for fact in found):
        found += sameness.of_image(plan, engine, of.image_digest)
    found += [
        Fact(kind="data", subject=str(path), was=file.sha256, now=now)
        for file, path, now in zip(plan.data, moved.found, fingerprints, strict=True)
    ]
    found += sameness.of_files(plan)
    found += [sameness.of_model(used, of.models.get(name, {})) for name, used in sameness.models(plan)]
    return [*found, sameness.of_launcher(plan), *sameness.of_host(of.host, machine)]


def _refuse(of: Origin, comparison: Comparison, allowed: Collection[str]) -> None:
    refused = comparison.refused(allowed)
    if not refused:
        return
    kinds = [kind for kind in comparison.kinds() if any(each.kind == kind for each in refused)]
    missing = [str(each) for each in refused if each.missing]
    hint = " ".join(f"--allow {kind}" for kind in kinds) + " runs it with what is here"
    raise ChangedError(
        f"{of.run} cannot be repeated as it was: {', '.join(kinds)}",
        [f"{each.kind}: {each}" for each in refused],
        why="what differs may change the result",
        hint="bring what is missing: --data PATH, --model PATH, --file NAME=PATH, launch image build"
        if missing
        else hint,
    )


def _checked(plan: RunPlan, moved: Data, progress: Progress) -> tuple[DataFile, ...]:
    """Data that has changed, and was allowed to, as a new run would have it.

    Raises:
        DataError: rows that would fail, or train the wrong thing.
    """
    found = recipe.load(plan.recipe_path)
    format_ = found.data.format if found.data else ""
    rules = rules_of(format_, dict(plan.parameters), launch=found.launch)
    if format_ == documents.DOCUMENTS:
        files = documents.find(moved.found, progress=progress)
    else:
        files = (data.check if plan.preflight else data.identify)(moved.found, rules, progress=progress)
    return tuple(replace(file, path=planned.path) for file, planned in zip(files, moved.files, strict=True))


def _placed(plan: RunPlan, secrets: Mapping[str, str], machine: Host, progress: Progress) -> Planned:
    """The plan on this machine: its engine, devices and user."""
    target, notes = manifest.shipped().target(plan.target), list[str]()
    if place.lock_of(plan).digest != plan.lock_digest:  # it was allowed
        chosen = settings.load()
        where = place.choose(plan.engine, chosen, target, dry_run=False, notes=notes, progress=progress)
        engine = where.engine
        plan = replace(plan, image=where.image, lock_digest=where.lock.digest, without=where.lock.left_out)
    else:
        engine = place.of(plan, progress)
    groups = machine.render_groups if target.devices.device_groups else ()
    uid, gid = planning.caller(engine)
    plan = replace(plan, uid=uid, gid=gid, access=replace(plan.access, groups=groups))
    machine = accelerators.look(machine, target)
    accelerators.check_again(plan, target, machine, notes=notes)
    return Planned(plan=plan, engine=engine, host=machine, secrets=secrets, notes=tuple(notes))


def begin(ready: Ready) -> Begun:
    """Write the new record's first part, with what it repeats.

    Raises:
        OutputError, ImageMissingError, DeviceError: see :func:`launcher.app.execute.begin`.
    """
    staged = ready.origin.staged
    try:
        begun = execute.begin(ready.planned, run=ready.run)
    except BaseException:
        if staged is not None:
            shutil.rmtree(staged)
        raise
    folder = begun.place.run
    if staged is not None:
        os.rename(staged, folder / KEPT)  # noqa: PTH104 - one system call, and no copy across file systems
    moving.make(ready.moved)
    # What a container gets of a link is the file behind it, which is there only now.
    submission = ready.planned.engine.render(ready.planned.plan, begun.place, begun.start)
    paths.write_atomic(folder / "command", submission.printed() + "\n")
    _write(folder, summary(ready, None))
    return begun


def conclude(ready: Ready, folder: Path) -> Equality | None:
    """Compare what came out, and put it on the record; None: the repetition failed."""
    record = runs.load(folder)
    if record.result is None or record.result["exit_code"]:
        return None
    found = _judged(ready.origin, record)
    _write(folder, summary(ready, found))
    return found


def conclude_later(folder: Path) -> tuple[dict[str, Any], Equality]:
    """The comparison of a repetition whose launcher did not come to it; it is put on the record.

    Returns:
        replay.json, and the comparison in it.

    Raises:
        UsageError: it repeats no run, has not ended, or failed.
        RecordError: what it repeats, or its own record, cannot be read.
    """
    record, file = origin.ended(folder), folder / FILE
    if not file.is_file():
        raise UsageError(f"{record.id} repeats no run", hint=f"launch runs replay {record.id} repeats it")
    if (record.result or {}).get("exit_code"):
        raise UsageError(f"{record.id} failed: it is not compared", hint=f"launch runs show {record.id}")
    try:
        noted = json.loads(file.read_bytes())
        run, where = str(noted["replays"]), Path(noted["from"])
    except (ValueError, KeyError, TypeError, RecursionError):
        raise RecordError(f"{file} cannot be read") from None
    kept = folder / KEPT
    of = origin.of_kept(kept, run, where) if kept.is_dir() else origin.of_record(where)
    equality = _judged(of, record)
    noted["equality"] = _as_data(equality)
    _write(folder, noted)
    return noted, equality


def _judged(of: Origin, record: Record) -> Equality:
    now = origin.outputs_of(record) or {}
    return replay.judge(of.events, metrics.read(record.metrics), of.outputs, now)


def summary(ready: Ready, equality: Equality | None) -> dict[str, Any]:
    """The repetition as data; replay.json and ``--json`` have it."""
    found = ready.comparison
    return {
        "schema": SCHEMA,
        "replays": ready.origin.run,
        "from": str(ready.origin.where),
        "allowed": list(ready.allowed),
        "differences": [asdict(each) for each in found.differences],
        "notes": [asdict(each) for each in found.notes],
        "unknown": [{"kind": kind, "subject": subject} for kind, subject in found.unknown],
        "equality": None if equality is None else _as_data(equality),
    }


def _as_data(equality: Equality) -> dict[str, Any]:
    return {**asdict(equality), "equal": equality.equal, "says": str(equality)}


def _write(folder: Path, found: Mapping[str, Any]) -> None:
    text = json.dumps(finite.plain(found), indent=2, ensure_ascii=False, allow_nan=False)
    paths.write_atomic(folder / FILE, text + "\n")


def said(ready: Ready) -> list[str]:
    """What is worth a line before the start."""
    found = ready.comparison
    lines = [f"allowed: {each.kind}: {each}" for each in found.differences]
    lines += [f"cannot be compared, the record does not say: {subject}" for _, subject in found.unknown]
    return [*lines, *(f"note: {each}" for each in found.notes)]
