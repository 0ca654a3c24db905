"""Adapters merged into the model that they were made on, as a model of its own that is proved to be the same.

    python -m llm.merging --model ADAPTER --base BASE --output FOLDER --method merged_16bit

The order: judge by the headers, load the base with the adapters beside it, ask it a few prompts, merge, write
to a hidden folder, load that, ask again, compare; only then the files get their names.
"""

import argparse
import gc
import json
import math
import os
import shutil
import signal
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from llm import adapters, cards, comparing, generating
from llm.adapters import Adapter
from llm.comparing import Difference, Probe

#: Of each tensor its sum and its norm.
Sums = dict[str, tuple[float, float]]

METHODS = ("merged_16bit", "merged_4bit", "gguf")

#: Other names, as Unsloth and habit have them.
_ALIASES = {"merged_4bit_forced": "merged_4bit", "16bit": "merged_16bit", "4bit": "merged_4bit"}

#: How far the logits of a merged model may be from those of base and adapters, in standard deviations of
#: theirs: in memory, before anything is rounded, and as it was written. What was measured is in
#: docs/llm-merge.md. Logits that have nothing to do with each other differ by 141 %, the root of two.
TOLERANCES = {"in memory": 0.001, "merged_16bit": 0.1, "merged_4bit": 0.8}

#: Added for what bf16 and fp16 round while they compute, in both models: up to 7 % was measured.
_COMPUTED_IN_16_BIT = 0.1

_PARTIAL = ".merging"

GGUF = (
    "gguf is not written here: the converter is a script of llama.cpp's repository, and no package of these "
    "environments carries it. Merge to 16 bit, then, with llama.cpp at hand:\n"
    "  python llama.cpp/convert_hf_to_gguf.py FOLDER --outfile model-q8_0.gguf --outtype q8_0"
)


def canonical(method: str) -> str:
    """The name of a method, whatever it was called.

    Raises:
        SystemExit: there is none of this name, or it cannot be done here.
    """
    found = _ALIASES.get(method, method)
    if found not in METHODS:
        raise SystemExit(f"there is no method {method!r}: {', '.join(METHODS)}")
    if found == "gguf":
        raise SystemExit(GGUF)
    return found


def explained(asked: str) -> str:
    """What was asked for, and what is done."""
    if canonical(asked) == "merged_16bit":
        return f"{asked}: the adapters are added to the base's weights, which are kept in 16 bit"
    return (
        f"{asked}: merged in 16 bit first, then rounded to 4 bit (nf4) by bitsandbytes. Unsloth raises at "
        "merged_4bit and wants merged_4bit_forced, because rounding loses accuracy and such a model is "
        "hardly trained further; both names do the same here. Keep the adapters"
    )


def merge(
    folder: Path,
    output: Path,
    method: str,
    base: Path | None = None,
    *,
    precision: str = "fp32",
    device: str = "cpu",
    prompts: Sequence[str] = comparing.PROMPTS,
) -> Difference:
    """Merge adapters into their base, and prove it.

    Args:
        folder: of the adapters.
        output: where the model goes; what is there stays.
        method: see :data:`METHODS`.
        base: the model in 16 or 32 bit, also of adapters that were trained on 4 bit; None: where they say.
        precision: what merging and comparing compute in: fp32 takes twice the memory of 16 bit, and sees
            more.
        device: as torch names it. All weights are loaded there at once, one model at a time: peft merges what
            is loaded, and not file by file.
        prompts: what both are asked.

    Raises:
        SystemExit: it cannot be done, or the merged model is not what base and adapters are. Nothing of it is
            left.
    """
    chosen = canonical(method)
    adapter = adapters.read(folder)
    base = base or adapters.locate(adapter, "")
    refuse(adapter, base, chosen)
    _refuse_used(output)
    print(explained(method), flush=True)
    for left in output.glob(f"{_PARTIAL}-*"):  # of a merge that was killed
        shutil.rmtree(left, ignore_errors=True)
    partial = output / f"{_PARTIAL}-{os.getpid()}"
    try:
        found, sums = _write(adapter, base, partial, precision=precision, device=device, prompts=prompts)
        proofs = {"merged_16bit": _proved(partial, found, "merged_16bit", precision, device, sums)}
        if chosen == "merged_4bit":
            _round(partial, device)
            proofs[chosen] = _proved(partial, found, chosen, precision, device)
        cards.write(partial, adapter, base, proofs)
        _publish(partial, output)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return proofs[chosen]


