"""What starts the recipe on a node: words of a command, of which a node's own are left to its shell.

Sources: docker-run(1) and podman-run(1) as in :mod:`launcher.engines.container`; apptainer-exec(1) 1.0 to
1.4 (``--mount`` reads Docker's words); pyxis' own help of ``srun`` (0.20); Slurm's Containers Guide and
src/slurmd/slurmstepd/container.c of 21.08 to 25.05, which replaces arguments, variables, terminal and working
folder of a bundle's config.json, and keeps its mounts.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from launcher import plan as plans
from launcher import secretfile
from launcher.engines import podman
from launcher.engines.container import ContainerRequest, bind
from launcher.engines.podman import Podman
from launcher.engines.slurm.options import job_name
from launcher.engines.slurm.shell import Raw
from launcher.errors import UsageError
from launcher.plan import Folders, Mount, RunPlan, Start
from launcher.secretfile import SecretFile

#: Variables of a node's shell, made by the script: the container's name, the options and variables that only
#: this node has.
NAME, OPTIONS, VARIABLES = Raw('"$container"'), Raw('"${options[@]}"'), Raw('"${variables[@]}"')

#: The file of secrets in the folder that a node has in its memory, and its name for a node's shell.
COPY = "values"
_COPY = Raw('"$memory/values"')

#: A node's memory; what is made there is made anew, and this user's alone.
_SHM = Path("/dev/shm")  # noqa: S108

#: What the image has, for runtimes that take no variables from it.
_PATH = f"PATH={plans.ENVIRONMENT}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True, kw_only=True)
class Launched:
    """How a node starts the recipe.

    Attributes:
        command: what its shell starts.
        step: options of srun for that step, with the same meaning of :class:`Raw`.
        inside: the node's shell is itself in the container, which srun makes.
        program: that has to be on each node; empty: none.
        engine: a container's, which lives outside of the job: it is stopped and removed by name.
        files: that it reads: name and text.
        secrets: None: there are none.
    """

    command: tuple[str, ...]
    step: tuple[str, ...] = ()
    inside: bool = False
    program: str = ""
    engine: bool = False
    files: tuple[tuple[str, str], ...] = ()
    secrets: SecretFile | None = None


def launched(plan: RunPlan, folders: Folders, start: Start, environment: Path | None, path: str) -> Launched:
    """What starts a plan on each node.

    Args:
        plan: of the run.
        folders: the run's own.
        start: which one.
        environment: the embedded one, for a run without a container.
        path: where the nodes' shells look for programs.

    Raises:
        UsageError: a path that the runtime cannot be told.
    """
    runtime = plan.slurm.runtime if plan.slurm else "none"
    if runtime == "none":
        return _bare(plan, folders, start, environment or Path(), path)
    seen = str(secretfile.NODE / COPY)
    secrets = secretfile.on_nodes(plan, start, folders.run.parent, seen=seen)
    if runtime in ("docker", "podman"):
        return _engine(plan, folders, start, secrets, runtime)
    return _OTHERS[runtime](plan, folders, start, secrets)


def _bare(plan: RunPlan, folders: Folders, start: Start, environment: Path, path: str) -> Launched:
    """The embedded environment, which lies on a file system that all nodes have."""
    places = plans.on_host(plan, folders)
    python = str(environment / "bin" / "python")
    secrets = secretfile.on_nodes(plan, start, folders.run.parent, seen=_COPY, python=python)
    variables = {
        name: value.replace(plans.ENVIRONMENT, str(environment))
        for name, value in plans.environment(plan, places, start)
    }
    variables |= {"PATH": f"{environment / 'bin'}:{path}", "VIRTUAL_ENV": str(environment)}
    given = (f"{name}={value}" for name, value in sorted(variables.items()))
    command = _with(secrets, plans.command(plan, places))
    return Launched(command=("env", "-i", *given, VARIABLES, *command), secrets=secrets)


def _with(secrets: SecretFile | None, command: tuple[str, ...]) -> tuple[str, ...]:
    return command if secrets is None else secrets.command(command)


def _engine(
    plan: RunPlan, folders: Folders, start: Start, secrets: SecretFile | None, program: str
) -> Launched:
    """One container on each node, of an engine that runs outside of the job."""
    places = plans.in_container(plan)
    request = ContainerRequest(
        name=NAME,
        image=plan.image or "",
        command=_with(secrets, plans.command(plan, places)),
        environment=plans.environment(plan, places, start),
        secrets=None,  # of this machine's; a node's own is among its options
        mounts=_mounts(plan, folders, secrets),
        user=f"{plan.uid}:{plan.gid}",
        groups=(),
        devices=plan.access.devices,
        gpus="",
        shm_size=plan.access.shm_size,
        memory=plan.access.memory,
        network="host" if plan.nodes > 1 else plan.access.network,
        labels=(("launch.recipe", plan.recipe), ("launch.run", start.run), ("launch.target", plan.target)),
        log_driver="",
    )
    if program == "podman":
        request = podman.adapted(request, Podman(rootless=plan.uid != 0))
    # Its output is the job's, and its record is the run's: the engine keeps neither.
    words = request.words(("--rm", "--log-driver", "none", OPTIONS))
    if plan.access.devices and request.userns:  # a user's own Podman keeps the groups of the node's user
        words[2:2] = ["--group-add", "keep-groups"]
    return Launched(command=tuple(words), program=program, engine=True, secrets=secrets)


def _mounts(plan: RunPlan, folders: Folders, secrets: SecretFile | None) -> tuple[Mount, ...]:
    found = plans.mounts(plan, folders)
    if secrets is None:
        return found
    entry = Mount(source=secrets.entry, target=PurePosixPath(secrets.entry_seen), read_only=True)
    return (*found, entry)


def _inside(plan: RunPlan, start: Start, secrets: SecretFile | None) -> tuple[str, ...]:
    """The recipe in a container that may have other variables than the image's and the plan's."""
    places = plans.in_container(plan)
    given = (f"{name}={value}" for name, value in plans.environment(plan, places, start))
    command = _with(secrets, plans.command(plan, places))
    return ("env", _PATH, *given, VARIABLES, *command)


def _apptainer(plan: RunPlan, folders: Folders, start: Start, secrets: SecretFile | None) -> Launched:
    words = ["apptainer", "exec", "--containall", "--cleanenv", "--no-home", "--writable-tmpfs"]
    words += ["--workdir", Raw('"$scratch"'), "--pwd", "/output", "--bind", str(_SHM)]
    if plan.access.nvidia:
        words.append("--nv")
    for device in plan.access.devices:
        words += ["--bind", device]
    for mount in _mounts(plan, folders, secrets):
        words += ["--mount", bind(mount)]
    words += [OPTIONS, plan.image or "", *_inside(plan, start, secrets)]
    return Launched(command=tuple(words), program="apptainer", secrets=secrets)


def _pyxis(plan: RunPlan, folders: Folders, start: Start, secrets: SecretFile | None) -> Launched:
    found = [_pair(mount) for mount in (*_mounts(plan, folders, secrets), *_memory(start, secrets))]
    found += [f"{device}:{device}" for device in plan.access.devices]
    return Launched(
        command=_inside(plan, start, secrets),
        step=(
            f"--container-image={plan.image}",
            f"--container-mounts={','.join(found)}",
            "--container-workdir=/output",
            "--no-container-mount-home",
            "--no-container-remap-root",
            "--no-container-entrypoint",
        ),
        inside=True,
        secrets=secrets,
    )


def memory(start: Start) -> Path:
    """The folder of a start in a node's memory; what srun mounts has one name on all nodes."""
    return _SHM / job_name(start)


