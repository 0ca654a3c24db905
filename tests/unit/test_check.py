"""launcher.image.check: the budget of an image; a partial image's checks are told what it lacks."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from docker.errors import APIError, ImageNotFound

from launcher import dockerfile, lock, manifest, paths
from launcher.errors import DeviceError, DeviceRuntimeError, EngineError, LaunchError
from launcher.image import check, inputs, inspect
from launcher.image.inspect import ImageInfo
from launcher.progress import Silent


def image(size: int, **labels: str) -> ImageInfo:
    return ImageInfo(reference="finetune:cuda", id="sha256:0", size=size, labels=labels)


def unpacked(size: int, id_: str = "sha256:0", **labels: str) -> Any:
    """An image as the SDK has it."""
    return SimpleNamespace(id=id_, labels=labels, attrs={}, history=lambda: [{"Size": size}])


class Engine:
    """As much of an engine as is asked here."""

    def __init__(self, images: dict[str, Any]) -> None:
        self.removed: list[str] = []
        self.client: Any = SimpleNamespace(
            images=SimpleNamespace(get=lambda name: self._get(images, name)),
            containers=SimpleNamespace(create=self._create),
        )

    def _get(self, images: dict[str, Any], name: str) -> Any:
        if name not in images:
            raise ImageNotFound(name)
        return images[name]

    def _create(self, name: str, **_: object) -> Any:
        return SimpleNamespace(remove=lambda force: self.removed.append(name))


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
    engine = Engine({"finetune:cuda": unpacked(size)})
    assert check.size(engine.client, image(size=1), target) == check.Outcome(
        check="size", status=status, detail=detail, seconds=0.0
    )
    assert engine.removed == ["finetune:cuda"]  # made first: before, the engine may know the packed size only


def test_what_was_left_out_is_told_to_the_checks() -> None:
    target = manifest.shipped().target("cuda")
    what = inputs.load(paths.images(), target, without=["flash-attn"])
    partial = image(1, **{"launch.without": "flash-attn other"})
    assert partial.left_out == ("flash-attn", "other")
    request = check.request(what, "versions", partial.left_out)
    assert request["environment"]["WITHOUT"] == "flash-attn other"
    assert what.lock == lock.load(paths.images(), target).without(["flash-attn"])
    assert check.request(what, "versions", image(1).left_out)["environment"]["WITHOUT"] == ""


def test_a_partial_image_is_found_under_its_own_name_and_says_so() -> None:
    """The alias moves with the next build: a plan that named it would be repeated in another image."""
    target = manifest.shipped().target("cuda")
    whole = inputs.load(paths.images(), target, base="other")
    partial = inputs.load(paths.images(), target, without=["flash-attn"])
    built = unpacked(
        1,
        **{
            "launch.lock-digest": f"sha256:{partial.lock.digest}",
            "launch.build-digest": f"sha256:{partial.digest}",
            "launch.without": "flash-attn",
        },
    )
    alias = dockerfile.alias("cuda")
    found = inspect.find_for(Engine({alias: built, partial.reference: built}).client, whole)
    assert found is not None
    assert (found.reference, found.left_out) == (partial.reference, ("flash-attn",))
    # somebody removed its own name, or gave it to another image: then the alias is what there is
    moved = unpacked(1, id_="sha256:1")
    for images in ({alias: built}, {alias: built, partial.reference: moved}):
        found = inspect.find_for(Engine(images).client, whole)
        assert found is not None
        assert found.reference == alias
    # other packages, or labels that contradict each other
    for labels in ({"launch.without": ""}, {"launch.lock-digest": "sha256:0"}):
        other = unpacked(1, **{**built.labels, **labels})
        assert inspect.find_for(Engine({alias: other}).client, whole) is None


class Refusing:
    """An engine that knows no container and says why."""

    def __init__(self, text: str, info: dict[str, Any]) -> None:
        self.asked: list[dict[str, Any]] = []
        self.containers, self._text, self._info = self, text, info

    def info(self) -> dict[str, Any]:
        return self._info

    def create(self, image: str, **asked: Any) -> None:
        self.asked.append(asked)
        raise APIError(self._text, response=SimpleNamespace(status_code=500), explanation=self._text)


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., tuple[LaunchError, Refusing]]:
    """``refused(target, text, gpus=…, runtime=…)``: how the checks of an image end, and what was asked."""

    def run(target: str, text: str, *, gpus: int, runtime: bool) -> tuple[LaunchError, Refusing]:
        monkeypatch.setattr(check.nvidia, "count", lambda: gpus)
        monkeypatch.setattr(check.refusals, "_SYSTEM_PATH", str(tmp_path))
        monkeypatch.setenv("PATH", "")
        client: Any = Refusing(text, {"Runtimes": {"nvidia": {}}} if runtime else {"Runtimes": {"runc": {}}})
        what = inputs.load(paths.images(), manifest.shipped().target(target))
        with pytest.raises(LaunchError) as caught:
            check.run(client, image(1), what, ["versions", "device"], progress=Silent())
        return caught.value, client

    return run


Refused = Callable[..., tuple[LaunchError, Refusing]]


def test_a_gpu_that_the_engine_cannot_give_ends_the_checks_before_they_start(refused: Refused) -> None:
    error, engine = refused("cuda", "", gpus=1, runtime=False)
    assert isinstance(error, DeviceRuntimeError)
    assert "nvidia-ctk" in error.hint
    assert not engine.asked


def test_a_gpu_is_given_to_every_check(refused: Refused) -> None:
    driver = "nvidia-container-cli: initialization error: nvml error: driver/library version mismatch"
    error, engine = refused("cuda", driver, gpus=1, runtime=True)
    assert isinstance(error, DeviceError)
    assert error.why == driver
    (asked,) = engine.asked
    assert asked["environment"]["GPU_PRESENT"] == "1"
    assert asked["device_requests"][0]["Count"] == -1


@pytest.mark.parametrize(("target", "gpus"), [("cuda", 0), ("cpu", 1)])
def test_no_gpu_is_asked_for_where_none_is_or_none_is_wanted(
    refused: Refused, target: str, gpus: int
) -> None:
    error, engine = refused(target, "something new", gpus=gpus, runtime=False)
    assert isinstance(error, EngineError)
    assert (error.message, error.why) == (
        "the engine refused a container of finetune:cuda",
        "something new",
    )
    (asked,) = engine.asked
    assert "GPU_PRESENT" not in asked["environment"]
    assert "device_requests" not in asked
