"""launcher.app.fit, launcher.app.probing and ``launch fit``: from a command line to a verdict, a note, or an
error."""

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from launcher import cli, model, paths
from launcher.app import fit, lengths, probing
from launcher.app import plan as planning
from launcher.cuda import Gpu, Nvidia
from launcher.diagnosis.facts import Memory
from launcher.errors import (
    DataError,
    LaunchError,
    ModelConfigError,
    ModelNotFoundError,
    OutOfMemoryError,
    UsageError,
)
from launcher.fit import Probe
from launcher.fit.step import Setup
from launcher.plan import Folders
from launcher.progress import SilentView
from tests.conftest import ROOT
from tests.unit.conftest import Bench

M3 = json.loads((ROOT / "tests/support/models.json").read_text())["BAAI/bge-m3"]["config"]
GIB = 1 << 30


@pytest.fixture
def bge_m3(tmp_path: Path) -> str:
    """A model folder with nothing but its configuration: more is never read."""
    folder = tmp_path / "bge-m3"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(M3))
    return str(folder)


Launch = Callable[..., Result]


@pytest.fixture
def launch(monkeypatch: pytest.MonkeyPatch) -> Launch:
    """``launch fit …`` in this process; errors of the launcher are raised as they are."""
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: str) -> Result:
        result = CliRunner().invoke(cli.root, ["fit", *arguments], prog_name="launch")
        if isinstance(result.exception, LaunchError):
            raise result.exception
        return result

    return run


def figures(result: Result) -> dict[str, Any]:
    """The JSON on standard output."""
    return dict(json.loads(result.stdout))


# ----------------------------------------------------------------------------------------------------------
# verb
def test_it_fits(launch: Launch, bge_m3: str) -> None:
    result = launch("bge-m3-unified", "--model", bge_m3, "--gpu", "a10g", "--json")
    said = figures(result)
    assert result.exit_code == 0
    assert (said["schema"], said["verdict"], said["target"], said["device"]) == (
        1,
        "fits",
        "cuda",
        "NVIDIA A10G",
    )
    assert said["bytes"] == pytest.approx(sum(said["parts"].values()), abs=len(said["parts"]))
    assert said["parameters"] == 568_805_377
    assert said["largest"]["per_device_train_batch_size"] > 2
    assert said["cheapest"] is None


def test_it_does_not_fit(launch: Launch, bge_m3: str) -> None:
    """The exit code is that of a run that ends without memory, so that scripts need no JSON."""
    words = ("bge-m3-unified", "--model", bge_m3, "--gpu", "24GB", "--gradient-checkpointing", "false")
    said = figures(result := launch(*words, "--per-device-train-batch-size", "4", "--json"))
    assert result.exit_code == OutOfMemoryError.exit_code
    assert said["verdict"] == "does not fit"
    assert said["cheapest"]["options"] == "--gradient-checkpointing true"
    assert said["cheapest"]["verdict"] == "fits"


def test_for_people(launch: Launch, bge_m3: str) -> None:
    words = ("bge-m3-unified", "--model", bge_m3, "--gpu", "8GB", "--passage-max-len", "4096")
    output = launch(*words).output
    assert "does not fit" in output
    assert "█" in output
    for title in ("weights", "optimiser", "activations", "what would help", "largest that fits", "do:"):
        assert title in output, title


def test_an_intel_card_is_another_target(launch: Launch, bge_m3: str) -> None:
    said = figures(launch("bge-dense", "--model", bge_m3, "--gpu", "b60", "--json"))
    assert (said["target"], said["setup"]["device"]) == ("xpu", "xpu")
    assert any("Intel" in note for note in said["notes"])


def test_processes_on_a_cpu_share_its_memory(launch: Launch, bge_m3: str) -> None:
    one, two = (
        figures(launch("bge-dense", "--model", bge_m3, "--target", "cpu", "--nproc", n, "--json"))
        for n in "12"
    )
    assert two["memory"] == one["memory"] // 2


