"""launcher.engines.kubernetes: what a plan becomes on a cluster, checked against the official schemas."""

import base64
import os
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import kubernetes_validate
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from kubeflow_trainer_api import models

from launcher import plan as plans
from launcher import runs, yamltext
from launcher.app.plan import Planned
from launcher.engines.kubernetes import KubernetesEngine, KubernetesRequest, names, settled, volumes
from launcher.engines.kubernetes.manifests import completed, marked, owned
from launcher.errors import UncoveredError, UsageError
from launcher.plan import Kubernetes, Mount, Start

Golden = Callable[[str, str], None]

IMAGE = "registry.example/team/finetune@sha256:" + "a1" * 32

#: Oldest and newest version whose schemas are looked at.
VERSIONS = ("1.27", "1.37")

ALL: dict[str, Any] = {
    "context": "site",
    "cpu": "8",
    "selectors": (("gpu", "h100"),),
    "tolerations": ("gpu=yes:NoSchedule", "spot"),
    "queue": "team-queue",
    "pull_secrets": ("registry-login",),
    "service_account": "trainer",
    "secret": "site-keys",
    "groups": (992,),
}

#: Four rows are not enough for eight processes.
FEW = {"preflight": False}

#: Options of the run, and of the cluster.
CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "job-cpu": ({"target": "cpu"}, {"kind": "job"}),
    "job-cuda-2": (
        {
            "target": "cuda",
            "nodes": 2,
            "nproc": 4,
            "secrets": {"HF_TOKEN": "hf_secret"},
            "memory": "64g",
            **FEW,
        },
        {"kind": "job"},
    ),
    "job-xpu-all": ({"target": "xpu", "nodes": 2}, {"kind": "job", "priority": "high", **ALL}),
    "trainjob-cpu": ({"target": "cpu"}, {"kind": "trainjob"}),
    "trainjob-cuda-2": (
        {
            "target": "cuda",
            "nodes": 2,
            "nproc": 4,
            "secrets": {"HF_TOKEN": "hf_secret"},
            "memory": "64g",
            **FEW,
        },
        {"kind": "trainjob", **ALL},
    ),
}


def planned(bench: Any, case: str, **more: Any) -> Planned:
    run, site = CASES[case]
    model = bench.folder / "models" / "tiny"
    shared = ((str(bench.folder), "pvc:shared/team"), (str(Path(__file__).parents[2]), "host:/srv/launch"))
    wanted = Kubernetes(**{"image": IMAGE, "namespace": "team", "volumes": shared, **site, **more})
    return bench.plan(
        **{
            "data": (bench.data(),),
            "model": str(model if model.is_dir() else bench.model()),
            "engine": "kubernetes",
            "site": wanted,
            **run,
        }
    )


def rendered(made: Planned) -> KubernetesRequest:
    engine = made.engine
    assert isinstance(engine, KubernetesEngine)
    return engine.render(made.plan, runs.folders("RUN_ID", made.plan), Start(run="RUN_ID"))


def validate(manifest: dict[str, Any]) -> None:
    """By the official schemas, every unknown field an error."""
    if manifest["kind"] == "TrainJob":
        read = models.TrainerV1alpha1TrainJob.from_dict(manifest)
        # The models drop what they do not know: what comes back must be everything.
        assert read is not None
        assert read.to_dict() == manifest
    else:
        for version in VERSIONS:
            kubernetes_validate.validate(manifest, version, strict=True)


@pytest.mark.parametrize("case", CASES)
def test_golden_manifests(bench: Any, golden: Golden, case: str) -> None:
    made = planned(bench, case)
    request = rendered(made)
    golden(f"kubernetes/{case}.txt", bench.text(request.printed(), made) + "\n")
    assert plans.from_json(plans.to_json(made.plan)) == made.plan


@pytest.mark.parametrize("case", CASES)
def test_manifests_are_what_the_official_schemas_say(bench: Any, case: str) -> None:
    request = rendered(planned(bench, case))
    owner = {**request.job, "metadata": {**request.job["metadata"], "uid": "0c" * 16}}
    for manifest in (
        *request.manifests(),
        marked(request.job, token="t", complete=False),
        owned(request.secret(dict.fromkeys(request.secrets, "v")), owner, "t"),
        *([] if request.service is None else [owned(request.service, owner, "t")]),
    ):
        validate(manifest)


