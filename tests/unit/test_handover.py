"""launcher.handover and launcher.app.handover: a request as files that start without the launcher."""

import json
import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from launcher import cli
from launcher import plan as plans
from launcher.app import handover as use_case
from launcher.app.plan import Planned
from launcher.engines.venv import _INHERITED, VenvEngine
from launcher.errors import ModelNotFoundError, OutputError, UsageError
from launcher.handover import guide, marks, script
from launcher.plan import Kubernetes, Slurm

Golden = Callable[[str, str], None]


@pytest.fixture(autouse=True)
def callers_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in _INHERITED:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", "/usr/bin:/bin")


def given_files(bench: Any, kind: str, **asked: Any) -> tuple[Mapping[str, str], Planned]:
    planned = bench.plan(**{"target": "cpu", "data": (bench.data(),), "model": str(bench.model()), **asked})
    return use_case.files(planned, kind), planned


def service(found: Mapping[str, str]) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(found["compose.yaml"])
    return dict(document["services"]["run"])


@pytest.mark.parametrize(
    ("kind", "name", "asked"),
    [
        ("script", "script-cpu", {"arguments": ("--note", "it's $5")}),
        ("script", "script-venv", {"engine": "venv", "secrets": {"HF_TOKEN": "hf_s3cr3t"}}),
        ("script", "script-nodes", {"nodes": 2, "nproc": 1}),
        ("script", "script-podman", {"engine": "podman", "target": "cuda"}),
        ("compose", "compose-cpu", {"secrets": {"HF_TOKEN": "hf_s3cr3t"}, "memory": "16g"}),
        ("compose", "compose-cuda", {"target": "cuda", "gpus": "0,1"}),
        ("compose", "compose-xpu", {"target": "xpu"}),
    ],
)
def test_golden_files(bench: Any, golden: Golden, kind: str, name: str, asked: dict[str, Any]) -> None:
    found, planned = given_files(bench, kind, **asked)
    assert json.loads(found["plan.json"])["recipe"] == "bge-m3-unified"
    for file, text in found.items():
        assert "s3cr3t" not in text
        if file != "plan.json":
            golden(f"handover/{name}/{file.removeprefix('.')}", bench.text(text, planned))


def test_a_container_is_the_one_of_a_dry_run(bench: Any) -> None:
    found, planned = given_files(bench, "compose", secrets={"HF_TOKEN": "x"})
    start = replace(marks.START, run="bge-m3-unified")
    place = use_case.runs.folders(start.run, planned.plan)
    sdk = planned.engine.render(planned.plan, place, start).sdk()
    made = service(found)
    assert made["command"] == sdk["command"]
    assert (made["read_only"], made["init"], made["cap_drop"]) == (True, True, ["ALL"])
    assert made["environment"] | {"LAUNCH_RUN_ID": "bge-m3-unified"} == {
        **sdk["environment"],
        "LAUNCH_RESTARTS": "${RESTARTS:-0}",
    }
    assert {each["target"] for each in made["volumes"]} | {"/launch/secrets"} == {
        mount["Target"] for mount in sdk["mounts"]
    }


def test_dollars_and_braces_reach_the_recipe_as_they_are(bench: Any) -> None:
    found, _ = given_files(
        bench, "compose", parameters={"query_instruction_for_retrieval": "${HOME} costs $5"}
    )
    assert service(found)["environment"]["QUERY_INSTRUCTION_FOR_RETRIEVAL"] == "$${HOME} costs $$5"


def test_the_launcher_does_not_look_after_what_it_has_handed_over(bench: Any) -> None:
    assert set(service(given_files(bench, "compose")[0])["labels"]) == {"launch.recipe", "launch.target"}