def test_data_bounds_the_lengths(launch: Launch, bge_m3: str, tmp_path: Path) -> None:
    data = tmp_path / "rows.jsonl"
    data.write_text(json.dumps({"query": "é", "pos": ["a" * 60], "neg": ["b"]}) + "\n\n")
    said = figures(launch("bge-dense", "--model", bge_m3, "--gpu", "t4", "--data", str(data), "--json"))
    assert (said["setup"]["query_length"], said["setup"]["passage_length"]) == (8, 64)


ROW = {"query": "q" * 9, "pos": ["p" * 20], "neg": ["n"]}


def longest(tmp_path: Path, *rows: dict[str, Any], recipe: str = "embedder", **asked: str) -> tuple[int, int]:
    """Of rows in a file, without the special tokens around each text."""
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    query, other = lengths.longest((data,), recipe, asked)
    return query - lengths._SPECIAL, other - lengths._SPECIAL


def test_what_is_put_before_a_text_counts(tmp_path: Path) -> None:
    asked = {
        "query_instruction_for_retrieval": "é" * 3,
        "query_instruction_format": "{}: {}",
        "passage_instruction_for_retrieval": "Passage",
    }
    assert longest(tmp_path, ROW) == (9, 20)
    assert longest(tmp_path, ROW, **asked) == (9 + 6 + 2, 20 + 7)
    assert longest(tmp_path, {**ROW, "prompt": "x" * 30}, **asked) == (9 + 30 + 2, 20 + 7)
    assert longest(tmp_path, {**ROW, "type": "symmetric_sts"}, **asked) == (9 + 6 + 2, 20 + 6 + 2)
    rerank = {"query_instruction_for_rerank": "ab", "passage_instruction_for_rerank": "cde"}
    own = {**ROW, "query_prompt": "q" * 40, "passage_prompt": "p" * 50}
    assert longest(tmp_path, ROW, recipe="reranker", **rerank) == (9 + 2, 20 + 3)
    assert longest(tmp_path, own, recipe="reranker", **rerank) == (9 + 40, 20 + 50)


def test_data_is_what_a_run_would_read(tmp_path: Path) -> None:
    """A folder's own files, rows in lines or in one array, NaN in a score; nothing of the folders below."""
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "long.jsonl").write_text(json.dumps({**ROW, "pos": ["p" * 999]}))
    (tmp_path / "note.json.bak").write_text("no rows")
    (tmp_path / "a.json").write_text(json.dumps([ROW, {**ROW, "query": "q" * 30}], indent=1))
    (tmp_path / "b.jsonl").write_bytes(
        b"\xef\xbb\xbf"
        + json.dumps({**ROW, "pos_scores": [float("nan")], "neg": ["n" * 40]}).encode()
        + b"\n\n"
    )
    assert lengths.longest((tmp_path,), "embedder", {}) == (34, 44)


@pytest.mark.parametrize("text", ["", "no rows", "7", '{"query": "q"}', "[" * 10**5, '{"pos": ["\\ud800"]}'])
def test_data_that_cannot_be_read(tmp_path: Path, text: str) -> None:
    (tmp_path / "rows.jsonl").write_text(text)
    with pytest.raises(DataError, match=r"cannot be read|has no texts"):
        lengths.longest((tmp_path / "rows.jsonl",), "embedder", {})
    with pytest.raises(DataError, match="--data"):
        lengths.longest((tmp_path / "nowhere.jsonl",), "embedder", {})


def test_a_text_longer_than_the_model(launch: Launch, bge_m3: str) -> None:
    words = ("--model", bge_m3, "--gpu", "h200", "--json")

    def said(recipe: str, *more: str) -> str:
        return "\n".join(figures(launch(recipe, *words, *more))["notes"])

    assert "positions" not in said("bge-dense", "--passage-max-len", "8192")
    assert "9000 tokens" in (long := said("bge-dense", "--passage-max-len", "9000"))
    assert long.endswith("--passage-max-len 8192 at most")
    both = said("bge-reranker", "--passage-max-len", "8192")
    assert "query and passage of together 8704 tokens" in both
    assert both.endswith("--passage-max-len 7680 at most")
    assert said("bge-dense", "--query-max-len", "9000").endswith("--query-max-len 8192 at most")