def test_schemas_do_refuse(bench: Any) -> None:
    for case in ("job-cpu", "trainjob-cpu"):
        manifest = rendered(planned(bench, case)).job
        manifest["spec"]["surprise"] = 1
        with pytest.raises((kubernetes_validate.ValidationError, AssertionError)):
            validate(manifest)


@pytest.mark.parametrize("case", CASES)
def test_printed_yaml_is_the_manifests(bench: Any, case: str) -> None:
    request = rendered(planned(bench, case))
    _, _, rest = request.printed().partition("<<'YAML'\n")
    assert list(yaml.safe_load_all(rest.removesuffix("YAML"))) == list(request.manifests())
    files = request.files()
    assert [yaml.safe_load(files[name])["kind"].lower() + ".yaml" for name in files] == list(files)


scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=12)
words = st.sampled_from(
    ["y", "No", "null", "~", "0x1", "1e3", "a: b", "- x", "#", "a:b:", "/dev/shm", "'", ""]
)
values = st.recursive(
    scalars | words,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6) | words, inner, max_size=3)
    ),
    max_leaves=12,
)


@given(document=st.dictionaries(st.text(max_size=6) | words, values, min_size=1, max_size=4))
def test_yaml_is_read_back_by_another_parser(document: dict[str, Any]) -> None:
    def plain(value: Any) -> Any:  # PyYAML reads 1e+16 as a text: YAML 1.1 wants a point
        if isinstance(value, float):
            return str(value)
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        return [plain(item) for item in value] if isinstance(value, list) else value

    assert yaml.safe_load(yamltext.dumped([plain(document)])) == plain(document)


def test_secrets_are_nowhere_but_in_the_secret(bench: Any) -> None:
    made = planned(bench, "job-cuda-2")
    request = rendered(made)
    value = made.secrets["HF_TOKEN"]
    encoded = base64.b64encode(value.encode()).decode()
    for text in (request.printed(), *request.files().values(), plans.to_json(made.plan), repr(request)):
        assert value not in text
        assert encoded not in text
    assert request.secret(made.secrets)["data"] == {"HF_TOKEN": encoded}
    command = request.job["spec"]["template"]["spec"]["containers"][0]["command"]
    assert command[:2] == ["bash", "-c"]
    assert command[4:11] == [
        *("/opt/venv/bin/python", "-I", "-S", "/launch/entry.py", "mask", "/launch/secrets", "bash"),
    ]


def test_a_variable_is_not_taken_for_a_reference(bench: Any) -> None:
    made = planned(bench, "job-cpu")
    made = bench.plan(
        data=(bench.data(),),
        target="cpu",
        engine="kubernetes",
        site=made.plan.kubernetes,
        env={"NOTE": "$(HOME) costs $5, $$x^2$$"},
        arguments=("--note", "a$$b $(HOME)"),
    )
    container = rendered(made).job["spec"]["template"]["spec"]["containers"][0]
    assert {"name": "NOTE", "value": "$$(HOME) costs $5, $$$x^2$$$"} in container["env"]
    assert container["command"][-1] == "a$$$b $$(HOME)"


def test_all_folders_that_the_nodes_lack_are_named_at_once(bench: Any) -> None:
    made = planned(bench, "job-cpu", volumes=((str(bench.folder / "data"), "pvc:rows"),))
    with pytest.raises(UncoveredError) as caught:
        rendered(made)
    missing = " ".join(caught.value.problems)
    assert all(folder in missing for folder in ("/output", "/launch/run", "/launch/home", "/launch/recipes"))
    assert "/data/0" not in missing


