"""The whole error tree: what happened, why likely, what to do, and the exit code of each.

``cli.main()`` catches :class:`LaunchError` once and prints it; nothing else turns errors into text.
A recipe's own exit code passes through unchanged, so the launcher's own codes keep clear of the ones
that shells and training programs use (1, 2, 126-165).
"""

from collections.abc import Sequence


class LaunchError(Exception):
    """An error that the user can act on.

    Args:
        message: what happened, one line.
        why: the likely reason, one line.
        hint: what to do about it, ideally a command to paste.
    """

    exit_code = 64
    title = "error"

    def __init__(self, message: str, *, why: str = "", hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.why = why
        self.hint = hint


class ProblemsError(LaunchError):
    """Everything that is wrong with one file, at once; each problem names its line or key."""

    def __init__(self, message: str, problems: Sequence[str], *, why: str = "", hint: str = "") -> None:
        super().__init__(message, why=why, hint=hint)
        self.problems = tuple(problems)


class UsageError(LaunchError):
    """Options that do not go together, an unknown parameter, a value of the wrong type."""

    exit_code = 64
    title = "usage"


class RefusedError(UsageError, ProblemsError):
    """Options that a recipe's header refuses together, each combination with its reason."""


class GridError(UsageError, ProblemsError):
    """Grids of a sweep that cannot be tried; everything that is wrong with them at once."""


class UncoveredError(UsageError, ProblemsError):
    """Folders of a run that the nodes of its cluster do not have; all of them at once."""


class ManifestError(ProblemsError):
    """images/manifest.toml is not valid."""

    exit_code = 65
    title = "manifest"


class RecipeError(ProblemsError):
    """A recipe's header is not valid, or there is no such recipe."""

    exit_code = 66
    title = "recipe"


class DataError(ProblemsError):
    """Training data that would fail, or silently train the wrong thing, later."""

    exit_code = 67
    title = "data"


class LockError(ProblemsError):
    """A lock is missing, stale or damaged, or does not resolve."""

    exit_code = 68
    title = "lock"


class StaleError(ProblemsError):
    """A generated file is not what its source says."""

    exit_code = 69
    title = "stale"


class FetchError(ProblemsError):
    """A wheel cannot be had, or is not the file that the lock names."""

    exit_code = 70
    title = "fetch"


class BuildError(LaunchError):
    """An image build failed, or the engine cannot do it."""

    exit_code = 71
    title = "build"


class CheckError(ProblemsError):
    """A check of an image, of an environment or of this machine failed."""

    exit_code = 72
    title = "check"


class EngineError(LaunchError):
    """No container engine answers, or it refused a request."""

    exit_code = 73
    title = "engine"


class EngineGoneError(EngineError):
    """The engine stopped answering: what runs on it may go on, and nothing is said of its end."""


class ClusterError(EngineError):
    """A cluster's API said no.

    Args:
        status: of HTTP.
        reason: the cluster's own word for it, e.g. ``AlreadyExists``.
    """

    def __init__(self, message: str, *, status: int, reason: str = "", why: str = "", hint: str = "") -> None:
        super().__init__(message, why=why, hint=hint)
        self.status, self.reason = status, reason


class TakenAwayError(EngineError):
    """The site took a node of the run away, or lost it: another start may go on from a checkpoint."""


class ImageMissingError(LaunchError):
    """The image of the target is not on this engine."""

    exit_code = 74
    title = "image"


class DeviceError(LaunchError):
    """The target's device is not there, e.g. no GPU or no /dev/dri."""

    exit_code = 75
    title = "device"


class UnfitDeviceError(DeviceError, ProblemsError):
    """The devices are there, and the target's programs would not run on them; each problem with its fix."""


class DeviceRuntimeError(LaunchError):
    """The engine lacks the device's runtime, e.g. the NVIDIA container toolkit."""

    exit_code = 76
    title = "runtime"


class OutputError(LaunchError):
    """The output folder already holds a run (nothing is ever overwritten), or cannot be made."""

    exit_code = 77
    title = "output"


class ModelNotFoundError(LaunchError):
    """The model is neither a folder nor in the cache, and cannot be downloaded."""

    exit_code = 78
    title = "model"


class ModelConfigError(ModelNotFoundError, ProblemsError):
    """A model's config.json cannot be used, or describes an architecture that is not known."""


class BaseNotFoundError(ModelNotFoundError):
    """The model that adapters were made on is not where they say, nor where their run says."""


class OutOfMemoryError(LaunchError):
    """The kernel's or the device's out-of-memory killer ended the run."""

    exit_code = 79
    title = "memory"


class WorldSizeError(LaunchError):
    """The trainer saw another world size than planned, or trained nothing at all."""

    exit_code = 80
    title = "world size"


class SettingsError(ProblemsError):
    """A setting has a value that cannot be used; the message names where it came from."""

    exit_code = 81
    title = "settings"


class RecordError(LaunchError):
    """A run record or a plan cannot be read, or was written by an unknown version."""

    exit_code = 82
    title = "record"


class ChangedError(RecordError, ProblemsError):
    """What a plan or a record names is not what it was; each difference with its kind."""


class ProgramError(LaunchError):
    """A program that the launcher started failed."""

    exit_code = 83
    title = "program"

    def __init__(
        self, message: str, *, returncode: int = 1, output: str = "", why: str = "", hint: str = ""
    ) -> None:
        super().__init__(message, why=why, hint=hint)
        self.returncode = returncode
        self.output = output


class NodesError(LaunchError):
    """The nodes of a run did not find each other, are not alike, or do not see the same folders."""

    exit_code = 84
    title = "nodes"


class RegistryError(LaunchError):
    """An image registry cannot be reached, or what answers there is none."""

    exit_code = 85
    title = "registry"


class RegistryAccessError(LaunchError):
    """An image registry does not know this user, or does not give what was asked for to this user."""

    exit_code = 86
    title = "registry access"


class RegistryTransportError(LaunchError):
    """TLS and plain HTTP do not meet: a certificate that is not trusted, or a registry without TLS."""

    exit_code = 87
    title = "registry transport"


class RegistryServerError(LaunchError):
    """An image registry answered, and failed: its disk is full, or it is broken or overloaded."""

    exit_code = 88
    title = "registry server"


class RecipeFailedError(LaunchError):
    """A recipe ended with a code of its own, which passes through as the launcher's."""

    def __init__(self, message: str, *, exit_code: int, why: str = "", hint: str = "") -> None:
        super().__init__(message, why=why, hint=hint)
        self.exit_code = exit_code


def all_errors() -> list[type[LaunchError]]:
    """Every error class with a code of its own, by exit code: the table of the documentation."""

    def walk(cls: type[LaunchError]) -> list[type[LaunchError]]:
        return [cls, *(sub for child in cls.__subclasses__() for sub in walk(child))]

    named = [cls for cls in walk(LaunchError) if "title" in vars(cls) and cls is not LaunchError]
    return sorted(named, key=lambda cls: cls.exit_code)
