"""The models behind the programs: what kind a folder holds, embedders as vectors, rerankers as scores.

Everything is computed by the libraries that the models come from: BGE-M3 by FlagEmbedding, other embedders by
sentence-transformers, cross-encoders by FlagEmbedding's reranker, which joins query and passage as its
training does. torch and the libraries are imported when a model is loaded.
"""

import argparse
import importlib
import json
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import rows
from block_search import Encoded

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("TQDM_DISABLE", "1")

Kind: TypeAlias = Literal["m3", "embedder", "reranker"]
#: Scores pairs of query and passage; a higher one is better.
Reranker: TypeAlias = Callable[[Sequence[tuple[str, str]]], list[float]]

HEADS = ("sparse_linear.pt", "colbert_linear.pt")
_POOLING = {"cls": "cls", "mean": "mean", "last_token": "lasttoken"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How a model is run.

    Attributes:
        target: cpu, cuda, cuda-vllm or xpu.
        nproc: devices.
        max_length: longest text in tokens; for rerankers query and passage together.
        query_instruction, passage_instruction: put in front of every text; empty: what the model itself says.
        pooling: auto, cls, mean or last_token.
        sparse, colbert: compute these heads of BGE-M3 too.
    """

    target: str
    nproc: int
    batch_size: int
    max_length: int
    precision: str
    query_instruction: str = ""
    passage_instruction: str = ""
    pooling: str = "auto"
    sparse: bool = True
    colbert: bool = True

    @property
    def devices(self) -> list[str]:
        """The devices by name: one process on a CPU, since all of them would share its cores."""
        kind = self.target.partition("-")[0]
        return ["cpu"] if kind == "cpu" else [f"{kind}:{index}" for index in range(self.nproc)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedder:
    """A loaded embedder.

    Attributes:
        block: passages to encode at a time: enough to fill the devices, few enough for the memory.
        device: where its vectors are compared best.
    """

    queries: Callable[[Sequence[str]], Encoded]
    passages: Callable[[Sequence[str]], Encoded]
    block: int
    device: str


def arguments(parser: argparse.ArgumentParser, *, embeds: bool = True) -> None:
    """The options that every program with a model has; booleans are the words true and false."""
    parser.add_argument("--model", required=True)
    parser.add_argument("--target", default="cpu")
    parser.add_argument("--nproc", type=int, default=1)
    parser.add_argument("--batch-size", type=positive, default=32)
    parser.add_argument("--max-length", type=positive, default=512)
    parser.add_argument("--precision", choices=["fp32", "bf16", "fp16"], default="fp32")
    if embeds:
        parser.add_argument("--query-instruction", default="")
        parser.add_argument("--passage-instruction", default="")
        parser.add_argument("--pooling", choices=["auto", *_POOLING], default="auto")


def options(given: argparse.Namespace, **heads: bool) -> Options:
    """The options of a command line.

    Args:
        given: the parsed command line.
        heads: heads of BGE-M3 that the program does without (or asks for by an option of its own).

    Raises:
        SystemExit: a precision that the target does not have.
    """
    if given.target == "cpu" and given.precision == "fp16":
        raise rows.stop("fp16 has no effect on a CPU: use --precision fp32 or bf16")
    return Options(
        target=given.target,
        nproc=given.nproc,
        batch_size=given.batch_size,
        max_length=given.max_length,
        precision=given.precision,
        query_instruction=getattr(given, "query_instruction", ""),
        passage_instruction=getattr(given, "passage_instruction", ""),
        pooling=getattr(given, "pooling", "auto"),
        **heads,
    )


def positive(text: str) -> int:
    """A whole number from 1 on."""
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r}: a whole number from 1 on is needed")
    return int(text)


def boolean(word: str) -> bool:
    """A recipe's boolean, which is the word true or false."""
    return {"true": True, "false": False}[word]


def locate(model: str) -> Path:
    """The folder of a model: itself, or the snapshot of an id on the hub (in plain bash only)."""
    if Path(model).is_dir():
        return Path(model)
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(model))


def kind(folder: Path) -> Kind:
    """What a model's folder holds: BGE-M3's three heads, another embedder, or a cross-encoder.

    Raises:
        SystemExit: no model, one head of BGE-M3 without the other, or a classifier of several classes.
    """
    heads = [name for name in HEADS if (folder / name).is_file()]
    if len(heads) == 1:
        raise rows.stop(f"{folder}: {heads[0]} without its companion: one of BGE-M3's heads would be random")
    if heads:
        return "m3"
    config = _config(folder)
    if not any(str(name).endswith("ForSequenceClassification") for name in config.get("architectures") or []):
        return "embedder"
    if len(config.get("id2label", "ab")) != 1:  # not written when there are two, the default
        raise rows.stop(f"{folder}: a classifier of several classes; a reranker gives one score per pair")
    return "reranker"


