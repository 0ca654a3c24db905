"""What a Jupyter of ours is told: its server's configuration, and the kernel of an environment. Pure.

Everything that it writes goes below the session's folder or the HOME of runs: a user's own ``~/.jupyter`` is
neither read nor written.
"""

import json
import re
from pathlib import PurePath
from typing import Any

from launcher.manifest import Target
from launcher.plan import ENVIRONMENT, Places

#: In kernel.json: who wrote it, so that a kernel of somebody else is never replaced.
OWNER = "finetune-launch"

#: Names that Jupyter takes, in the small letters by which it compares them.
KERNEL_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")

#: The server's socket, in the session's folder. There is no port: a container needs no network for it, and
#: nobody else on the machine reaches it.
SOCKET = "jupyter.sock"

#: The start of JupyterLab.
COMMAND = ("python", "-m", "jupyterlab")


def kernel_name(target: str) -> str:
    """What a target's kernel is called where none is asked for."""
    return f"finetune-{target}"


def variables(places: Places) -> dict[str, str]:
    """Where Jupyter reads and writes: nothing of it is in a user's own folders.

    What was set in JupyterLab (theme, shortcuts, open tabs) is kept in the HOME of runs, all else goes with
    the session.
    """
    return {
        "JUPYTER_CONFIG_DIR": f"{places.run}/jupyter",
        "JUPYTER_PATH": f"{places.run}/jupyter",
        "JUPYTER_RUNTIME_DIR": f"{places.run}/runtime",
        "JUPYTERLAB_SETTINGS_DIR": f"{places.home}/.jupyter/lab/user-settings",
        "JUPYTERLAB_WORKSPACES_DIR": f"{places.home}/.jupyter/lab/workspaces",
    }


def configuration(target: str, places: Places, token: str) -> str:
    """jupyter_server_config.json: the one place that holds the token.

    Args:
        target: whose kernel is the default.
        places: as the server sees them; its notebooks lie in the output folder.
        token: that every request must carry.
    """
    return _text(
        {
            "IdentityProvider": {"token": token},
            "KernelManager": {"transport": "ipc"},  # sockets in the session's folder, no ports
            "LabApp": {
                "check_for_updates_class": "jupyterlab.NeverCheckForUpdate",
                "extension_manager": "readonly",
                "news_url": None,
                "open_browser": False,
            },
            "MultiKernelManager": {"default_kernel_name": kernel_name(target)},
            "ServerApp": {
                "allow_root": True,  # the caller's own user, whoever that is
                "open_browser": False,
                "root_dir": places.output,
                "sock": f"{places.run}/{SOCKET}",
                "sock_mode": "0600",
                "terminado_settings": {"shell_command": ["bash"]},
            },
        }
    )


def kernel(target: Target, environment: PurePath, *, name: str = "") -> str:
    """kernel.json: the environment's Python with the target's variables.

    Args:
        target: whose environment it is.
        environment: its folder.
        name: shown to people in place of the target's.
    """
    known = {key: value.replace(ENVIRONMENT, str(environment)) for key, value in target.env}
    return _text(
        {
            "argv": [
                str(environment / "bin" / "python"),
                "-m",
                "ipykernel_launcher",
                "-f",
                "{connection_file}",
            ],
            "display_name": name or f"Fine-tuning ({target.name})",
            "language": "python",
            # ${PATH} is filled in by Jupyter when it starts the kernel.
            "env": {**known, "PATH": f"{environment / 'bin'}:${{PATH}}", "VIRTUAL_ENV": str(environment)},
            "metadata": {"debugger": True, OWNER: {"target": target.name, "environment": str(environment)}},
        }
    )


def is_ours(text: str) -> bool:
    """Whether a kernel.json was written by :func:`kernel`."""
    try:
        return OWNER in json.loads(text)["metadata"]
    except (ValueError, KeyError, TypeError):
        return False


def _text(data: dict[str, Any]) -> str:
    return json.dumps(data, indent=2, ensure_ascii=False) + "\n"
