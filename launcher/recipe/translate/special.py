"""Arguments that are more than another name: each acts on a translation under way."""

import math
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from launcher.recipe.translate import tables
from launcher.recipe.translate.tables import SAME, Kind, text

if TYPE_CHECKING:
    from launcher.recipe.translate.arguments import Work

Special = Callable[["Work", str, list[str]], None]


def counts(value: str) -> bool:
    """Whether a value is a number of things, or auto."""
    return re.fullmatch(r"auto|[1-9][0-9]{0,8}", value) is not None


def _true(values: Sequence[str]) -> bool:
    return not values or values[-1].lower() in ("true", "1", "yes", "t", "y")


def _half(work: "Work", name: str, values: list[str]) -> None:
    """``--fp16``, ``--bf16``, ``--use_fp16``, ``--use_bf16``."""
    wanted = name.removeprefix("use_")
    if _true(values):
        if work.given.get("precision") != "bf16":
            work.precision(name, wanted)
        return
    why = text("it was off", "原本就是关闭的")
    work.drop("gone", f"--{name} {values[-1]}", why)
    if name == "use_fp16" and "precision" not in work.given:  # on unless told otherwise
        work.option("precision", f"--{name} {values[-1]}", "fp32", "changed", SAME)


def _deepspeed(work: "Work", name: str, values: list[str]) -> None:
    """A configuration's path, by what its name says."""
    path = " ".join(values)
    base = path.rsplit("/", 1)[-1].lower()
    match = re.search(r"(?:stage|zero)[-_]?([0-3])", base)
    if match:
        stage = f"stage{match[1]}"
        stage += "-offload" if stage == "stage3" and "offload" in base else ""
        why = text(
            "ds_configs/ of the launcher holds the same stage", "launcher 的 ds_configs/ 中有同一阶段的配置"
        )
    elif base in ("ds_config.json", "df_config.json"):
        stage = "stage0"
        why = text(
            "upstream's file of this name says stage 0; look into yours",
            "上游同名文件是 stage 0；请核对您的文件",
        )
    else:
        why = text(
            "its name does not tell the stage; add --deepspeed stage1, stage2 … if the recipe's own differs",
            "从文件名看不出阶段；若与配方默认不同，请加 --deepspeed stage1、stage2 等",
        )
        work.drop("gone", f"--{name} {path}", why)
        return
    work.option("deepspeed", f"--{name} {path}", stage, "changed", why)


def _report_to(work: "Work", name: str, values: list[str]) -> None:
    """Several loggers, ``all`` and those that the recipe does not offer are left out."""
    value, shown = " ".join(values).lower(), f"--{name} {' '.join(values)}"
    parameter = work.parameter(name)
    if parameter is not None and value in parameter.choices:
        work.option(name, shown, value, "kept", SAME)
        return
    why = text(
        "a run reports to its record, metrics.jsonl, and to one logger: --report-to tensorboard, wandb or"
        " mlflow",
        "数值写入运行记录 metrics.jsonl，另可选一种日志工具：--report-to tensorboard、wandb 或 mlflow",
    )
    work.drop("gone", shown, why)


def _sub_batch(work: "Work", name: str, values: list[str]) -> None:
    shown = f"--{name} {' '.join(values)}".rstrip()
    why = text(
        "the old trainer chose sub-batches by length; today that is a number: --sub-batch-size 8, say, where"
        " memory does not suffice",
        "旧训练器按长度自动拆分；现在是一个数：显存不足时用例如 --sub-batch-size 8",
    )
    work.drop("gone", shown, why if _true(values) else text("it was off", "原本就是关闭的"))