def _config(folder: Path) -> dict[str, Any]:
    """A model's config.json; a sentence-transformers folder may have it in its first module."""
    for place in (folder, folder / "0_Transformer"):
        if (place / "config.json").is_file():
            return dict(json.loads((place / "config.json").read_text(encoding="utf-8")))
    if (folder / "modules.json").is_file():
        return {}
    raise rows.stop(f"{folder}: not a model's folder: it has no config.json")


def pooling(folder: Path, wanted: str) -> str:
    """How token states become one vector: as asked, as ``1_Pooling`` says, else that of the first token."""
    if wanted != "auto":
        return wanted
    file = folder / "1_Pooling" / "config.json"
    if not file.is_file():
        return "cls"
    said = json.loads(file.read_text(encoding="utf-8"))
    keys = ("pooling_mode_cls_token", "pooling_mode_mean_tokens", "pooling_mode_lasttoken")
    for key, mode in zip(keys, _POOLING, strict=True):
        if said.get(key) or said.get("pooling_mode") == _POOLING[mode]:
            return mode
    raise rows.stop(f"{file}: a pooling other than {', '.join(_POOLING)}: name one, --pooling")


def longest(folder: Path, wanted: int) -> int:
    """The longest text in tokens: as asked, but not beyond the model's positions (a crash in the middle)."""
    config = _config(folder)
    positions = config.get("max_position_embeddings")
    if not isinstance(positions, int) or config.get("position_embedding_type", "absolute") != "absolute":
        return wanted
    if config.get("model_type") in {"xlm-roberta", "roberta", "camembert", "xlm-roberta-xl"}:
        positions -= config.get("pad_token_id", 1) + 1  # they count from behind the padding id
    return min(wanted, positions)


@contextmanager
def embedder(folder: Path, chosen: Options) -> Iterator[Embedder]:
    """Load an embedder of either kind; afterwards its memory and its processes are free for another one."""
    _threads(chosen)
    with (_m3 if kind(folder) == "m3" else _sentence_transformer)(folder, chosen) as loaded:
        yield loaded


