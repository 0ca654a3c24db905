"""A container as a service of Docker Compose.

Source of the keys: the Compose Specification (compose-spec.io), as Docker Compose 2 reads it.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from launcher import yamltext
from launcher.engines.container import ContainerRequest
from launcher.handover import marks
from launcher.handover.marks import Variable
from launcher.plan import Mount, RunPlan

NAME = "compose.yaml"

#: The file of the secrets, beside compose.yaml; git does not take it.
SECRETS = "secrets"


def files(request: ContainerRequest, plan: RunPlan, variables: Sequence[Variable]) -> Mapping[str, str]:
    """compose.yaml, and with secrets a .gitignore for their file.

    Args:
        request: with marks.
        variables: what the marks are.
    """
    known = _defaults(request, plan, variables)
    document = {"services": {"run": _service(request)}}
    if request.secrets is not None:
        document["secrets"] = {SECRETS: {"file": marks.mark("SECRETS")}}
    text = yamltext.dumped([_interpolated(document, known)])
    head = (
        f"# {plan.recipe} on {plan.target}; README.md says what it needs and how to use it.\n"
        "# ${NAME:-value}: what may differ elsewhere; change it here, in .env, or in the shell.\n"
    )
    ignored = {".gitignore": f"{SECRETS}\n"} if request.secrets is not None else {}
    return {NAME: head + text, **ignored}


def _defaults(request: ContainerRequest, plan: RunPlan, variables: Sequence[Variable]) -> dict[str, str]:
    """Variable -> what stands for it where nobody sets it; the run has a name that stays."""
    run = re.sub(r"[^A-Za-z0-9_.-]+", "-", plan.recipe)
    own = {"RUN_ID": run, "RUN_AS": f"{plan.uid}:{plan.gid}", "RESTARTS": "0", "SECRETS": f"./{SECRETS}"}
    return own | {each.name: each.value for each in variables}


def _service(request: ContainerRequest) -> dict[str, Any]:
    """The container, in Compose's words; what is not set is left out."""
    secrets = request.secrets
    seen = request.mounts if secrets is None else (*request.mounts, secrets.mounts()[0])
    found: dict[str, Any] = {
        "image": request.image,
        "container_name": request.name,
        "command": list(request.argv()),
        "user": request.user,
        "working_dir": "/output",
        "init": True,
        "read_only": True,
        "tmpfs": list(request.tmpfs()),
        "cap_drop": ["ALL"],
        "security_opt": list(request.security),
        "network_mode": request.network,
        "shm_size": request.shm_size,
        "mem_limit": request.memory,
        "memswap_limit": request.memory,
        "group_add": list(request.groups),
        "devices": [f"{device}:{device}" for device in request.devices],
        "deploy": _gpus(request.gpus),
        "volumes": [_volume(mount) for mount in seen],
        "secrets": [{"source": SECRETS, "target": secrets.seen}] if secrets else [],
        "environment": dict(request.environment),
        "labels": dict(request.labels),
        "logging": {"driver": request.log_driver, "options": {"max-size": request.log_size}},
    }
    return {key: value for key, value in found.items() if value}


def _gpus(gpus: str) -> dict[str, Any]:
    """NVIDIA's GPUs, all or by number."""
    if not gpus:
        return {}
    which: dict[str, Any] = {"count": "all"} if gpus == "all" else {"device_ids": gpus.split(",")}
    return {"resources": {"reservations": {"devices": [{**which, "capabilities": ["gpu"]}]}}}


def _volume(mount: Mount) -> dict[str, Any]:
    """A bind; a folder that is missing is an error, and not one of root's."""
    made: dict[str, Any] = {"type": "bind", "source": str(mount.source), "target": str(mount.target)}
    if mount.read_only:
        made["read_only"] = True
    return {**made, "bind": {"create_host_path": False}}


def _interpolated(value: Any, known: Mapping[str, str]) -> Any:
    """The same with marks as Compose's variables; a dollar that is none is doubled."""
    if isinstance(value, dict):
        return {key: _interpolated(each, known) for key, each in value.items()}
    if isinstance(value, list):
        return [_interpolated(each, known) for each in value]
    return _text(value, known) if isinstance(value, str) else value


def _text(text: str, known: Mapping[str, str]) -> str:
    def variable(name: str) -> str:
        return f"${{{name}:-{_text(known[name], known)}}}"

    return marks.filled(text, lambda part: part.replace("$", "$$"), variable)
