"""launcher.app.adapters: where the base of adapters is looked for, and what is said when it is lost."""

import json
from pathlib import Path
from typing import Any

import pytest

from launcher import model, runs
from launcher import plan as plans
from launcher.errors import BaseNotFoundError, ModelNotFoundError, UsageError
from launcher.plan import Model

HUB = "org/base"


def adapters(folder: Path, base: str, **more: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    config = {"peft_type": "LORA", "base_model_name_or_path": base, **more}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


def merged(bench: Any, folder: Path, **asked: Any) -> Any:
    return bench.plan(recipe="llm-merge", target="cpu", model=str(folder), **asked)


def recorded(bench: Any, start: Model, output: Path | None = None) -> Path:
    """A run that started from a model: its output."""
    plan = bench.plan(target="cpu", data=(bench.data(),), model=str(start.path)).plan
    plan = plans.with_output(plan, output)
    plan = plans.from_json(plans.to_json(plan).replace('"revision": ""', f'"revision": "{start.revision}"'))
    place = runs.folders("20260101-000000-llm-sft-abcd", plan)
    runs.prepare(plan, place.run.name, "command", place).release()
    return place.output


def test_a_folder_that_is_still_there_is_mounted_and_recorded(bench: Any) -> None:
    base = bench.model()
    made = merged(bench, adapters(bench.folder / "lora", str(base)))
    assert made.plan.models == (("base", Model(name=str(base), path=base, root=base)),)
    assert plans.from_json(plans.to_json(made.plan)) == made.plan
    inside = dict(plans.environment(made.plan, plans.in_container(made.plan)))
    assert (inside["MODEL"], inside["BASE"]) == ("/model/lora", "/models/base/tiny")
    mounts = plans.mounts(made.plan, runs.folders("ID", made.plan))
    assert {str(each.target): each.source for each in mounts if "/model" in str(each.target)} == {
        "/model/lora": bench.folder / "lora",
        "/models/base/tiny": base,
    }
    assert f"the base of the adapters: {base} (as they say)" in made.notes


def test_the_record_of_the_run_knows_where_a_containers_path_was(bench: Any) -> None:
    base = bench.model()
    output = recorded(bench, Model(name="x", path=base, root=base))
    made = merged(bench, adapters(output / "checkpoint-3", "/model/tiny"))
    assert dict(made.plan.models)["base"].path == base
    assert any("by the record of their run" in note for note in made.notes)


def test_an_output_elsewhere_names_its_run(bench: Any) -> None:
    base = bench.model()
    output = recorded(bench, Model(name="x", path=base, root=base), bench.folder / "out")
    assert dict(merged(bench, adapters(output, "/model/tiny")).plan.models)["base"].path == base


def test_an_id_on_the_hub_is_taken_at_the_revision_that_the_adapters_name(bench: Any) -> None:
    asked = []

    def snapshot(name: str, **more: Any) -> str:
        asked.append((name, more.get("revision")))
        return str(bench.snapshot())

    bench.patch.setattr("huggingface_hub.snapshot_download", snapshot)
    found = model.Model(
        name="lora", path=adapters(bench.folder / "lora", HUB, revision="5" * 40), root=bench.folder
    )
    from launcher import paths, recipe
    from launcher.app.adapters import with_base

    shipped = recipe.load(recipe.find("llm-merge", paths.recipes()))
    ((name, base),) = with_base(shipped, found, (), dry_run=False, notes=[])
    assert (name, base.name, base.revision) == ("base", HUB, "5" * 40)
    assert asked == [(HUB, "5" * 40)]


@pytest.mark.parametrize("written", ["/nowhere/base", "", "relative/and/deep"])
def test_a_lost_base_is_an_error_before_the_start(bench: Any, written: str) -> None:
    folder = adapters(bench.folder / "lora", written)
    with pytest.raises(BaseNotFoundError) as caught:
        merged(bench, folder)
    assert str(folder) in caught.value.message
    assert (written or "is not named") in caught.value.message
    assert "--base" in caught.value.hint
    assert caught.value.exit_code == 78


def test_an_unreachable_hub_is_a_lost_base(bench: Any) -> None:
    with pytest.raises(BaseNotFoundError, match="org/base"):
        merged(bench, adapters(bench.folder / "lora", HUB), dry_run=False)


def test_a_given_base_repairs_it(bench: Any) -> None:
    base = bench.model()
    made = merged(bench, adapters(bench.folder / "lora", "/old/base"), parameters={"base": str(base)})
    assert dict(made.plan.models)["base"].path == base
    assert dict(made.plan.parameters)["base"] == str(base)


def test_a_base_for_a_whole_model_is_refused(bench: Any) -> None:
    base = bench.model()
    with pytest.raises(UsageError, match="whole model"):
        merged(bench, base, parameters={"base": str(base)})


def test_a_whole_model_needs_no_base(bench: Any) -> None:
    made = bench.plan(recipe="llm-ask", target="cpu", model=str(bench.model()))
    assert made.plan.models == ()
    assert dict(plans.environment(made.plan, plans.in_container(made.plan)))["BASE"] == ""


def test_other_recipes_take_no_adapters(bench: Any) -> None:
    folder = adapters(bench.folder / "lora", str(bench.model()))
    with pytest.raises(ModelNotFoundError, match="holds adapters") as caught:
        bench.plan(target="cpu", data=(bench.data(),), model=str(folder))
    assert "llm-merge" in caught.value.hint


@pytest.mark.parametrize("content", ["", "[]", "{", '{"base_model_name_or_path": null}'])
def test_a_damaged_description_is_named(bench: Any, content: str) -> None:
    folder = adapters(bench.folder / "lora", "x")
    (folder / "adapter_config.json").write_text(content)
    with pytest.raises(ModelNotFoundError, match="adapter"):
        merged(bench, folder)
