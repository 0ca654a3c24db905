"""Fine-tuning through Unsloth and through plain TRL and peft, in turn, on the same model, rows and seed.

    python tests/bench/llm.py [--hidden 256] [--layers 4] [--vocabulary 32000] [--tokens 256] [--batch 2]
                              [--steps 8] [--rounds 2] [--precision fp32] [--method lora] [--load-in-4bit]

A Llama with random weights. Prints seconds per step (median, without the first two) and peak memory of each,
and their ratios. From the launcher's environment it goes on in the embedded one for CPUs; on a GPU the same
command runs inside its image or environment, for one with 1.2 billion parameters:

    python tests/bench/llm.py --hidden 2048 --layers 16 --vocabulary 128256 --tokens 2048 --precision bf16
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

HERE = Path(__file__).resolve().parent
RECIPES = HERE.parents[1] / "recipes"
BOTH = ("unsloth", "plain")


def main() -> None:
    """Measure, or go where it can be measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    for name, usual in {"hidden": 256, "layers": 4, "vocabulary": 32000, "tokens": 256}.items():
        parser.add_argument(f"--{name}", type=int, default=usual)
    for name, usual in {"batch": 2, "steps": 8, "rounds": 2}.items():
        parser.add_argument(f"--{name}", type=int, default=usual)
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--method", choices=["lora", "full"], default="lora")
    parser.add_argument("--load-in-4bit", action="store_true")
    asked = parser.parse_args()
    if find_spec("torch") is None:
        found = [sys.executable, str(HERE / "training" / "environment.py")]
        python = subprocess.run(found, check=True, capture_output=True, text=True).stdout.strip()
        sys.exit(subprocess.run([python, "-W", "ignore", *sys.argv], check=False).returncode)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        count = make(folder, asked)
        runs = {which: [] for which in BOTH}
        for number in range(asked.rounds):
            for which in BOTH:
                runs[which].append(measure(folder, f"{which}-{number}", which == "unsloth", asked))
        tell(runs, count, asked)


def make(folder: Path, asked: argparse.Namespace) -> int:
    """The model and its rows; returns its parameters."""
    sys.path.append(str(HERE.parent / "support"))
    import tiny_llm
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(7)
    texts = [message["content"] for row in tiny_llm.rows(7)[0] for message in row["messages"]]
    words = tiny_llm.tokenizer(texts)
    heads = max(4, asked.hidden // 64)
    config = LlamaConfig(
        vocab_size=max(asked.vocabulary, len(words)),
        hidden_size=asked.hidden,
        intermediate_size=4 * asked.hidden,
        num_hidden_layers=asked.layers,
        num_attention_heads=heads,
        num_key_value_heads=heads // 4,
        max_position_embeddings=max(2048, asked.tokens),
        pad_token_id=words.pad_token_id,
        eos_token_id=words.eos_token_id,
        bos_token_id=None,
    )
    model = LlamaForCausalLM(config).to(torch.bfloat16)
    model.save_pretrained(folder / "model")
    words.save_pretrained(folder / "model")
    text = " ".join(texts)
    text *= 1 + asked.tokens // len(texts)
    line = json.dumps({"text": text}) + "\n"
    (folder / "rows.jsonl").write_text(line * asked.batch * asked.steps, encoding="utf-8")
    return sum(each.numel() for each in model.parameters())


def measure(folder: Path, name: str, unsloth: bool, asked: argparse.Namespace) -> tuple[float, float]:
    """Seconds of a step, and the peak of memory in MiB, of one training in a process of its own."""
    import torch

    place, on = folder / name, str(unsloth).lower()
    place.mkdir()
    device = next((kind for kind in ("cuda", "xpu") if getattr(torch, kind).is_available()), "cpu")
    recomputed = device != "cpu"
    given = {
        "model_name_or_path": folder / "model",
        "train_data": folder / "rows.jsonl",
        "cache_path": place / "cache",
        "output_dir": place / "out",
        "max_seq_length": asked.tokens,
        "method": asked.method,
        "load_in_4bit": str(asked.load_in_4bit).lower(),
        "precision": asked.precision,
        "bf16": str(asked.precision == "bf16").lower(),
        "unsloth": on,
        "use_gradient_checkpointing": "unsloth" if recomputed else "none",
        "gradient_checkpointing": str(recomputed).lower(),
        "per_device_train_batch_size": asked.batch,
        "max_steps": asked.steps,
        "optim": "adamw_torch_fused",
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": "true",
        **({} if recomputed else {"use_cpu": "true"}),
    }
    words = [word for key, value in given.items() for word in (f"--{key}", str(value))]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "runtime", "--unsloth", on, "-m", "llm.sft", *words],
        env={
            "OMP_WAIT_POLICY": "PASSIVE",  # as recipes set it
            **os.environ,
            **{"PYTHONPATH": str(RECIPES), "LAUNCH_RUN_DIR": str(place), "HF_HUB_OFFLINE": "1"},
        },
        cwd=place,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(done.stdout[-2000:] + done.stderr[-4000:])
    events = [json.loads(line) for line in (place / "metrics.jsonl").read_text().splitlines()]
    steps = [event["seconds"] / event["steps"] for event in events if event["event"] == "usage"][2:]
    (memory,) = [event for event in events if event["event"] == "memory"]
    return statistics.median(steps), memory["peak"] / 2**20


def tell(runs: dict[str, list[tuple[float, float]]], count: int, asked: argparse.Namespace) -> None:
    """One line for each, and the ratios of every round."""
    print(
        f"{count / 1e6:,.0f}M parameters, {asked.method}{' in 4 bit' if asked.load_in_4bit else ''},"
        f" {asked.precision}, batch {asked.batch} of {asked.tokens} tokens, {asked.rounds} rounds in turn"
    )
    for which in BOTH:
        seconds, peaks = zip(*runs[which], strict=True)
        print(
            f"  {which:8} {statistics.median(seconds):8.3f} s/it   peak {statistics.median(peaks):8,.0f} MiB"
        )
    pairs = list(zip(runs["unsloth"], runs["plain"], strict=True))
    times, peaks = ([one[part] / other[part] for one, other in pairs] for part in (0, 1))
    print(
        f"  unsloth: {statistics.median(times):.2f} times the seconds ({min(times):.2f} to {max(times):.2f})"
        f" and {statistics.median(peaks):.2f} times the memory of plain TRL"
    )


if __name__ == "__main__":
    main()
