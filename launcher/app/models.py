"""The models of a run: the one to start from, and those that parameters name."""

from collections.abc import Mapping

from launcher import licences, model
from launcher.errors import ModelNotFoundError, UsageError
from launcher.plan import Model
from launcher.recipe import Recipe


def first(given: str | None, found: Recipe, *, dry_run: bool, notes: list[str]) -> Model | None:
    """The model to start from: what was given, or the recipe's default.

    Args:
        notes: gets what is not known to be there.

    Raises:
        UsageError: a recipe without a model got one, or a start needs one.
        ModelNotFoundError: see launcher.model.resolve.
    """
    if found.model is None:
        if given:
            raise UsageError(f"{found.name} takes no --model")
        return None
    name = given or found.model.default
    if name is None:
        if dry_run:
            notes.append(f"no --model given; {found.name} needs {found.model.help.en}")
            return None
        raise UsageError(f"{found.name} needs --model", why=found.model.help.en)
    return _resolved(name, dry_run=dry_run, notes=notes)


def named(
    found: Recipe, values: Mapping[str, str], *, dry_run: bool, notes: list[str]
) -> tuple[tuple[str, Model], ...]:
    """(parameter, model) pairs of the parameters that name one; an empty text names none.

    Raises:
        ModelNotFoundError: with the option whose model it is.
    """
    models = []
    for item in found.parameters:
        if item.type == "model" and values[item.name]:
            try:
                models.append((item.name, _resolved(values[item.name], dry_run=dry_run, notes=notes)))
            except ModelNotFoundError as error:
                raise ModelNotFoundError(
                    f"{item.option}: {error.message}", why=error.why, hint=error.hint
                ) from None
    return tuple(models)


def _resolved(name: str, *, dry_run: bool, notes: list[str]) -> Model:
    resolved = model.resolve(name, download=not dry_run)
    if not resolved.model.path.exists():
        notes.append(f"{name} is not in the cache: a start downloads it first, here and not in the container")
    elif not resolved.complete and dry_run:
        notes.append(f"{name} is in the cache, perhaps in part: a start asks the hub once what is missing")
    elif not resolved.complete:
        notes.append(
            f"{name} is in the cache, perhaps in part: the hub, which knows, was not reached. "
            "Weights that are missing would be random"
        )
    if conditions := licences.conditions(resolved.model.path):
        notes.append(
            f"{name}: its README names the licence {conditions}, which may set conditions; "
            "they usually go for what is trained from it, too"
        )
    return resolved.model
