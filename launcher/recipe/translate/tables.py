"""What became of every argument: data that ``translate`` looks up, and nothing that a recipe's header knows.

Read in FlagEmbedding's own history: ``arguments.py`` of baai_general_embedding/finetune, BGE_M3 and reranker,
the dataclasses of 1.4.2, and the parsers of hn_mine, add_reranker_score and split_data_by_length.
TrainingArguments are those of transformers 4.57; what transformers 5 took out is named so.
"""

from dataclasses import dataclass
from typing import Literal

from launcher.recipe.model import Text

Kind = Literal["kept", "renamed", "changed", "default", "raw", "repeated", "gone", "unknown"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What became of one argument.

    Attributes:
        kind: ``kept`` and ``renamed`` are options of the recipe, ``raw`` goes to the trainer after ``--``,
            ``default`` is what the old trainer did unasked; ``gone`` and ``unknown`` are left out.
    """

    kind: Kind
    old: str
    new: str
    why: Text


def text(en: str, zh: str) -> Text:
    """A text in both languages."""
    return Text(en=en, zh=zh)


SAME = text("the recipe has this option", "配方有此选项")
TRAINING = ("m3", "dense", "reranker")

#: What takes the place of the launcher's own options.
MODELS = frozenset("model_name_or_path embedder_name_or_path encoder".split())
DATA = frozenset("train_data input_file candidate_pool input_path dataset_dir corpus_data query_data".split())
OUTPUTS = frozenset("output_dir output_file eval_output_path".split())

#: Arguments that take several values.
LISTS = frozenset(
    """train_data devices length_list k_values mrl_dims cutoff_layers compress_layers eval_metrics splits
    dataset_names label_names report_to include_for_metrics lr_scheduler_kwargs debug fsdp""".split()
)

_SPELLING = text("the old name was a slip of the pen", "旧名称是拼写错误")
_TASK = text("FlagEmbedding 1.3 renamed it", "FlagEmbedding 1.3 改了名称")
_TOOL = text("the recipe calls it so", "配方中的名称")

RENAMED: dict[str, dict[str, tuple[str, Text]]] = {
    **{
        kind: {
            "normlized": ("normalize_embeddings", _SPELLING),
            "same_task_within_batch": ("same_dataset_within_batch", _TASK),
            "per_gpu_train_batch_size": (
                "per_device_train_batch_size",
                text("transformers renamed it", "transformers 改了名称"),
            ),
        }
        for kind in TRAINING
    },
    "mine": {},
    "score": {"reranker_batch_size": ("batch_size", _TOOL), "reranker_max_length": ("max_length", _TOOL)},
    "split": {},
    "evaluate": {
        "embedder_batch_size": ("batch_size", _TOOL),
        "embedder_passage_max_length": ("max_length", _TOOL),
        "max_passage_length": ("max_length", _TOOL),
        "rerank_top_k": ("rerank_top", _TOOL),
        "reranker_name_or_path": ("reranker", _TOOL),
        "pooling_method": ("pooling", _TOOL),
        "splits": ("split", _TOOL),
    },
}

#: TrainingArguments and FlagEmbedding's own that reach the trainer as they are, after ``--``.
_TRAINER = """
    adam_beta1 adam_beta2 adam_epsilon max_grad_norm lr_scheduler_type lr_scheduler_kwargs warmup_steps
    log_level log_level_replica log_on_each_node logging_strategy logging_first_step logging_nan_inf_filter
    save_strategy save_only_model data_seed tf32 dataloader_num_workers dataloader_prefetch_factor
    dataloader_pin_memory dataloader_persistent_workers remove_unused_columns accelerator_config
    label_smoothing_factor optim optim_args ddp_find_unused_parameters ddp_bucket_cap_mb ddp_broadcast_buffers
    skip_memory_metrics gradient_checkpointing_kwargs auto_find_batch_size full_determinism ddp_timeout
    torch_compile torch_compile_backend torch_compile_mode include_tokens_per_second
    include_num_input_tokens_seen neftune_noise_alpha optim_target_modules use_liger_kernel
    torch_empty_cache_steps average_tokens_across_devices weight_decay warmup_ratio seed max_steps
    gradient_accumulation_steps save_total_limit save_steps logging_steps
    max_example_num_per_dataset shuffle_ratio use_fast_tokenizer trust_remote_code
    pad_to_multiple_of query_instruction_format passage_instruction_format knowledge_distillation"""
_EMBEDDER = """fix_position_embedding query_instruction_for_retrieval passage_instruction_for_retrieval
    sub_batch_size kd_loss_type temperature small_threshold drop_threshold same_dataset_within_batch
    sentence_pooling_method normalize_embeddings negatives_cross_device"""
KNOWN: dict[str, frozenset[str]] = {
    "m3": frozenset(
        f"{_TRAINER} {_EMBEDDER} colbert_dim unified_finetuning use_self_distill fix_encoder"
        " self_distill_start_step".split()
    ),
    "dense": frozenset(f"{_TRAINER} {_EMBEDDER} use_mrl mrl_dims".split()),
    "reranker": frozenset(
        f"{_TRAINER} model_type query_instruction_for_rerank passage_instruction_for_rerank".split()
    ),
    "mine": frozenset(),
    "score": frozenset(),
    "split": frozenset(),
    "evaluate": frozenset(),
}


def _all(names: str, en: str, zh: str) -> dict[str, Text]:
    return dict.fromkeys(names.split(), text(en, zh))


#: Gone, or nothing that a recipe lets anybody set; with the reason.
GONE: dict[str, Text] = {
    **_all(
        "overwrite_output_dir overwrite",
        "nothing is ever overwritten: a run writes to a folder that is new or empty (transformers 5 has"
        " no such argument)",
        "从不覆盖：每次运行写入新的或空的文件夹（transformers 5 已无此参数）",
    ),
    **_all(
        "logging_dir run_name disable_tqdm project trackio_space_id log_name",
        "progress and losses go to the run's record: metrics.jsonl, and the files of --report-to",
        "进度与损失写入运行记录：metrics.jsonl 及 --report-to 的文件",
    ),
    **_all(
        "save_safetensors save_on_each_node",
        "models are always saved as safetensors, once",
        "模型总是以 safetensors 保存一份",
    ),
    **_all(
        "group_by_length length_column_name",
        "transformers' sampler cannot read FlagEmbedding's rows, and transformers 5 has no such argument;"
        " length_bucketing or split-by-length do it",
        "transformers 的采样器读不了 FlagEmbedding 的数据，transformers 5 也已移除；"
        "请用 length_bucketing 或 split-by-length",
    ),
    **_all(
        "cache_dir cache_path use_auth_token",
        "caches have their own folders: models in the hub's cache on this machine, data in the run's scratch",
        "缓存有固定位置：模型在本机的 hub 缓存，数据在运行的临时目录",
    ),
    **_all(
        "token hub_token push_to_hub_token",
        "a secret does not belong in a command; set HF_TOKEN in the shell that starts launch",
        "密钥不应写在命令里；请在启动 launch 的终端中设置 HF_TOKEN",
    ),
    **_all(
        """push_to_hub hub_model_id hub_strategy hub_private_repo hub_always_push hub_revision
        push_to_hub_model_id push_to_hub_organization""",
        "a run has no network; upload the output folder afterwards",
        "运行时没有网络；请在结束后上传输出文件夹",
    ),
    **_all(
        "resume_from_checkpoint ignore_data_skip restore_callback_states_from_checkpoint",
        "a run begins in an empty folder, without older checkpoints; give the checkpoint as --model",
        "每次运行从空文件夹开始，没有旧的检查点；请用 --model 指定检查点文件夹",
    ),
    **_all(
        """do_eval do_predict eval_strategy evaluation_strategy eval_steps eval_delay
        per_device_eval_batch_size per_gpu_eval_batch_size eval_accumulation_steps eval_on_start
        prediction_loss_only load_best_model_at_end metric_for_best_model greater_is_better
        bf16_full_eval fp16_full_eval include_inputs_for_metrics include_for_metrics label_names past_index
        batch_eval_metrics eval_do_concat_batches eval_use_gather_object use_legacy_prediction_loop""",
        "the trainer only trains: it has no evaluation data; measure with the recipe evaluate",
        "训练器只训练，没有评测数据；请用配方 evaluate 评测",
    ),
    **_all(
        """local_rank ddp_backend no_local_rank xpu_backend mp_parameters ray_scope tpu_num_cores
        tpu_metrics_debug debug use_mps_device sharded_ddp""",
        "the recipe and torchrun choose it for the target",
        "由配方和 torchrun 按目标设备决定",
    ),
    **_all(
        "fp16_opt_level half_precision_backend fp16_backend adafactor torchdynamo use_ipex jit_mode_eval",
        "transformers has taken it out or is about to; --precision and --optim say it",
        "transformers 已移除或即将移除；请用 --precision 与 --optim",
    ),
    **_all(
        "fsdp fsdp_config fsdp_min_num_params fsdp_transformer_layer_cls_to_wrap parallelism_config",
        "FlagEmbedding's trainers save whole models and know no shards; --deepspeed shares states",
        "FlagEmbedding 的训练器不支持分片保存；请用 --deepspeed",
    ),
    **_all(
        "config_name tokenizer_name",
        "a path besides the model is not there in a container; put these files into the model's folder",
        "容器中看不到模型之外的路径；请把文件放入模型文件夹",
    ),
    **_all(
        "use_slow_tokenizer peft_model_path",
        "it was parsed and never read",
        "该参数被解析但从未使用",
    ),
    **_all("do_train", "a recipe that trains always does", "训练配方总是训练"),
}

_SEARCH = _all(
    """use_gpu_for_searching search_batch_size num_proc devices embedder_model_class normalize_embeddings
    reranker_model_class index_factory save_embedding load_embedding save_path corpus_embd_save_dir
    reranker_query_max_length embedder_query_max_length max_query_length force_redownload eval_name
    dataset_names search_top_k ignore_identical_ids eval_output_method eval_metrics trust_remote_code""",
    "the recipe decides it by itself: the device by --target, what a model is by its folder",
    "由配方自行决定：设备由 --target 决定，模型类型由其文件夹决定",
)
_NEEDS_LLM = _all(
    """examples_for_task examples_instruction_format reranker_peft_path prompt cutoff_layers compress_ratio
    compress_layers domain_for_pseudo_moe""",
    "only models made of large language models read it, and no recipe covers those",
    "仅大语言模型类模型使用，没有配方支持",
)
_TOOLS_GONE = {
    **_SEARCH,
    **_NEEDS_LLM,
    **_all(
        """query_instruction_format_for_retrieval query_instruction_format_for_rerank
        passage_instruction_format_for_rerank query_instruction_for_rerank passage_instruction_for_rerank
        normalize truncate_dim""",
        "the recipe has no such option; an instruction is put before the text as it is",
        "配方没有此选项；指令会原样加在文本之前",
    ),
}

#: Gone for one kind of program alone.
GONE_FOR: dict[str, dict[str, Text]] = {
    "m3": _all(
        "use_mrl mrl_dims", "M3 raises with it: MRL is for dense embedders alone", "M3 不支持 MRL，会直接报错"
    ),
    "dense": {},
    "reranker": {
        **_all("sub_batch_size", "upstream never wrote it for rerankers", "上游从未为重排模型实现"),
        **_all(
            "max_len",
            "this generation parses it and never reads it; query_max_len and passage_max_len count",
            "这一代只解析而不使用；起作用的是 query_max_len 与 passage_max_len",
        ),
        **_all(
            "sep_token", "only rerankers made of large language models read it", "仅大语言模型类重排器使用"
        ),
    },
    **dict.fromkeys(("mine", "score", "split", "evaluate"), _TOOLS_GONE),
}

#: The trainer's own defaults, which an old command that left an argument out was trained with.
_ALL = {
    "learning_rate": "5e-5",
    "num_train_epochs": "3",
    "per_device_train_batch_size": "8",
    "weight_decay": "0",
    "warmup_ratio": "0",
    "gradient_accumulation_steps": "1",
    "max_steps": "-1",
    "seed": "42",
    "precision": "fp32",
    "train_group_size": "8",
    "query_max_len": "32",
    "passage_max_len": "128",
    "knowledge_distillation": "false",
}
_EMBEDDERS = {
    **_ALL,
    "temperature": "0.02",
    "negatives_cross_device": "false",
    "sentence_pooling_method": "cls",
    "normalize_embeddings": "true",
    "same_dataset_within_batch": "false",
}
DEFAULTS: dict[str, dict[str, str]] = {
    "m3": {
        **_EMBEDDERS,
        "kd_loss_type": "kl_div",
        "unified_finetuning": "false",
        "use_self_distill": "false",
        "self_distill_start_step": "-1",
        "fix_encoder": "false",
    },
    "dense": {**_EMBEDDERS, "kd_loss_type": "kl_div"},
    "reranker": _ALL,
    "mine": {"negative_number": "15", "range_for_sampling": "10-210", "sampling": "random"},
    "score": {"max_length": "512"},
    "split": {"boundaries": "500,1000,2000,3000,4000,5000,6000,7000"},
    "evaluate": {},
}
#: BGE_M3.run had one distillation loss, the one that is called m3_kd_loss now.
FIRST_M3 = {"kd_loss_type": "m3_kd_loss"}

#: Variables before the command that mean nothing here; None: passed on with --env.
VARIABLES: dict[str, Text] = {
    **_all(
        "WANDB_MODE WANDB_DISABLED WANDB_PROJECT WANDB_API_KEY WANDB_NAME COMET_MODE MLFLOW_TRACKING_URI",
        "nothing reports to a service",
        "不向任何服务上报",
    ),
    **_all(
        "HF_TOKEN HUGGING_FACE_HUB_TOKEN HF_HOME HF_HUB_CACHE HF_ENDPOINT TRANSFORMERS_CACHE"
        " HF_DATASETS_CACHE HF_HUB_OFFLINE"
        " TRANSFORMERS_OFFLINE HUGGINGFACE_HUB_CACHE HF_HUB_ENABLE_HF_TRANSFER",
        "models are fetched on this machine, before the run: set it in the shell that starts launch",
        "模型在运行前由本机获取：请在启动 launch 的终端中设置",
    ),
    **_all(
        "MASTER_ADDR MASTER_PORT RANK LOCAL_RANK WORLD_SIZE NODE_RANK OMP_NUM_THREADS",
        "torchrun and the recipe set it",
        "由 torchrun 与配方设置",
    ),
    **_all(
        "PYTHONPATH PATH LD_LIBRARY_PATH CUDA_HOME CONDA_DEFAULT_ENV",
        "the environment of the target has its own",
        "目标环境自有设置",
    ),
}
