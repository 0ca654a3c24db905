"""What goes wrong with a cluster, and what becomes of a run on it."""

import json
import time
from collections.abc import Callable

import pytest

from tests.kubernetes.conftest import Site, write_token
from tests.kubernetes.kubelet import Pod
from tests.kubernetes.rules import Fault

#: The collection that a Job is made in.
JOBS = r"/jobs(\?|$)"
MADE = r"/jobs$"


def result(site: Site) -> dict[str, object]:
    return dict(json.loads((site.record() / "result.json").read_text()))


def no_record(site: Site) -> bool:
    folder = site.folder / "runs"
    return not folder.exists() or not list(folder.iterdir())


# Before the start


@pytest.mark.parametrize("status", [429, 500, 503])
def test_what_passes_is_asked_again(site: Site, status: int) -> None:
    site.cluster.faults += [
        Fault("POST", JOBS, status, times=2, headers={"Retry-After": "1"} if status == 429 else {}),
        Fault("GET", "/pods", status, times=2),
        Fault("GET", "/version", status, times=2),
    ]
    begun = time.monotonic()
    done = site.run("echo fine")
    assert done.code == 0, done.err
    assert site.log() == "fine\n"
    if status == 429:
        assert time.monotonic() - begun > 2  # as the cluster asked


def test_a_create_whose_answer_is_lost_makes_one_job(site: Site) -> None:
    site.cluster.faults.append(Fault("POST", MADE, 0, done=True))
    done = site.run("echo once")
    assert done.code == 0, done.err
    assert site.log() == "once\n"
    posts = [path for method, path, _ in site.cluster.wire if method == "POST" and path.endswith("/jobs")]
    assert len(posts) == 2


def test_a_job_of_somebody_elses_is_left_alone(site: Site) -> None:
    create = site.cluster.create

    def occupied(plural: str, manifest: dict[str, object], query: dict[str, str]) -> dict[str, object]:
        if plural == "jobs" and not query and not site.cluster.all("jobs"):
            other = json.loads(json.dumps(manifest))
            other["metadata"] |= {"uid": "theirs", "creationTimestamp": "2026-01-01T00:00:00Z"}
            other["metadata"].pop("annotations")
            site.cluster.put("jobs", other)
        return create(plural, manifest, query)

    site.cluster.create = occupied  # type: ignore[method-assign]
    done = site.run("echo never")
    assert done.code == 73, done.err
    assert "already" in done.err
    assert [job["metadata"]["uid"] for job in site.cluster.all("jobs")] == ["theirs"]


def test_a_field_that_is_refused_is_named_before_there_is_a_record(site: Site) -> None:
    causes = [{"field": "spec.template.spec.priorityClassName", "message": "no PriorityClass high"}]
    site.cluster.faults.append(
        Fault("POST", r"/jobs\?", 422, details={"kind": "Job", "name": "x", "causes": causes})
    )
    done = site.run("true", "--k8s-priority", "high")
    assert done.code == 73
    assert "spec.template.spec.priorityClassName: no PriorityClass high" in done.err
    assert no_record(site)


def test_what_is_not_allowed_is_named_at_once(site: Site) -> None:
    site.cluster.denied |= {"create jobs", "get pods"}
    done = site.run("true")
    assert done.code == 73
    assert "create jobs" in done.err
    assert "get pods/log" in done.err
    assert "docs/kubernetes.md" in done.err
    assert no_record(site)


def test_a_quota_is_a_quota(site: Site) -> None:
    text = 'jobs "x" is forbidden: exceeded quota: team, requested: count/jobs.batch=1'
    site.cluster.faults.append(Fault("POST", r"/jobs\?", 403, message=text))
    done = site.run("true")
    assert done.code == 73
    assert "quota" in done.err
    assert no_record(site)


@pytest.mark.parametrize("where", ["/services$", "/secrets$", "PATCH"])
def test_a_start_that_fails_in_the_middle_leaves_nothing(site: Site, where: str) -> None:
    method, path = ("PATCH", "/jobs/") if where == "PATCH" else ("POST", where)
    site.cluster.faults.append(Fault(method, path, 403))
    done = site.run("echo never", "--nodes", "2", "--env", "HF_TOKEN", HF_TOKEN="hf_0123456789")
    assert done.code == 73, done.err
    assert site.nothing_left()
    assert result(site)["stage"] == "start"
    assert not (site.record() / "output").joinpath(".launch-run").exists()


