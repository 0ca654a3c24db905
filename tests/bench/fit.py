"""Memory of real steps against the estimate, side by side.

    .venv/bin/python tests/bench/fit.py [--target cpu|cuda] [--only WORD]

Random models are trained for two steps by the recipes themselves, through the launcher, as ``launch fit
--probe`` does it. On a CPU the peak of the resident set is measured, on an NVIDIA GPU what torch's allocator
reserved. "after" is the error at twice the batch when the estimate was corrected by the probe before.
"""

import argparse
import json
import statistics
import subprocess
import tempfile
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from launcher import lock, manifest, paths, settings
from launcher.app import fit, probing
from launcher.app import plan as planning
from launcher.fit import parts
from launcher.fit.probes import split
from launcher.image import environment
from launcher.progress import Silent, SilentView

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A recipe with parameters, on a random model."""

    name: str
    recipe: str
    model: str
    parameters: str


SMALL = {"layers": 6, "hidden": 384, "heads": 12, "vocabulary": 30522, "length": 512}
BASE = {"layers": 12, "hidden": 768, "heads": 12, "vocabulary": 30522, "length": 512}
XLMR = {**BASE, "vocabulary": 250002}
LARGE = {"layers": 24, "hidden": 1024, "heads": 16, "vocabulary": 250002, "length": 8192}


def _llama(hidden: int, inner: int, layers: int, heads: int, keys: int, vocabulary: int) -> dict[str, Any]:
    return {
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": keys,
        "vocab_size": vocabulary,
        "max_position_embeddings": 8192,
        "tie_word_embeddings": False,
    }


MODELS: dict[str, dict[str, Any]] = {
    "small": SMALL,
    "base": BASE,
    "xlmr-base": XLMR,
    "xlmr-large": LARGE,
    "tiny Llama": _llama(512, 1408, 8, 8, 4, 32000),
    "Llama 1B": _llama(2048, 5632, 22, 32, 4, 32000),
    "Llama 3B": _llama(3072, 8192, 28, 24, 8, 128256),
}


def _case(name: str, recipe: str, model: str, sizes: tuple[int, int, int, int], more: str = "") -> Case:
    """Sizes: batch, group, query and passage length."""
    names = ("per_device_train_batch_size", "train_group_size", "query_max_len", "passage_max_len")
    given = [f"{key}={size}" for key, size in zip(names, sizes, strict=True)]
    return Case(name=name, recipe=recipe, model=model, parameters=" ".join([*given, more]))


def _rows(model: str, batch: int, length: int, more: str) -> Case:
    """A language model; 8-bit Adam on a GPU is what its users take."""
    sizes = f"per_device_train_batch_size={batch} max_seq_length={length} gradient_accumulation_steps=1"
    return Case(name=f"{model}, {more}", recipe="llm-sft", model=model, parameters=f"{sizes} {more}")


DENSE, M3, RERANKER = "bge-dense", "bge-m3-unified", "bge-reranker"
TINY, PLAIN = "tiny Llama", "unsloth=false"

CASES = {
    "cpu": [
        _case("small dense", DENSE, "small", (8, 4, 64, 256)),
        _case("base dense", DENSE, "base", (4, 4, 64, 256)),
        _case("base dense, short", DENSE, "base", (2, 2, 16, 64)),
        _case("small dense, checkpoints", DENSE, "small", (8, 4, 64, 256), "gradient_checkpointing=true"),
        _case("base dense, frozen words", DENSE, "base", (4, 4, 64, 256), "freeze_word_embeddings=true"),
        _case("small dense, attention dropout", DENSE, "small", (4, 4, 64, 256), "attention_dropout=-1"),
        _case("small dense, sub-batch", DENSE, "small", (8, 4, 64, 256), "sub_batch_size=4"),
        _case("small dense, bf16", DENSE, "small", (4, 4, 64, 256), "precision=bf16"),
        _case("base M3", M3, "base", (4, 4, 64, 256)),
        _case("small M3, upstream's head", M3, "small", (2, 4, 64, 256), "patches=all,-sparse-head"),
        _case("base reranker", RERANKER, "base", (4, 4, 64, 192)),
        _case("XLM-R base dense", DENSE, "xlmr-base", (2, 4, 64, 128)),
        _case("XLM-R base M3, checkpoints", M3, "xlmr-base", (2, 4, 64, 256), "gradient_checkpointing=true"),
        _rows(TINY, 2, 512, PLAIN),
        _rows(TINY, 2, 512, f"{PLAIN} method=full"),
        _rows(TINY, 2, 512, f"{PLAIN} precision=bf16 use_gradient_checkpointing=true"),
        _rows(TINY, 2, 512, "unsloth=true"),
        _rows(TINY, 2, 512, "unsloth=true use_gradient_checkpointing=true"),
        _rows(TINY, 2, 512, "unsloth=true load_in_4bit=true precision=bf16"),
    ],
    "cuda": [
        _case("M3 large", M3, "xlmr-large", (2, 8, 512, 512)),
        _case("M3 large, no checkpoints", M3, "xlmr-large", (2, 8, 512, 512), "gradient_checkpointing=false"),
        _case("M3 large, upstream's head", M3, "xlmr-large", (2, 8, 512, 512), "patches=all,-sparse-head"),
        _case("M3 large, 4096 tokens", M3, "xlmr-large", (2, 8, 512, 4096)),
        _case("M3 large, 8-bit Adam", M3, "xlmr-large", (2, 8, 512, 512), "optim=adamw_bnb_8bit"),
        _case("dense large", DENSE, "xlmr-large", (8, 8, 512, 512)),
        _case("reranker large", RERANKER, "xlmr-large", (4, 8, 512, 512)),
        _rows("Llama 1B", 4, 2048, "unsloth=true"),
        _rows("Llama 1B", 4, 2048, "unsloth=true load_in_4bit=true"),
        _rows("Llama 1B", 4, 2048, f"{PLAIN} use_gradient_checkpointing=true"),
        _rows("Llama 1B", 4, 2048, f"{PLAIN} use_gradient_checkpointing=true method=full"),
        _rows("Llama 3B", 2, 4096, "unsloth=true load_in_4bit=true"),
    ],
}


def main() -> None:
    """Print a line per case, and the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--target", choices=CASES, default="cpu")
    parser.add_argument("--only", default="", help="cases whose name contains this")
    chosen = parser.parse_args()
    errors, after = [], []
    print(f"{'case':<64}{'estimate':>10}{'measured':>10}{'error':>8}{'of the step':>13}{'after':>8}   GiB")
    with tempfile.TemporaryDirectory() as temporary:
        for case in CASES[chosen.target]:
            if chosen.only not in case.name:
                continue
            error, second = one(case, chosen.target, Path(temporary))
            errors.append(abs(error))
            after.append(abs(second))
    later = f", {statistics.median(after):.1%} after one" if after else ""
    print(f"median error {statistics.median(errors):.1%} before a probe{later}")