def refuse(adapter: Adapter, base: Path, method: str) -> None:
    """Refuse, before anything is loaded, what peft cannot merge or would merge wrongly.

    Raises:
        SystemExit: see the messages.
    """
    config = adapter.config
    if config.get("peft_type") != "LORA":
        raise SystemExit(f"{adapter.folder}: {config.get('peft_type')} is not merged here, LoRA and DoRA are")
    kept = {
        "alora_invocation_tokens": "adapters that wake at certain tokens (aLoRA) are no change of weights",
        "layer_replication": "adapters on repeated layers change how many layers the model has",
        "ensure_weight_tying": "adapters that keep input and output tables one are not told from two here",
    }
    for name, why in kept.items():
        if config.get(name):
            raise SystemExit(f"{adapter.folder}: {name} is set: {why}")
    refuse_base(base, method)
    adapters.check(adapter, base)


def refuse_base(base: Path, method: str) -> None:
    """Refuse a base that nothing can be merged into, whatever the adapters.

    Raises:
        SystemExit: its weights are rounded already, or the library that would round them is missing.
    """
    described = json.loads((base / "config.json").read_text(encoding="utf-8"))
    if described.get("quantization_config"):
        raise SystemExit(
            f"{base.name} is stored in few bits: merged into weights that were rounded already, the adapters "
            "would carry that error for good. Give the model in 16 bit: --base FOLDER|ID"
        )
    if method == "merged_4bit":
        try:
            import bitsandbytes  # noqa: F401
        except ImportError as error:
            raise SystemExit(f"merged_4bit needs bitsandbytes, which is not usable here: {error}") from None


def _refuse_used(output: Path) -> None:
    there = [name for name in ("config.json", "model.safetensors") if (output / name).exists()]
    if there:
        raise SystemExit(f"{output} holds a model already ({', '.join(there)}): give another folder")


def _write(
    adapter: Adapter, base: Path, partial: Path, *, precision: str, device: str, prompts: Sequence[str]
) -> tuple[list[Probe], Sums]:
    """Write the merged model in 16 bit.

    Returns:
        What the model said before it was merged, and the sums of what was written.

    Raises:
        SystemExit: merged in memory it is another model.
    """
    import torch

    kept = sixteen_bit(base)
    model = adapters.load(base, precision=precision, device=device)
    tokenizer = adapters.tokenizer_of(adapter.folder, base)
    adapted = adapters.attach(model, adapter, device=device)
    found = comparing.probes(adapted, tokenizer, device, prompts)
    merged = adapted.merge_and_unload(safe_merge=True)  # safe: stops at weights that are no numbers
    _judge(comparing.compare(merged, found, device, tolerance=_tolerance("in memory", precision)))
    merged.to(getattr(torch, kept))
    sums = _sums(merged)
    merged.generation_config.eos_token_id = generating.ends(merged, tokenizer)
    partial.mkdir(parents=True)
    merged.save_pretrained(partial, safe_serialization=True)
    tokenizer.save_pretrained(partial)
    print(f"merged into {base.name}, written in {kept}", flush=True)
    del model, adapted, merged
    _free(device)
    return found, sums


def _sums(model: Any) -> Sums:
    """Of each tensor its sum and its norm, computed in 64 bit: what a file must bring back.

    In main memory: some Intel GPUs know no numbers of 64 bit.
    """
    import torch

    return {
        name: (
            float(tensor.sum(dtype=torch.float64)),
            float(torch.linalg.vector_norm(tensor, dtype=torch.float64)),
        )
        for name, tensor in ((name, tensor.cpu()) for name, tensor in model.state_dict().items())
    }