def _memory(start: Start, secrets: SecretFile | None) -> tuple[Mount, ...]:
    if secrets is None:
        return ()
    return (Mount(source=memory(start), target=secretfile.NODE, read_only=False),)


def _pair(mount: Mount) -> str:
    """A mount as pyxis reads it.

    Raises:
        UsageError: it has no words for such a path.
    """
    for path in (str(mount.source), str(mount.target)):
        if any(sign in path for sign in ":,"):
            raise UsageError(
                f"pyxis cannot mount {path}",
                why="a colon and a comma separate its mounts",
                hint="rename it, or use another --slurm-runtime",
            )
    return f"{mount.source}:{mount.target}:{'ro' if mount.read_only else 'rw'}"


def _oci(plan: RunPlan, folders: Folders, start: Start, secrets: SecretFile | None) -> Launched:
    """A bundle of this start's own, beside the script; its root file system is that of the unpacked image."""
    mounts = (*_mounts(plan, folders, secrets), *_memory(start, secrets))
    text = json.dumps(_bundle(plan, mounts), indent=2, ensure_ascii=False)
    return Launched(
        command=_inside(plan, start, secrets),
        step=("--container", str(folders.run / "attempts" / f"{start.attempt}.bundle")),
        inside=True,
        files=(("config.json", text + "\n"),),
        secrets=secrets,
    )


def _bundle(plan: RunPlan, mounts: tuple[Mount, ...]) -> Mapping[str, object]:
    """config.json of the OCI's runtime specification 1.0.2, for a runtime without root.

    Slurm puts the step's own arguments, variables and terminal in the place of those here.
    """
    own = [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        _special("/dev", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
        _special("/dev/pts", "devpts", "nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"),
        _special(str(_SHM), "tmpfs", "nosuid", "nodev", "mode=1777", f"size={plan.access.shm_size}"),
        _special("/tmp", "tmpfs", "nosuid", "mode=1777"),  # noqa: S108 - inside the container
        {"destination": "/sys", "type": "none", "source": "/sys", "options": ["rbind", "nosuid", "ro"]},
    ]
    binds = [
        {
            "destination": str(mount.target),
            "type": "none",
            "source": str(mount.source),
            "options": ["rbind", "ro" if mount.read_only else "rw"],
        }
        for mount in mounts
    ]
    devices = [
        {"destination": device, "type": "none", "source": device, "options": ["rbind", "rw"]}
        for device in plan.access.devices
    ]
    owner = {"uid": plan.uid, "gid": plan.gid}
    ids = {"size": 1}
    return {
        "ociVersion": "1.0.2",
        "process": {
            "terminal": False,
            "user": owner,
            "args": ["true"],
            "env": [_PATH],
            "cwd": "/output",
            "noNewPrivileges": True,
        },
        "root": {"path": f"{plan.image}/rootfs", "readonly": True},
        "mounts": [*own, *binds, *devices],
        "linux": {
            "uidMappings": [{"containerID": plan.uid, "hostID": plan.uid, **ids}],
            "gidMappings": [{"containerID": plan.gid, "hostID": plan.gid, **ids}],
            "namespaces": [{"type": each} for each in ("pid", "ipc", "uts", "mount", "user")],
        },
    }


def _special(target: str, kind: str, *options: str) -> Mapping[str, object]:
    return {"destination": target, "type": kind, "source": kind, "options": list(options)}


_OTHERS = {"apptainer": _apptainer, "pyxis": _pyxis, "oci": _oci}
