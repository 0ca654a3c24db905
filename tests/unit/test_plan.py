"""launcher.plan and launcher.app.plan: plans are complete, repeatable, and refuse what they cannot be."""

import contextlib
import json
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher import plan as plans
from launcher import runs
from launcher.app import place
from launcher.app import plan as planning
from launcher.cli import variables
from launcher.data import DataFile
from launcher.engines.docker import DockerEngine
from launcher.engines.venv import VenvEngine
from launcher.errors import (
    ChangedError,
    DeviceError,
    EngineError,
    ImageMissingError,
    ModelNotFoundError,
    RecordError,
    UsageError,
)
from launcher.image.inspect import ImageInfo
from launcher.plan import Access, File, Model, RunPlan, Slurm
from launcher.progress import Silent
from tests.unit.conftest import fake_lock

# -------------------------------------------------------------------------------------- to and from JSON
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=10)
names = st.text("abcXYZ_09", min_size=1, max_size=6)
folders = st.lists(texts.filter(lambda text: "\0" not in text), max_size=3).map(
    lambda parts: Path("/", *parts)
)
pairs = st.lists(st.tuples(names, texts), max_size=3).map(tuple)
words = st.lists(texts, max_size=3).map(tuple)
counts = st.integers(0, 2**40)
models = st.builds(Model, name=texts, path=folders, root=folders, revision=texts)
files = st.builds(File, path=folders, sha256=texts)
run_plans = st.builds(
    RunPlan,
    schema=st.just(plans.SCHEMA),
    launcher=texts,
    recipe=texts,
    recipe_path=folders,
    recipe_sha256=texts,
    runtime_sha256=texts,
    recipes=folders,
    target=texts,
    engine=st.sampled_from(["docker", "podman", "venv"]),
    image=st.none() | texts,
    lock_digest=texts,
    world_size=counts,
    nproc=counts,
    inputs=st.lists(folders, max_size=2).map(tuple),
    data=st.lists(st.builds(DataFile, path=folders, sha256=texts, size=counts, rows=counts), max_size=2).map(
        tuple
    ),
    model=st.none() | models,
    output=st.none() | folders,
    parameters=pairs,
    models=st.lists(st.tuples(names, models), max_size=2).map(tuple),
    files=st.lists(st.tuples(names, files), max_size=2).map(tuple),
    arguments=words,
    env=pairs,
    secrets=words,
    uid=counts,
    gid=counts,
    access=st.builds(
        Access,
        gpus=texts,
        devices=words,
        groups=st.lists(counts, max_size=2).map(tuple),
        shm_size=texts,
        memory=texts,
        network=st.sampled_from(["none", "bridge"]),
    ),
)


@given(plan=run_plans)
def test_every_plan_is_read_back(plan: RunPlan) -> None:
    text = plans.to_json(plan)
    assert plans.from_json(text) == plan
    assert plans.to_json(plans.from_json(text)) == text


@given(plan=run_plans, data=st.data())
def test_damaged_plans_are_refused_politely(plan: RunPlan, data: st.DataObject) -> None:
    raw = json.loads(plans.to_json(plan))
    key = data.draw(st.sampled_from(sorted(raw)))
    if data.draw(st.booleans()):
        del raw[key]
    else:
        raw[key] = data.draw(st.sampled_from([{}, 3.5, "other", ["x", 1], [["a"]], True]))
    with contextlib.suppress(RecordError):
        found = plans.from_json(json.dumps(raw))
        assert plans.from_json(plans.to_json(found)) == found


@given(
    text=st.text(max_size=30) | st.sampled_from(["{}", "[]", "null", '"x"', '{"schema": 1}', "[" * 100_000])
)
def test_what_is_no_plan(text: str) -> None:
    with pytest.raises(RecordError):
        plans.from_json(text)


@pytest.mark.parametrize("version", [0, 2, "1", None, True, 1.5])
def test_unknown_version(bench: Any, version: object) -> None:
    raw = json.loads(plans.to_json(bench.plan(target="cpu").plan))
    raw["schema"] = version
    with pytest.raises(RecordError, match=r"version|damaged"):
        plans.from_json(json.dumps(raw), source="old.json")


