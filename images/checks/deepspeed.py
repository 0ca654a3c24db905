"""DeepSpeed imports without nvcc and takes the plain torch optimizer path that the recipes use."""

import os
import re

from _common import Failed, NeedsGpu, device, main, require, said


def check() -> str:
    """Its own report; with a GPU, one ZeRO stage 1 step."""
    version = require("deepspeed")
    report = re.sub(r"\x1b\[[0-9;]*m", "", said("ds_report"))
    if not re.search(r"^ninja \.+ \[OKAY\]", report, re.MULTILINE):
        raise Failed(f"deepspeed {version} finds no ninja, with which it compiles at run time")
    found = device()
    if found is None:
        raise NeedsGpu(f"deepspeed {version}: imports, and ds_report finds ninja; a step needs a GPU")
    import deepspeed
    import torch

    os.environ |= {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "LOCAL_SIZE": "1"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29511"}
    model = torch.nn.Linear(8, 8)
    engine, *_ = deepspeed.initialize(
        model=model,
        optimizer=torch.optim.AdamW(model.parameters()),
        config={
            "train_batch_size": 1,
            "zero_optimization": {"stage": 1},
            "zero_allow_untested_optimizer": True,
        },
    )
    loss = engine(torch.ones(1, 8, device=found)).square().mean()
    engine.backward(loss)
    engine.step()
    return f"deepspeed {version}, one step on {found}"


main(check)