def test_a_trainer_that_is_too_old(site: Site) -> None:
    site.cluster.trainer = True
    text = 'strict decoding error: unknown field "spec.runtimePatches"'
    site.cluster.faults.append(Fault("POST", "/trainjobs", 400, message=text))
    done = site.run("true")
    assert done.code == 73
    assert "--k8s-kind job" in done.err


def test_a_runtime_that_is_not_there(site: Site) -> None:
    site.cluster.trainer = True
    done = site.run("true", "--k8s-runtime", "nobodys")
    assert done.code == 73
    assert "nobodys" in done.err


def test_no_cluster(site: Site) -> None:
    done = site.run("true", KUBECONFIG=str(site.folder / "none"))
    assert done.code == 73
    assert "no Kubernetes cluster is configured" in done.err
    done = site.run("true", "--k8s-context", "other")
    assert done.code == 73
    assert "other" in done.err


def test_without_the_client_it_is_named(site: Site) -> None:
    (site.folder / "kubernetes.py").write_text("raise ImportError")
    path = f"{site.folder}:{site.variables['PYTHONPATH']}"
    done = site.run("true", PYTHONPATH=path)
    assert done.code == 73, done.err
    assert "pip install 'finetune-launch[kubernetes]'" in done.err, done.err


# While it goes on


def said(count: int, pause: float = 0.05) -> Callable[[Pod], None]:
    """A pod that prints numbers."""

    def script(pod: Pod) -> None:
        pod.runs()
        for number in range(count):
            pod.say(f"line {number}")
            pod.pause(pause)
        pod.ends(0)

    return script


def test_watches_and_logs_that_break_lose_and_double_nothing(site: Site) -> None:
    site.kubelet.script = said(100)
    site.cluster.drop_watch, site.cluster.drop_log = 2, 30
    started = site.start("run", site.probe("true"), *site.options)
    for until in (45, 60, 75):
        site.wait_for_log(f"line {until - 1}\n")
        site.cluster.drop_log = until
    _, err = started.communicate(timeout=60)
    assert started.returncode == 0, err
    assert site.log().splitlines() == [f"line {number}" for number in range(100)]


def test_lines_of_one_moment_are_told_apart_by_how_often_they_were(site: Site) -> None:
    def script(pod: Pod) -> None:
        pod.runs()
        for at in ("2026-01-01T00:00:00.5Z", "2026-01-01T00:00:00.500000001Z", "2026-01-01T00:00:00.4Z"):
            for text in (b"same", b"same", b"other"):
                site.cluster.say(pod.name, text, at)
        pod.pause(2)
        pod.ends(0)

    site.kubelet.script = script
    site.cluster.drop_log = 4
    done = site.run("true")
    assert done.code == 0, done.err
    assert site.log().split() == ["same", "same", "other"] * 3


def test_a_cluster_that_is_away_for_a_moment(site: Site) -> None:
    site.kubelet.script = said(40)
    started = site.start("run", site.probe("true"), *site.options)
    site.wait_for_log("line 5\n")
    site.cluster.drop_watch, site.cluster.drop_log = 1, 10
    site.cluster.faults.append(Fault("GET", "/team/", 0, times=15))
    _, err = started.communicate(timeout=90)
    assert started.returncode == 0, err
    assert site.log().splitlines() == [f"line {number}" for number in range(40)]
    assert site.cluster.faults[0].times < 10


def test_a_version_that_is_gone_begins_anew(site: Site) -> None:
    site.kubelet.script = said(60)
    started = site.start("run", site.probe("true"), *site.options)
    site.wait_for_log("line 10\n")
    site.cluster.compact()
    _, err = started.communicate(timeout=60)
    assert started.returncode == 0, err
    assert len(site.log().splitlines()) == 60
    lists = [path for _, path, _ in site.cluster.wire if "watch=true" in path]
    assert len(lists) >= 2


def test_a_token_that_runs_out_is_renewed(site: Site) -> None:
    site.kubelet.script = said(60)
    started = site.start("run", site.probe("true"), *site.options)
    site.wait_for_log("line 10\n")
    write_token(site.token, "token-2")
    site.cluster.token = "token-2"
    _, err = started.communicate(timeout=60)
    assert started.returncode == 0, err
    assert len(site.log().splitlines()) == 60


def test_a_login_that_ran_out_says_that_the_run_goes_on(site: Site) -> None:
    site.kubelet.script = said(80)
    started = site.start("run", site.probe("true"), *site.options)
    site.wait_for_log("line 10\n")
    site.cluster.token = "token-2"
    _, err = started.communicate(timeout=60)
    assert started.returncode == 73, err
    assert "credentials" in err
    assert "it may still run" in err
    assert not (site.record() / "result.json").exists()
    listed = site.launch("runs", "list", "--json").out
    assert "unknown" in listed
    write_token(site.token, "token-2")
    site.wait_for(lambda: site.cluster.all("jobs")[0].get("status"))
    assert site.launch("runs", "show", site.record().name).code == 0
    assert len(site.log().splitlines()) == 80
    assert result(site)["exit_code"] == 0
    assert site.nothing_left()