@pytest.mark.parametrize(
    ("kind", "wanted", "engine"),
    [
        ("slurm", None, "slurm"),
        ("compose", "auto", "docker"),
        ("script", "venv", "venv"),
        ("script", None, None),
    ],
)
def test_a_kind_is_for_its_engine(kind: str, wanted: str | None, engine: str | None) -> None:
    assert use_case.engine_for(kind, wanted) == engine


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [("slurm", "docker"), ("compose", "venv"), ("script", "slurm"), ("kubernetes", "slurm")],
)
def test_a_kind_is_for_no_other_engine(kind: str, wanted: str) -> None:
    with pytest.raises(UsageError, match=f"--to {kind} does not go with --engine {wanted}"):
        use_case.engine_for(kind, wanted)


def test_compose_is_not_for_podman_behind_dockers_address(bench: Any) -> None:
    planned = bench.plan(target="cpu", engine="podman", data=(bench.data(),), model=str(bench.model()))
    with pytest.raises(UsageError, match="podman answers at its address"):
        use_case.files(planned, "compose")


@dataclass(frozen=True)
class Site:
    """An engine of a site, and its submission."""

    asked: list[Any]

    def render(self, plan: Any, folders: Any, start: Any) -> "Site":
        self.asked.append((plan, folders, start))
        return self

    def files(self) -> Mapping[str, str]:
        return {"run.sbatch": "#!/bin/bash\n", "extra.conf": "x\n"}


@pytest.mark.parametrize(
    ("kind", "site", "says"),
    [
        ("slurm", Slurm(), "sbatch run.sbatch"),
        ("kubernetes", Kubernetes(image="site/image@sha256:00", namespace="ml"), "kubectl --namespace ml"),
    ],
)
def test_a_sites_engine_writes_its_own_files(
    bench: Any, kind: str, site: Slurm | Kubernetes, says: str
) -> None:
    planned = bench.plan(target="cpu", data=(bench.data(),), model=str(bench.model()))
    plan = replace(planned.plan, engine=kind, nodes=2, world_size=2, **{kind: site})
    engine = Site([])
    found = use_case.files(replace(planned, plan=plan, engine=engine), kind)
    assert list(found) == ["README.md", "plan.json", "run.sbatch", "extra.conf"]
    assert says in found["README.md"]
    assert "2 machines with 1 process each" in found["README.md"]
    ((_, folders, start),) = engine.asked
    assert folders.run.name == start.run


def test_the_folder_is_made_at_once_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    for place in (tmp_path / "a" / "b", empty):
        use_case.write(place, {"run.sh": "#!/bin/sh\n", "README.md": "text\n"})
        assert {each.name: each.stat().st_mode & 0o777 for each in place.iterdir()} == {
            "run.sh": 0o755,
            "README.md": 0o644,
        }
    monkeypatch.setattr(
        use_case.paths, "write_atomic", lambda *_, **__: (_ for _ in ()).throw(OSError("full"))
    )
    with pytest.raises(OutputError, match="cannot be written"):
        use_case.write(tmp_path / "new", {"run.sh": ""})
    assert sorted(each.name for each in tmp_path.iterdir() if "home" not in each.name) == ["a", "empty"]


@pytest.mark.parametrize("what", ["file", "folder"])
def test_nothing_is_overwritten(tmp_path: Path, what: str) -> None:
    place = tmp_path / "out"
    (place if what == "file" else place / "mine").parent.mkdir(exist_ok=True)
    kept = place if what == "file" else place / "mine"
    kept.write_text("kept")
    with pytest.raises(OutputError, match="holds something already"):
        use_case.write(place, {"run.sh": ""})
    assert kept.read_text() == "kept"
    assert [each.name for each in tmp_path.iterdir()] == ["out"]


@given(st.text(alphabet=st.characters(exclude_characters="\0", exclude_categories=["Cs"])))
def test_a_word_of_the_shell_is_the_word(text: str) -> None:
    assert shlex.split(script.quoted(text)) == [text]
    # Between double quotes a shell takes four characters otherwise; each has a backslash before it.
    inside = script.quoted(f"{text}{marks.mark('RUN')}")
    assert inside.startswith('"')
    assert inside.endswith('${RUN}"')
    assert re.sub(r'\\([\\"$`])', r"\1", inside[1 : -len('${RUN}"')]) == text


