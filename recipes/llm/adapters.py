"""LoRA adapters and the models that they were made on: whether they belong together, and both loaded.

Whether a base is the right one is judged by the names and shapes in the files' headers and by the tokenizers,
before any weights are loaded: peft drops what it finds no place for, and says nothing.
"""

import json
import logging
import math
import os
import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Before the libraries are imported: their bars and warnings are not about what was asked for here.
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("TQDM_DISABLE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"

#: Of torch's types by the names of the parameter ``precision``.
TYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}

Shape = tuple[int, ...]

#: safetensors' own limit of a header, in bytes.
_HEADER = 100_000_000

_LORA = re.compile(r"(?P<module>.+)\.lora_(?P<part>[AB])(?:\.\w+)?\.weight")
_LAYER = re.compile(r"(?:^|\.)((?:layers|h|blocks)\.(\d+)\..+)$")

#: What peft calls tables of tokens (peft/utils/constants.py).
_TABLES = ("embed_tokens", "lm_head")

#: Share of tokens that may have other names: trainers rename a reserved one, to pad with it. Another
#: vocabulary differs in most of them.
_STRAY = 0.01

#: Problems that are listed; the rest is of the same kind.
_SHOWN = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapter:
    """A folder of adapters, as its files describe it.

    Attributes:
        config: adapter_config.json.
        shapes: of its tensors by name; empty when they are not in safetensors' format.
    """

    folder: Path
    config: Mapping[str, Any]
    shapes: Mapping[str, Shape]

    @property
    def base(self) -> str:
        """The model that it says it was made on: an id on the hub, or a folder of that time."""
        return str(self.config.get("base_model_name_or_path") or "")

    @property
    def rows(self) -> int:
        """Rows of the table of tokens that it brings along; 0: none."""
        tables = (shape[0] for name, shape in self.shapes.items() if _table(name) and len(shape) == 2)
        return max(tables, default=0)

    @property
    def touches_tables(self) -> bool:
        """Whether it changes the table of tokens or the output layer, beyond single tokens."""
        names = [name for name in self.shapes if "trainable_tokens" not in name]
        return any(part in name.split(".") for name in names for part in _TABLES)


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds adapters and no whole model."""
    return (folder / CONFIG).is_file() and not (folder / "config.json").is_file()


def read(folder: Path) -> Adapter:
    """What a folder's files say of its adapters.

    Raises:
        SystemExit: it holds none, or they cannot be read.
    """
    config = _json(folder / CONFIG)
    file = folder / WEIGHTS
    if not file.is_file() and not file.with_suffix(".bin").is_file():
        raise SystemExit(f"{folder} has {CONFIG} and no {WEIGHTS}: a copy or a training broke off")
    return Adapter(folder=folder, config=config, shapes=dict(_shapes(file)) if file.is_file() else {})


def locate(adapter: Adapter, base: str) -> Path:
    """The folder of the base. In a run BASE has been found by the launcher; this is for plain bash.

    Args:
        adapter: whose base is looked for.
        base: a folder, or an id on the hub; empty: as the adapter names it.

    Raises:
        SystemExit: it is not there.
    """
    name = base or adapter.base
    if Path(name).is_dir() and name:
        return Path(name)
    if name.count("/") != 1 or name.startswith(("/", ".", "~")):
        raise SystemExit(
            f"the base of {adapter.folder} is not at {name or '(its configuration names none)'}: "
            "give its folder or its id on the hub (BASE, or --base)"
        )
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(name, revision=None if base else adapter.config.get("revision")))


def check(adapter: Adapter, base: Path) -> None:
    """Refuse a base that the adapters were not made on.

    Raises:
        SystemExit: another architecture, width, number of layers or vocabulary; what differs is named.
    """
    found = list(problems(adapter, base))
    if found:
        more = f"\n  … and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        listed = "".join(f"\n  {each}" for each in found[:_SHOWN])
        raise SystemExit(
            f"{base.name} is not the base of these adapters (they name {adapter.base or 'none'}):"
            f"{listed}{more}\ngive the right one with --base FOLDER|ID"
        )


def problems(adapter: Adapter, base: Path) -> Iterator[str]:
    """Where a base contradicts the adapters."""
    config = _json(base / "config.json")
    wanted = (adapter.config.get("auto_mapping") or {}).get("base_model_class")
    here = config.get("architectures") or []
    if wanted and here and wanted not in here:
        yield f"they are for {wanted}, the base is {', '.join(here)}"
    yield from _shape_problems(adapter.shapes, _base_shapes(base))
    yield from _vocabulary_problems(adapter, base)


def _shape_problems(adapter: Mapping[str, Shape], base: Mapping[str, Shape]) -> Iterator[str]:
    """Layers that the base lacks, or has in another size. Names are compared from ``layers.N.`` on.

    What stands before differs between a model with pictures and its part for text.
    """
    places: dict[str, list[Shape]] = {}
    for name, shape in base.items():
        places.setdefault(_tail(name.removesuffix(".weight")), []).append(shape)
    missing = []
    for module, (out, into) in _linear(adapter).items():
        found = places.get(_tail(module))
        if found is None:
            missing.append(module)
        elif not any(_fits(shape, out, into) for shape in found):
            yield f"{_tail(module)}: the adapters are for {into} -> {out}, the base has {_sizes(found)}"
    if base and missing and len(missing) == len(_linear(adapter)):
        yield f"it has none of the adapted layers, such as {_tail(missing[0])}"
    elif base and (deep := max(map(_number, adapter), default=-1)) > (
        last := max(map(_number, base), default=-1)
    ):
        yield f"the adapters are for {deep + 1} layers or more, the base has {last + 1}"
    widths = {shape[-1] for name, shape in base.items() if _table(name) and len(shape) == 2}
    for name, shape in adapter.items():
        if _table(name) and len(shape) == 2 and widths and shape[-1] not in widths:
            yield f"{name}: the adapters bring a table {shape[-1]} wide, the base's is {sorted(widths)[0]}"


def _fits(shape: Shape, out: int, into: int) -> bool:
    """Whether a stored weight may be that layer's.

    One dimension only is of quantised weights (packed, in a column), three are of experts: names alone count.
    GPT-2 stores its weights transposed.
    """
    return len(shape) != 2 or 1 in shape or sorted(shape) == sorted((out, into))


def _sizes(shapes: list[Shape]) -> str:
    return " or ".join(" -> ".join(str(size) for size in reversed(shape)) for shape in shapes)


def _vocabulary_problems(adapter: Adapter, base: Path) -> Iterator[str]:
    """Tokens with other numbers; the same numbers for other words would answer nonsense."""
    theirs, own = _tokens(adapter.folder), _tokens(base)
    if not theirs or not own:
        return
    other = [token for token, number in theirs.items() if own.get(token, number) != number]
    numbers = set(own.values())
    other += [token for token, number in theirs.items() if token not in own and number in numbers]
    if len(other) > _STRAY * len(theirs):
        yield f"the vocabularies differ: {len(other)} tokens have other numbers, such as {other[0]!r}"
    tables = [shape[0] for name, shape in _base_shapes(base).items() if _table(name) and len(shape) == 2]
    if tables and not adapter.rows and max(theirs.values()) >= max(tables):
        count = max(theirs.values()) + 1
        yield f"the adapters' tokenizer has {count} tokens, the base {max(tables)} rows for them"


def _tokens(folder: Path) -> dict[str, int]:
    """Tokens and their numbers by tokenizer.json; empty when there is none, or its kind has no such table."""
    file = folder / "tokenizer.json"
    if not file.is_file():
        return {}
    content = _json(file)
    table = (content.get("model") or {}).get("vocab")
    if isinstance(table, list):  # Unigram: texts with their probability, by number
        table = {str(entry[0]): number for number, entry in enumerate(table)}
    found = dict(table) if isinstance(table, dict) else {}
    return found | {str(each["content"]): int(each["id"]) for each in content.get("added_tokens") or []}


def _linear(shapes: Mapping[str, Shape]) -> dict[str, tuple[int, int]]:
    """(outputs, inputs) of each layer with adapters, by its name."""
    sizes: dict[str, dict[str, int]] = {}
    for name, shape in shapes.items():
        found = _LORA.fullmatch(name)
        if found and len(shape) == 2:
            size = shape[1] if found["part"] == "A" else shape[0]
            sizes.setdefault(found["module"].removeprefix("base_model.model."), {})[found["part"]] = size
    return {name: (size["B"], size["A"]) for name, size in sizes.items() if len(size) == 2}


def _tail(module: str) -> str:
    found = _LAYER.search(module)
    return found[1] if found else module.rpartition(".")[2]


def _number(name: str) -> int:
    found = _LAYER.search(name)
    return int(found[2]) if found else -1


def _table(name: str) -> bool:
    parts = name.split(".")
    return parts[-1] == "weight" and len(parts) > 1 and parts[-2] in _TABLES


def weights(base: Path) -> int:
    """How many weights a model has, by its files' headers."""
    return sum(math.prod(shape) for shape in _base_shapes(base).values())


