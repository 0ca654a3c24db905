"""The sparse head alone: upstream's against the patched one, in turn, in this process.

One query of 32 tokens, eight passages of 256, 250,002 words: forward and backward pass of the sparse scores.
Time is the median of the rounds; memory is the peak of the resident set beside what was there before.
"""

import statistics
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import psutil
import torch

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "recipes"))

from FlagEmbedding.finetune.embedder.encoder_only.m3 import EncoderOnlyEmbedderM3Model  # noqa: E402
from runtime.patches import sparse_head  # noqa: E402

VOCABULARY = 250_002
HIDDEN = 1024


def model() -> EncoderOnlyEmbedderM3Model:
    """As much of a BGE-M3 as its sparse head needs."""
    made = EncoderOnlyEmbedderM3Model.__new__(EncoderOnlyEmbedderM3Model)
    torch.nn.Module.__init__(made)
    torch.manual_seed(1)
    made.sparse_linear = torch.nn.Linear(HIDDEN, 1)
    made.vocab_size, made.temperature = VOCABULARY, 1.0
    made.tokenizer = SimpleNamespace(cls_token_id=0, pad_token_id=1, eos_token_id=2, unk_token_id=3)
    return made.train()


def cost(made: EncoderOnlyEmbedderM3Model) -> tuple[float, int, torch.Tensor]:
    """Seconds, bytes, and the gradient of the hidden states."""
    torch.manual_seed(2)
    ids = [torch.randint(4, 500, shape) for shape in ((1, 32), (8, 256))]
    hidden = [torch.randn(*one.shape, HIDDEN, requires_grad=True) for one in ids]
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    before = psutil.Process().memory_info().rss
    begun = time.perf_counter()
    made._batch_words = torch.unique(torch.cat([one.flatten() for one in ids]))
    query, passages = (made._sparse_embedding(h, one) for h, one in zip(hidden, ids, strict=True))
    loss = torch.nn.functional.cross_entropy(query @ passages.T / made.temperature, torch.zeros(1).long())
    loss.backward()
    taken = time.perf_counter() - begun
    status = Path("/proc/self/status").read_text(encoding="ascii")
    peak = int(status.split("VmHWM:")[1].split()[0]) * 1024 - before
    return taken, peak, torch.cat([h.grad.flatten() for h in hidden])


def main() -> None:
    """Print both sides and the ratios."""
    rounds, sides = 3, {}
    original = EncoderOnlyEmbedderM3Model._sparse_embedding
    sparse_head.apply()
    patched = EncoderOnlyEmbedderM3Model._sparse_embedding
    for _ in range(rounds):
        for name, method in (("upstream", original), ("ours", patched)):
            EncoderOnlyEmbedderM3Model._sparse_embedding = method
            sides.setdefault(name, []).append(cost(model()))
    seconds = {name: statistics.median(one[0] for one in found) for name, found in sides.items()}
    peaks = {name: max(one[1] for one in found) for name, found in sides.items()}
    theirs, ours = (sides[name][0][2] for name in ("upstream", "ours"))
    print("sparse head, 1 x 32 and 8 x 256 tokens, 250,002 words")
    for name in sides:
        print(f"  {name:<9}{peaks[name] / 2**20:9.1f} MiB, {seconds[name]:9.4f} s")
    print(
        f"  {peaks['upstream'] / max(peaks['ours'], 1):.0f} times less memory,"
        f" {seconds['upstream'] / seconds['ours']:.0f} times faster,"
        f" gradients {float((theirs - ours).norm() / theirs.norm()):.1e} apart"
    )


if __name__ == "__main__":
    main()
