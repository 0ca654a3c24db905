"""launcher.image.check: the budget of an image; a partial image's checks are told what it lacks."""

from types import SimpleNamespace
from typing import Any

import pytest

from launcher import lock, manifest, paths
from launcher.image import check, inputs
from launcher.image.inspect import ImageInfo


def image(size: int, **labels: str) -> ImageInfo:
    return ImageInfo(reference="finetune:cuda", id="sha256:0", size=size, labels=labels)


@pytest.mark.parametrize(
    ("size", "budget", "status", "detail"),
    [
        (12_000_000_000, 12_000_000_000, "ok", "12.00 GB unpacked, the budget is 12 GB"),
        (12_000_000_001, 12_000_000_000, "failed", "12.00 GB unpacked, the budget is 12 GB"),
        (1_510_000_000, 1_600_000_000, "ok", "1.51 GB unpacked, the budget is 1.6 GB"),
        (99_000_000_000, None, "ok", "99.00 GB unpacked, no budget"),
    ],
)
def test_an_image_keeps_to_its_budget(size: int, budget: int | None, status: str, detail: str) -> None:
    target: Any = SimpleNamespace(max_size=budget)
    assert check.size(image(size), target) == check.Outcome(
        check="size", status=status, detail=detail, seconds=0.0
    )


def test_what_was_left_out_is_told_to_the_checks() -> None:
    target = manifest.shipped().target("cuda")
    what = inputs.load(paths.images(), target, without=["flash-attn"])
    partial = image(1, **{"launch.without": "flash-attn other"})
    assert partial.left_out == ("flash-attn", "other")
    request = check.request(what, "versions", partial.left_out)
    assert request["environment"]["WITHOUT"] == "flash-attn other"
    assert what.lock == lock.load(paths.images(), target).without(["flash-attn"])
    assert check.request(what, "versions", image(1).left_out)["environment"]["WITHOUT"] == ""
