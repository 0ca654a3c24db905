"""What a run was made of, as named texts in groups: what two runs can differ in. Pure."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from launcher.comparison.figures import text
from launcher.plan import Model, RunPlan

#: Groups, in the order in which a difference is most likely to explain another result.
GROUPS = ("recipe", "parameter", "data", "model", "target", "packages", "runtime", "variable", "host")


#: Groups of which some is known only when a run has ended.
FOUND = ("model", "packages", "runtime", "host")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """One thing that was given or found.

    Attributes:
        group: one of ``GROUPS``.
        name: unique in its group.
        value: as people read it; hashes are whole.
    """

    group: str
    name: str
    value: str


def of_run(plan: RunPlan, result: Mapping[str, Any] | None) -> tuple[Fact, ...]:
    """All facts of a run: what was planned, and of a run that has ended what was found.

    Args:
        plan: its plan.
        result: its result.json; None for a run that has not ended.
    """
    found = [*_planned(plan), *_ended(plan, result or {})]
    facts = [Fact(group=group, name=name, value=value) for group, name, value in found if value]
    return tuple(sorted(facts, key=lambda each: GROUPS.index(each.group)))


def _planned(plan: RunPlan) -> Iterator[tuple[str, str, str]]:
    yield "recipe", "recipe", plan.recipe
    yield "recipe", "recipe sha256", plan.recipe_sha256
    yield "recipe", "runtime sha256", plan.runtime_sha256
    for name, value in plan.parameters:
        yield "parameter", name, value
    for name, named in plan.files:
        yield "parameter", f"{name} sha256", named.sha256
    yield "parameter", "raw arguments", " ".join(plan.arguments)
    for number, file in enumerate(plan.data):
        # By place, not by path: the same rows in another folder are the same data.
        name = file.path.name if len(plan.data) == 1 else f"{number + 1}: {file.path.name}"
        yield "data", name, f"{file.rows:,} rows, {text(file.size, 'bytes')}"
        yield "data", f"{name} sha256", file.sha256
    yield "target", "target", plan.target
    yield "target", "engine", plan.engine
    yield "target", "device", plan.device
    yield "target", "processes", str(plan.world_size or plan.nproc)
    yield "target", "GPUs", plan.access.gpus
    yield "target", "memory limit", plan.access.memory
    yield "packages", "lock digest", plan.lock_digest
    yield "packages", "left out", ", ".join(plan.without)
    yield "packages", "image", plan.image or ""
    for name, value in plan.env:
        yield "variable", name, value
    yield "variable", "secrets (names)", ", ".join(plan.secrets)
    yield "packages", "launcher", plan.launcher


def _ended(plan: RunPlan, result: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    models = {"model": plan.model, **dict(plan.models)}
    weights = {"model": result.get("model") or {}, **(result.get("models") or {})}
    for name, model in models.items():
        if model is not None:
            yield "model", name, model.name
            yield "model", f"{name} identity", _identity(model, weights.get(name) or {})
    yield from (("data", name, value) for name, value in _profile(result.get("profile") or {}))
    yield "packages", "image digest", str(result.get("image_digest") or "")
    for name, value in (result.get("versions") or {}).items():
        if name != "launcher":
            yield "packages", str(name), str(value)
    yield from (("runtime", name, value) for name, value in _runtime(result.get("runtime") or {}))
    buckets = result.get("buckets")
    if buckets:
        yield "runtime", "buckets", _flat(buckets)
    yield from (("host", name, value) for name, value in _host(result.get("host") or {}))


def _profile(profile: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Lengths and scripts of a sample of the rows."""
    for each in profile.get("lengths") or ():
        numbers = f"median {each['median']:,}, 95 % up to {each['high']:,}, longest {each['most']:,}"
        yield f"{each['field']}: {each['unit']}", f"{numbers} ({each['texts']:,} texts looked at)"
    scripts = [f"{name} {share:.0%}".replace("%", " %") for name, share in profile.get("scripts") or ()]
    yield "scripts", ", ".join(scripts[:5])


def _identity(model: Model, weights: Mapping[str, Any]) -> str:
    return str(weights.get("weights_sha256") or model.revision or weights.get("revision") or "")


def _runtime(runtime: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for patch in runtime.get("patches") or ():
        if isinstance(patch, dict):
            rest = {key: value for key, value in patch.items() if key != "name"}
            yield f"patch {patch.get('name', '?')}", _flat(rest)
        else:
            yield f"patch {patch}", "on"
    for key, value in runtime.items():
        if isinstance(value, dict):
            yield from ((f"{key}: {name}", _flat(each)) for name, each in value.items())
        elif key != "patches":
            yield key, _flat(value) if value else ""


def _host(host: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for key, value in host.items():
        if key == "memory" and isinstance(value, int):
            yield "RAM", text(value, "bytes")
        elif isinstance(value, dict) and value:
            yield from ((f"{key} {name}", each) for name, each in _host(value))
        elif value not in (None, "", [], {}):
            yield key.replace("_", " "), _flat(value)


def _flat(value: object) -> str:
    """A nested value as one line, the same for the same value."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {_flat(each)}" for key, each in value.items())
    if isinstance(value, list) and not any(isinstance(each, dict | list) for each in value):
        return ", ".join(map(str, value))
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)


def hashed(name: str) -> bool:
    """True when a fact of this name is a hash."""
    return name.endswith(("sha256", "digest", "identity"))


def shortened(name: str, value: str) -> str:
    """A value for a table of several runs: of a hash its beginning."""
    return value.removeprefix("sha256:")[:12] if hashed(name) else value
