"""The loss curves of ``launch accept``: how far threads, kernels and precision move them on this machine.

    .venv/bin/python tests/bench/curves.py            # print
    .venv/bin/python tests/bench/curves.py --write    # also record those of fp32 in images/acceptance.toml

Trains in the embedded cpu environment, through ``launch run``, with what ``launcher/acceptance`` says.
"""

import hashlib
import json
import platform
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from launcher import acceptance, manifest, paths
from launcher.acceptance import texts
from launcher.host import system

#: The first one is recorded.
VARIANTS: dict[str, tuple[str, dict[str, str]]] = {
    "fp32": ("fp32", {}),
    "fp32, one thread": ("fp32", {"OMP_NUM_THREADS": "1"}),
    "fp32, kernels of SSE": (
        "fp32",
        {
            "ATEN_CPU_CAPABILITY": "default",
            "MKL_ENABLE_INSTRUCTIONS": "SSE4_2",
            "ONEDNN_MAX_CPU_ISA": "SSE41",
        },
    ),
    "bf16": ("bf16", {}),
    "bf16, one thread": ("bf16", {"OMP_NUM_THREADS": "1"}),
}


def launch(folder: Path, recipe: str, output: str, options: dict[str, str], *more: str) -> dict[str, Any]:
    """Run a recipe; its losses, and the sha256 of the weights that it started from."""
    given = [part for key, value in options.items() for part in (f"--{key.replace('_', '-')}", value)]
    command = [sys.executable, "-m", "launcher", "run", recipe, "--target", "cpu", "--engine", "venv"]
    command += ["--data", str(folder / "short.jsonl"), "--output", str(folder / output), *given, *more]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    run = max((folder / "runs").iterdir(), key=lambda place: place.stat().st_mtime_ns)
    result = json.loads((run / "result.json").read_text())
    metrics = run / "metrics.jsonl"
    events = [json.loads(line) for line in metrics.read_text().splitlines()] if metrics.exists() else []
    losses = [event["loss"] for event in events if "loss" in event]
    return {"losses": losses, "weights": result["model"].get("weights_sha256", "")}


def measured(folder: Path) -> dict[str, dict[str, Any]]:
    """By recipe, what is recorded: the first variant's losses. The others are printed beside them."""
    (folder / "short.jsonl").write_text(texts.short())
    recorded = {}
    for recipe, kind in acceptance.CURVES:
        launch(folder, "tiny-xlmr", kind, {**dict(acceptance.SIZES["tiny"]), "kind": kind})
        print(recipe)
        for number, (name, (precision, variables)) in enumerate(VARIANTS.items()):
            options = {**dict(acceptance.CURVE_PARAMETERS), "precision": precision, "nproc": "1"}
            extra = [part for pair in variables.items() for part in ("--env", "=".join(pair))]
            found = launch(
                folder,
                recipe,
                f"{kind}-{number}",
                options,
                "--model",
                str(folder / kind),
                *extra,
                "--",
                *acceptance.ARGUMENTS,
            )
            first = recorded.setdefault(recipe, found)
            fall = max(first["losses"]) - min(first["losses"])
            off = max(abs(a - b) for a, b in zip(found["losses"], first["losses"], strict=True))
            print(f"  {name:22} {found['losses']}  off {off:.4f}, {off / fall:.2%} of the fall", flush=True)
    return recorded


def write(recorded: dict[str, dict[str, Any]]) -> None:
    """Change the generated values of the record, and nothing else in it."""
    path = paths.images() / "acceptance.toml"
    text = path.read_text()
    torch = next(
        pin
        for layer in manifest.shipped().target("cpu").layers
        for pin in layer.pins
        if pin.startswith("torch=")
    )
    machine = f"{system.facts().cpu}, {platform.machine()}, {torch}"
    text = re.sub(r"^machine = .*$", f'machine = "{machine}"', text, flags=re.M)
    sha = hashlib.sha256(texts.short().encode()).hexdigest()
    text = re.sub(r"^data_sha256 = .*$", f'data_sha256 = "{sha}"', text, flags=re.M)
    for recipe, found in recorded.items():
        block = f'[curves.{recipe}]\nlosses = {found["losses"]}\nweights_sha256 = "{found["weights"]}"\n'
        text = re.sub(rf"^\[curves\.{recipe}\]\nlosses = .*\nweights_sha256 = .*\n", block, text, flags=re.M)
    paths.write_atomic(path, text)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        found = measured(Path(temporary))
    if "--write" in sys.argv[1:]:
        write(found)