def test_length_buckets_do_not_use_the_batch_size(launch: Launch, bge_m3: str) -> None:
    words = ("bge-dense", "--model", bge_m3, "--gpu", "h200", "--length-bucketing", "true")
    assert "largest that fits, all else equal: --passage-max-len 8192\n" in launch(*words).output
    given_ = launch(*words, "--bucket-batch-sizes", "128:32,512:8").output
    assert "batch 32, group 8, 512+128 tokens" in given_
    assert "largest that fits" not in given_


def cards(bench: Bench) -> None:
    """Two GPUs: a small one, and a large one."""
    found = tuple(
        Gpu(index=index, name=f"GPU of {size}", uuid=f"GPU-{index}", memory=size * GIB, capability=(8, 6))
        for index, size in enumerate((8, 80))
    )
    bench.patch.setattr("launcher.host.nvidia.facts", lambda: Nvidia(driver="570.1", gpus=found))


@pytest.mark.parametrize(
    ("variable", "text", "target", "device", "world"),
    [
        ("CUDA_VISIBLE_DEVICES", "0,1", "cuda", "GPU of 8", 2),
        ("CUDA_VISIBLE_DEVICES", "1", "cuda", "GPU of 80", 1),
        ("LAUNCH_GPUS", "1", "cuda", "GPU of 80", 1),
        ("LAUNCH_TARGET", "cpu", "cpu", "CPU", 1),
    ],
)
def test_the_devices_are_those_that_a_run_would_take(
    bench: Bench, launch: Launch, bge_m3: str, variable: str, text: str, target: str, device: str, world: int
) -> None:
    cards(bench)
    bench.patch.setenv(variable, text)
    said = figures(launch("bge-dense", "--model", bge_m3, "--json"))
    assert (said["target"], said["device"], said["setup"]["world"]) == (target, device, world)


def test_gpus_that_are_hidden_are_not_judged(bench: Bench, launch: Launch, bge_m3: str) -> None:
    cards(bench)
    bench.patch.setenv("CUDA_VISIBLE_DEVICES", "")
    said = figures(launch("bge-dense", "--model", bge_m3, "--json"))
    assert said["target"] == "xpu"
    assert any("CUDA_VISIBLE_DEVICES hides every NVIDIA GPU" in note for note in said["notes"])
    said = figures(launch("bge-dense", "--model", bge_m3, "--target", "cuda", "--json"))
    assert (said["memory"], said["verdict"]) == (None, "unknown")


def test_more_processes_than_devices_are_refused_as_for_a_run(
    bench: Bench, launch: Launch, bge_m3: str
) -> None:
    cards(bench)
    with pytest.raises(UsageError, match="there are 2 devices"):
        launch("bge-dense", "--model", bge_m3, "--nproc", "3")
    assert figures(launch("bge-dense", "--model", bge_m3, "--nproc", "3", "--gpu", "t4", "--json"))


WRONG: dict[str, tuple[tuple[str, ...], type[LaunchError], str]] = {
    "gpu": (("--gpu", "gtx9"), UsageError, "no such GPU"),
    "a GPU of another target": (
        ("--gpu", "b60", "--target", "cuda"),
        UsageError,
        "not a device of the target",
    ),
    "target": (("--target", "tpu"), UsageError, "no target"),
    "probe of another device": (("--gpu", "a10g", "--probe"), UsageError, "this machine's device"),
    "refused together": (("--target", "cpu", "--precision", "fp16"), UsageError, "does not run"),
    "a value": (("--gpu", "a10g", "--train-group-size", "0"), UsageError, "whole number from 1"),
    "a value too large": (
        ("--gpu", "a10g", "--per-device-train-batch-size", "1000000000"),
        UsageError,
        "from 1 to 1048576$",
    ),
    "sizes of length buckets": (
        ("--gpu", "a10g", "--length-bucketing", "true", "--bucket-batch-sizes", "foo"),
        UsageError,
        "bucket-batch-sizes: 'foo'",
    ),
    "processes": (("--nproc", "0"), UsageError, "--nproc takes"),
}


