"""Notebooks and reports: JupyterLab's server loads, its kernel answers a cell, `report_to` writes its files.

Nothing of it needs a network: a server on a socket of the file system, wandb offline, MLflow in a folder.
"""

import os
import tempfile
from pathlib import Path

from _common import Failed, left_out, main, require

#: Distribution -> the name that `report_to` takes, and what it leaves in the folder where a trainer runs.
REPORTS = {
    "tensorboard": ("tensorboard", "out/runs/*/events.out.tfevents.*"),
    "wandb": ("wandb", "wandb/offline-run-*/*.wandb"),
    "mlflow-skinny": ("mlflow", "mlruns/*/*/metrics/loss"),
}


def serve(folder: Path) -> None:
    """The server's own start up to where it would wait for requests."""
    from jupyterlab.labapp import LabApp

    server = LabApp.initialize_server(
        argv=[f"--ServerApp.sock={folder / 'jupyter.sock'}", "--ServerApp.log_level=40", "--allow-root"]
    )
    loaded = server.extension_manager.extension_apps.get("jupyterlab")
    if not loaded:
        raise Failed("the server did not load JupyterLab")


def ask(cell: str) -> str:
    """What a kernel says to one cell."""
    from jupyter_client.manager import start_new_kernel

    said: list[str] = []
    manager, client = start_new_kernel(kernel_name="python3", startup_timeout=120)
    try:
        client.execute_interactive(
            cell, timeout=120, output_hook=lambda message: said.append(message["content"].get("text", ""))
        )
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    return "".join(said)


def report(folder: Path, names: list[str]) -> None:
    """Two steps of transformers' trainer, reported to all of these."""
    import torch
    from transformers import Trainer, TrainingArguments

    class Line(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.slope = torch.nn.Linear(1, 1)

        def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"loss": self.slope(x).square().mean()}

    arguments = TrainingArguments(
        output_dir=str(folder / "out"),
        run_name="check",
        max_steps=2,
        logging_steps=1,
        save_strategy="no",
        report_to=names,
        use_cpu=True,
        disable_tqdm=True,
    )
    rows = [{"x": torch.ones(1)} for _ in range(4)]
    Trainer(model=Line(), args=arguments, train_dataset=rows).train()


def check() -> str:
    """The server, the kernel, the reports."""
    lab, kernel = require("jupyterlab"), require("ipykernel")
    done = f"JupyterLab {lab} serves, ipykernel {kernel} answers"
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        os.chdir(folder)
        os.environ |= {"HOME": temporary, "JUPYTER_RUNTIME_DIR": temporary, "IPYTHONDIR": temporary}
        if "42" not in (said := ask("print(6 * 7)")):
            raise Failed(f"the kernel said {said!r} to 6 * 7")
        serve(folder)
        if "torch" in left_out():
            return f"{done}; no torch, so nothing was reported"
        wanted = dict(said for name, said in REPORTS.items() if name not in left_out())
        report(folder, list(wanted))
        missing = [name for name, files in wanted.items() if not any(folder.glob(files))]
    if missing:
        raise Failed(f"report_to wrote nothing for {', '.join(missing)}")
    return f"{done}, report_to writes for {', '.join(wanted)}"


main(check)