def test_paths_become_variables_where_they_begin() -> None:
    paths = {"/a": "A", "/a/b": "B"}
    assert marks._marked("/a/b/c:/a/c:/ab:x/a", paths) == "B/c:A/c:/ab:x/a"


def test_the_environments_programs_come_first_on_the_path(bench: Any) -> None:
    found, planned = given_files(bench, "script", engine="venv")
    assert isinstance(planned.engine, VenvEngine)
    assert '"PATH=${ENVIRONMENT}/bin:${PATH}"' in found["run.sh"]
    assert "/usr/bin:/bin" not in found["run.sh"]


def test_a_model_that_is_not_here_has_no_revision_to_name(bench: Any) -> None:
    planned = bench.plan(target="cpu", data=(bench.data(),), model="BAAI/bge-m3")
    with pytest.raises(ModelNotFoundError, match="BAAI/bge-m3 is not in the cache") as refused:
        use_case.files(planned, "script")
    assert "hf download BAAI/bge-m3" in refused.value.hint


def test_every_kind_has_a_guide() -> None:
    assert set(guide.GUIDES) == set(use_case.KINDS)


def test_a_plan_is_kept_that_can_be_run(bench: Any) -> None:
    found, planned = given_files(bench, "script")
    assert plans.from_json(found["plan.json"]) == planned.plan


def exported(*arguments: object) -> tuple[dict[str, Any], str]:
    """What the command says as JSON, and its notes."""
    given = ["export", "bge-m3-unified", "--target", "cpu", "--json", *map(str, arguments)]
    result = CliRunner().invoke(cli.root, given, prog_name="launch")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return dict(json.loads(result.stdout)), result.stderr


def test_the_command_writes_and_says_what(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_s3cr3t")
    folder = bench.folder / "job"
    given = ("--data", bench.data(), "--model", bench.model(), "--nodes", "2", "--env", "HF_TOKEN")
    said, notes = exported("--to", "script", folder, *given, "--", "--x", "1")
    assert said == {
        "schema": 1,
        "to": "script",
        "folder": str(folder),
        "files": ["README.md", "plan.json", "run.sh"],
    }
    assert "HF_TOKEN: from this shell" in notes
    assert "s3cr3t" not in "".join(file.read_text() for file in folder.iterdir())
    plan = plans.from_json((folder / "plan.json").read_text())
    assert (plan.nodes, plan.world_size, plan.arguments) == (2, 2, ("--x", "1"))
    assert not (bench.folder / "runs").exists(), "nothing was started"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--to", "script"), "needs --data"),
        (("--to", "compose", "--nodes", "2"), "--nodes 2 needs an engine that has several machines"),
        (("--to", "compose", "--engine", "venv"), "--to compose does not go with --engine venv"),
    ],
)
def test_what_cannot_run_is_not_written(bench: Any, arguments: tuple[str, ...], says: str) -> None:
    kind, *more = arguments[1:]
    data = () if "needs --data" in says else ("--data", bench.data())
    with pytest.raises(UsageError, match=re.escape(says)):
        exported("--to", kind, bench.folder / "job", *more, *data)
    assert not (bench.folder / "job").exists()


def test_a_sites_page_says_the_folders_and_how_secrets_come_there(bench: Any) -> None:
    planned = bench.plan(
        target="cpu", data=(bench.data(),), model=str(bench.model()), secrets={"HF_TOKEN": "hf_s3cr3t"}
    )
    for kind, site, says in (
        ("slurm", Slurm(), "printf '%s\\0' \"HF_TOKEN=${HF_TOKEN?}\" >FILE"),
        ("kubernetes", Kubernetes(image="i@sha256:0"), '"HF_TOKEN=${HF_TOKEN?}" | kubectl'),
    ):
        plan = replace(planned.plan, engine=kind, **{kind: site})
        engine = Site([])
        page = use_case.files(replace(planned, plan=plan, engine=engine), kind)["README.md"]
        ((_, folders, _),) = engine.asked
        assert f"mkdir -p {folders.run}/scratch {folders.run}/attempts {folders.output}" in page
        assert says in page
        assert "s3cr3t" not in page
