"""Will it fit: a recipe's step against a device's memory, before anything is loaded."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from launcher import host, manifest, model, paths, recipe
from launcher.app import accelerators, adapters, lengths, probing
from launcher.app import plan as planning
from launcher.app.plan import Planned
from launcher.app.probing import Watch
from launcher.app.wishes import Asked
from launcher.diagnosis.lines import bytes_of
from launcher.errors import LaunchError, UsageError
from launcher.fit import Estimate, Probe, advice, devices, read
from launcher.fit.advice import Advice, Question
from launcher.fit.step import LANGUAGE, Device, Setup, kind_of
from launcher.host import Host
from launcher.host.memory import facts as memory_facts
from launcher.manifest import Target
from launcher.progress import Progress
from launcher.recipe import Recipe
from launcher.recipe.refusals import held
from launcher.settings import Settings

_KINDS: Mapping[str, Device] = {"nvidia": "cuda", "intel": "xpu", "none": "cpu"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What the command line asked for; None: by settings, or by itself.

    Attributes:
        gpu: a GPU's name or its memory, such as ``24GB``.
        data: its longest texts bound the lengths.
        parameters: of the recipe, as text.
    """

    recipe: str
    target: str | None = None
    model: str | None = None
    gpu: str | None = None
    data: tuple[Path, ...] = ()
    nproc: int | None = None
    engine: str | None = None
    parameters: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitting:
    """A question about a recipe's step, with its answer.

    Attributes:
        where: the device, for people.
        key: names the model, recipe, target and device in the cache of probes.
        notes: what the reader should know of the figures.
    """

    request: Request
    recipe: Recipe
    model: str
    target: str
    where: str
    question: Question
    setup: Setup
    estimate: Estimate
    advice: Advice
    key: str
    notes: tuple[str, ...]


def judge(request: Request, chosen: Settings) -> Fitting:
    """Estimate, and say what would help.

    Raises:
        UsageError: the recipe does not train, or an option cannot be used.
        ModelNotFoundError: there is no config.json.
        ModelConfigError: its parameters cannot be counted.
        DataError: the data cannot be read.
    """
    found = recipe.load(recipe.find(request.recipe, paths.recipes()))
    kind_of(found.data.format if found.data else "", {}, declared=found.fit)
    notes: list[str] = []
    device = _named(request, chosen, found, notes) if request.gpu else _here(request, chosen, found, notes)
    target = device.target
    values = dict(found.values(target.name, request.parameters))
    _refuse(found, target.name, values)
    name = request.model or (found.model.default if found.model else None)
    if name is None:
        raise UsageError(f"{found.name} needs --model", why="its config.json says how large it is")
    config = model.config(adapters.weights(found, name, request.parameters.get("base", "")))
    memory = device.memory
    if memory is not None and target.devices.kind == "none":
        memory //= device.world  # processes on a CPU share its memory
    key = key_of(config, found, target.name, device.where)
    data_format = found.data.format if found.data else ""
    question = Question(
        shape=read(config),
        values=values,
        data_format=data_format,
        declared=found.fit,
        device=_KINDS[target.devices.kind],
        memory=memory,
        world=device.world,
        longest=lengths.longest(request.data, data_format, values) if request.data else None,
        probes=probing.load(key),
        allowed=lambda changed: _takes(found, target.name, changed),
    )
    estimate = question.answer()
    return Fitting(
        request=request,
        recipe=found,
        model=name,
        target=target.name,
        where=device.where,
        question=question,
        setup=question.setup(),
        estimate=estimate,
        advice=advice.advise(question),
        key=key,
        notes=(*notes, *_about(question, estimate)),
    )


def measure(fitting: Fitting, chosen: Settings, *, progress: Progress, watch: Watch) -> Probe:
    """Run a probe of a judged step, on this machine's device, and keep it.

    Raises:
        UsageError: the device that was judged is another one.
        OutOfMemoryError: the step does not fit.
        LaunchError: it could not be planned or started, or failed.
    """
    request = fitting.request
    if request.gpu:
        raise UsageError(
            "--probe measures this machine's device, and --gpu names another",
            hint="leave one of them out; a probe's figures stay with its device",
        )
    asked = planning.Request(
        recipe=request.recipe,
        target=fitting.target,
        engine=request.engine,
        model=request.model,
        nproc=request.nproc,
        parameters=request.parameters,
    )
    probe = probing.run(asked, fitting.question, chosen, progress=progress, watch=watch)
    probing.keep(fitting.key, probe)
    return probe


