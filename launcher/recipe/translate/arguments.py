"""The arguments of one old command, taken one by one into options of a recipe."""

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from launcher import credentials
from launcher.errors import UsageError
from launcher.recipe.model import Parameter, Recipe, Text, convert
from launcher.recipe.model import as_text as value_text
from launcher.recipe.translate import special, tables
from launcher.recipe.translate.programs import Program, Start
from launcher.recipe.translate.tables import SAME, Change, Kind, text

_RAW = text("no option of the recipe; the trainer knows it", "配方没有此选项；训练器认识它")
_DEFAULT = text(
    "left out before: the old program's own default, which is not the recipe's",
    "原命令未写：这是旧程序的默认值，与配方默认值不同",
)
_BOOLEANS = {"t": "true", "y": "true", "f": "false", "n": "false"}


def read(words: Sequence[str]) -> tuple[list[tuple[str, list[str]]], list[str]]:
    """Argument names in their canonical spelling with their values, and words that belong to none."""
    found: list[tuple[str, list[str]]] = []
    stray: list[str] = []
    for word in words:
        if match := re.fullmatch(r"--([A-Za-z][\w-]*)(?:=(.*))?", word, re.DOTALL):
            found.append((match[1].replace("-", "_"), [] if match[2] is None else [match[2]]))
        elif found and (found[-1][0] in tables.LISTS or not found[-1][1]):
            found[-1][1].append(word)
        else:
            stray.append(word)
    return found, stray