def test_message_names_the_damaged_key(bench: Any) -> None:
    raw = json.loads(plans.to_json(bench.plan(target="cpu").plan))
    raw["access"]["network"] = "host"
    with pytest.raises(RecordError, match=r"^p\.json is damaged: access\.network: "):
        plans.from_json(json.dumps(raw), source="p.json")


def test_plans_do_not_change(bench: Any) -> None:
    plan = bench.plan(target="cpu").plan
    assert hash(plan)
    with pytest.raises(AttributeError):
        plan.target = "cuda"


# ------------------------------------------------------------------------------------ what a recipe sees
def test_world_size_is_the_devices_of_the_target(bench: Any) -> None:
    assert [bench.plan(target=name).plan.world_size for name in ("cpu", "cuda", "xpu")] == [1, 2, 1]
    assert bench.plan(target="cpu", nproc=4).plan.world_size == 4
    assert bench.plan(target="cuda", nproc=1).plan.nproc == 1
    with pytest.raises(UsageError, match="--nproc 3, but there are 2 devices"):
        bench.plan(target="cuda", nproc=3)


def python_recipe(folder: Path, more: str = "") -> Path:
    text = 'summary = { en = "x", zh = "字" }\ntargets = ["cpu"]\nlaunch = "python"\n'
    text += '[outputs]\nhelp = { en = "x", zh = "字" }\n' + more
    path = folder / "elsewhere" / "own.sh"
    path.parent.mkdir(exist_ok=True)
    path.write_text("# /// recipe\n" + "".join(f"# {line}\n" for line in text.splitlines()) + "# ///\n")
    return path


def test_several_nodes_share_a_training_and_nothing_else(bench: Any) -> None:
    site = Slurm(options=(("partition", "gpu"),))
    asked = {"target": "cuda", "engine": "slurm", "site": site, "nodes": 3, "nproc": 4}
    plan = bench.plan(model=str(bench.model()), **asked).plan
    assert (plan.nodes, plan.nproc, plan.world_size, plan.slurm) == (3, 4, 12, site)
    with pytest.raises(UsageError, match="encode runs on one machine, not on 3"):
        bench.plan(recipe="encode", **asked)


def test_recipe_outside_the_catalogue(bench: Any) -> None:
    path = python_recipe(bench.folder)
    plan = bench.plan(recipe=str(path), target="cpu").plan
    assert (plan.world_size, plan.model, plan.data) == (0, None, ())
    inside = plans.in_container(plan)
    assert (inside.recipe, inside.recipes) == ("/launch/recipe/own.sh", "/launch/recipes")
    found = plans.mounts(plan, runs.folders("ID", plan))
    assert plans.Mount(source=path, target=PurePosixPath("/launch/recipe/own.sh"), read_only=True) in found
    variables = dict(plans.environment(plan, inside))
    assert variables["LAUNCH_RECIPES"] == "/launch/recipes"
    assert not {"LAUNCH_WORLD_SIZE", "DATA", "MODEL"} & set(variables)
    assert plans.command(plan, inside) == ("bash", "/launch/recipe/own.sh")
    for wrong, message in (({"data": (path,)}, "takes no --data"), ({"model": "x"}, "takes no --model")):
        with pytest.raises(UsageError, match=message):
            bench.plan(recipe=str(path), target="cpu", **wrong)


# ----------------------------------------------------------------------------- models that parameters name
def models_recipe(folder: Path, default: str = "") -> Path:
    """A recipe with a model, and two parameters that name more of them."""
    words = 'help = { en = "x", zh = "字" }\n'
    parameters = [
        f'[parameters.{name}]\ntype = "model"\ndefault = "{default}"\n{words}'
        for name in ("baseline", "reranker")
    ]
    return python_recipe(folder, f"[inputs.model]\n{words}" + "".join(parameters))


def folder_of_model(path: Path) -> Path:
    path.mkdir(parents=True)
    (path / "config.json").write_text("{}")
    return path


