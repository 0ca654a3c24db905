"""``launch doctor``: look at this machine from all sides at once, then say what it means for a run.

Probes find facts (:mod:`launcher.app.examination`), judges turn them into lines (:mod:`launcher.diagnosis`);
what breaks on the way is a line as well.
"""

import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from launcher import compatibility, host, paths, recipe
from launcher.app import examination, probes
from launcher.app.accelerators import counted_of_intel, gpus_of, used_of_intel
from launcher.app.examination import Devices, Examination, Seen
from launcher.app.plan import pick_target
from launcher.app.preflight import LIMITS, guarded
from launcher.app.wishes import Asked
from launcher.cuda import Nvidia
from launcher.diagnosis import engine as engines
from launcher.diagnosis import gpus as cards
from launcher.diagnosis import machine, network, storage
from launcher.diagnosis.catalogue import CHECKS
from launcher.diagnosis.facts import Answer, ModelFacts
from launcher.diagnosis.lines import Line, bytes_of, failed, ok, skipped, unknown
from launcher.errors import CheckError, LaunchError, ProblemsError
from launcher.host import Host
from launcher.intel import Intel
from launcher.lock import TargetLock
from launcher.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What ``launch doctor`` found.

    Attributes:
        target: that was looked at.
        why: it was picked; empty: it was asked for by name.
        engine: that runs would use, ``docker`` or ``venv``.
        lines: in the order of the catalogue.
        seconds: that it took.
    """

    target: str
    why: str
    engine: str
    lines: tuple[Line, ...]
    seconds: float


def examine(
    *, target: str | None, recipe_name: str | None, model_name: str | None, chosen: Settings
) -> Report:
    """Look at this machine for a target, a recipe and a model.

    Args:
        target: a name, ``auto``, or None: by the settings.
        recipe_name: a recipe, whose targets and default model count; None: none.
        model_name: a folder or an id of the hub; None: the recipe's default.
        chosen: the user's settings.

    Raises:
        UsageError: there is no such target.
        RecipeError: there is no such recipe, or it is not valid.
    """
    begin = time.monotonic()
    found = recipe.load(recipe.find(recipe_name, paths.recipes())) if recipe_name else None
    here, trouble = _here()
    picked, why = pick_target(target, Asked(), chosen, found, here)
    name = model_name or (found.model.default if found and found.model else None)
    seen = examination.look(picked, here, chosen, name)
    lines = {line.name: line for line in found_in(seen, trouble or why, here.kernel)}
    return Report(
        target=picked.name,
        why=why,
        engine="docker" if seen.container else "venv",
        lines=tuple(lines[each] for each in CHECKS if each in lines),
        seconds=time.monotonic() - begin,
    )


def _here() -> tuple[Host, str]:
    """The machine, or one without GPUs and why nobody knows better: a driver may hang, or trees be closed."""
    found = probes.gather({"host": host.facts}, patience=examination.ANSWER)["host"]
    if isinstance(found, Host):
        return found, ""
    unseen = Host(cpus=1, memory=0, nvidia=0, intel=0, render_groups=(), kernel=platform.release())
    return unseen, f"the GPUs could not be counted ({getattr(found, 'why', 'no answer')})"


def judge(lines: Sequence[Line]) -> None:
    """Raise when something failed; warnings and what was skipped pass.

    Raises:
        CheckError: all that failed.
    """
    bad = [line for line in lines if line.status == "failed"]
    if bad:
        raise CheckError(
            f"{len(bad)} of {len(lines)} checks of this machine failed",
            [f"{line.name}: {line.found}" for line in bad],
            hint=bad[0].fix,
        )


def found_in(seen: Examination, why: str, kernel: str) -> tuple[Line, ...]:
    """All lines of an examination; judging goes on where one judge breaks.

    Args:
        seen: what the probes found.
        why: the target was picked; empty: it was asked for by name.
        kernel: its release.
    """
    return (
        *_of_the_target(seen, why),
        *_of_the_engine(seen),
        *_of_the_gpus(seen, kernel),
        *_of_the_machine(seen),
        *_of_the_disks(seen),
        *_of_the_network(seen),
    )


def _of_the_target(seen: Examination, why: str) -> tuple[Line, ...]:
    name = seen.target.name

    def choice(found: Devices) -> Line:
        said = f"{name}: {why or 'asked for'}"
        if found.refused is None:
            return ok("target", said)
        problems = found.refused.problems if isinstance(found.refused, ProblemsError) else ()
        return failed("target", "; ".join(problems) or found.refused.message, fix=found.refused.hint)

    def libraries(found: TargetLock) -> Line:
        versions = {package.name: package.version for package in found.packages}
        wrong = compatibility.shipped().contradictions(versions)
        if wrong:
            return failed("libraries", "; ".join(wrong), target=name)
        return ok("libraries", f"{len(versions)} packages, nothing known against them")

    return (
        *guarded(["target"], seen.facts["devices"], choice),
        *guarded(["libraries"], seen.facts["lock"], libraries),
    )


_ENGINE = ("engine.storage", "engine.builder", "engine.rootless", "engine.disk", "image")


def _of_the_engine(seen: Examination) -> tuple[Line, ...]:
    fact, target = seen.facts["engine"], seen.target

    def answered(found: Seen) -> tuple[Line, ...]:
        facts, image = found.engine, seen.image if seen.container else None
        return (
            engines.engine(facts, wanted=True),
            engines.storage(facts),
            engines.builder(facts, image=image),
            engines.rootless(facts, nvidia=target.devices.kind == "nvidia"),
            engines.disk(facts, image=image, largest=target.max_size),
            _image(seen, found),
        )

    def made(found: bool) -> Line:
        return engines.environment(made=found, used=not seen.container, target=target.name)

    if isinstance(fact, Seen):
        lines = guarded(["engine", *_ENGINE], fact, answered)
    else:
        wanted = seen.chosen.engine.value == "docker"
        silent = guarded(["engine"], fact, lambda found: engines.engine(found, wanted=wanted))
        lines = (*silent, *_without(_ENGINE, "no engine answers"))
    return (*lines, *guarded(["environment"], seen.facts["environment"], made))


def _image(seen: Examination, found: Seen) -> Line:
    if not seen.container:
        return skipped("image", "runs take place without a container")
    if isinstance(found.image, LaunchError):
        return unknown("image", found.image.message)
    return engines.image(found.image, target=seen.target.name)


def _of_the_gpus(seen: Examination, kernel: str) -> tuple[Line, ...]:
    def nvidia(found: Devices) -> tuple[Line, ...]:
        have = found.host.cards
        if not isinstance(have, Nvidia) or not found.host.nvidia:
            return _without(cards.NVIDIA, "no GPU of NVIDIA here")
        return _of_nvidia(seen, found, have)

    def intel(found: Devices) -> tuple[Line, ...]:
        have = found.host.cards
        if not isinstance(have, Intel):
            return _without(cards.INTEL, "no GPU of Intel here")
        used, counted = used_of_intel(found.gpus, found.host), counted_of_intel(found.gpus, found.host)
        return cards.intel_lines(have, used, counted, kernel=kernel, container=seen.container)

    lines: tuple[Line, ...] = ()
    for kind, names, say in (("nvidia", cards.NVIDIA, nvidia), ("intel", cards.INTEL, intel)):
        if seen.target.devices.kind == kind:
            lines += guarded(names, seen.facts["devices"], say)
        else:
            lines += _without(names, f"the target {seen.target.name} does not use them")
    return lines


def _without(names: Sequence[str], why: str) -> tuple[Line, ...]:
    return tuple(skipped(name, why) for name in names)


def _of_nvidia(seen: Examination, found: Devices, have: Nvidia) -> tuple[Line, ...]:
    target, there, locked = seen.target, seen.known("engine"), seen.known("lock")
    versions = {package.name: package.version for package in locked.packages} if locked else {}
    least = compatibility.shipped().least(versions)
    return (
        cards.nvidia_driver(have, target),
        cards.nvidia_runtime(there.engine if isinstance(there, Seen) else None, container=seen.container),
        cards.nvidia_capability(have, gpus_of(found.gpus, found.host), target, least),
        *guarded(["nvidia.ecc"], found.health, cards.nvidia_ecc),
        *guarded(["nvidia.memory"], found.health, cards.nvidia_memory),
    )


def _of_the_machine(seen: Examination) -> tuple[Line, ...]:
    trains, weights = seen.target.devices.kind == "none", _model(seen).size
    wanted = bytes_of(seen.chosen.shm_size.value or seen.target.devices.shm_size)
    ram, container = seen.known("memory"), seen.container
    answers = tuple(each for each in seen.facts.values() if isinstance(each, Answer))
    return (
        *guarded(["cpu"], seen.facts["cpu"], lambda found: machine.cpu(found, trains=trains)),
        *guarded(
            ["memory"],
            seen.facts["memory"],
            lambda found: machine.memory(found, weights=weights, trains=trains),
        ),
        *guarded(
            ["shm"],
            seen.facts["shm"],
            lambda found: machine.shm(found, wanted=wanted, container=container, ram=ram),
        ),
        *guarded(LIMITS, seen.facts["limits"], lambda found: machine.limits(found, container=container)),
        *guarded(["clock"], answers, lambda found: machine.clock(time.time(), found)),
    )


def _model(seen: Examination) -> ModelFacts:
    """The model with its size, which the hub may have said; an unnamed one when there is none."""
    found = seen.known("model")
    if not isinstance(found, ModelFacts):
        return ModelFacts(name="", present=True)
    said = seen.known("model.size")
    return found if found.present or not said else replace(found, size=said)


def _of_the_disks(seen: Examination) -> tuple[Line, ...]:
    weights, image = _model(seen).size, seen.image
    done = seen.known("environment") if not seen.container else image is None or image.built
    needed = 0 if done else seen.target.max_size or 0
    hub = seen.known("hub")
    reachable = not seen.settings.hub_offline and isinstance(hub, Answer) and hub.reached

    def named(found: ModelFacts | None) -> Line:
        return storage.model(found and _model(seen), reachable=reachable)

    def fits(found: Any) -> Line:
        return storage.models(found, _model(seen))

    return (
        *guarded(["disk.output"], seen.facts["output"], lambda found: storage.output(found, weights=weights)),
        *guarded(["disk.cache"], seen.facts["cache"], lambda found: storage.cache(found, needed=needed)),
        *guarded(["disk.models"], seen.facts["models"], fits),
        *guarded(["model"], seen.facts["model"], named),
        *guarded(["token"], seen.facts["token"], storage.token),
    )


def _of_the_network(seen: Examination) -> tuple[Line, ...]:
    settings, image = seen.settings, seen.image

    def asked(name: str, *probes: str, not_asked: str = "") -> tuple[Line, ...]:
        answers = tuple(_answer(seen.facts[each], each) for each in probes if each in seen.facts)
        return guarded([name], answers, lambda found: network.reach(name, found, not_asked=not_asked))

    wheels = [name for name in seen.facts if name.startswith("wheels ")]
    here = "the image is here" if image and image.built else ""
    return (
        *guarded(["network.settings"], settings, network.settings_line),
        *asked("network.hub", "hub", not_asked=settings.hub_offline and f"{settings.hub_offline} is set"),
        *asked(
            "network.packages",
            "packages",
            not_asked=settings.packages_offline and f"{settings.packages_offline} is set",
        ),
        *asked("network.wheels", *wheels, not_asked="" if wheels else "none is missing"),
        *asked("network.images", "images", not_asked=here if seen.container else "runs need no image"),
    )


def _answer(fact: Any, name: str) -> Answer:
    """An answer; one that did not come in time, or at all, is no answer from that place."""
    if isinstance(fact, Answer):
        return fact
    return Answer(host=name.removeprefix("wheels "), reached=False, why=getattr(fact, "why", "no answer"))