def one(case: Case, target: str, folder: Path) -> tuple[float, float]:
    """Estimate, measure, and predict the double batch by the measurement."""
    given = dict(word.split("=", 1) for word in case.parameters.split())
    judged = judge(case, target, folder, given)
    probe = measure(judged)
    whole = parts.peak(judged.question.shape, judged.setup, context=target == "cpu").total
    error = whole / probe.peak - 1
    double = {**given, "per_device_train_batch_size": str(2 * int(given["per_device_train_batch_size"]))}
    larger = judge(case, target, folder, double)
    real = measure(larger)
    moments = parts.moments(larger.question.shape, larger.setup, context=target == "cpu")
    predicted = max(probe.correct(moment).total for moment in moments)
    _, stepped = split(parts.peak(judged.question.shape, judged.setup, context=target == "cpu"))
    print(
        f"{case.name:<64}{gib(whole):>10}{gib(probe.peak):>10}{error:>+8.1%}"
        f"{stepped / (probe.peak - probe.before) - 1:>+13.1%}{predicted / real.peak - 1:>+8.1%}"
        f"   before {gib(probe.before)}, at the {judged.estimate.moment}",
        flush=True,
    )
    return error, predicted / real.peak - 1


def gib(count: float) -> str:
    """Two digits."""
    return f"{count / (1 << 30):.2f}"


def judge(case: Case, target: str, folder: Path, given: dict[str, str]) -> fit.Fitting:
    """The estimate of a case, whose model is made when it is not there."""
    model = folder / case.model
    if not model.exists():
        shape = MODELS[case.model]
        maker = "fit_llm.py" if "hidden_size" in shape else "fit_model.py"
        program = [python(target), ROOT / "tests/bench/training" / maker, model, json.dumps(shape)]
        subprocess.run([str(word) for word in program], check=True, capture_output=True)
    request = fit.Request(recipe=case.recipe, target=target, model=str(model), nproc=1, parameters=given)
    return fit.judge(request, settings.load())


def measure(judged: fit.Fitting) -> probing.Probe:
    """A real step, in the embedded environment."""
    request = planning.Request(
        recipe=judged.request.recipe,
        target=judged.target,
        engine="venv",
        model=judged.model,
        nproc=1,
        parameters=judged.request.parameters,
    )
    question = replace(judged.question, probes=())
    return probing.run(
        request, question, settings.load(), progress=Silent(), watch=lambda plan: nullcontext(SilentView())
    )


def python(target: str) -> Path:
    """The Python of the target's embedded environment."""
    found = manifest.shipped().target(target)
    locked = lock.load(paths.images(), found)
    return environment.ensure(found, locked, progress=Silent()).folder / "bin" / "python"


if __name__ == "__main__":
    main()