def sixteen_bit(base: Path) -> str:
    """torch's name of the 16 bit format that a base's weights have; bfloat16 when they have 32."""
    config = json.loads((base / "config.json").read_text(encoding="utf-8"))
    own = (
        config.get("dtype")
        or config.get("torch_dtype")
        or (config.get("text_config") or {}).get("torch_dtype")
    )
    return own if own in ("float16", "bfloat16") else "bfloat16"


def _round(partial: Path, device: str) -> None:
    """The model in a folder, rounded to 4 bit in its place."""
    model = adapters.load(partial, precision="bf16", device=device, in_4bit=True)
    for file in [*partial.glob("*.safetensors"), *partial.glob("*.safetensors.index.json")]:
        file.unlink()  # they are mapped into memory only while they are loaded
    model.save_pretrained(partial, safe_serialization=True)
    del model
    _free(device)


def _proved(
    partial: Path, found: Sequence[Probe], method: str, precision: str, device: str, sums: Sums | None = None
) -> Difference:
    """Load what was written, and compare it.

    Args:
        partial: where it lies.
        found: what base and adapters said.
        method: decides the tolerance.
        precision: to compute in.
        device: to compute on.
        sums: of the weights that were written; None: they were rounded since.

    Raises:
        SystemExit: it is not what base and adapters are, or not what was written.
    """
    print("loading what was written, and comparing", flush=True)
    model = adapters.load(partial, precision=precision, device=device)
    if sums is not None and adapters.TYPES[precision] in (
        "float32",
        sixteen_bit(partial),
    ):  # nothing is rounded
        _refuse_changed(sums, _sums(model))
    difference = comparing.compare(
        model, found, device, tolerance=_tolerance(method, precision), strict=method == "merged_16bit"
    )
    del model
    _free(device)
    _judge(difference)
    print(f"{method}: {difference.text()}", flush=True)
    if difference.effect < difference.tolerance:
        print("the adapters change less than is seen at this tolerance: none at all would look the same")
    return difference


def _tolerance(what: str, precision: str) -> float:
    return TOLERANCES[what] + (_COMPUTED_IN_16_BIT if precision != "fp32" else 0)


def _refuse_changed(written: Sums, read: Sums) -> None:
    """Refuse a file that does not bring back what was written: saving parts, ties and renames tensors."""
    for name, sums in written.items():
        if name not in read or not all(
            math.isclose(one, two, rel_tol=1e-6, abs_tol=1e-6)
            for one, two in zip(sums, read[name], strict=True)
        ):
            raise SystemExit(f"{name} is not what was written, and the merged model was not kept")


def _judge(difference: Difference) -> None:
    """Refuse a model that is another one."""
    if not difference.passed:
        raise SystemExit(
            "the merged model does not say what base and adapters say, and was not kept: " + difference.text()
        )


def _free(device: str) -> None:
    import torch

    gc.collect()
    if device != "cpu":
        getattr(torch, device.partition(":")[0]).empty_cache()


def _publish(partial: Path, output: Path) -> None:
    """Give the files their names, config.json last: without it a folder is no model."""
    files = sorted(partial.iterdir(), key=lambda file: (file.name == "config.json", file.name))
    if there := [file.name for file in files if (output / file.name).exists()]:
        raise SystemExit(f"{output} has {', '.join(there)} already, and nothing is overwritten")
    for file in files:
        with file.open("rb") as stream:
            os.fsync(stream.fileno())
        file.chmod(0o644)
    for file in files:
        file.replace(output / file.name)
    folder = os.open(output, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def main() -> None:
    """Merge as the recipe's variables say."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--base", default="")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--method", default="merged_16bit")
    parser.add_argument("--precision", choices=list(adapters.TYPES), default="fp32")
    parser.add_argument("--target", default="cpu")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # what is half written goes
    canonical(given.method)
    if not (given.model / adapters.CONFIG).is_file():
        raise SystemExit(f"{given.model} holds no adapters ({adapters.CONFIG}): there is nothing to merge")
    base = adapters.locate(adapters.read(given.model), given.base)
    device = adapters.device_of(given.target)
    difference = merge(
        given.model, given.output, given.method, base, precision=given.precision, device=device
    )
    print(json.dumps({"merged": str(given.output), "method": canonical(given.method), **asdict(difference)}))


if __name__ == "__main__":
    main()