def seen(plan: RunPlan) -> tuple[dict[str, str], dict[str, Path]]:
    """The three variables of a container, and its mounts of models."""
    variables = dict(plans.environment(plan, plans.in_container(plan)))
    mounts = plans.mounts(plan, runs.folders("ID", plan))
    assert len({mount.target for mount in mounts}) == len(mounts)
    return (
        {name: variables[name] for name in ("MODEL", "BASELINE", "RERANKER")},
        {str(m.target): m.source for m in mounts if m.target.parts[1].startswith("model")},
    )


def test_models_of_one_name_stay_apart(bench: Any) -> None:
    one, two, three = (folder_of_model(bench.folder / name / "baseline") for name in "abc")
    given_ = {"baseline": str(two), "reranker": str(three)}
    plan = bench.plan(
        recipe=str(models_recipe(bench.folder)), target="cpu", model=str(one), parameters=given_
    ).plan
    assert dict(plan.parameters) == given_
    assert plan.models == tuple(
        (name, Model(name=path, path=Path(path), root=Path(path))) for name, path in given_.items()
    )
    assert seen(plan) == (
        {
            "MODEL": "/model/baseline",
            "BASELINE": "/models/baseline/baseline",
            "RERANKER": "/models/reranker/baseline",
        },
        {
            "/model/baseline": one,
            "/models/baseline/baseline": two,
            "/models/reranker/baseline": three,
        },
    )
    on_host = dict(plans.environment(plan, plans.on_host(plan, runs.folders("ID", plan))))
    assert [on_host[name] for name in ("MODEL", "BASELINE", "RERANKER")] == [str(one), str(two), str(three)]
    inside = dict(plans.environment(plan, plans.in_container(plan)))
    assert (inside["LAUNCH_MODEL_NAME"], on_host["LAUNCH_MODEL_NAME"]) == (str(one), str(one))


def test_one_cache_entry_for_several_models(bench: Any) -> None:
    snapshot = bench.snapshot()
    older = folder_of_model(snapshot.parent / ("4" * 40))
    found = {"BAAI/bge-m3": snapshot}
    bench.patch.setattr("huggingface_hub.snapshot_download", lambda name, **_: str(found[name]))
    plan = bench.plan(
        recipe=str(models_recipe(bench.folder, default="BAAI/bge-m3")),
        target="cpu",
        model="BAAI/bge-m3",
        parameters={"reranker": str(older)},
    ).plan
    inside = f"models--BAAI--bge-m3/snapshots/{'5' * 40}"
    variables, mounted = seen(plan)
    assert variables == {
        "MODEL": f"/model/{inside}",
        "BASELINE": f"/models/baseline/{inside}",
        "RERANKER": f"/models/reranker/models--BAAI--bge-m3/snapshots/{'4' * 40}",
    }
    assert set(mounted.values()) == {bench.folder / "hub" / "models--BAAI--bge-m3"}
    assert dict(plan.models)["baseline"].revision == "5" * 40
    assert dict(plans.environment(plan, plans.in_container(plan)))["LAUNCH_MODEL_NAME"] == "BAAI/bge-m3"


def test_no_model_is_an_empty_variable(bench: Any) -> None:
    one = folder_of_model(bench.folder / "one")
    path = str(models_recipe(bench.folder, default="org/other"))
    empty = bench.plan(recipe=path, target="cpu", model=str(one), parameters={"baseline": "", "reranker": ""})
    assert empty.plan.models == ()
    assert seen(empty.plan)[0] == {"MODEL": "/model/one", "BASELINE": "", "RERANKER": ""}
    given_ = bench.plan(recipe=path, target="cpu", model=str(one), parameters={"baseline": ""})
    assert [name for name, _ in given_.plan.models] == ["reranker"]
    assert given_.notes[0].split(":")[0] == "org/other is not in the cache"


def test_a_models_parameter_names_what_is_no_model(bench: Any) -> None:
    path, one = str(models_recipe(bench.folder)), str(folder_of_model(bench.folder / "one"))
    for name in ("/nowhere", "a/b/c"):
        with pytest.raises(ModelNotFoundError, match=f"--baseline: there is no model folder '{name}'"):
            bench.plan(recipe=path, target="cpu", model=one, parameters={"baseline": name})
    with pytest.raises(ModelNotFoundError, match=r"--baseline: .* cannot be downloaded"):
        bench.plan(recipe=path, target="cpu", model=one, parameters={"baseline": "org/x"}, dry_run=False)


