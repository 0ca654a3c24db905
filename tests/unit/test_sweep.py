"""launcher.sweep and launcher.app.sweep: the variants, their names, what is refused, what is missing."""

import json
from pathlib import Path
from typing import Any

import pytest

from launcher import recipe, sweep
from launcher.app import sweep as sweeps
from launcher.app.plan import Request
from launcher.app.runs import Seen, State
from launcher.cli import sweep as verb
from launcher.errors import EngineGoneError, GridError, LaunchError, RecordError, UsageError
from launcher.progress import Silent
from launcher.recipe import Recipe

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def m3() -> Recipe:
    return recipe.load(ROOT / "recipes" / "bge-m3-unified.sh")


def test_the_product_and_its_names(m3: Recipe) -> None:
    found = sweep.variants(m3, ["learning-rate=1e-5,0.00002", "nproc=1,2"])
    assert [variant.name for variant in found] == [
        "learning_rate=1e-05 nproc=1",
        "learning_rate=1e-05 nproc=2",
        "learning_rate=2e-05 nproc=1",
        "learning_rate=2e-05 nproc=2",
    ]
    assert found[0].label == "1e-05_1"
    assert found[3].values == (("learning_rate", "2e-05"), ("nproc", "2"))


def test_values_with_commas(m3: Recipe) -> None:
    (one, two) = sweep.variants(m3, ['query_instruction_for_retrieval="a, b",c'])
    assert [dict(each.values)["query_instruction_for_retrieval"] for each in (one, two)] == ["a, b", "c"]
    (gpus, _) = sweep.variants(m3, ['gpus="0,1",0'])
    assert gpus.values == (("gpus", "0,1"),)
    assert gpus.label == "0-1"


def test_repetitions_spread_by_their_seeds(m3: Recipe) -> None:
    found = sweep.variants(m3, ["learning_rate=1e-5"], repeat=2)
    assert [variant.name for variant in found] == [
        "learning_rate=1e-05 seed=42",
        "learning_rate=1e-05 seed=43",
    ]
    assert [dict(each.values) for each in sweep.variants(m3, [], repeat=2, seed="7")] == [
        {"seed": "7"},
        {"seed": "8"},
    ]
    tool = recipe.load(ROOT / "recipes" / "split-by-length.sh")
    assert [each.name for each in sweep.variants(tool, ["target=cpu"], repeat=2)] == [
        "target=cpu #1",
        "target=cpu #2",
    ]


def test_everything_that_is_wrong_is_said_at_once(m3: Recipe) -> None:
    with pytest.raises(GridError) as caught:
        sweep.variants(
            m3,
            [
                "nonsense",
                "no_such=1",
                "learning_rate=x,1e-5,0.00001",
                "nproc=0",
                "precision=int4",
                "seed=1,2",
                'gpus="0',
                "model=a,b",
                "model=c",
                "weight_decay=",
            ],
            given=("seed",),
            repeat=2,
        )
    problems = "\n".join(caught.value.problems)
    for part in (
        "'nonsense' is not NAME=V1,V2",
        "no parameter 'no_such'",
        "--learning-rate takes a number, not 'x'",
        "learning_rate: '1e-05' is in the grid twice",
        "--nproc takes a number of processes",
        "--precision takes one of",
        "seed has a grid, and a value of its own",
        "--repeat counts seed up",
        "gpus:",
        "model has two grids",
        "weight_decay has no values",
    ):
        assert part in problems
    with pytest.raises(UsageError, match="cannot be tried"):
        sweep.variants(m3, [])


def judged(bench: Any, m3: Recipe, *texts: str) -> list[sweeps.Judged]:
    data, model = bench.data(), bench.model()

    def request(variant: sweep.Variant) -> Request:
        return Request(
            recipe=str(m3.path), target="cpu", engine="docker", data=(data,), model=str(model),
            parameters=dict(variant.values), preflight=False,
        )  # fmt: skip

    return list(sweeps.judge(sweep.variants(m3, texts), request, Silent()))


@pytest.fixture
def image(bench: Any) -> None:
    """A container engine that has the image, as far as planning asks."""
    from types import SimpleNamespace

    from launcher.app import place

    bench.patch.setattr(place.DockerEngine, "connect", lambda self: None)
    found = SimpleNamespace(left_out=(), reference="finetune:cpu-0")
    bench.patch.setattr(place.inspect, "find_for", lambda connection, inside: found)