@pytest.mark.parametrize(("words", "error", "message"), WRONG.values(), ids=WRONG)
def test_wrong_words(
    launch: Launch, bge_m3: str, words: tuple[str, ...], error: type[LaunchError], message: str
) -> None:
    with pytest.raises(error, match=message):
        launch("bge-m3-unified", "--model", bge_m3, *words)


def test_a_recipe_that_does_not_train(launch: Launch, bge_m3: str) -> None:
    with pytest.raises(UsageError, match="not counted"):
        launch("evaluate", "--model", bge_m3, "--gpu", "a10g")


# --------------------------------------------------------------------------------------------------------
# config
@pytest.mark.parametrize("text", ["", "{", "[]", "7", "\ud800".encode("utf-8", "surrogatepass"), "[" * 10**5])
def test_a_config_that_is_none(bge_m3: str, text: str | bytes, capsys: pytest.CaptureFixture[str]) -> None:
    content = text if isinstance(text, bytes) else text.encode()
    (Path(bge_m3) / "config.json").write_bytes(content)
    sys.argv = ["launch", "fit", "bge-dense", "--model", bge_m3, "--gpu", "a10g"]
    with pytest.raises(SystemExit) as exit_:
        cli.main()
    assert exit_.value.code == ModelConfigError.exit_code
    said = capsys.readouterr().err
    assert said.startswith("model error: ")
    assert "Traceback" not in said