@dataclass(slots=True, kw_only=True)
class Work:
    """A translation under way.

    Attributes:
        unknown: texts that only the reader can replace; values that hold one are not checked.
        options: the launcher's options in order, then the recipe's.
    """

    recipe: Recipe
    program: Program
    unknown: tuple[str, ...]
    data: list[str] = field(default_factory=list)
    options: dict[str, str] = field(default_factory=dict)
    env: list[str] = field(default_factory=list)
    given: dict[str, str] = field(default_factory=dict)
    raw: dict[str, list[str]] = field(default_factory=dict)
    changes: list[Change] = field(default_factory=list)
    dropped: list[Change] = field(default_factory=list)
    notes: list[Text] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    # ------------------------------------------------------------------------------------ the launcher
    def start(self, started: Start, environment: Sequence[tuple[str, str]]) -> None:
        """The processes, machines and variables that the command was started with."""
        options = dict(started.options)
        trains = self.recipe.launch == "torchrun"
        count = ""
        for name in ("nproc_per_node", "num_processes", "num_gpus", "include", "gpu_ids"):
            if value := options.pop(name, ""):
                many = "," in value or ":" in value
                gpus = value.partition(":")[2] or value
                count = str(len([g for g in gpus.split(",") if g])) if many else value
                if name == "gpu_ids" and not many:
                    count = "" if value == "all" else "1"
                count = "auto" if count in ("gpu", "cpu", "xpu") else count
                if trains:
                    self.say("renamed", f"--{name} {value}", f"--nproc {count or 'auto'}", SAME)
        if trains:
            self.options["--nproc"] = count or ("1" if started.launcher in ("torchrun", "python") else "auto")
            if not count:
                why = text(
                    f"{started.launcher} started so many by itself", f"{started.launcher} 默认的进程数"
                )
                self.say("default", "", f"--nproc {self.options['--nproc']}", why)
            if not special.counts(self.options["--nproc"]) and not self._open(self.options["--nproc"]):
                self.problems.append(f"the number of processes is {self.options['--nproc']!r}")
        for name in ("nnodes", "num_machines", "num_nodes"):
            value = options.pop(name, "1")
            if value not in ("1", "1:1"):
                self.notes.append(
                    text(
                        f"--{name} {value}: one launch runs on one machine; several machines are handed to a"
                        " scheduler, Slurm or Kubernetes",
                        f"--{name} {value}：一次 launch 只用一台机器；多机请交给 Slurm 或 Kubernetes",
                    )
                )
        if (mixed := options.pop("mixed_precision", "no")) in ("fp16", "bf16"):
            self.precision("mixed_precision", mixed)
        here = text("torchrun's settings for one machine are the recipe's", "单机 torchrun 设置由配方负责")
        for name, value in options.items():
            self.drop("gone", f"--{name} {value}".rstrip(), here)
        for name, value in environment:
            self._variable(name, value)

    def _variable(self, name: str, value: str) -> None:
        if why := tables.VARIABLES.get(name):
            self.drop("gone", name, why)
        elif credentials.in_name(name) or credentials.in_address(value) or name.upper().endswith("PROXY"):
            self.env.append(name)
            why = text(
                "passed on from your shell; its value is in no command", "从当前终端传入，值不写在命令里"
            )
            self.say("changed", f"{name}=…", f"--env {name}", why)
        else:
            self.env.append(f"{name}={value}")
            self.say("changed", f"{name}={value}", f"--env {name}={value}", SAME)

    # ----------------------------------------------------------------------------------- the arguments
    def arguments(self, words: Sequence[str]) -> None:
        """Every argument of the program; a repeated one counts as it was last given."""
        found, stray = read(words)
        last = dict(found)
        for name in [n for n in last if [m for m, _ in found].count(n) > 1]:
            before = [" ".join(values) for other, values in found if other == name][:-1]
            why = text(
                "given several times: the last one counts, as it did before", "多次给出：以最后一次为准"
            )
            for value in before:
                self.drop("repeated", f"--{name} {value}".rstrip(), why)
        for name, values in last.items():
            self._argument(name, values)
        if stray:
            why = text(
                "these words belong to no argument; a text with spaces needs quotes",
                "这些词不属于任何参数；含空格的文本需要引号",
            )
            self.drop("unknown", " ".join(stray), why)

    def _argument(self, name: str, values: list[str]) -> None:
        kind, value = self.program.kind, " ".join(values)
        shown = f"--{name} {value}".rstrip()
        if name in tables.MODELS or (kind == "score" and name == "reranker_name_or_path"):
            self.place("--model", shown, value)
        elif name in tables.DATA:
            self.data += values
            for path in values:
                why = text("files and folders, one --data each", "文件或文件夹，每个一个 --data")
                self.say("renamed", f"--{name} {path}", f"--data {path}", why)
        elif name in tables.OUTPUTS:
            self._output(shown, name, value)
        elif act := special.EVERYWHERE.get(name):
            act(self, name, values)
        elif kind in special.FOR and name in special.FOR[kind]:
            special.FOR[kind][name](self, name, values)
        elif name in tables.RENAMED[kind]:
            new, why = tables.RENAMED[kind][name]
            self.option(new, shown, value or "true", "renamed", why)
        elif self.parameter(name):
            self.option(name, shown, value if values else "true", "kept", SAME)
        elif why_gone := tables.GONE_FOR[kind].get(name) or tables.GONE.get(name):
            self.drop("gone", f"--{name} …" if "token" in name else shown, why_gone)
        elif name in tables.KNOWN[kind]:
            self._raw(name, shown, values)
        elif name.startswith("no_") and self._knows(name[3:]):
            self._argument(name[3:], ["false"])
        else:
            near = next(iter(difflib.get_close_matches(name, self._names(), n=1, cutoff=0.75)), "")
            why = text("nobody knows it", "未知参数")
            if near:
                why = text(f"nobody knows it; did you mean --{near}?", f"未知参数；是否想写 --{near}？")
            self.drop("unknown", shown, why)

    def option(self, name: str, old: str, value: str, kind: Kind, why: Text) -> None:
        """Set an option of the recipe, or hand it to the trainer when the recipe has none."""
        parameter = self.parameter(name)
        if parameter is None:
            if name in tables.KNOWN[self.program.kind]:
                self._raw(name, old, [value])
            else:
                why = text("the recipe has no such option", "配方没有此选项")
                self.drop("gone", old, why)
            return
        if parameter.type == "bool":
            value = _BOOLEANS.get(value.lower(), value)
        if parameter.type == "choice" and value not in parameter.choices and not self._open(value):
            lower = next((choice for choice in parameter.choices if choice == value.lower()), "")
            if not lower and name in tables.KNOWN[self.program.kind]:
                self._raw(name, old, [value])
                return
            value = lower or value
        if not self._open(value):
            try:
                canonical = convert(parameter, value)
                value = canonical if parameter.type == "bool" else value
            except UsageError as error:
                self.problems.append(error.message)
        self.given[name] = value
        self.say(kind, old, f"{parameter.option} {value}".rstrip(), why)

    def _output(self, shown: str, name: str, value: str) -> None:
        folder = re.sub(r"\.(jsonl?|md|txt|csv)$", "", value) if name != "output_dir" else value
        why = text("the folder of the result; new or empty", "结果文件夹；须为新的或空的")
        if folder != value:
            why = text("the recipe writes a folder, with the file in it", "配方输出一个文件夹，文件在其中")
        self.place("--output", shown, folder, why)

    def place(self, option: str, shown: str, value: str, why: Text = SAME) -> None:
        if value:
            self.options[option] = value
            self.say("renamed", shown, f"{option} {value}", why)
        else:
            self.problems.append(f"{shown} has no value")

    def _raw(self, name: str, shown: str, values: list[str]) -> None:
        self.raw[name] = values or ["true"]
        self.say("raw", shown, " ".join(["--", f"--{name}", *self.raw[name]]), _RAW)

    def precision(self, name: str, value: str) -> None:
        why = text("one option says the number format", "由一个选项指定数值格式")
        if value == "fp16":
            why = text(
                "bf16 is better where the device has it: fp16 overflows (a loss of 0 or NaN) and does nothing"
                " on a CPU",
                "设备支持时 bf16 更好：fp16 易溢出（损失为 0 或 NaN），在 CPU 上无效",
            )
        self.option("precision", f"--{name}", value, "changed", why)

    # ----------------------------------------------------------------------------------------- the end
    def finish(self) -> None:
        """What the old program did unasked, where the recipe does otherwise; what is still missing."""
        defaults = dict(tables.DEFAULTS[self.program.kind])
        if self.program.kind == "m3" and self.program.generation == "first":
            defaults |= tables.FIRST_M3
        if self.program.kind == "reranker" and self.program.generation == "first":
            for name in ("query_max_len", "passage_max_len"):
                del defaults[name]
            if "query_max_len" not in self.given:
                special.pair_length(self, "max_len", ["512"], kind="default")
        if self.given.get("knowledge_distillation") != "true":
            defaults.pop("kd_loss_type", None)
        if self.given.get("use_self_distill") != "true":
            defaults.pop("self_distill_start_step", None)
        if "warmup_steps" in self.raw:
            defaults.pop("warmup_ratio", None)
        for name, value in defaults.items():
            parameter = self.parameter(name)
            if parameter is None or name in self.given or name in self.raw:
                continue
            expected = convert(parameter, value)
            if any(value_text(own) != expected for _, own in parameter.defaults):
                self.option(name, "", value, "default", _DEFAULT)
        self._deepspeed_of_one()
        if self.recipe.data and not self.data:
            self.notes.append(text("the command names no data: add --data", "命令没有指定数据：请加 --data"))
        if self.unknown:
            self.notes.append(
                text(
                    "some values are not in the text (variables nobody set, placeholders): put them in",
                    "有些值文本中没有（未赋值的变量、占位符）：请自行填入",
                )
            )

    def _deepspeed_of_one(self) -> None:
        if self.options.get("--nproc") != "1" or self.given.get("deepspeed", "none") in (
            "none",
            "stage3-offload",
        ):
            return
        why = text(
            "one device needs no DeepSpeed: nothing is shared, and it costs start-up time",
            "单设备不需要 DeepSpeed：没有可分摊的状态，还拖慢启动",
        )
        self.given["deepspeed"] = "none"
        before = [item for item in self.changes if item.new.startswith("--deepspeed ")]
        self.changes = [item for item in self.changes if item not in before]
        self.say("changed", before[0].old if before else "--deepspeed", "--deepspeed none", why)

    def argv(self) -> tuple[str, ...]:
        """The whole command."""
        words = ["launch", "run", self.recipe.name]
        for path in self.data:
            words += _option("--data", path)
        for name in ("--model", "--output", "--target", "--nproc"):
            if name in self.options:
                words += _option(name, self.options[name])
        for variable in self.env:
            words += _option("--env", variable)
        for name, value in self.given.items():
            if parameter := self.parameter(name):
                words += _option(parameter.option, value)
        if self.raw:
            words.append("--")
            for name, values in self.raw.items():
                words += [f"--{name}", *values]
        return tuple(words)

    # ------------------------------------------------------------------------------------------ helpers
    def say(self, kind: Kind, old: str, new: str, why: Text) -> None:
        self.changes.append(Change(kind=kind, old=old, new=new, why=why))

    def drop(self, kind: Kind, old: str, why: Text) -> None:
        self.dropped.append(Change(kind=kind, old=old, new="", why=why))

    def parameter(self, name: str) -> Parameter | None:
        return next((item for item in self.recipe.parameters if item.name == name), None)

    def _open(self, value: str) -> bool:
        return any(item in value for item in self.unknown)

    def _knows(self, name: str) -> bool:
        return name in self._names()

    def _names(self) -> list[str]:
        kind = self.program.kind
        return sorted(
            {item.name for item in self.recipe.parameters}
            | tables.KNOWN[kind]
            | set(tables.GONE)
            | set(tables.GONE_FOR[kind])
            | set(tables.RENAMED[kind])
            | set(special.EVERYWHERE)
            | set(special.FOR.get(kind, ()))
            | tables.MODELS
            | tables.DATA
            | tables.OUTPUTS
        )


def _option(name: str, value: str) -> list[str]:
    """An option and its value; one word when the value could be taken for an option."""
    return [f"{name}={value}"] if value.startswith("-") and not _number(value) else [name, value]


def _number(value: str) -> bool:
    return re.fullmatch(r"-\d+(\.\d+)?(e-?\d+)?", value) is not None