def _in_batch(work: "Work", name: str, values: list[str]) -> None:
    shown = f"--{name} {' '.join(values)}".rstrip()
    if _true(values):
        work.drop("gone", shown, text("it is always so, but for marked data", "除有标记的数据外总是如此"))
        return
    why = text(
        "a file or folder whose name ends in no_in_batch_neg says it now, and only in this mode",
        "现在由以 no_in_batch_neg 结尾的文件或文件夹名指定，且仅在此模式下有效",
    )
    work.option("same_dataset_within_batch", shown, "true", "changed", why)
    work.notes.append(
        text(
            "rename the data, for example train.jsonl to train-no_in_batch_neg.jsonl: otherwise negatives in"
            " the batch are used",
            "请重命名数据，例如 train.jsonl 改为 train-no_in_batch_neg.jsonl，否则仍会使用批内负例",
        )
    )


def pair_length(work: "Work", name: str, values: list[str], kind: Kind = "renamed") -> None:
    """One length for the pair became two; a quarter for the query is a guess, and said to be one."""
    value = " ".join(values)
    if not counts(value) or value == "auto":
        work.problems.append(f"--{name} takes a whole number, not {value!r}")
        return
    query = math.ceil(int(value) / 4)
    shown = "" if kind == "default" else f"--{name} {value}"
    why = text(
        f"one length for the pair became two; {query} + {int(value) - query} is a guess at the shares",
        f"查询与段落共用的长度拆成了两个；{query} + {int(value) - query} 是估计的比例",
    )
    work.option("query_max_len", shown, str(query), kind, why)
    work.option("passage_max_len", shown, str(int(value) - query), kind, why)


def _no_accelerator(work: "Work", name: str, values: list[str]) -> None:
    if _true(values):
        work.options["--target"] = "cpu"
        work.say("changed", f"--{name}", "--target cpu", text("a target is a device", "目标即设备"))


def _boundaries(work: "Work", name: str, values: list[str]) -> None:
    lengths = ",".join(v for v in re.split(r"[\s,]+", " ".join(values)) if v not in ("", "0"))
    why = text("the same lengths, without the 0", "相同的长度，去掉 0")
    work.option("boundaries", f"--{name} {' '.join(values)}", lengths, "renamed", why)


def _cut_offs(work: "Work", name: str, values: list[str]) -> None:
    work.option("k", f"--{name} {' '.join(values)}", ",".join(values), "renamed", SAME)


def _longest(work: "Work", name: str, values: list[str]) -> None:
    """Two lengths became one: the longer."""
    value = " ".join(values)
    before = work.given.get("max_length", "0")
    if counts(value) and counts(before) and "auto" not in (value, before) and int(value) < int(before):
        value = before
    why = text("one length for queries and passages: the longer one", "查询与段落共用一个长度：取较长者")
    work.option("max_length", f"--{name} {' '.join(values)}", value, "renamed", why)


def _instruction(work: "Work", name: str, values: list[str]) -> None:
    if _true(values):
        why = text(
            "the text was built in; write it out with --query-instruction-for-retrieval",
            "指令文本原为内置；请用 --query-instruction-for-retrieval 写明",
        )
        work.drop("gone", f"--{name}", why)


def _max_len_of(work: "Work", name: str, values: list[str]) -> None:
    if work.program.generation == "first":
        pair_length(work, name, values)
    else:
        work.drop("gone", f"--{name} {' '.join(values)}", tables.GONE_FOR["reranker"]["max_len"])


EVERYWHERE: dict[str, Special] = {
    "fp16": _half,
    "bf16": _half,
    "use_fp16": _half,
    "use_bf16": _half,
    "deepspeed": _deepspeed,
    "report_to": _report_to,
    "no_cuda": _no_accelerator,
    "use_cpu": _no_accelerator,
}
_LENGTHS: dict[str, Special] = {
    "embedder_query_max_length": _longest,
    "embedder_passage_max_length": _longest,
}
FOR: dict[str, dict[str, Special]] = {
    "m3": {"enable_sub_batch": _sub_batch},
    "dense": {"use_inbatch_neg": _in_batch, "enable_sub_batch": _sub_batch},
    "reranker": {"max_len": _max_len_of},
    "mine": _LENGTHS,
    "split": {"length_list": _boundaries},
    "evaluate": {"k_values": _cut_offs, "k": _cut_offs, "add_instruction": _instruction, **_LENGTHS},
}
