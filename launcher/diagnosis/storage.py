"""Disks, the model and the hub's token: whether what a run reads is there, and what it writes fits."""

from launcher.diagnosis.facts import Disk, ModelFacts, Token
from launcher.diagnosis.lines import Line, failed, ok, size, skipped, warning

#: What is kept free besides what is known to come, in bytes: logs, caches, the system's own.
_SPARE = 1_000_000_000

#: A checkpoint holds the weights and two moments of Adam, each as large; the result comes beside it.
_OUTPUT = 4


def output(facts: Disk, *, weights: int) -> Line:
    """Where runs are recorded.

    Args:
        facts: of the folder.
        weights: bytes of the model's files; 0: unknown.
    """
    found = f"{size(facts.free)} free in {facts.path}"
    if not facts.writable:
        return failed("disk.output", f"{facts.path} may not be written to")
    if facts.free < _SPARE // 10:
        return failed("disk.output", found)
    needed = _SPARE + _OUTPUT * weights
    if facts.free < needed:
        means = f"a checkpoint and the result take up to {size(_OUTPUT * weights)}" if weights else ""
        return warning("disk.output", found, means=means)
    return ok("disk.output", found)


def cache(facts: Disk, *, needed: int) -> Line:
    """The launcher's own cache.

    Args:
        facts: of the folder.
        needed: bytes that are still to come into it; 0: nothing is.
    """
    found = f"{size(facts.free)} free in {facts.path}"
    if not facts.writable:
        return failed("disk.cache", f"{facts.path} may not be written to")
    if facts.free < needed + _SPARE:
        means = f"files and environment take up to {size(needed)}" if needed else ""
        return warning("disk.cache", found, means=means)
    return ok("disk.cache", found)


def models(facts: Disk, model: ModelFacts | None) -> Line:
    """The Hugging Face cache.

    Args:
        facts: of the folder.
        model: the run's; None: it has none, or which is unknown.
    """
    found = f"{size(facts.free)} free in {facts.path}"
    missing = model.size if model and not model.present else 0
    if missing and facts.free < missing:
        return failed("disk.models", f"{found}, the model takes {size(missing)}")
    if not facts.writable:
        means = "a model that is not in it cannot be fetched"
        return warning("disk.models", f"{facts.path} may not be written to", means=means)
    return warning("disk.models", found) if facts.free < missing + _SPARE else ok("disk.models", found)


def model(facts: ModelFacts | None, *, reachable: bool) -> Line:
    """The model to start from.

    Args:
        facts: of it; None: neither a recipe nor a model was named.
        reachable: the hub may be asked, and answers.
    """
    if facts is None:
        return skipped("model", "no --model, and no --recipe with a default")
    weight = f", {size(facts.size)}" if facts.size else ""
    if facts.problem:
        return failed("model", facts.problem, fix=facts.hint, model=facts.name)
    if not facts.present:
        found = f"{facts.name} is not on this machine{weight}"
        if reachable:
            return warning("model", found, model=facts.name)
        return failed("model", f"{found}, and the hub cannot be asked", model=facts.name)
    if not facts.complete:
        return warning("model", f"{facts.name} is in the cache{weight}, perhaps in part", model=facts.name)
    return ok("model", f"{facts.name} is on this machine{weight}")


def token(facts: Token | None) -> Line:
    """The hub's token, of which nothing but its form is looked at."""
    if facts is None:
        return ok("token", "none; public models need none")
    if not facts.well_formed:
        return warning("token", f"{facts.origin} does not hold a token (hf_ and letters and digits)")
    return ok("token", f"from {facts.origin}")
