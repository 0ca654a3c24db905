"""Length-bucketed batches for the embedders, whose sizes are measured, not guessed.

Takes the place of upstream's same-dataset mode, and of its hand-written table of batch sizes by length. The
memory of a step is measured at two batch sizes of the longest bucket; the formula through them (see
``probe``) gives every bucket's batch size, and every size that comes near the limit is tried for real before
the training starts.
"""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from accelerate.utils import DistributedType
from FlagEmbedding.abc.finetune.embedder.AbsDataset import AbsEmbedderSameDatasetTrainDataset

from runtime import batching, metrics, probe, resume, trainers
from runtime.batching import Source
from runtime.options import Options
from runtime.probe import Cost, Memory, Shape

#: A batch whose predicted memory is below this share of the budget is not tried: nothing can go wrong.
_SURE = 0.5
#: What a size that did not fit is multiplied with.
_SMALLER = 0.85
#: Adam keeps two moments per trained parameter, in 32 bit; bitsandbytes' 8-bit Adam in one byte each, but for
#: embeddings, whose moments transformers leaves in 32 bit (4.57.6, trainer.py, create_optimizer).
_ADAM, _ADAM_8BIT = 8, {"adamw_bnb_8bit": 2}
#: What torch says when memory ends; only CUDA has an error class of its own for it.
_NO_MEMORY = re.compile(r"out.of.(device.|host.)?memory|can't allocate memory|ALLOC_FAILED", re.IGNORECASE)
#: Copies of the late interaction's scores that live at once: forward, its maximum's gradient, one to add up.
_COPIES = 3
#: What a checkpoint calls the sizes.
_SIZES = "bucket_batch_sizes"


def attach(module: str, options: Options) -> None:
    """Make the embedder's runner batch by length.

    Raises:
        SystemExit: the trainer is not one of the embedders.
    """
    if module not in trainers.EMBEDDERS:
        raise SystemExit(f"length bucketing: {module} is not one of the embedders")
    runner = trainers.runner(module)

    def load_train_dataset(self: Any) -> BucketedDataset:
        dataset = BucketedDataset(self, options)
        self.data_args.same_dataset_within_batch = True  # its collator and its callback fit whole batches
        self.training_args.per_device_train_batch_size = 1
        self.training_args.dataloader_num_workers = 0
        return dataset

    runner.load_train_dataset = load_train_dataset
    resume.carry(_SIZES, lambda trainer: trainer.train_dataset.sizes())