def test_a_repeated_plan_needs_the_models_of_its_parameters(bench: Any) -> None:
    path, one, two = (
        str(models_recipe(bench.folder)),
        folder_of_model(bench.folder / "one"),
        folder_of_model(bench.folder / "two"),
    )
    plan = bench.plan(recipe=path, target="cpu", model=str(one), parameters={"baseline": str(two)}).plan
    text = plans.to_json(plan)
    assert planning.read(text, "plan.json", {}, progress=Silent()).plan == plan
    (two / "config.json").unlink()
    two.rmdir()
    with pytest.raises(ChangedError) as caught:
        planning.read(text, "plan.json", {}, progress=Silent())
    assert f"the model {two} is not on this machine" in caught.value.problems[0]


def test_a_plan_from_before_there_were_such_models_and_files(bench: Any) -> None:
    plan = bench.plan(target="cpu").plan
    raw = json.loads(plans.to_json(plan))
    assert raw.pop("models") == raw.pop("files") == []
    assert plans.from_json(json.dumps(raw)) == plan


def test_linked_data_is_mounted_where_it_is_under_the_name_that_was_given(bench: Any) -> None:
    real = bench.data()
    link = bench.folder / "linked.jsonl"
    link.symlink_to(real)
    plan = bench.plan(target="cpu", data=(link,)).plan
    assert plan.inputs == (link,)
    (mount,) = [
        mount for mount in plans.mounts(plan, runs.folders("ID", plan)) if "data" in mount.target.parts
    ]
    assert mount == plans.Mount(source=real, target=PurePosixPath("/data/0/linked.jsonl"), read_only=True)


def test_same_names_stay_apart(bench: Any) -> None:
    first, second = bench.data("a/x.jsonl"), bench.data("b/x.jsonl")
    plan = bench.plan(target="cpu", data=(first, second)).plan
    assert plans.in_container(plan).data == ("/data/0/x.jsonl", "/data/1/x.jsonl")
    assert dict(plans.environment(plan, plans.in_container(plan)))["DATA"] == ":".join(
        plans.in_container(plan).data
    )
    on_host = plans.on_host(plan, runs.folders("ID", plan))
    assert on_host.data == (str(first), str(second))


@pytest.mark.parametrize("kind", ["env", "secrets"])
def test_the_launchers_and_the_recipes_variables_cannot_be_overridden(bench: Any, kind: str) -> None:
    with pytest.raises(UsageError, match="cannot set LAUNCH_RUN_DIR, OUTPUT, SEED, TARGET"):
        bench.plan(target="cpu", **{kind: dict.fromkeys(("TARGET", "OUTPUT", "SEED", "LAUNCH_RUN_DIR"), "x")})
    plan = bench.plan(target="cpu", env={"HF_HOME": "/mine"}).plan
    assert dict(plans.environment(plan, plans.in_container(plan)))["HF_HOME"] == "/mine"


@pytest.mark.parametrize("argument", ["--hub_token", "--hub_token=hf_x", "--api-key", "--wandb_api_key=x"])
def test_credentials_among_the_trainers_arguments_are_refused(bench: Any, argument: str) -> None:
    with pytest.raises(UsageError, match="credential"):
        bench.plan(target="cpu", arguments=(argument, "hf_x"))
    assert bench.plan(target="cpu", arguments=("--max_tokens", "5", "--tokenizer_mode", "x")).plan.arguments