@contextmanager
def _m3(folder: Path, chosen: Options) -> Iterator[Embedder]:
    """FlagEmbedding's BGE-M3, one process per device."""
    from FlagEmbedding import BGEM3FlagModel
    from scipy import sparse

    _silence()
    length = longest(folder, chosen.max_length)
    loaded = BGEM3FlagModel(
        str(folder),
        use_fp16=False,
        # named, since it would not find an Intel GPU by itself, and would take every NVIDIA one
        devices=chosen.devices,
        batch_size=chosen.batch_size,
        query_max_length=length,
        passage_max_length=length,
        pooling_method=pooling(folder, chosen.pooling),
        return_sparse=chosen.sparse,
        return_colbert_vecs=chosen.colbert,
    )
    # Not by its own arguments: FlagEmbedding 1.3.5 knows no bf16 and would silently compute in 32 bit.
    loaded.model.to(_dtype(chosen)).register_forward_hook(as_float)
    vocabulary = len(loaded.tokenizer)

    def encode(texts: Sequence[str]) -> Encoded:
        raw = loaded.encode(list(texts))
        weights = raw["lexical_weights"] or []
        row = np.repeat(np.arange(len(weights)), [len(weight) for weight in weights])
        column = [int(token) for weight in weights for token in weight]
        value = np.array([v for weight in weights for v in weight.values()], np.float32)
        return Encoded(
            dense=np.asarray(raw["dense_vecs"], np.float32),
            sparse=sparse.csr_matrix((value, (row, column)), (len(texts), vocabulary), np.float32)
            if chosen.sparse
            else None,
            tokens=[np.asarray(vectors, np.float32) for vectors in raw["colbert_vecs"] or []],
        )

    try:
        yield Embedder(
            queries=_prefixed(encode, chosen.query_instruction),
            passages=_prefixed(encode, chosen.passage_instruction),
            # token vectors of long texts fill the memory, so fewer of them at a time
            block=max(1, 8 * 512 // max(512, chosen.max_length)) * chosen.batch_size * len(chosen.devices),
            device=chosen.devices[0],
        )
    finally:
        loaded.stop_self_pool()


def as_float(module: object, inputs: object, outputs: dict[str, Any]) -> dict[str, Any]:
    """A hook that gives 32-bit outputs, since numpy has no bf16; a name of the module, so that it pickles."""
    return {name: value.float() if hasattr(value, "float") else value for name, value in outputs.items()}


@contextmanager
def _sentence_transformer(folder: Path, chosen: Options) -> Iterator[Embedder]:
    """Any other embedder by sentence-transformers: its own modules, or its encoder and a pooling."""
    from sentence_transformers import SentenceTransformer

    if (folder / "modules.json").is_file() and chosen.pooling == "auto":
        loaded = SentenceTransformer(str(folder), device=chosen.devices[0])
    else:
        try:
            from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
        except ImportError:  # before 5.2
            from sentence_transformers.models import Pooling, Transformer

        encoder = Transformer(str(folder))
        size = getattr(encoder, "get_embedding_dimension", None) or encoder.get_word_embedding_dimension
        mode = _POOLING[pooling(folder, chosen.pooling)]
        parts = [encoder, Pooling(size(), pooling_mode=mode)]
        loaded = SentenceTransformer(modules=parts, device=chosen.devices[0])
    loaded.max_seq_length = longest(folder, chosen.max_length)
    loaded.to(_dtype(chosen))
    pool = loaded.start_multi_process_pool(chosen.devices) if len(chosen.devices) > 1 else None
    told = {
        "batch_size": chosen.batch_size,
        "normalize_embeddings": True,
        "show_progress_bar": False,
        "pool": pool,
    }

    def encoder_of(method: Callable[..., Any], instruction: str) -> Callable[[Sequence[str]], Encoded]:
        # A prompt of None is the model's own one; a given one replaces it.
        def encode(texts: Sequence[str]) -> Encoded:
            vectors = method(list(texts), prompt=instruction or None, **told)
            return Encoded(dense=np.asarray(vectors, np.float32))

        return encode

    try:
        yield Embedder(
            queries=encoder_of(loaded.encode_query, chosen.query_instruction),
            passages=encoder_of(loaded.encode_document, chosen.passage_instruction),
            block=64 * chosen.batch_size * len(chosen.devices),
            device=chosen.devices[0],
        )
    finally:
        if pool is not None:
            loaded.stop_multi_process_pool(pool)
        loaded.to("cpu")


@contextmanager
def reranker(folder: Path, chosen: Options) -> Iterator[Reranker]:
    """Load a cross-encoder; its scores are raw logits, without a sigmoid."""
    from FlagEmbedding import FlagReranker

    _threads(chosen)
    _silence()
    loaded = FlagReranker(
        str(folder),
        use_fp16=False,
        devices=chosen.devices,
        batch_size=chosen.batch_size,
        max_length=longest(folder, chosen.max_length),
        normalize=False,
        query_instruction_for_rerank=chosen.query_instruction or None,
        passage_instruction_for_rerank=chosen.passage_instruction or None,
    )
    loaded.model.to(_dtype(chosen))
    loaded.model.eval()

    def predict(pairs: Sequence[tuple[str, str]]) -> list[float]:
        return [float(value) for value in loaded.compute_score(list(pairs))] if pairs else []

    try:
        yield predict
    finally:
        loaded.stop_self_pool()


def _dtype(chosen: Options) -> Any:
    import torch

    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[chosen.precision]


def _threads(chosen: Options) -> None:
    """One process has the threads that several would have shared: a recipe's run-time divides the cores."""
    import torch

    if chosen.devices == ["cpu"] and chosen.nproc > 1:
        torch.set_num_threads(torch.get_num_threads() * chosen.nproc)


def _silence() -> None:
    """Take FlagEmbedding's bars away: they tear a log to pieces, and no argument does it."""
    for name in ("embedder.encoder_only.m3", "reranker.encoder_only.base"):
        module: Any = importlib.import_module(f"FlagEmbedding.inference.{name}")
        module.tqdm, module.trange = lambda batches, **_: batches, lambda *bounds, **_: range(*bounds)


def _prefixed(
    encode: Callable[[Sequence[str]], Encoded], instruction: str
) -> Callable[[Sequence[str]], Encoded]:
    return lambda texts: encode([instruction + text for text in texts] if instruction else texts)


# One process of several devices imports the program anew, and with it this module; at that time only its name
# tells what it is.
if multiprocessing.current_process().name != "MainProcess":
    _silence()
