"""Every import package that the locks install can be imported, and the trainers that the recipes start."""

import contextlib
import importlib
import io
import sysconfig
import warnings
from importlib import metadata
from pathlib import Path

from _common import Failed, NeedsGpu, canonical, device, left_out, main

# Started by name from recipes: their imports reach what a plain import of their package does not.
TRAINERS = {
    "flagembedding": (
        "FlagEmbedding.finetune.embedder.encoder_only.m3.__main__",
        "FlagEmbedding.finetune.embedder.encoder_only.base.__main__",
        "FlagEmbedding.finetune.reranker.encoder_only.base.__main__",
    ),
    "peft": ("peft.tuners.lora",),
    "trl": ("trl.trainer.sft_trainer",),
}

# Packages that may refuse to be imported on a machine without a GPU.
GPU_ONLY = {"unsloth", "unsloth_zoo", "flash_attn", "flash_attn_2_cuda", "xformers", "vllm"}

# Not for importing: hooks of other programs, which need that program.
SKIPPED = {"_distutils_hack", "git", "isympy", "matplotlib_inline"}


# What may be left out, as it is imported where its name does not say so.
IMPORTED_AS = {"flash-attn": "flash_attn", "mlflow-skinny": "mlflow", "pytorch-triton-xpu": "triton"}


def waits(error: BaseException) -> bool:
    """Whether a module was refused because of something that this image was built without."""
    absent = {IMPORTED_AS.get(name, name) for name in left_out()}
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, ModuleNotFoundError) and (seen.name or "").split(".")[0] in absent:
            return True
        seen = seen.__cause__ or seen.__context__
    return False


def import_names(site: Path) -> set[str]:
    """Regular packages, single-file modules and extension modules at the top level."""
    packages = {path.parent.name for path in site.glob("*/__init__.py")}
    modules = {path.name.split(".")[0] for suffix in ("*.py", "*.so") for path in site.glob(suffix)}
    return {name for name in packages | modules if name.isidentifier()} - SKIPPED


def check() -> str:
    """Import one after the other in this process, the way a training program would meet them."""
    names = sorted(import_names(Path(sysconfig.get_path("purelib"))))
    names.sort(key=lambda name: name.startswith("unsloth"))  # last: it changes what is imported after it
    installed = {canonical(distribution.metadata["Name"]) for distribution in metadata.distributions()}
    names += [module for name, modules in TRAINERS.items() if name in installed for module in modules]
    failed, undecided, waiting = [], [], []
    for name in names:
        said = io.StringIO()
        try:
            with contextlib.redirect_stdout(said), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                importlib.import_module(name)
        except BaseException as error:  # noqa: BLE001 - SystemExit and friends are findings, too
            if waits(error) or (name in GPU_ONLY and "torch" in left_out()):
                waiting.append(name)
                continue
            reason = f"{name}: {type(error).__name__}: {str(error)[:200]}"
            without_device = name.split(".")[0] in GPU_ONLY and device() is None
            (undecided if without_device else failed).append(reason)
    if failed:
        raise Failed("; ".join(failed))
    done = f"{len(names) - len(undecided) - len(waiting)} modules imported"
    if waiting:
        done += f"; {len(waiting)} need what was left out ({', '.join(waiting)})"
    if undecided:
        raise NeedsGpu("; ".join((done, *undecided)))
    return done


main(check)
