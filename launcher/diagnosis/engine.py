"""The container engine, the target's image, and the environment that runs go without a container."""

from launcher.diagnosis.facts import EngineFacts, ImageFacts
from launcher.diagnosis.lines import Line, failed, ok, size, skipped, unknown, warning
from launcher.errors import LaunchError
from launcher.lock import NEEDED

#: 23.0 is the first engine whose own builder knows `RUN --network=none` and named build contexts.
OLDEST = 23

#: Storage drivers that copy whole files or layers, by Docker's documentation, "Select a storage driver".
_SLOW = {"vfs": "every layer is a full copy", "devicemapper": "it was removed from newer engines"}


def engine(facts: EngineFacts | LaunchError, *, wanted: bool) -> Line:
    """Whether the engine answers.

    Args:
        facts: of it, or why it does not answer.
        wanted: a container was asked for, so that an environment is no way out.
    """
    if isinstance(facts, LaunchError):
        found = f"{facts.message}{f': {facts.why}' if facts.why else ''}"
        judged = failed if wanted else warning
        return judged("engine", found, fix=facts.hint)
    how = " without root" if facts.rootless else ""
    return ok("engine", f"Podman {facts.version}{how}" if facts.podman else f"Docker Engine {facts.version}")


def storage(facts: EngineFacts) -> Line:
    """Storage driver and image store."""
    store = "containerd's image store" if facts.containerd else "the engine's own image store"
    found = f"{facts.driver}, {store}"
    if facts.podman:
        found = f"{facts.driver}, Podman's own image store"
    if facts.driver in _SLOW:
        fix = 'remove "storage-driver" from /etc/docker/daemon.json, then restart the engine'
        if facts.podman:
            fix = 'driver = "overlay" in storage.conf, then podman system reset, which removes all images'
        return warning("engine.storage", found, means=_SLOW[facts.driver], fix=fix)
    if facts.podman:
        return ok("engine.storage", f"{found}; building one twice does not give the same digest")
    return ok("engine.storage", found) if facts.containerd else warning("engine.storage", found)


def builder(facts: EngineFacts, *, image: ImageFacts | None) -> Line:
    """Whether images can be built; that is needed while the target's is not there."""
    major = facts.version.split(".")[0]
    judged = failed if image is not None and not image.built else warning
    if facts.podman:
        return (
            ok("engine.builder", facts.builder) if facts.builder else judged("engine.builder", facts.missing)
        )
    if major.isdigit() and int(major) < OLDEST:
        found = f"Docker Engine {facts.version} knows neither RUN --network=none nor named build contexts"
        return judged("engine.builder", found, fix=f"install Docker Engine {OLDEST} or newer")
    if not facts.builder and not facts.missing:
        return unknown("engine.builder", "docker buildx did not answer in time")
    if not facts.builder:
        return judged("engine.builder", facts.missing)
    return ok("engine.builder", facts.builder)


def rootless(facts: EngineFacts, *, nvidia: bool) -> Line:
    """Whether the engine runs without root, which GPUs of NVIDIA do not get along with by themselves."""
    if facts.rootless and nvidia and not facts.podman:  # which gives GPUs by CDI, without such cgroups
        return warning("engine.rootless", "it runs without root")
    return ok("engine.rootless", "it runs without root" if facts.rootless else "it runs as root")


def disk(facts: EngineFacts, *, image: ImageFacts | None, largest: int | None) -> Line:
    """Free space where images live.

    Args:
        facts: of the engine.
        image: the target's; None: unknown.
        largest: bytes that the manifest lets it have; None: it does not say.
    """
    if not facts.disks:
        return skipped(
            "engine.disk", "the engine's folder is not on this machine, or not to be seen from here"
        )
    tight = min(facts.disks, key=lambda each: each.free)
    found = f"{size(tight.free)} free in {tight.path}"
    if image is None or image.built:
        return ok("engine.disk", found) if tight.free > 1e9 else warning("engine.disk", found)
    if largest is None:
        return ok("engine.disk", f"{found}; how large the image gets is not recorded")
    if tight.free < largest:
        return failed("engine.disk", f"{found}, the image takes up to {size(largest)}")
    # Files are sent to the engine before they are unpacked, and both are there for a while.
    return warning("engine.disk", found) if tight.free < 2 * largest else ok("engine.disk", found)


def image(facts: ImageFacts, *, target: str) -> Line:
    """The target's image."""
    if facts.built:
        found = f"{facts.reference}, {size(facts.size)}, from this lock"
        if facts.left_out:
            found += f", without {', '.join(facts.left_out)}"
        if any(name in facts.left_out for name in NEEDED):
            return failed(
                "image", found, means="it is there for its checks: nothing trains in it", target=target
            )
        return ok("image", found)
    if facts.other:
        return failed("image", f"the image of {target} was built from another lock", target=target)
    return failed("image", f"{facts.reference} is not on this engine", target=target)


def environment(*, made: bool, used: bool, target: str) -> Line:
    """The environment of a lock; ``used``: runs take place in it."""
    if made:
        return ok("environment", "it is there, from this lock")
    if not used:
        return skipped("environment", "not made; runs take place in a container")
    return warning("environment", "it is not made yet", target=target)