def test_the_longest_folder_wins_and_links_are_followed(tmp_path: Path) -> None:
    real = tmp_path / "real" / "inner"
    real.mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    pairs = ((str(tmp_path), "host:/all"), (str(tmp_path / "real"), "pvc:one/below"))
    mounts = [
        Mount(source=real, target=PurePosixPath("/a"), read_only=True),
        Mount(source=tmp_path / "other", target=PurePosixPath("/b"), read_only=False),
        Mount(source=tmp_path, target=PurePosixPath("/c"), read_only=False),
    ]
    made, inside = volumes.mounted(mounts, volumes.read(pairs))
    assert inside == [
        {"name": "shared-0", "mountPath": "/a", "subPath": "below/inner", "readOnly": True},
        {"name": "shared-1", "mountPath": "/b", "subPath": "other"},
        {"name": "shared-1", "mountPath": "/c"},
    ]
    assert made[0]["persistentVolumeClaim"] == {"claimName": "one"}
    assert made[1]["hostPath"] == {"path": "/all", "type": "Directory"}
    through = [Mount(source=tmp_path / "link" / "inner", target=PurePosixPath("/a"), read_only=True)]
    _, (found,) = volumes.mounted(through, volumes.read([(str(tmp_path / "real"), "pvc:one")]))
    assert found["subPath"] == "inner"


@pytest.mark.parametrize(
    "text", ["", "/a", "/a=", "=pvc:x", "/a=x", "/a=pvc:", "/a=pvc:UPPER", "/a=host:rel", "/a=pvc:x/../y"]
)
def test_malformed_volumes(text: str) -> None:
    with pytest.raises(UsageError):
        volumes.parsed(text)


@given(run=st.text(min_size=1, max_size=90), attempt=st.integers(1, 200))
def test_names_are_ones_and_each_its_own(run: str, attempt: int) -> None:
    name = names.of(Start(run=run, attempt=attempt))
    assert len(f"{name}-node-0-511") <= 63
    assert name[0].isalpha()
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
    assert name != names.of(Start(run=run, attempt=attempt + 1))
    value = names.label(run)
    assert len(value) <= 63
    assert not value or (value[0].isalnum() and value[-1].isalnum() and value.isascii())


@pytest.mark.parametrize(
    "image", ["", "name", "name:tag", "name@sha256:12", f"{IMAGE} x", "@sha256:" + "a" * 64]
)
def test_a_tag_is_refused(image: str) -> None:
    with pytest.raises(UsageError, match="digest") as caught:
        names.by_digest(image)
    assert "launch image push" in caught.value.hint


@pytest.mark.parametrize(
    ("size", "said"), [("16g", "16Gi"), ("512M", "512Mi"), ("4096", "4096"), ("1k", "1Ki")]
)
def test_sizes(size: str, said: str) -> None:
    assert names.quantity(size) == said


def test_tolerations() -> None:
    assert names.toleration("gpu") == {"key": "gpu", "operator": "Exists"}
    assert names.toleration("a.b/gpu=x:NoExecute") == {
        "key": "a.b/gpu",
        "operator": "Equal",
        "value": "x",
        "effect": "NoExecute",
    }
    with pytest.raises(UsageError, match="toleration"):
        names.toleration("gpu:Sometimes")


def test_a_trainjob_has_no_priority(bench: Any) -> None:
    with pytest.raises(UsageError, match="priority"):
        rendered(planned(bench, "trainjob-cpu", priority="high"))


def test_what_a_queue_holds_back_stays_so(bench: Any) -> None:
    # Nothing of the queue's own: it may have let the job go meanwhile, and would have to do so again.
    assert "spec" not in completed(rendered(planned(bench, "job-xpu-all")).job)
    assert completed(rendered(planned(bench, "job-cpu")).job)["spec"] == {"suspend": False}


def test_root_and_others(bench: Any) -> None:
    pod = rendered(planned(bench, "job-cpu")).job["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    bench.patch.setattr(os, "getuid", lambda: 0)
    pod = rendered(planned(bench, "job-cpu")).job["spec"]["template"]["spec"]
    assert "runAsNonRoot" not in pod["securityContext"]


def test_without_a_cluster_a_dry_run_says_job(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "none"))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    notes: list[str] = []
    found = settled(Kubernetes(image=IMAGE), dry_run=True, grace=7.6, notes=notes)
    assert (found.kind, found.namespace, found.grace) == ("job", "default", 8)
    assert "no Kubernetes cluster" in notes[0]
