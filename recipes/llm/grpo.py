"""``python -m runtime … -m llm.grpo ARGS``: training by rewards (GRPO) with TRL's GRPOTrainer.

Own arguments are :class:`llm.options.ModelOptions` and :class:`GrpoOptions`; every other one is a field of
TRL's GRPOConfig. What judges the answers is read and tried out before the model is loaded. vLLM generates in
this process: started by Unsloth, which shares its weights, or by TRL.
"""

import json
import sys
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from llm import rewards, rows, saving, steps, templates
from llm.built_in import Settings
from llm.options import ModelOptions, parse
from llm.rewards import Reward, RewardError

#: Rows on which reward functions are tried out before the training.
_TRIED = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class GrpoOptions:
    """What is asked, what judges the answers, and what generates them.

    Attributes:
        train_data: files and folders of rows with ``prompt``.
        max_prompt_length: tokens; rows with longer prompts are left out.
        chat_template: name of a template; empty: the tokenizer's own.
        rewards, reward_file: see :func:`llm.rewards.choose`.
        format_pattern, answer_pattern, answer_column: see :class:`llm.built_in.Settings`.
        use_vllm: vLLM generates, in this process.
        gpu_memory_utilization: vLLM's share of the device's memory.
        vllm_standby: vLLM gives its cache back while the model learns.
        save_method: see :func:`llm.saving.save`.
    """

    train_data: tuple[str, ...]
    max_prompt_length: int = 512
    chat_template: str = ""
    rewards: str = ""
    reward_file: str = ""
    format_pattern: str = ""
    answer_pattern: str = ""
    answer_column: str = "answer"
    use_vllm: bool = False
    gpu_memory_utilization: float = 0.5
    vllm_standby: bool = False
    save_method: str = "lora"


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompts:
    """The rows.

    Attributes:
        rows: as they are in the files.
        spoken: they have messages, at least one of them; otherwise texts.
    """

    rows: tuple[dict[str, Any], ...]
    spoken: bool


def main() -> None:
    """Train, and write the result.

    Raises:
        SystemExit: nothing can be trained as it was asked for; the text says why.
    """
    options, words = parse(sys.argv[1:], ModelOptions)
    own, words = parse(words, GrpoOptions)
    if own.use_vllm and options.unsloth and options.method == "full":
        raise SystemExit("Unsloth's vLLM generates for adapters alone: --method lora, or without --use-vllm")
    prompts = read(own)
    chosen = judged(own, prompts)
    if options.unsloth:
        import unsloth  # noqa: F401 - before transformers and TRL, which it changes
    args = _arguments(options, own, words, chosen)
    saving.refuse(options, own.save_method)
    model, tokenizer = _loaded(options, own, args)
    templates.give(tokenizer, own.chat_template)
    templates.close(tokenizer)
    dataset = _dataset(prompts, own, tokenizer)
    trainer = _trainer(options, args, model, tokenizer, dataset, chosen, spoken=prompts.spoken)
    steps.count_on(trainer)
    try:
        trainer.train()
    except RewardError as error:
        traceback.print_exception(error.__cause__)  # all of it for the log; what to look at is in the message
        raise SystemExit(str(error)) from error
    saving.save(trainer, tokenizer, options, own.save_method)


def read(own: GrpoOptions) -> Prompts:
    """The rows of all files.

    Raises:
        SystemExit: a file cannot be read, or a row has no prompt.
    """
    found, problems, spoken = [], [], False
    for place, row in rows.read([Path(path) for path in own.train_data]):
        prompt = row.get("prompt") if isinstance(row, dict) else None
        if isinstance(prompt, list):
            spoken = True
        if not prompt or not isinstance(prompt, str | list):
            problems.append(f"{place}: no prompt: a text, or messages that end with the user's")
        else:
            found.append(row)
    if problems or not found:
        raise SystemExit("\n".join(["nothing is trained:", *(problems[:10] or ["the data holds no row"])]))
    return Prompts(rows=tuple(found), spoken=spoken)


def judged(own: GrpoOptions, prompts: Prompts) -> list[Reward]:
    """The rewards, tried out on the first rows.

    Raises:
        SystemExit: everything that is wrong with them.
    """
    settings = Settings(
        format_pattern=own.format_pattern,
        answer_pattern=own.answer_pattern,
        answer_column=own.answer_column,
    )
    file = Path(own.reward_file) if own.reward_file else None
    try:
        chosen = rewards.choose(own.rewards, file, settings)
        rewards.try_out(chosen, prompts.rows[:_TRIED], spoken=prompts.spoken)
    except RewardError as error:
        raise SystemExit(f"nothing is trained:\n{error}") from None
    return chosen