def test_what_is_recorded_carries_no_secret(bench: Any) -> None:
    secrets = {"KEY": "sk-0123456789", "SWITCH": "true"}
    for changes in (
        {"arguments": ("--report_to", "http://me:pass@host/x")},
        {"parameters": {"query_instruction_for_retrieval": "https://me:pass@host"}},
        {"arguments": ("--run_name", "sk-0123456789"), "secrets": secrets},
        {"env": {"ADDRESS": "http://host/?k=sk-0123456789"}, "secrets": secrets},
    ):
        with pytest.raises(UsageError, match="would be recorded") as error:
            bench.plan(target="cpu", **changes)
        assert "0123456789" not in str(error.value)
        assert "me:pass" not in str(error.value)
    assert bench.plan(target="cpu", arguments=("--run_name", "true"), secrets=secrets).plan.secrets


def test_output_elsewhere(bench: Any) -> None:
    plan = bench.plan(target="cpu", output=Path("out")).plan
    assert plan.output == Path.cwd() / "out"
    assert plans.with_output(plan, None).output is None


# ------------------------------------------------------------------------------------------- planning
def test_a_start_needs_what_a_dry_run_only_notes(bench: Any) -> None:
    notes = bench.plan(target="cpu").notes
    assert [note.split(";")[0].split(":")[0] for note in notes] == [
        "no --data given",
        "BAAI/bge-m3 is not in the cache",
        "no container engine answers (fake)",
    ]
    with pytest.raises(UsageError, match="needs --data"):
        bench.plan(target="cpu", dry_run=False)
    with pytest.raises(ModelNotFoundError):
        bench.plan(target="cpu", data=(bench.data(),), dry_run=False)
    with pytest.raises(EngineError):
        bench.plan(target="cpu", data=(bench.data(),), model=str(bench.model()), dry_run=False)


def test_auto_engine_without_an_engine_is_the_environment(bench: Any) -> None:
    bench.patch.setattr(place, "_environment", lambda *_, **__: bench.folder / "env")
    planned = bench.plan(
        target="cpu", engine="auto", data=(bench.data(),), model=str(bench.model()), dry_run=False
    )
    assert isinstance(planned.engine, VenvEngine)
    assert (planned.plan.engine, planned.plan.image) == ("venv", None)
    assert planned.notes[-1] == (
        "no container engine answers (fake): running without a container, from the same lock"
    )


def test_an_engine_without_the_image(bench: Any) -> None:
    bench.patch.setattr(place.DockerEngine, "connect", lambda self: None)
    bench.patch.setattr(place.inspect, "find_for", lambda *_: None)
    ready = {"data": (bench.data(),), "model": str(bench.model()), "dry_run": False}
    with pytest.raises(ImageMissingError, match="the image of cpu is not on this engine") as caught:
        bench.plan(target="cpu", **ready)
    assert caught.value.hint.startswith("launch image build cpu ")


def test_a_partial_image_is_said_and_recorded(bench: Any) -> None:
    partial = ImageInfo(
        reference="finetune:cuda-partial", id="sha256:0", size=1, labels={"launch.without": "flash-attn"}
    )
    bench.patch.setattr(place.DockerEngine, "connect", lambda self: None)
    bench.patch.setattr(place.inspect, "find_for", lambda *_: partial)
    planned = bench.plan(target="cuda")
    assert "the image is partial: built without flash-attn" in planned.notes
    assert (planned.plan.image, planned.plan.without) == ("finetune:cuda-partial", ("flash-attn",))
    assert planned.plan.lock_digest == fake_lock().without(["flash-attn"]).digest
    repeated = plans.from_json(plans.to_json(planned.plan))
    assert place.lock_of(repeated).digest == planned.plan.lock_digest


def test_auto_target(bench: Any) -> None:
    assert bench.plan().plan.target == "cuda"
    machine = replace(bench.plan().host, nvidia=0)
    bench.patch.setattr(planning.host, "facts", lambda: machine)
    assert bench.plan().plan.target == "xpu"
    path = python_recipe(bench.folder)
    planned = bench.plan(recipe=str(path))
    assert planned.plan.target == "cpu"
    assert "own does not run on xpu" in planned.notes[0]
    with pytest.raises(UsageError, match="there is no target 'tpu'"):
        bench.plan(target="tpu")