class BucketedDataset(AbsEmbedderSameDatasetTrainDataset):
    """Upstream's data set, with its batches chosen by length."""

    def __init__(self, runner: Any, options: Options) -> None:
        training = runner.training_args
        self.sources: list[Source] = []
        super().__init__(
            args=runner.data_args,
            default_batch_size=options.max_batch_size,
            seed=training.seed,
            tokenizer=runner.tokenizer,
            process_index=training.process_index,
            num_processes=training.world_size,
        )
        queries, passages = self._lengths()
        self.sources = self._sources(queries, passages)
        if any(sum(len(b.rows) for b in source.buckets) < self.num_processes for source in self.sources):
            raise SystemExit(f"a file has fewer rows than there are processes ({self.num_processes})")
        before = _sizes_before(training)
        memory = self._resize(before) if before else _Sizer(runner, options).find(self.sources)
        self.refresh_epoch()
        self._report(passages, memory)

    def refresh_epoch(self) -> None:
        """Choose the batches of the next epoch."""
        self.batch_datas = batching.batches(self.sources, self.num_processes, self.deterministic_generator)
        self.step = 0

    def sizes(self) -> list[list[int]]:
        """Batch sizes: one list per source, with one number per bucket."""
        return [[bucket.batch_size for bucket in source.buckets] for source in self.sources]

    def _resize(self, sizes: list[list[int]]) -> dict[str, Any]:
        """Take the sizes of the training that is resumed: measured again, they might be others."""
        if [len(source) for source in sizes] != [len(source.buckets) for source in self.sources]:
            raise SystemExit("length bucketing: the checkpoint's buckets are not those of this data")
        for source, given in zip(self.sources, sizes, strict=True):
            for bucket, size in zip(source.buckets, given, strict=True):
                bucket.batch_size = size
        return {}

    def _sources(self, queries: Any, passages: Any) -> list[Source]:
        """One source per file, or one for all, as same_dataset_within_batch says.

        Files whose rows have a type or a group size of their own stay apart: a batch can have only one.
        """
        each, flags, sizes = self.each_data_idxs, self.no_in_batch_neg_flags, self.batch_size_idxs
        alike = not any(flags) and not {"type", "train_group_size"} & set(self.dataset.column_names)
        if not self.args.same_dataset_within_batch and alike:
            each, flags, sizes = [np.concatenate(each)], [False], [min(sizes)]
        multiple = self.args.pad_to_multiple_of or 1
        found = []
        for rows, flag, size in zip(each, flags, sizes, strict=True):
            group = self._largest_group(rows)
            buckets = batching.into_buckets(
                rows, queries[rows], passages[rows], longest=self.args.passage_max_len, multiple=multiple
            )
            found.append(
                Source(group_size=group, largest=max(1, size), no_in_batch_neg=flag, buckets=buckets)
            )
        return found

    def _largest_group(self, rows: Any) -> int:
        """Most passages per query in any batch of a source; upstream asks each batch's first row."""
        keys = [key for key in ("type", "train_group_size") if key in self.dataset.column_names]
        # These columns alone: the texts of a whole file do not belong into memory.
        block = self.dataset.select_columns(keys)[rows] if keys else {}
        if "type" in block:
            return 2 if set(block["type"]) == {"only_1neg"} else int(self.args.train_group_size)
        own = [size for size in block.get("train_group_size", []) if isinstance(size, int) and size > 0]
        return max(own) if len(own) == len(rows) else max([*own, int(self.args.train_group_size)])

    def _lengths(self) -> tuple[Any, Any]:
        """Tokens of every row's query and longest passage; the processes share the work."""
        own = np.arange(self.process_index, len(self.dataset), self.num_processes)
        parts = [self._count(own[start : start + 64]) for start in range(0, len(own), 64)]
        counted = np.concatenate(parts, axis=1) if parts else np.empty((2, 0), np.int64)
        if self.num_processes == 1:
            return counted[0], counted[1]
        shared: list[Any] = [None] * self.num_processes
        dist.all_gather_object(shared, counted)
        whole = np.empty((2, len(self.dataset)), np.int64)
        for index, part in enumerate(shared):
            whole[:, index :: self.num_processes] = part
        return whole[0], whole[1]

    def _count(self, rows: Any) -> Any:
        """Query and longest passage of some rows, in tokens, as the collator will cut them: 2 × rows."""
        block, args = self.dataset[rows], self.args
        instruction = args.query_instruction_for_retrieval or ""
        prompts = block.get("prompt") or [None] * len(rows)
        queries = [
            args.query_instruction_format.format(instruction if prompt is None else prompt, query)
            for prompt, query in zip(prompts, block["query"], strict=True)
        ]
        groups = [[*pos, *neg] for pos, neg in zip(block["pos"], block["neg"], strict=True)]
        texts = [text for group in groups for text in group]
        if set(block.get("type") or []) & {"symmetric_sts", "symmetric_clustering"}:
            texts = [args.query_instruction_format.format(instruction, text) for text in texts]
        elif args.passage_instruction_for_retrieval is not None:
            before = args.passage_instruction_for_retrieval
            texts = [args.passage_instruction_format.format(before, text) for text in texts]
        starts = np.cumsum([0, *map(len, groups[:-1])])
        return np.stack(
            [
                self._tokens(queries, args.query_max_len),
                np.maximum.reduceat(self._tokens(texts, args.passage_max_len), starts),
            ]
        )

    def _tokens(self, texts: list[str], limit: int) -> Any:
        ids = self.tokenizer(texts, truncation=True, max_length=limit, return_attention_mask=False)
        return np.array([len(one) for one in ids["input_ids"]], np.int64)

    def _report(self, passages: Any, memory: dict[str, Any]) -> None:
        table = [
            {
                "source": number,
                "query_max_len": bucket.query_length,
                "passage_max_len": bucket.passage_length,
                "rows": len(bucket.rows),
                "batch_size": bucket.batch_size,
            }
            for number, source in enumerate(self.sources)
            for bucket in source.buckets
        ]
        share = round(batching.padding_share(self.sources, passages), 4)
        metrics.report(
            "buckets", buckets=table, batches=len(self.batch_datas), padding_at_most=share, **memory
        )
        if self.process_index == 0:
            print(f"length buckets, {len(self.batch_datas)} batches an epoch, {memory}")
            for line in table:
                print("  " + ", ".join(f"{key} {value}" for key, value in line.items()))


