"""What starts the recipe on a node: words of a command, of which a node's own are left to its shell.

Sources: docker-run(1) and podman-run(1) as in :mod:`launcher.engines.container`; apptainer-exec(1) 1.0 to
1.4 (``--mount`` reads Docker's words); pyxis' own help of ``srun`` (0.20); Slurm's Containers Guide and
src/slurmd/slurmstepd/container.c of 21.08 to 25.05, which replaces arguments, variables, terminal and working
folder of a bundle's config.json, and keeps its mounts.
"""

import json
from collections.abc import Mapping
from pathlib import Path

from launcher import plan as plans
from launcher import secretfile
from launcher.engines import nodes
from launcher.engines.container import bind
from launcher.engines.nodes import COPY, OPTIONS, VARIABLES, Launched
from launcher.engines.shell import Raw
from launcher.engines.slurm.options import job_name
from launcher.errors import UsageError
from launcher.plan import Folders, Mount, RunPlan, Start
from launcher.secretfile import SecretFile

#: A node's memory; what is made there is made anew, and this user's alone.
_SHM = Path("/dev/shm")  # noqa: S108

#: What the image has, for runtimes that take no variables from it.
_PATH = f"PATH={plans.ENVIRONMENT}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


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
        return nodes.bare(plan, folders, start, environment or Path(), path)
    seen = str(secretfile.NODE / COPY)
    secrets = secretfile.on_nodes(plan, start, folders.run.parent, seen=seen)
    if runtime in ("docker", "podman"):
        return nodes.container(plan, folders, start, secrets, runtime)
    return _OTHERS[runtime](plan, folders, start, secrets)


def _inside(plan: RunPlan, start: Start, secrets: SecretFile | None) -> tuple[str, ...]:
    """The recipe in a container that may have other variables than the image's and the plan's."""
    places = plans.in_container(plan)
    given = (f"{name}={value}" for name, value in plans.environment(plan, places, start))
    command = nodes.with_secrets(secrets, plans.command(plan, places))
    return ("env", _PATH, *given, VARIABLES, *command)


def _apptainer(plan: RunPlan, folders: Folders, start: Start, secrets: SecretFile | None) -> Launched:
    words = ["apptainer", "exec", "--containall", "--cleanenv", "--no-home", "--writable-tmpfs"]
    words += ["--workdir", Raw('"$scratch"'), "--pwd", "/output", "--bind", str(_SHM)]
    if plan.access.nvidia:
        words.append("--nv")
    for device in plan.access.devices:
        words += ["--bind", device]
    for mount in nodes.mounts(plan, folders, secrets):
        words += ["--mount", bind(mount)]
    words += [OPTIONS, plan.image or "", *_inside(plan, start, secrets)]
    return Launched(command=tuple(words), program="apptainer", secrets=secrets)


def _pyxis(plan: RunPlan, folders: Folders, start: Start, secrets: SecretFile | None) -> Launched:
    found = [_pair(mount) for mount in (*nodes.mounts(plan, folders, secrets), *_memory(start, secrets))]
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
    mounts = (*nodes.mounts(plan, folders, secrets), *_memory(start, secrets))
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
