"""``python -m runtime … -m llm.sft ARGS``: supervised fine-tuning and continued training with TRL.

Own arguments are :class:`llm.options.ModelOptions` and :class:`SftOptions`; every other one is a field of
TRL's SFTConfig. The rows come to TRL as token ids with a mask, because the libraries do not agree on how to
find the answers, and Unsloth of 2025 throws the mask away when it prepares the rows: it is kept from
preparing them, and the first batch is compared with the mask before anything is trained.
"""

import sys
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from llm import rows, saving, steps, templates
from llm.options import ModelOptions, parse

#: Arguments of TRL that would be about rows which it does not see.
_UNREAD = (
    *("max_length", "dataset_text_field", "dataset_kwargs", "chat_template_path", "eos_token"),
    *("assistant_only_loss", "completion_only_loss"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SftOptions:
    """What is learned from, and what is written.

    Attributes:
        train_data: files and folders of rows.
        train_on_responses_only: loss on answers alone; plain text has no answer and carries it everywhere.
        chat_template: name of a template; empty: the tokenizer's own.
        cache_path: folder for the rows as tokens.
        save_method: ``lora`` (the adapters; with all weights trained, the model), or a merged form.
    """

    train_data: tuple[str, ...]
    train_on_responses_only: bool = True
    chat_template: str = ""
    cache_path: str
    save_method: str = field(default="lora")


def main() -> None:
    """Train, and write the result.

    Raises:
        SystemExit: nothing can be trained as it was asked for; the text says why.
    """
    options, words = parse(sys.argv[1:], ModelOptions)
    own, words = parse(words, SftOptions)
    if options.unsloth:
        import unsloth  # noqa: F401 - before transformers and TRL, which it changes
    args = _arguments(options, words)
    saving.refuse(options, own.save_method)
    model, tokenizer = _loaded(options, args)
    templates.give(tokenizer, own.chat_template)
    dataset = _dataset(options, own, args, tokenizer)
    trainer = _trainer(options, args, model, tokenizer, dataset)
    _compare_masks(trainer, dataset)
    steps.count_on(trainer)
    trainer.train()
    saving.save(trainer, tokenizer, options, own.save_method)


def _arguments(options: ModelOptions, words: list[str]) -> Any:
    """TRL's, checked: the libraries change some in silence."""
    from transformers import HfArgumentParser
    from trl import SFTConfig

    given = [word.lstrip("-").partition("=")[0] for word in words if word.startswith("--")]
    if unread := [name for name in given if name in _UNREAD]:
        raise SystemExit(f"{', '.join(unread)}: the rows are prepared before TRL sees them")
    (args,) = HfArgumentParser(SFTConfig, allow_abbrev=False).parse_args_into_dataclasses(words)
    asked = {
        "packing": _asked(words, "packing"),
        "bf16": _asked(words, "bf16"),
        "fp16": _asked(words, "fp16"),
    }
    for name, wanted in asked.items():
        if wanted and not getattr(args, name):
            raise SystemExit(
                f"{name} was asked for and is switched off by Unsloth here: --unsloth false, or without it"
            )
    args.max_length = options.max_seq_length if args.packing else None  # rows are cut already
    args.dataset_kwargs = {"skip_prepare_dataset": True}
    return args


def _asked(words: list[str], name: str) -> bool:
    given = [value for flag, value in pairwise([*words, ""]) if flag == f"--{name}"]
    return bool(given) and given[-1].lower() != "false"  # the last one counts: raw arguments come behind


def _loaded(options: ModelOptions, args: Any) -> tuple[Any, Any]:
    from llm import loading

    device = "cpu" if args.device.type == "cpu" else f"{args.device.type}:{max(0, args.local_rank)}"
    model, tokenizer = loading.load(options, device=device)
    return loading.with_adapters(model, options), tokenizer


def _dataset(options: ModelOptions, own: SftOptions, args: Any, tokenizer: Any) -> Any:
    """The rows as tokens, on the disk, made by the first process of each machine."""
    from datasets import Dataset, Features, Sequence, Value
    from datasets.arrow_writer import ArrowWriter

    folder = Path(own.cache_path)
    file = folder / "rows.arrow"
    with args.main_process_first(desc="rows"):
        if args.local_process_index == 0:
            folder.mkdir(parents=True, exist_ok=True)
            for old in folder.glob("*.arrow"):  # of another training: datasets would take it as it lies there
                old.unlink()
            seen = rows.Seen()
            columns = {"input_ids": Sequence(Value("int32")), "assistant_masks": Sequence(Value("int8"))}
            with ArrowWriter(path=str(file), features=Features(columns)) as writer:
                for piece in rows.pieces(
                    [Path(path) for path in own.train_data],
                    tokenizer,
                    limit=options.max_seq_length,
                    answers_only=own.train_on_responses_only,
                    seen=seen,
                ):
                    writer.write(piece)
                seen.refuse()
                writer.finalize()
            _say(seen, options.max_seq_length)
            if seen.counts["dialogues"]:  # this process also writes the result
                templates.close(tokenizer)
        dataset = Dataset.from_file(str(file))
        return _packed(dataset, args, folder) if args.packing else dataset


def _say(seen: rows.Seen, limit: int) -> None:
    from runtime import events

    events.report("rows", **seen.record())
    counts = seen.counts
    print(f"{counts['rows']} rows, {counts['tokens']} tokens, {counts['answer_tokens']} of them carry loss")
    if counts["cut"]:
        print(f"{counts['cut']} dialogues of up to {seen.longest} tokens are cut off at {limit}")
    if counts["split"]:
        print(f"{counts['split']} texts are longer than {limit} tokens: split into pieces")


def _packed(dataset: Any, args: Any, folder: Path) -> Any:
    """Several rows in one, whole ones only, with their lengths beside them."""
    from trl import pack_dataset

    strategy = getattr(args, "packing_strategy", "bfd")
    return pack_dataset(dataset, args.max_length, strategy, {"cache_file_name": str(folder / "packed.arrow")})


def _trainer(options: ModelOptions, args: Any, model: Any, tokenizer: Any, dataset: Any) -> Any:
    import torch
    from trl import SFTTrainer

    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    trainer = SFTTrainer(model=model, args=args, train_dataset=dataset, processing_class=tokenizer)
    if args.packing and hasattr(trainer.data_collator, "return_position_ids"):
        # TRL 0.20 leaves them out beside PyTorch's attention, and rows would see each other.
        trainer.data_collator.return_position_ids = True
    for parameter in trained:
        parameter.requires_grad_(True)  # TRL 0.20 freezes all of a 4-bit model, its adapters included
    if not options.unsloth or args.device.type == "cpu":
        # TRL makes adapters of 4-bit models 16 bit; small updates are lost there, and they are a few MB.
        for parameter in trainer.model.parameters():
            if parameter.requires_grad and parameter.dtype in (torch.bfloat16, torch.float16):
                parameter.data = parameter.data.float()
    if not any(parameter.requires_grad for parameter in trainer.model.parameters()):
        raise SystemExit("nothing is trained: no weight of the model is set to be trained")
    return trainer


def _compare_masks(trainer: Any, dataset: Any) -> None:
    """Whether the trainer's batches carry loss where the rows say so, and tell packed rows apart.

    Raises:
        SystemExit: they do not: the libraries replaced what makes the batches.
    """
    sample = [dataset[number] for number in range(min(4, len(dataset)))]
    batch = trainer.data_collator([dict(row) for row in sample])
    wanted = sum(sum(row["assistant_masks"]) for row in sample)
    found = int((batch["labels"] != -100).sum())
    if wanted != found:
        raise SystemExit(
            f"the batches carry loss on {found} tokens and the rows on {wanted}: nothing is trained"
        )
    if trainer.args.packing and ("position_ids" not in batch or "attention_mask" in batch):
        raise SystemExit("the batches do not say where packed rows begin, and rows would see each other")


if __name__ == "__main__":
    main()
