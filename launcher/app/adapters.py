"""Adapters need the model that they were made on: it is found, mounted and recorded like any other.

Whether it is the right one is judged in the container, by the files' headers and before anything is loaded
(recipes/llm/adapters.py); here it is only found, so that a base that has moved is no error of minutes later.
"""

from collections.abc import Iterator
from pathlib import Path

from launcher import model, runs
from launcher.errors import BaseNotFoundError, ModelNotFoundError, RecordError, UsageError
from launcher.plan import Model
from launcher.recipe import BASE, Recipe

#: Folders above a folder of adapters that may be its run's: an output has checkpoints.
_ABOVE = 2


def with_base(
    found: Recipe,
    first: Model | None,
    named: tuple[tuple[str, Model], ...],
    *,
    dry_run: bool,
    notes: list[str],
) -> tuple[tuple[str, Model], ...]:
    """The models that parameters name, and the base of the adapters that a run starts from.

    Args:
        found: the recipe; nothing happens when it takes no adapters.
        first: what was given as --model.
        named: by parameters; a base among them is taken as it is.
        dry_run: nothing is downloaded.
        notes: gets where the base was found.

    Raises:
        BaseNotFoundError: it is neither where the adapters say, nor where their run says.
        UsageError: a base was given for a whole model.
    """
    if not found.takes_adapters or first is None or not first.path.is_dir():
        return named
    given = any(name == BASE for name, _ in named)
    if not model.holds_adapters(first.path):
        if given:
            raise UsageError(
                f"--base goes with adapters, and {first.name} is a whole model",
                hint="leave --base out, or give --model the folder that holds adapter_config.json",
            )
        return named
    if given:
        return named
    base, how = _base(first.path, dry_run=dry_run)
    notes.append(f"the base of the adapters: {base.name if base.revision else base.path} ({how})")
    return (*named, (BASE, base))


def weights(found: Recipe, name: str, base: str) -> str:
    """The model whose weights a recipe loads: the base of adapters, otherwise the model itself.

    Args:
        name: of the model: a folder, or an id on the hub.
        base: as ``--base`` names it; empty: where the adapters say.

    Raises:
        BaseNotFoundError: as :func:`with_base`.
    """
    folder = model.folder_of(name)
    if not (found.takes_adapters and model.is_folder(name) and model.holds_adapters(folder)):
        return name
    if base:
        return base
    said, _ = _base(folder, dry_run=True)
    return said.name if said.revision else str(said.path)


def _base(folder: Path, *, dry_run: bool) -> tuple[Model, str]:
    """The base of a folder of adapters, and who said so."""
    config = model.read_config(folder / model.ADAPTERS)
    written, maker = str(config.get("base_model_name_or_path") or ""), _maker(folder)
    if written and model.is_folder(written):
        return model.resolve(written, download=False).model, "as they say"
    if model.may_be_id(written):
        same = maker is not None and maker.name == written
        revision = str(config.get("revision") or (maker.revision if maker is not None and same else ""))
        try:
            return _from_hub(written, "" if dry_run else revision, dry_run=dry_run), "as they say"
        except ModelNotFoundError as error:
            raise _lost(folder, written, error.why or error.message) from None
    if maker is not None and maker.path.is_dir():
        return maker, "by the record of their run"
    if maker is not None and maker.revision:
        return _from_hub(maker.name, maker.revision, dry_run=dry_run), "by the record of their run"
    raise _lost(
        folder, written, "it was moved, renamed or deleted, or the adapters come from another machine"
    )


def _lost(folder: Path, written: str, why: str) -> BaseNotFoundError:
    where = f"was {written}, which is not there" if written else "is not named in adapter_config.json"
    return BaseNotFoundError(
        f"the base of the adapters in {folder} {where}",
        why=why,
        hint="--base FOLDER|ID says where the model is that they were made on",
    )


def _from_hub(name: str, revision: str, *, dry_run: bool) -> Model:
    if revision and not dry_run:
        return model.of_revision(name, revision)
    return model.resolve(name, download=not dry_run).model


def _maker(folder: Path) -> Model | None:
    """What the run started from that made these adapters; None: they lie in no run, or it cannot be read."""
    for record in _records(folder):
        try:
            found = runs.load(record).plan.model
        except RecordError:
            continue
        if found is not None and not model.holds_adapters(found.path):
            return found
    return None


def _records(folder: Path) -> Iterator[Path]:
    """The record around a folder, or the one that claims it as its output."""
    for place in (folder, *folder.parents[:_ABOVE]):
        if (place / "plan.json").is_file():
            yield place
        claim = place / runs.CLAIM
        if claim.is_file():
            try:
                yield runs.find(claim.read_text(encoding="utf-8", errors="replace").strip())
            except UsageError:
                continue