def test_all_variants_are_judged_before_the_first_starts(bench: Any, m3: Recipe, image: None) -> None:
    found = judged(bench, m3, "precision=fp32,fp16")
    assert [each.error is None for each in found] == [True, False]
    folder = sweeps.create("bge-m3-unified", found)
    assert folder.parent == bench.folder / "runs"
    loaded = sweeps.load(folder)
    assert "fp16 has no effect on a CPU" in loaded.entries[1].refused
    assert json.loads((folder / loaded.entries[0].plan).read_text())["target"] == "cpu"
    assert sweeps.missing(folder, loaded) == [0]
    assert [line["state"] for line in sweeps.table(folder, loaded)] == ["missing", "refused"]
    assert sweeps.find(folder.name) == folder


def test_a_sweep_of_refused_variants_does_not_begin(bench: Any, m3: Recipe, image: None) -> None:
    with pytest.raises(LaunchError):
        sweeps.create("bge-m3-unified", judged(bench, m3, "precision=fp16"))
    assert not (bench.folder / "runs").exists()


def test_records_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no sweep"):
        sweeps.find(str(tmp_path))
    for text in ("[]", "{", '{"schema": 2}', '{"schema": 1, "recipe": "x", "entries": [{}]}'):
        (tmp_path / "sweep.json").write_text(text)
        with pytest.raises(RecordError):
            sweeps.load(tmp_path)


def test_an_engine_that_is_gone_ends_the_sweep(
    bench: Any, m3: Recipe, image: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = sweeps.create("bge-m3-unified", judged(bench, m3, "learning_rate=1e-5,2e-5,3e-5"))
    begun: list[int] = []

    def begin(folder: Path, found: sweeps.Sweep, position: int, *_: object) -> Any:
        begun.append(position)
        raise UsageError("no") if position == 0 else EngineGoneError("it may still run")

    monkeypatch.setattr(sweeps, "begin", begin)
    with pytest.raises(SystemExit) as ended:
        verb._go(folder, {}, fail_fast=False, as_json=True, show_output=False)
    assert begun == [0, 1]  # a refusal ends nothing, this does
    said = capsys.readouterr().err
    assert "it may still run" in said
    assert f"1 not run; launch sweep --continue {folder}" in said
    assert ended.value.code == UsageError.exit_code


@pytest.mark.parametrize(
    ("states", "refused", "code"),
    [
        ([("done", 0), ("done", 0)], {}, 0),
        ([("done", 0), ("failed", 3), ("refused", 67)], {}, 3),
        ([("done", 0), ("refused", 67), ("failed", 3)], {}, 67),
        ([("refused", None)], {}, 64),
        ([("done", 0), ("unknown", None)], {}, 73),
        ([("running", None)], {}, 73),
        ([("unreadable", None)], {}, 82),
        ([("done", 0), ("missing", None)], {1: 74}, 74),
    ],
)
def test_the_exit_code_is_that_of_the_table(
    states: list[tuple[str, int | None]], refused: dict[int, int], code: int
) -> None:
    lines = [{"state": state, "exit_code": own} for state, own in states]
    assert sweeps.exit_code(lines, refused) == code


def test_the_code_of_a_refusal_is_kept(bench: Any, m3: Recipe, image: None) -> None:
    found = judged(bench, m3, "precision=fp32,fp16")
    folder = sweeps.create("bge-m3-unified", found)
    assert found[1].error is not None
    assert sweeps.table(folder, sweeps.load(folder))[1]["exit_code"] == found[1].error.exit_code


def test_nothing_is_started_beside_a_variant_that_runs(
    bench: Any, m3: Recipe, image: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = sweeps.create("bge-m3-unified", judged(bench, m3, "learning_rate=1e-5,2e-5"))
    runs = Seen(folder=folder.parent / "first", state=State.RUNNING)
    states = {"learning_rate=1e-05": runs, "learning_rate=2e-05": None}
    monkeypatch.setattr(sweeps, "state", lambda folder, entry: states[entry.name])
    with pytest.raises(UsageError, match="first of this sweep is running"):
        verb._go(folder, {}, fail_fast=False, as_json=True, show_output=False)
    states["learning_rate=2e-05"] = runs  # nothing is missing: the table is shown, and its code returned
    with pytest.raises(SystemExit) as ended:
        verb._go(folder, {}, fail_fast=False, as_json=True, show_output=False)
    assert ended.value.code == EngineGoneError.exit_code
