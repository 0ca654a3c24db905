"""What processes really send in a step, beside the formulas of docs/scale.md; and what of a loss's gradient
arrives.

``make bench-train`` runs it in the embedded cpu environment: 1, 2 and 4 processes with Gloo, in a network of
their own (unshare), so that nothing else is counted. Bytes are those of its loopback device, headers and
acknowledgements included, over all processes.
"""

import json
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT))

from FlagEmbedding.finetune.embedder.encoder_only.m3 import EncoderOnlyEmbedderM3Model  # noqa: E402

from launcher.fit import Setup, arch, scale  # noqa: E402

SHAPE = arch.read(json.loads((ROOT / "tests/support/models.json").read_text())["BAAI/bge-m3"]["config"])
STEP = Setup(kind="dense", batch=64, group=8, precision="fp32", cross_device=True)


class Dense(EncoderOnlyEmbedderM3Model):
    """As much of a BGE-M3 as its dense loss needs: one matrix instead of the encoder."""

    def __init__(self, world: int, rank: int) -> None:
        nn.Module.__init__(self)
        torch.manual_seed(1)
        self.encoder = nn.Linear(SHAPE.hidden, SHAPE.hidden, bias=False)
        self.cross_entropy = nn.CrossEntropyLoss(reduction="mean")
        self.temperature, self.world_size, self.process_rank = 0.05, world, rank

    def forward(self, queries: torch.Tensor, passages: torch.Tensor) -> torch.Tensor:
        vectors = (nn.functional.normalize(self.encoder(each), dim=-1) for each in (queries, passages))
        return self._compute_cross_device_neg_loss(*vectors, compute_score_func=self.compute_dense_score)[1]


def counted(work: Callable[[], object]) -> int:
    """Bytes on the loopback device while all processes do the same."""
    dist.barrier()
    begun = _sent()
    work()
    dist.barrier()
    return _sent() - begun


def _sent() -> int:
    lines = Path("/proc/net/dev").read_text(encoding="ascii").splitlines()
    (loopback,) = (line.split(":")[1].split() for line in lines if line.strip().startswith("lo:"))
    return int(loopback[8])


def process(rank: int, world: int, port: int) -> None:
    """One of the processes; the first prints."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=world)
    numbers = torch.ones(8 << 20)
    size = numbers.numel() * 4
    everybody = [torch.empty_like(numbers) for _ in range(world)]
    rows = [torch.randn(world * n, SHAPE.hidden, generator=torch.Generator().manual_seed(2 + i))
            for i, n in enumerate((STEP.batch, STEP.batch * STEP.group))]  # fmt: skip
    model = DistributedDataParallel(Dense(world, rank))
    own = [each.chunk(world)[rank] for each in rows]
    step = replace(STEP, world=world)
    gradients = 2 * (world - 1) / world * 4 * SHAPE.hidden**2
    found = {
        "all-reduce": (2 * (world - 1) / world * size, counted(lambda: dist.all_reduce(numbers))),
        "all-gather": ((world - 1) * size, counted(lambda: dist.all_gather(everybody, numbers))),
        "a step of the dense loss": (
            gradients + scale.dense_vectors(SHAPE, step),
            counted(lambda: model(*own).backward()),
        ),
    }
    if rank == 0:
        for name, (formula, bytes_sent) in found.items():
            _line(name, world, formula * world, bytes_sent)
        arrived = model.module.encoder.weight.grad
        print(f"{'share of its gradient':<26} {world}   {scale.weight(step):>9.4f}    "
              f"{_share(arrived, rows):>9.4f}")  # fmt: skip
    dist.barrier()
    dist.destroy_process_group()


def _line(name: str, world: int, formula: float, bytes_sent: int) -> None:
    ratio = f"{bytes_sent / formula:.3f}" if formula else "-"
    print(f"{name:<26} {world}   {formula / 1e6:>9.2f} MB {bytes_sent / 1e6:>9.2f} MB   {ratio}")


def _share(arrived: torch.Tensor, rows: list[torch.Tensor]) -> float:
    """Of the gradient of one process that has all rows; NaN where they do not even point the same way."""
    alone = Dense(1, 0)
    alone._dist_gather_tensor = lambda vectors: vectors
    alone(*rows).backward()
    whole = alone.encoder.weight.grad
    same = nn.functional.cosine_similarity(arrived.flatten(), whole.flatten(), dim=0)
    return float(arrived.norm() / whole.norm()) if same > 0.9999 else float("nan")


def main() -> None:
    """Count, in a network of its own."""
    if "--inside" not in sys.argv:
        alone = ["unshare", "--net", "--map-root-user", "sh", "-c", 'ip link set lo up; exec "$@"', "sh"]
        sys.exit(subprocess.run([*alone, sys.executable, __file__, "--inside"]).returncode)
    print(f"{'what':<26} of  {'formula':>11} {'counted':>12}   ratio", flush=True)
    for world in (1, 2, 4):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        # Forked: nothing has computed here yet, and the libraries are loaded once.
        torch.multiprocessing.start_processes(process, args=(world, port), nprocs=world, start_method="fork")


if __name__ == "__main__":
    main()