def test_slow_nodes_are_waited_for_with_the_reason(site: Site) -> None:
    def script(pod: Pod) -> None:
        pod.unscheduled("0/2 nodes are available: 2 Insufficient cpu.")
        pod.pause(1)
        pod.waits("ContainerCreating")
        pod.pause(1)
        said(2)(pod)

    site.kubelet.script, site.kubelet.delay = script, 1
    done = site.run("true", "--show-output")
    assert done.code == 0, done.err
    assert "pending: Unschedulable: 0/2 nodes are available: 2 Insufficient cpu." in done.out + done.err
    assert site.log() == "line 0\nline 1\n"


@pytest.mark.parametrize(
    ("reason", "ago", "code"),
    [("InvalidImageName", 0, 74), ("ImagePullBackOff", 400, 74), ("CreateContainerConfigError", 400, 73)],
)
def test_what_never_starts_ends_with_its_reason(site: Site, reason: str, ago: float, code: int) -> None:
    def script(pod: Pod) -> None:
        pod.waits(reason, "the registry says: not found", ago)
        pod.pause(60)

    site.kubelet.script = script
    done = site.run("true")
    assert done.code == code, done.err
    assert reason in done.err
    assert "the registry says: not found" in done.err
    site.wait_for(site.nothing_left)


def test_an_image_may_come_yet(site: Site) -> None:
    def script(pod: Pod) -> None:
        pod.waits("ErrImagePull", "timeout")
        pod.pause(2)
        said(1)(pod)

    site.kubelet.script = script
    done = site.run("true", "--show-output")
    assert done.code == 0, done.err
    assert "the image cannot be pulled: ErrImagePull: timeout" in done.out + done.err


def test_out_of_memory(site: Site) -> None:
    def script(pod: Pod) -> None:
        pod.runs()
        pod.say("allocating")
        pod.ends(137, "OOMKilled")

    site.kubelet.script = script
    done = site.run("true", "--memory", "1g")
    assert done.code == 79, done.err
    assert "limit 1g" in done.err
    assert result(site)["recipe_exit"] == 137


def test_an_eviction_is_named(site: Site) -> None:
    def script(pod: Pod) -> None:
        pod.runs()
        pod.say("working")
        pod.taken("Evicted", "The node was low on resource: ephemeral-storage.")

    site.kubelet.script = script
    done = site.run("true")
    assert done.code == 73, done.err
    assert "Evicted" in done.err
    assert "ephemeral-storage" in done.err
    assert site.nothing_left()


def test_what_was_taken_away_is_started_again(site: Site) -> None:
    def script(pod: Pod) -> None:
        pod.runs()
        events = site.record() / "metrics.jsonl"
        attempt = len(site.cluster.wire and list(site.record().glob("attempts/*.json")))
        begin = {"event": "begin", "attempt": attempt, "world_size": 1, "device": "cpu", "rank": 0, "time": 1}
        with events.open("a") as stream:
            stream.write(json.dumps(begin) + "\n")
        pod.say(f"attempt {attempt}")
        if attempt == 1:
            pod.taken("NodeShutdown", "Pod was terminated in response to imminent node shutdown.")
        else:
            pod.ends(0)

    site.kubelet.script = script
    done = site.run("true", "--max-restarts", "1")
    assert done.code == 0, done.err
    assert "NodeShutdown" in done.err
    assert site.log().split("\n") == ["attempt 1", "attempt 2", ""]
    names = [
        json.loads(body)["metadata"]["name"] for _, path, body in site.cluster.wire if path.endswith("/jobs")
    ]
    assert len(set(names)) == 2
    assert site.nothing_left()


def test_a_job_that_somebody_removes_is_lost(site: Site) -> None:
    def script(pod: Pod) -> None:
        pod.runs()
        pod.say("working")
        pod.pause(60)

    site.kubelet.script = script
    started = site.start("run", site.probe("true"), *site.options)
    site.wait_for_log("working")
    site.cluster.delete("jobs", site.cluster.all("jobs")[0]["metadata"]["name"], {})
    _, err = started.communicate(timeout=60)
    assert started.returncode == 143, err
    assert site.nothing_left()