@dataclass(frozen=True, slots=True, kw_only=True)
class Foreseen:
    """A step that may not fit.

    Attributes:
        share: of the memory that it takes with the shortest texts; 1: all of it.
        text: how much, of what, and how that is known.
        advice: the options of the cheapest change that would help; empty: none was found.
    """

    share: float
    text: str
    advice: str

    def __str__(self) -> str:
        """As a note."""
        return f"memory: {self.text}{f'; do: {self.advice}' if self.advice else ''}"


def foreseen(planned: Planned) -> Foreseen | None:
    """What ``launch run`` should say before it starts; None when the step fits, or when nobody knows.

    Args:
        planned: a plan whose model is in a folder of this machine.
    """
    plan = planned.plan
    try:
        found = recipe.load(plan.recipe_path)
        target = manifest.shipped().target(plan.target)
        if plan.elsewhere or plan.model is None or not (found.fit or plan.world_size):
            return None
        loaded = dict(plan.models).get(recipe.BASE, plan.model)
        config = model.read_config(loaded.path / "config.json")
        where, memory = _device(target, planned.host, plan.access.gpus, [])
        if target.devices.kind == "none":
            limits = [limit for limit in (memory, bytes_of(plan.access.memory)) if limit]
            memory = min(limits) // plan.nproc if limits else None
        question = Question(
            shape=read(config),
            values=dict(plan.parameters),
            data_format=found.data.format if found.data else "",
            declared=found.fit,
            device=_KINDS[target.devices.kind],
            memory=memory,
            world=max(1, plan.world_size),
            probes=probing.load(key_of(config, found, target.name, where)),
            allowed=lambda changed: _takes(found, target.name, changed),
        )
        return _verdict(question, where)
    except LaunchError:  # not known is no verdict: the run itself says what is wrong
        return None


#: Tokens of the shortest query and passage: what a step takes with them is nearly that of its states.
_SHORTEST = (8, 8)


def _verdict(question: Question, where: str) -> Foreseen | None:
    """The lengths are the recipe's limits; how long the texts are nobody has counted."""
    estimate = question.answer()
    if estimate.verdict in ("fits", "unknown") or not estimate.memory:
        return None
    advised = advice.advise(question).cheapest
    how = "corrected by a probe" if estimate.probe else "estimated"
    numbers = f"about {gib(estimate.total)} of {gib(estimate.memory)} GiB with the longest texts"
    least = replace(question, longest=_SHORTEST).answer()
    return Foreseen(
        share=least.total / estimate.memory,
        text=f"{estimate.verdict}: {numbers} ({where}, {how})",
        advice=advised.options if advised else "",
    )


def gib(count: float, digits: int = 1) -> str:
    """Bytes in GiB, for people."""
    return f"{count / (1 << 30):.{digits}f}"