def _base_shapes(base: Path) -> dict[str, Shape]:
    files = (file for file in sorted(base.glob("*.safetensors")) if file.name != WEIGHTS)
    return {name: shape for file in files for name, shape in _shapes(file)}


def _shapes(file: Path) -> Iterator[tuple[str, Shape]]:
    """Names and shapes of a file's header: its length as 8 bytes, little-endian, then JSON.

    Source: github.com/huggingface/safetensors, README, "Format".
    """
    try:
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if length > _HEADER:
                raise ValueError("its header is too long")
            header = json.loads(stream.read(length))
        for name, entry in header.items():
            if name != "__metadata__":
                yield name, tuple(int(size) for size in entry["shape"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise SystemExit(f"{file} is damaged, or no safetensors file: {error}") from None


def _json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SystemExit(f"{file} cannot be read: {error}") from None
    if not isinstance(content, dict):
        raise SystemExit(f"{file} is not a JSON object")
    return content


def device_of(target: str) -> str:
    """What torch calls a target's device."""
    kind = target.partition("-")[0]
    return "cpu" if kind == "cpu" else f"{kind}:0"


def tokenizer_of(model: Path, base: Path | None) -> Any:
    """The tokenizer that was trained with: the adapters' own, or else the base's."""
    from transformers import AutoTokenizer

    own = base is None or (model / "tokenizer_config.json").is_file()
    return AutoTokenizer.from_pretrained(model if own else base)


def load(folder: Path, *, precision: str, device: str, in_4bit: bool = False) -> Any:
    """A whole model, for answers and not for training.

    Args:
        folder: of the model.
        precision: fp32, bf16 or fp16, of what is not stored in 4 bit.
        device: as torch names it.
        in_4bit: round the weights to nf4 while they are loaded.
    """
    import torch
    import transformers

    kind = getattr(torch, TYPES[precision])
    known = tuple(map(int, transformers.__version__.split(".")[:2])) >= (4, 56)
    options: dict[str, Any] = {"dtype" if known else "torch_dtype": kind}
    if in_4bit:
        options["quantization_config"] = transformers.BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=kind,
        )
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, device_map={"": device}, **options)
    model.eval()
    return model


def attach(model: Any, adapter: Adapter, *, device: str) -> Any:
    """The model with its adapters, not merged.

    A table of tokens that grew in the training grows here first. A table that is shared by input and output
    is parted when the adapters change it: each side then has its own, as in the training.

    Raises:
        SystemExit: weights of the adapters are missing.
    """
    from peft import PeftModel

    if adapter.rows and adapter.rows != model.get_input_embeddings().weight.shape[0]:
        model.resize_token_embeddings(adapter.rows, mean_resizing=False)
    if adapter.touches_tables:
        untie(model)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        adapted = PeftModel.from_pretrained(model, str(adapter.folder), torch_device=device)
    for each in said:
        if "missing adapter keys" in str(each.message):
            raise SystemExit(f"{adapter.folder}: {str(each.message)[:400]}")
    adapted.eval()
    return adapted


def untie(model: Any) -> None:
    """Give the output layer weights of its own, when it shares those of the table of tokens."""
    import torch

    output, table = model.get_output_embeddings(), model.get_input_embeddings()
    if output is not None and output.weight is table.weight:
        output.weight = torch.nn.Parameter(table.weight.detach().clone())
        model.config.tie_word_embeddings = False
