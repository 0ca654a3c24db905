"""Who starts what: launchers and their options, and the programs of every FlagEmbedding generation.

The names were read in FlagEmbedding's history (2023-08 to 1.4.2): the packages ``baai_general_embedding``,
``BGE_M3`` and ``reranker`` were replaced by ``finetune`` in 1.3 (October 2024).
"""

import re
from dataclasses import dataclass
from typing import Literal

from launcher.recipe.model import Text
from launcher.recipe.translate.shell import Command

Generation = Literal["first", "second", "tool"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """An upstream program and the recipe that takes its place.

    Attributes:
        kind: which tables of arguments hold for it.
        generation: ``first``: before FlagEmbedding 1.3.
    """

    kind: str
    recipe: str
    generation: Generation


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """A command taken apart: the launcher's options, the program, and the program's own arguments."""

    program: str
    launcher: str
    options: tuple[tuple[str, str], ...]
    arguments: tuple[str, ...]


def _program(kind: str, recipe: str, generation: Generation) -> Program:
    return Program(kind=kind, recipe=recipe, generation=generation)


#: Dotted endings of module names and script paths. The longest that fits is it.
PROGRAMS = {
    "BGE_M3.run": _program("m3", "bge-m3-unified", "first"),
    "encoder_only.m3": _program("m3", "bge-m3-unified", "second"),
    "baai_general_embedding.finetune.run": _program("dense", "bge-dense", "first"),
    "universal_embedding.finetune.run": _program("dense", "bge-dense", "first"),
    "finetune.run": _program("dense", "bge-dense", "first"),
    "embedder.encoder_only.base": _program("dense", "bge-dense", "second"),
    "reranker.run": _program("reranker", "bge-reranker", "first"),
    "reranker.encoder_only.base": _program("reranker", "bge-reranker", "second"),
    "hn_mine": _program("mine", "mine-hard-negatives", "tool"),
    "add_reranker_score": _program("score", "score-with-teacher", "tool"),
    "split_data_by_length": _program("split", "split-by-length", "tool"),
    "evaluation.custom": _program("evaluate", "evaluate", "tool"),
    "eval_msmarco": _program("evaluate", "evaluate", "tool"),
}


def _text(en: str, zh: str) -> Text:
    return Text(en=en, zh=zh)


_LLM = _text(
    "it trains or runs a large language model as embedder or reranker",
    "它训练或运行基于大语言模型的向量或重排模型",
)
_BENCHMARK = _text(
    "it downloads a public benchmark; the recipe evaluate measures on data of your own",
    "它会下载公开评测集；配方 evaluate 用您自己的数据评测",
)

#: Names anywhere in a module or path that say: this is something else.
OTHERS = {
    "decoder_only": _LLM,
    "llm_reranker": _LLM,
    "llm_embedder": _LLM,
    "llm_dense_retriever": _LLM,
    "LLARA": _LLM,
    "Matroyshka_reranker": _LLM,
    "Reinforced_IR": _LLM,
    "Long_LLM": _text("it extends the context of a large language model", "它用于扩展大语言模型的上下文"),
    "LM_Cocktail": _text(
        "it mixes the weights of models; nothing is trained", "它混合多个模型的权重，并不训练"
    ),
    "visual": _text("it trains embedders of images and text", "它训练图文向量模型"),
    "visual_bge": _text("it trains embedders of images and text", "它训练图文向量模型"),
    "BGE_VL": _text("it trains embedders of images and text", "它训练图文向量模型"),
    "retromae_pretrain": _text("it pre-trains with RetroMAE", "它做 RetroMAE 预训练"),
    "C_MTEB": _BENCHMARK,
    **dict.fromkeys("air_bench beir bright miracl mkqa mldr msmarco mteb".split(), _BENCHMARK),
}

_LAUNCHERS = re.compile(r"(torchrun|accelerate|deepspeed|accelerate-launch|python[\d.]*)(\.exe)?")
_TALKERS = frozenset("echo printf cat pip pip3 which ls cd man".split())

#: Launchers' options that take no value.
_FLAGS = frozenset(
    """standalone no_python run_path use_env multi_gpu use_deepspeed use_fsdp cpu tpu quiet debug
    no_local_rank no_ssh force_multi enable_elastic_training save_pid no_ssh_check""".split()
)
_WRAPPERS = frozenset(("torch.distributed.launch", "torch.distributed.run", "torch.distributed.launcher.api"))


def start(command: Command) -> Start | None:
    """Take a command apart; None when it starts no program that this module could know."""
    words = list(command.words)
    if not words or words[0] in _TALKERS:
        return None
    at = next((i for i, word in enumerate(words) if _LAUNCHERS.fullmatch(_base(word))), None)
    if at is None:
        return _bare(words)
    launcher, words = _base(words[at]), words[at + 1 :]
    if launcher == "accelerate":
        if words[:1] != ["launch"]:
            return None
        words = words[1:]
    if launcher.startswith("python"):
        while words and re.fullmatch(r"-[uOBEsSPIqv]+", words[0]):
            words = words[1:]
        launcher = "python"
        if len(words) > 1 and words[0] == "-m":
            if words[1] in _WRAPPERS:
                launcher, words = "torchrun", words[2:]
            elif words[1] in ("accelerate.commands.launch", "deepspeed.launcher.runner"):
                launcher, words = words[1].partition(".")[0], words[2:]
    options: list[tuple[str, str]] = []
    while words:
        word = words.pop(0)
        if word in ("-m", "--module") and words:
            continue
        if not word.startswith("-"):
            return Start(program=word, launcher=launcher, options=tuple(options), arguments=tuple(words))
        name, equals, value = word.lstrip("-").partition("=")
        name = name.replace("-", "_")
        if not equals and name not in _FLAGS and words and not words[0].startswith("-"):
            value = words.pop(0)
        options.append((name, value))
    return None


def _bare(words: list[str]) -> Start | None:
    """A script that is called by its own name: ``./hn_mine.py --input_file …``."""
    if words[0].endswith(".py"):
        return Start(program=words[0], launcher="python", options=(), arguments=tuple(words[1:]))
    return None


def _base(word: str) -> str:
    return word.rsplit("/", 1)[-1]


def dotted(program: str) -> str:
    """A module's name or a script's path as one dotted name."""
    name = re.sub(r"[/\\]+", ".", re.sub(r"\.(py|sh)$", "", program)).strip(".")
    return name.removesuffix(".__main__").removesuffix(".__init__")


def find(started: Start) -> Program | Text | None:
    """The program, or what it is when no recipe covers it, or None when it is not FlagEmbedding's.

    ``-m run``, which needs the right working folder, is told by the arguments.
    """
    name = dotted(started.program)
    parts = name.split(".")
    given = {word.lstrip("-").partition("=")[0].replace("-", "_") for word in started.arguments}
    if any(word.partition("=")[2].startswith("decoder-only") or word.startswith("decoder-only")
           for word in started.arguments):  # fmt: skip
        return _LLM
    for other, what in OTHERS.items():
        if other in parts:
            return what
    fitting = [ending for ending in PROGRAMS if name == ending or name.endswith(f".{ending}")]
    if fitting:
        found = PROGRAMS[max(fitting, key=len)]
        return _LLM if found.kind in ("dense", "reranker") and given & {"use_lora", "lora_rank"} else found
    if name == "run" and given & {"train_data"}:
        if given & {"use_lora", "lora_rank"}:
            return _LLM
        return PROGRAMS[
            "reranker.run" if "max_len" in given else "BGE_M3.run" if given & _M3 else "finetune.run"
        ]
    if parts[0] == "FlagEmbedding" or "FlagEmbedding" in parts:
        return _text(
            "it is a program of FlagEmbedding that no recipe knows",
            "它是 FlagEmbedding 的程序，但没有对应的配方",
        )
    return None


_M3 = {
    "unified_finetuning",
    "use_self_distill",
    "self_distill_start_step",
    "same_task_within_batch",
    "fix_encoder",
    "enable_sub_batch",
    "knowledge_distillation",
}