def _sizes_before(training: Any) -> Any:
    """What the checkpoint kept that a training is resumed from; None: nothing."""
    folder = training.resume_from_checkpoint
    return resume.carried(Path(folder), training.process_index, _SIZES) if folder else None


class _Sizer:
    """Finds batch sizes by measuring steps of a runner's model."""

    def __init__(self, runner: Any, options: Options) -> None:
        self._runner, self._options = runner, options
        self._training = runner.training_args
        self._memory: Memory = probe.of(self._training.device)

    def find(self, sources: list[Source]) -> dict[str, Any]:
        """Set every bucket's batch size; returns what was found about the memory, in GiB.

        Raises:
            SystemExit: not even one query of the longest bucket fits, or given sizes do not name its length.
        """
        if self._options.bucket_batch_sizes:
            return self._given(sources)
        longest = max(
            ((source, bucket) for source in sources for bucket in source.buckets),
            key=lambda pair: _shape(pair[0], pair[1], 1).tokens,
        )
        with self._ready():
            budget = self._budget()
            cost = self._formula(*longest, budget)
            for source in sources:
                for bucket in source.buckets:
                    guess = probe.largest(cost, _shape(source, bucket, 1), budget, source.largest)
                    bucket.batch_size = self._agreed(self._tried(source, bucket, guess, cost, budget))
        return {"budget_gib": probe.gib(budget), "per_token_mib": round(cost.per_token / (1 << 20), 3)}

    def _given(self, sources: list[Source]) -> dict[str, Any]:
        try:
            sizes = batching.parse_sizes(self._options.bucket_batch_sizes)
            for number, source in enumerate(sources):
                for bucket in source.buckets:
                    bucket.batch_size = batching.given_size(sizes, number, bucket.passage_length)
        except ValueError as error:
            raise SystemExit(f"bucket batch sizes {self._options.bucket_batch_sizes!r}: {error}") from None
        return {}

    def _budget(self) -> float:
        """Bytes that one step's activations may take, beside gradients and the optimiser's states."""
        trained = _numbers(self._runner.model)
        tables = sum(
            _numbers(part) for part in self._runner.model.modules() if isinstance(part, torch.nn.Embedding)
        )
        rest = _ADAM_8BIT.get(str(self._training.optim.value), _ADAM)
        states = tables * _ADAM + (trained - tables) * rest
        # A measured step makes its gradients itself. DDP keeps a copy of them, and with accumulation they lie
        # there before the step begins.
        copies = self._wrapped() + (self._training.gradient_accumulation_steps > 1)
        return (self._memory.free() - states - 4 * trained * copies) * self._options.memory_fraction

    def _wrapped(self) -> bool:
        """Whether accelerate will wrap the model in DDP.

        Several processes always; a single one that torchrun started on a CPU alone: there ``prepare_model``
        asks for MULTI_CPU, elsewhere for ``multi_device``, which is False for one process. Source: accelerate
        1.12 and 1.15, accelerator.py.
        """
        training = self._training
        return bool(
            training.world_size > 1
            or training.distributed_state.distributed_type == DistributedType.MULTI_CPU
        )

    def _formula(self, source: Source, bucket: Any, budget: float) -> Cost:
        """Measure one and a few queries of the longest bucket."""
        one = _shape(source, bucket, 1)
        taken = self._measure(one)
        if taken is None or taken > budget:
            raise SystemExit(
                f"OutOfMemoryError: one query with {one.group_size} passages of {one.passage_length} tokens"
                f" does not fit into {probe.gib(budget)} GiB: shorter texts, a smaller group,"
                " gradient checkpointing, frozen word embeddings, or 8-bit Adam"
            )
        few = _shape(source, bucket, min(3, source.largest))
        more = self._measure(few) if few.batch_size > 1 else None
        if more is None:
            return Cost(fixed=0, per_token=taken / one.tokens, per_pair=0)
        bits = 2 if self._training.bf16 or self._training.fp16 else 4
        per_pair = _COPIES * bits if getattr(self._training, "unified_finetuning", False) else 0
        return probe.fit((one, taken), (few, more), per_pair=per_pair)

    def _tried(self, source: Source, bucket: Any, size: int, cost: Cost, budget: float) -> int:
        """Shrink a size until a real step fits."""
        while size > 1 and cost.of(_shape(source, bucket, size)) > _SURE * budget:
            taken = self._measure(_shape(source, bucket, size))
            if taken is not None and taken <= budget:
                break
            size = max(1, int(size * _SMALLER))
        return size

    def _agreed(self, size: int) -> int:
        """The smallest of all processes' sizes: each takes its share of the same batch."""
        if self._training.world_size == 1:
            return size
        sizes: list[Any] = [None] * self._training.world_size
        dist.all_gather_object(sizes, size)
        return min(sizes)

    def _measure(self, shape: Shape) -> int | None:
        """Bytes that one forward and backward pass takes; None: more than there is."""
        model, device = self._runner.model, self._training.device
        queries = self._inputs(shape.batch_size, shape.query_length)
        passages = self._inputs(shape.batch_size * shape.group_size, shape.passage_length)
        dtype = torch.bfloat16 if self._training.bf16 else torch.float16
        mixed = self._training.bf16 or self._training.fp16
        self._memory.reset()
        try:
            with torch.autocast(device.type, dtype=dtype, enabled=mixed):
                loss = model(queries=queries, passages=passages).loss
            loss.backward()
            return self._memory.peak()
        except (RuntimeError, MemoryError) as error:
            if isinstance(error, RuntimeError) and not _NO_MEMORY.search(str(error)):
                raise
            return None
        finally:
            model.zero_grad(set_to_none=True)

    def _inputs(self, count: int, length: int) -> Any:
        """Random tokens, none of them padding, whole or in the sub-batches that were asked for."""
        tokenizer, device = self._runner.tokenizer, self._training.device
        ids = torch.randint(0, len(tokenizer), (count, length), device=device)
        ids[ids == tokenizer.pad_token_id] = tokenizer.unk_token_id
        features = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        part = self._training.sub_batch_size or 0
        if part <= 0:
            return features
        return [
            {key: value[start : start + part] for key, value in features.items()}
            for start in range(0, count, part)
        ]

    @contextlib.contextmanager
    def _ready(self) -> Iterator[None]:
        """The model as the trainer will run it; random state and counters are afterwards what they were."""
        model, training = self._runner.model, self._training
        model.to(training.device).train()
        if training.gradient_checkpointing:
            model.gradient_checkpointing_enable(
                gradient_checkpointing_kwargs=training.gradient_checkpointing_kwargs
            )
        across, model.negatives_cross_device = model.negatives_cross_device, False
        step = getattr(model, "step", None)
        if step is not None:
            model.step = 1 << 30  # late enough for the self-distillation, which takes memory too
        devices = [] if training.device.type == "cpu" else [training.device]
        kind = "cuda" if training.device.type == "cpu" else training.device.type
        with torch.random.fork_rng(devices, device_type=kind):
            yield
        model.negatives_cross_device = across
        if step is not None:
            model.step = step


def _numbers(module: torch.nn.Module) -> int:
    """Trained parameters."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def _shape(source: Source, bucket: Any, size: int) -> Shape:
    return Shape(
        batch_size=size,
        group_size=source.group_size,
        query_length=bucket.query_length,
        passage_length=bucket.passage_length,
    )