def test_no_config_at_all(bge_m3: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for name in (str(tmp_path / "empty"), "./nowhere", "three/part/name"):
        with pytest.raises(ModelNotFoundError):
            model.config(name)


def test_the_hub_sends_one_file(monkeypatch: pytest.MonkeyPatch, bge_m3: str) -> None:
    asked = []

    def download(name: str, file: str, **_: object) -> str:
        asked.append((name, file))
        return f"{bge_m3}/config.json"

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    assert model.config("BAAI/bge-m3") == M3
    assert asked == [("BAAI/bge-m3", "config.json")]


def test_a_hub_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    def download(*_: object, **__: object) -> str:
        raise OSError("no route")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    with pytest.raises(ModelNotFoundError, match=r"config\.json of a/b") as caught:
        model.config("a/b")
    assert caught.value.why == "no route"


# -----------------------------------------------------------------------------------------------------
# preflight
def planned(bench: Bench, memory: int, **asked: Any) -> planning.Planned:
    """A plan on a machine with one NVIDIA GPU of that memory."""
    folder = bench.model()
    (folder / "config.json").write_text(json.dumps(M3))
    gpu = Gpu(index=0, name="NVIDIA A10G", uuid="GPU-1", memory=memory, capability=(8, 6))
    bench.patch.setattr("launcher.host.nvidia.facts", lambda: Nvidia(driver="570.1", gpus=(gpu,)))
    return bench.plan(target="cuda", data=(bench.data(),), model=str(folder), nproc=1, **asked)


def test_a_run_that_fits_says_nothing(bench: Bench) -> None:
    assert fit.foreseen(planned(bench, 24 * GIB)) is None


def test_a_run_that_does_not_fit_says_what_to_do(bench: Bench) -> None:
    asked = {"gradient_checkpointing": "false", "per_device_train_batch_size": "4"}
    seen = fit.foreseen(planned(bench, 24 * GIB, parameters=asked))
    assert seen is not None
    assert 0.3 < seen.share < 0.7  # short texts would fit: nobody has counted how long they are
    note = str(seen)
    assert note.startswith("memory: does not fit: about ")
    assert " of 24.0 GiB with the longest texts (NVIDIA A10G, estimated)" in note
    assert note.endswith("do: --gradient-checkpointing true")


def test_where_not_even_the_shortest_texts_fit(bench: Bench) -> None:
    seen = fit.foreseen(planned(bench, 6 * GIB))
    assert seen is not None
    assert seen.share > 1


def test_what_nobody_knows_is_no_verdict(bench: Bench) -> None:
    known = planned(bench, 4 * GIB)
    assert fit.foreseen(known) is not None
    assert known.plan.model is not None
    assert fit.foreseen(replace(known, host=replace(known.host, cards=Nvidia(unknown="NVML")))) is None
    (known.plan.model.path / "config.json").write_text('{"model_type": "t5"}')
    assert fit.foreseen(known) is None
    (known.plan.model.path / "config.json").unlink()
    assert fit.foreseen(known) is None
    assert fit.foreseen(replace(known, plan=replace(known.plan, model=None))) is None
    assert fit.foreseen(replace(known, plan=replace(known.plan, world_size=0))) is None


def test_a_containers_limit_counts(bench: Bench) -> None:
    bench.patch.setattr(fit, "_ram", lambda: 64 * GIB)
    folder = bench.model()
    (folder / "config.json").write_text(json.dumps(M3))
    asked = {"per_device_train_batch_size": "1", "train_group_size": "2"}
    free = bench.plan(target="cpu", data=(bench.data(),), model=str(folder), parameters=asked)
    assert fit.foreseen(free) is None
    limited = replace(free, plan=replace(free.plan, access=replace(free.plan.access, memory="9g")))
    assert "does not fit" in str(fit.foreseen(limited))
    bench.patch.setattr(fit, "_ram", lambda: None)
    assert fit.foreseen(free) is None
    assert "does not fit" in str(fit.foreseen(limited))


def test_a_limit_of_the_control_group_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreadable() -> Memory:
        raise OSError("/proc/meminfo does not say")

    monkeypatch.setattr(fit, "memory_facts", lambda: Memory(total=64 * GIB, available=9 * GIB, limit=2 * GIB))
    assert fit._ram() == 2 * GIB
    monkeypatch.setattr(fit, "memory_facts", lambda: Memory(total=64 * GIB, available=9 * GIB, limit=None))
    assert fit._ram() == 64 * GIB
    monkeypatch.setattr(fit, "memory_facts", unreadable)
    assert fit._ram() is None


# --------------------------------------------------------------------------------------------------------
# probes
STEP = Setup(
    kind="dense", device="cpu", precision="fp32", batch=2, group=2, query_length=8, passage_length=16
)
PROBE = Probe(setup=STEP, before=1.0, peak=3.0, loaded=1.5, stepped=2.5, when="2026-11-21")


def test_probes_are_kept_and_replaced() -> None:
    assert probing.load("key") == ()
    probing.keep("key", PROBE)
    other = replace(PROBE, setup=replace(STEP, batch=4))
    probing.keep("key", other)
    probing.keep("key", replace(PROBE, peak=4.0))
    assert set(probing.load("key")) == {other, replace(PROBE, peak=4.0)}


@given(
    text=st.one_of(st.text(), st.sampled_from(["{", "[]", '{"schema": 1}', '{"schema": 2, "probes": []}']))
)
def test_a_damaged_cache_is_no_probe(text: str) -> None:
    paths.write_atomic(paths.cache() / "fit" / "damaged.json", text)
    assert probing.load("damaged") == ()


def test_rows_of_a_probe_are_of_full_length() -> None:
    rows = probing._rows(replace(STEP, world=2))
    assert len(rows) >= 2 * 2 * 2
    for row in rows:
        assert len(row["query"].split()) == 8
        assert [len(text.split()) for text in row["pos"] + row["neg"]] == [16, 8]  # one has padding


class Begun(SimpleNamespace):
    """A begun run whose metrics a test writes."""


def test_a_probe_goes_the_way_of_a_run(
    monkeypatch: pytest.MonkeyPatch, launch: Launch, bge_m3: str, tmp_path: Path
) -> None:
    """The plan is the recipe's own with two steps; what it measured corrects the next estimate, which says
    so."""
    seen: dict[str, Any] = {}

    def make(request: planning.Request, *_: object, **__: object) -> Any:
        seen.update(request=request, rows=request.data[0].read_text().splitlines())
        from launcher.plan import Access, RunPlan

        fields = dict.fromkeys(RunPlan.__slots__, None)
        plan = RunPlan(**{**fields, "env": (), "recipe": "bge-dense", "target": "cpu", "access": Access()})  # type: ignore[arg-type]
        return planning.Planned(plan=plan, engine=None, host=None, secrets={}, notes=())  # type: ignore[arg-type]

    def begin(made: planning.Planned, *, parent: Path) -> Any:
        seen["env"] = dict(made.plan.env)
        place = SimpleNamespace(run=tmp_path)
        events = [
            {"event": "memory", "rank": 0, "before": 3 * GIB, "peak": 20 * GIB},
            {"event": "memory", "rank": 1, "before": 3 * GIB, "peak": 19 * GIB},
        ]
        (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
        return Begun(place=place)

    monkeypatch.setattr(probing.planning, "make", make)
    monkeypatch.setattr(probing.execute, "begin", begin)
    ended = SimpleNamespace(error=None, result=SimpleNamespace(exit_code=0), tail=())
    monkeypatch.setattr(probing.execute, "execute", lambda *_, **__: ended)
    monkeypatch.setattr(fit, "_ram", lambda: 64 * GIB)
    monkeypatch.setattr("launcher.cli.live.LiveView.__enter__", lambda self: SilentView())
    monkeypatch.setattr("launcher.cli.live.LiveView.__exit__", lambda *_: None)
    words = (
        "bge-dense",
        "--model",
        bge_m3,
        "--target",
        "cpu",
        "--per-device-train-batch-size",
        "2",
        "--json",
    )
    before = figures(launch(*words))
    after = figures(launch(*words, "--probe"))
    assert seen["env"] == {"LAUNCH_PROBE": "1"}
    assert (seen["request"].parameters["max_steps"], seen["request"].target) == ("2", "cpu")
    assert len(seen["rows"]) >= 4
    assert not Path(seen["request"].data[0]).exists()
    assert before["probe"] is None
    assert after["bytes"] == pytest.approx(20 * GIB, rel=1e-6)
    assert any("corrected by a probe" in note for note in after["notes"])
    again = figures(launch(*words))
    assert again["bytes"] == after["bytes"]
    other = figures(launch(*words, "--gradient-checkpointing", "true"))
    assert other["probe"] is None
    assert any("with other options" in note for note in other["notes"])


@pytest.mark.parametrize(
    ("error", "code", "raised"),
    [(OutOfMemoryError("x"), 79, OutOfMemoryError), (None, 3, LaunchError)],
)
def test_a_probe_that_fails(error: LaunchError | None, code: int, raised: type[LaunchError]) -> None:
    ended: Any = SimpleNamespace(error=error, result=SimpleNamespace(exit_code=code), tail=("boom",))
    with pytest.raises(raised) as caught:
        probing._raise(ended)
    assert "boom" in caught.value.why or "does not fit" in caught.value.message


@pytest.mark.parametrize(
    "text", ["", "no JSON\n", '{"event": "memory"}\n', '{"event": "memory", "peak": "much"}\n']
)
def test_a_recipe_without_the_runtime_measures_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "metrics.jsonl").write_text(text)
    with pytest.raises(UsageError, match="measured nothing"):
        probing._figures(Folders(run=tmp_path, output=tmp_path, home=tmp_path))