def test_no_device(bench: Any) -> None:
    machine = replace(bench.plan().host, nvidia=0, intel=0, render_groups=())
    bench.patch.setattr(planning.host, "facts", lambda: machine)
    planned = bench.plan(target="xpu")
    assert planned.plan.nproc == 1
    assert any("no render node" in note for note in planned.notes)
    there = place.Place(engine=DockerEngine(), image="finetune:cuda-0", lock=fake_lock())
    bench.patch.setattr(place, "choose", lambda *_, **__: there)
    with pytest.raises(DeviceError):
        bench.plan(target="cuda", data=(bench.data(),), model=str(bench.model()), dry_run=False)


def test_distillation_needs_scores(bench: Any) -> None:
    path = bench.data()
    bench.plan(target="cpu", data=(path,), parameters={"knowledge_distillation": "true"})
    path.write_text('{"query": "q", "pos": ["p"], "neg": ["n"]}\n')
    with pytest.raises(planning.data.DataError):
        bench.plan(target="cpu", data=(path,), parameters={"knowledge_distillation": "true"})


def written(bench: Any, **asked: Any) -> str:
    return plans.to_json(
        bench.plan(target="cpu", data=(bench.data(),), model=str(bench.model()), **asked).plan
    )


def test_repeat_a_plan(bench: Any) -> None:
    text = written(bench, secrets={"HF_TOKEN": "t"})
    planned = planning.read(text, "plan.json", {"HF_TOKEN": "t"}, progress=Silent())
    assert plans.to_json(planned.plan) == text
    assert isinstance(planned.engine, DockerEngine)
    with pytest.raises(UsageError, match="the plan needs HF_TOKEN"):
        planning.read(text, "plan.json", {}, progress=Silent())


def test_a_plan_takes_its_secrets_and_nothing_else(bench: Any) -> None:
    text = written(bench, secrets={"DB_URL": "x"})
    given = variables.read(("DB_URL=y",), ()).all  # as the command line has it: the name looks like no secret
    assert planning.read(text, "plan.json", given, progress=Silent()).secrets == {"DB_URL": "y"}
    with pytest.raises(UsageError, match="cannot set LR here") as caught:
        planning.read(text, "plan.json", {**given, "LR": "1"}, progress=Silent())
    assert "asks only for: DB_URL" in caught.value.why


def test_the_plan_of_a_dry_run_needs_its_model(bench: Any) -> None:
    text = plans.to_json(bench.plan(target="cpu").plan)
    with pytest.raises(ChangedError, match="cannot be repeated: model") as caught:
        planning.read(text, "plan.json", {}, progress=Silent())
    assert "BAAI/bge-m3 is not on this machine" in caught.value.problems[0]


def test_a_plan_is_not_repeated_with_something_else(bench: Any) -> None:
    text = written(bench)
    bench.data().write_text('{"query": "other", "pos": ["p"], "neg": ["n"]}\n')
    bench.patch.setattr(place.lock, "load", lambda folder, target: fake_lock("other"))
    changed = text.replace(json.loads(text)["recipe_sha256"], "0" * 64)
    with pytest.raises(ChangedError, match="cannot be repeated: lock, recipe, data") as caught:
        planning.read(changed, "plan.json", {}, progress=Silent())
    parts = ("bge-m3-unified.sh has changed", "the lock of cpu has changed", "train.jsonl has changed")
    for part, problem in zip(parts, caught.value.problems, strict=True):
        assert part in problem
    assert "lock: the lock of cpu has changed: was 10cc" in caught.value.problems[1]


def test_a_file_that_python_compiles_meanwhile_is_no_other_runtime(tmp_path: Path) -> None:
    from launcher import recipe

    (tmp_path / "ds_configs").mkdir()
    compiled = tmp_path / "recipes" / "runtime" / "__pycache__"
    compiled.mkdir(parents=True)
    (compiled.parent / "a.py").write_text("A = 1\n")
    before = recipe.runtime_sha256(tmp_path / "recipes")
    (compiled / "a.cpython-311.pyc.139812").touch()  # renamed when it is whole
    assert recipe.runtime_sha256(tmp_path / "recipes") == before
    (compiled.parent / "b.py").touch()
    assert recipe.runtime_sha256(tmp_path / "recipes") != before