def key_of(config: Mapping[str, object], found: Recipe, target: str, where: str) -> str:
    """A model, recipe, target and device as one name: models of one configuration take the same memory."""
    text = json.dumps([config, found.name, found.sha256, target, where], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Judged:
    """A device that a step is judged on.

    Attributes:
        where: for people.
        memory: in bytes; None: unknown.
        world: processes, one device each.
    """

    target: Target
    where: str
    memory: int | None
    world: int


def _named(request: Request, chosen: Settings, found: Recipe, notes: list[str]) -> _Judged:
    """The device that ``--gpu`` names, with the target as asked or the first of the recipe's that fits it."""
    known = manifest.shipped()
    where, memory, device = devices.find(request.gpu or "")
    name = request.target or chosen.target.value
    if name != "auto":
        target = known.target(name)
        if device is not None and _KINDS[target.devices.kind] != device:
            raise UsageError(f"--gpu {request.gpu} is not a device of the target {target.name}")
    else:
        fitting = [known.target(name) for name in found.targets]
        wanted = device or "cuda"
        first = next((target for target in fitting if _KINDS[target.devices.kind] == wanted), None)
        if first is None:
            raise UsageError(
                f"{found.name} does not run on such a GPU", hint=f"targets: {', '.join(found.targets)}"
            )
        target = first
        if device is None:
            notes.append(
                f"target {first.name}: a size alone is taken for an NVIDIA GPU's (--target xpu for Intel's)"
            )
    return _Judged(target=target, where=where, memory=memory, world=request.nproc or 1)


def _here(request: Request, chosen: Settings, found: Recipe, notes: list[str]) -> _Judged:
    """The devices that ``launch run`` would take on this machine."""
    asked = Asked(nproc=request.nproc)
    machine = host.facts()
    target, why = planning.pick_target(request.target, asked, chosen, found, machine)
    if why:
        notes.append(f"target {target.name}: {why}")
    machine = accelerators.look(machine, target)
    gpus, world = accelerators.choose(asked, chosen.gpus, target, machine, dry_run=True, notes=notes)
    where, memory = _device(target, machine, gpus, notes)
    return _Judged(target=target, where=where, memory=memory, world=world)


def _device(target: Target, machine: Host, gpus: str, notes: list[str]) -> tuple[str, int | None]:
    """The device for people, and its memory in bytes (None: unknown).

    Args:
        gpus: as :func:`launcher.app.accelerators.choose` gives them; of several of NVIDIA's the smallest
            counts.
    """
    if target.devices.kind == "none":
        return "CPU", _ram()
    if target.devices.kind == "nvidia" and (taken := accelerators.gpus_of(gpus, machine)):
        smallest = min(taken, key=lambda gpu: gpu.memory)
        return smallest.name, smallest.memory or None
    if target.devices.kind == "intel" and (cards := accelerators.used_of_intel(gpus, machine)):
        name = cards[0].name
        memory = devices.by_name(name)
        if memory is None:
            notes.append(f"the memory of {name} is not in the table: no verdict; --gpu 24GB names it")
        return name, memory
    notes.append(f"no device of {target.name} to judge by: no verdict; --gpu NAME or --gpu 24GB names one")
    return f"no device of {target.name}", None


def _ram() -> int | None:
    """Bytes of RAM that processes of this machine, or of its control group, may have; None: unknown."""
    try:
        found = memory_facts()
    except OSError:
        return None
    return found.limit or found.total


def _refuse(found: Recipe, target: str, values: Mapping[str, str]) -> None:
    """What the recipe would refuse is not worth an estimate."""
    from launcher.recipe.refusals import refuse

    refuse(found, target, values, (), language="en")


def _takes(found: Recipe, target: str, values: Mapping[str, str]) -> bool:
    """Whether the recipe would run with these values."""
    choices = {item.name: item.choices for item in found.parameters if item.choices}
    known = all(value in choices.get(name, (value,)) for name, value in values.items())
    return known and not held(found.refusals, target, values, {})


def _about(question: Question, estimate: Estimate) -> Iterator[str]:
    """What the figures rest on."""
    step = question.setup()
    if estimate.probe is not None:
        of = estimate.probe.setup
        size = f"batch {of.batch}, {of.query_length}+{of.passage_length} tokens"
        yield f"corrected by a probe of {estimate.probe.when} ({size})"
    elif question.probes:
        yield "a probe of this model and recipe exists, with other options: it was not used"
    yield from _beyond(question)
    if question.bucketed and not question.values.get("bucket_batch_sizes"):
        yield "length bucketing measures its batches itself: this is one query of full length, which must fit"
    if step.offload:
        yield "what DeepSpeed moves to the host's memory is not counted"
    if question.longest is not None:
        yield "lengths are bounded by the data: a text has at most as many tokens as bytes"
    if step.device == "xpu":
        yield "no figure of the estimate was ever compared with an Intel GPU"
    if estimate.lacking:
        share, more = gib(step.vllm), gib(estimate.lacking)
        yield f"vLLM would not start: its share of {share} GiB is {more} GiB less than weights and one answer"


def _beyond(question: Question) -> Iterator[str]:
    """Texts that are longer than the model: memory is not all that they need."""
    step = question.setup({"length_bucketing": "false"})
    length, positions = max(length for _, length in step.texts), question.shape.positions
    if not positions or length <= positions:
        return
    name, most = question.length_name, question.longest_passage(step)
    if step.kind not in LANGUAGE and step.query_length >= positions:
        name, most = "query_max_len", positions // 2 if step.kind == "reranker" else positions
    of = "query and passage of together" if step.kind == "reranker" else "texts of"
    yield (
        f"{of} {length} tokens are longer than the model's {positions} positions: training fails at the "
        f"first, or teaches nothing; --{name.replace('_', '-')} {most} at most"
    )