def _arguments(options: ModelOptions, own: GrpoOptions, words: list[str], chosen: list[Reward]) -> Any:
    """TRL's, checked: the libraries change some in silence."""
    from transformers import HfArgumentParser
    from trl import GRPOConfig

    (args,) = HfArgumentParser(GRPOConfig, allow_abbrev=False).parse_args_into_dataclasses(words)
    for name in ("bf16", "fp16", "per_device_train_batch_size"):
        given = [word for flag, word in pairwise(words) if flag == f"--{name}"]
        asked, found = given[-1].lower() if given else "false", str(getattr(args, name))
        if asked not in ("false", found.lower()):
            raise SystemExit(f"{name} {asked} was asked for, and the libraries make {found} of it here")
    args.reward_weights = [reward.weight for reward in chosen]
    args.remove_unused_columns = False  # reward functions read them
    if hasattr(args, "max_prompt_length"):
        args.max_prompt_length = None  # what is too long is left out, not cut at its beginning
    if own.use_vllm:
        args.use_vllm, args.vllm_mode = True, "colocate"
        args.vllm_gpu_memory_utilization = own.gpu_memory_utilization
        args.vllm_max_model_length = options.max_seq_length
        args.vllm_enable_sleep_mode = own.vllm_standby
    return args


def _loaded(options: ModelOptions, own: GrpoOptions, args: Any) -> tuple[Any, Any]:
    from llm import loading

    device = f"{args.device.type}:{args.local_process_index}" if args.device.type != "cpu" else "cpu"
    more: dict[str, Any] = {}
    if own.use_vllm and options.unsloth:
        more = {
            "fast_inference": True,
            "gpu_memory_utilization": own.gpu_memory_utilization,
            "max_lora_rank": options.lora_r,
        }
    model, tokenizer = loading.load(options, device=device, **more)
    if more and not hasattr(model, "vllm_engine"):
        raise SystemExit(
            "Unsloth did not start vLLM for this model or device: --use-vllm false, or --unsloth false"
        )
    model.config.use_cache = True  # without one every token of an answer reads all before it again
    tokenizer.padding_side = "left"  # answers follow their prompts
    # TRL passes all that a tokenizer gives to generate(), which stops at what the model does not take.
    tokenizer.model_input_names = ["input_ids", "attention_mask"]
    return loading.with_adapters(model, options), tokenizer


def _dataset(prompts: Prompts, own: GrpoOptions, tokenizer: Any) -> Any:
    """TRL's data set: prompts through the chat template, and all other columns as they are."""
    from datasets import Dataset
    from runtime import events

    made = [*_made(prompts, own, tokenizer)]
    left_out = len(prompts.rows) - len(made)
    events.report("rows", rows=len(prompts.rows), made=len(made), left_out=left_out)
    print(f"{len(made)} prompts; {left_out} of more than {own.max_prompt_length} tokens are left out")
    if not made:
        raise SystemExit("nothing is trained: every prompt is longer than max_prompt_length")
    return Dataset.from_list(made)


def _made(prompts: Prompts, own: GrpoOptions, tokenizer: Any) -> Iterator[dict[str, Any]]:
    if prompts.spoken:
        templates.needed(tokenizer)
    for row in prompts.rows:
        prompt: Any = row["prompt"]
        if tokenizer.chat_template:
            asked = prompt if isinstance(prompt, list) else [{"role": "user", "content": prompt}]
            messages = rows.messages({"messages": asked})
            prompt = [{key: str(message[key]) for key in ("role", "content")} for message in messages]
            ids = tokenizer.apply_chat_template(prompt, add_generation_prompt=True, return_dict=False)
        else:
            ids = tokenizer(prompt)["input_ids"]
        if len(ids) <= own.max_prompt_length:
            others = {name: value for name, value in row.items() if name != "prompt"}
            yield {"prompt": prompt, rewards.ROW: json.dumps(others)}


def _opening(tokenizer: Any) -> str:
    """What the chat template begins every answer with: ``<think>`` of models that always think."""
    if not tokenizer.chat_template:
        return ""
    asked = [{"role": "user", "content": "x"}]
    text = tokenizer.apply_chat_template(asked, add_generation_prompt=True, tokenize=False)
    return "<think>" if text.rstrip().endswith("<think>") else ""


def _trainer(
    options: ModelOptions,
    args: Any,
    model: Any,
    tokenizer: Any,
    dataset: Any,
    chosen: list[Reward],
    *,
    spoken: bool,
) -> Any:
    import torch
    from runtime import events
    from trl import GRPOTrainer

    opening = _opening(tokenizer)
    judges = [rewards.for_trainer(reward, spoken=spoken, opening=opening) for reward in chosen]
    trainer = GRPOTrainer(
        model=model, reward_funcs=judges, args=args, train_dataset=dataset, processing_class=tokenizer
    )
    if "ref" in getattr(trainer.model, "peft_config", {}):
        # TRL's copy of the adapters' start. Without it the reference is the model without adapters, which is
        # the same; with it a resumed training begins at the start's weights, as transformers then loads the
        # copy alone from a checkpoint (4.57.6, Trainer._load_from_checkpoint).
        trainer.model.delete_adapter("ref")
    if not options.unsloth or args.device.type == "cpu":
        # TRL makes adapters of 4-bit models 16 bit; small updates are lost there, and they are a few MB.
        for parameter in trainer.model.parameters():
            if parameter.requires_grad and parameter.dtype in (torch.bfloat16, torch.float16):
                parameter.data = parameter.data.float()
    found = [{"name": each.name, "weight": each.weight, "place": each.place} for each in chosen]
    events.report("rewards", functions=found)
    return trainer


if __name__ == "__main__":
    main()
