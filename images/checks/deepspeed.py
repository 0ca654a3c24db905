"""DeepSpeed imports without nvcc and takes the plain torch optimizer path that the recipes use."""

from _common import main, need_device, require


def check() -> str:
    """Import, then one ZeRO stage 1 step on the device."""
    version = require("deepspeed")
    import deepspeed

    found = need_device()
    import os

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
