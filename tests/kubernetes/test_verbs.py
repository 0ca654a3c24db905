"""launch run, runs list/show/attach/stop/resume/rm on a cluster: every verb, followed and not."""

import base64
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from launcher.engines.kubernetes import names
from tests.kubernetes.conftest import Site
from tests.kubernetes.kubelet import Pod

#: A recipe that says when it is told to end, and ends with a code of its own.
STOPPABLE = """
trap 'echo told; sleep 0.5; echo last words; exit 9' TERM
echo going
for i in $(seq 600); do sleep 0.1; done
"""


def result(site: Site) -> dict[str, object]:
    return dict(json.loads((site.record() / "result.json").read_text()))


def test_a_run_to_its_end(site: Site) -> None:
    done = site.run("echo one; echo two >&2; touch $OUTPUT/made")
    assert done.code == 0, done.err
    assert sorted(site.log().splitlines()) == ["one", "two"]
    assert (site.record() / "output" / "made").exists()
    found = result(site)
    assert found["engine"] == "kubernetes"
    assert found["image_digest"] == "sha256:" + "a1" * 32
    assert site.nothing_left()
    assert "kubectl --namespace team create -f -" in (site.record() / "command").read_text()
    listed = site.launch("runs", "list")
    assert "done" in listed.out, listed
    assert site.launch("runs", "rm", "--yes", site.record().name).code == 0


@pytest.mark.parametrize("code", [1, 7, 143])
def test_the_recipes_own_exit_code(site: Site, code: int) -> None:
    done = site.run(f"echo before; exit {code}")
    assert done.code == code, done.err
    assert result(site)["recipe_exit"] == code
    assert site.log() == "before\n"
    assert site.nothing_left()


def test_several_nodes_find_each_other(site: Site) -> None:
    done = site.run('echo "$LAUNCH_NODE_RANK of $LAUNCH_NODES at $LAUNCH_RENDEZVOUS"', "--nodes", "2")
    assert done.code == 0, done.err
    assert sorted(site.log().splitlines()) == [
        f"[node0] 0 of 2 at 127.0.0.1:{site.cluster.port}",
        f"[node1] 1 of 2 at 127.0.0.1:{site.cluster.port}",
    ]
    kinds = [json.loads(body)["kind"] for method, path, body in site.cluster.wire if _makes(method, path)]
    assert kinds == ["Job", "Service"]
    assert site.nothing_left()


def test_the_first_nodes_failure_is_the_runs(site: Site) -> None:
    done = site.run("[[ $LAUNCH_NODE_RANK == 1 ]] && exit 5; echo waits; sleep 60", "--nodes", "2")
    assert done.code == 5, done.err
    assert "[node0] waits" in site.log()
    assert site.nothing_left()


def test_a_trainjob_where_the_cluster_has_it(site: Site) -> None:
    site.cluster.trainer = True
    body = 'echo "$LAUNCH_NODE_RANK at $LAUNCH_RENDEZVOUS, ${!PET_@} in $PWD"; exit $((LAUNCH_NODE_RANK * 3))'
    done = site.run(body, "--nodes", "2")
    assert done.code == 3, done.err
    output = site.record() / "output"
    assert sorted(site.log().splitlines()) == [
        f"[node{node}] {node} at 127.0.0.1:{site.cluster.port},  in {output}" for node in (0, 1)
    ]
    plan = json.loads((site.record() / "plan.json").read_text())
    assert plan["kubernetes"]["kind"] == "trainjob"
    assert site.nothing_left()


def test_secrets_are_in_the_secret_and_nowhere_else(site: Site) -> None:
    value = "hf_" + "k8s1" * 8
    body = 'echo "token: $HF_TOKEN"; echo "length ${#HF_TOKEN}"'
    done = site.run(body, "--env", "HF_TOKEN", HF_TOKEN=value)
    assert done.code == 0, done.err
    assert site.log() == "token: ***\nlength 35\n"
    encoded = base64.b64encode(value.encode()).decode()
    sent = [(method, path, body) for method, path, body in site.cluster.wire if value in body + path]
    assert sent == []
    (secret,) = [body for _, path, body in site.cluster.wire if encoded in body + path]
    assert json.loads(secret)["kind"] == "Secret"
    owner = json.loads(secret)["metadata"]["ownerReferences"][0]
    assert owner["kind"] == "Job"
    for file in site.folder.rglob("*"):
        if file.is_file() and file.name != "probe.sh":
            text = file.read_bytes()
            assert value.encode() not in text, file
            assert encoded.encode() not in text, file
    assert value not in done.out + done.err
    assert site.nothing_left()


def test_a_secret_that_the_cluster_has(site: Site) -> None:
    data = {"WANDB_API_KEY": base64.b64encode(b"0123456789abcdef").decode()}
    metadata = {"name": "site-keys", "namespace": "team", "uid": "1"}
    site.cluster.put("secrets", {"kind": "Secret", "metadata": metadata, "data": data})
    done = site.run('echo "${#WANDB_API_KEY} $WANDB_API_KEY"', "--k8s-secret", "site-keys")
    assert done.code == 0, done.err
    assert site.log() == "16 ***\n"
    assert [one["metadata"]["name"] for one in site.cluster.all("secrets")] == ["site-keys"]


def test_ctrl_c_stops_it_and_its_last_words_are_kept(site: Site) -> None:
    started = site.start("run", site.probe(STOPPABLE), *site.options)
    site.wait_for_log("going")
    started.send_signal(signal.SIGINT)
    _, err = started.communicate(timeout=60)
    assert started.returncode == 130, err
    assert site.log() == "going\ntold\nlast words\n"
    found = result(site)
    assert found["recipe_exit"] == 9
    assert found["error"] == "stopped by SIGINT"
    assert site.nothing_left()


def test_detached_listed_shown_attached(site: Site) -> None:
    go = site.folder / "go"
    body = f"echo first; until [[ -e {go} ]]; do sleep 0.1; done; echo second; exit 4"
    done = site.run(body, "--detach")
    assert done.code == 0, done.err
    name = site.record().name
    # No launcher stays behind: who looks brings what the pods have said.
    site.wait_for(lambda: "first" in site.launch("runs", "logs", name).out)
    assert site.log() == "first\n"
    assert "running" in site.launch("runs", "list").out
    shown = site.launch("runs", "show", name)
    assert "running" in shown.out, shown
    attached = site.start("runs", "attach", name)
    time.sleep(1)
    go.touch()
    out, err = attached.communicate(timeout=60)
    assert attached.returncode == 4, out + err
    assert site.log() == "first\nsecond\n"
    site.wait_for(site.nothing_left)


def _abandoned(site: Site, body: str, text: str) -> str:
    """A run whose launcher was killed."""
    started = site.start("run", site.probe(body), *site.options)
    site.wait_for_log(text)
    started.kill()
    started.communicate()
    return site.record().name


def test_a_killed_launchers_run_is_stopped_with_its_last_words(site: Site) -> None:
    name = _abandoned(site, STOPPABLE, "going")
    stopped = site.launch("runs", "stop", name)
    assert stopped.code == 0, stopped.err
    assert site.log() == "going\ntold\nlast words\n"
    assert result(site)["recipe_exit"] == 9
    assert "stopped" in site.launch("runs", "list").out
    assert site.nothing_left()


def test_a_killed_launchers_run_is_attached_and_nothing_doubled(site: Site) -> None:
    go = site.folder / "go"
    said = "for i in $(seq 40); do echo line $i; done"
    body = f"{said}; until [[ -e {go} ]]; do sleep 0.1; done; echo end; exit 6"
    name = _abandoned(site, body, "line 40")
    attached = site.start("runs", "attach", name)
    time.sleep(2)
    go.touch()
    out, err = attached.communicate(timeout=60)
    assert attached.returncode == 6, out + err
    assert site.log().splitlines() == [f"line {i}" for i in range(1, 41)] + ["end"]
    assert site.nothing_left()


def test_the_end_of_a_killed_launchers_run_is_found_later(site: Site) -> None:
    go = site.folder / "go"
    body = f"echo first; until [[ -e {go} ]]; do sleep 0.1; done; echo second; exit 3"
    name = _abandoned(site, body, "first")
    go.touch()
    site.wait_for(lambda: site.cluster.all("jobs")[0].get("status"))
    shown = site.launch("runs", "show", name)
    assert shown.code == 0, shown.err
    assert site.log() == "first\nsecond\n"
    assert result(site)["exit_code"] == 3
    assert site.nothing_left()


def test_stopping_what_waits_for_a_node(site: Site) -> None:
    def waits(pod: Pod) -> None:
        pod.unscheduled("0/3 nodes are available: 3 Insufficient nvidia.com/gpu.")
        pod.pause(60)

    site.kubelet.script = waits
    started = site.start("run", site.probe("echo never"), *site.options)
    site.wait_for(lambda: site.cluster.all("pods")[0]["status"].get("conditions"))
    seen = json.loads(site.launch("runs", "list", "--json").out)
    assert "pending" in json.dumps(seen)
    assert "3 Insufficient nvidia.com/gpu" in json.dumps(seen)
    stopped = site.launch("runs", "stop", site.record().name)
    assert stopped.code == 0, stopped.err
    started.communicate(timeout=60)
    assert started.returncode == 143
    assert str(result(site)["error"]).startswith("stopped by")
    assert site.nothing_left()


def test_stopping_what_waits_in_a_queue(site: Site) -> None:
    done = site.run("echo never", "--k8s-queue", "team-queue", "--detach")
    assert done.code == 0, done.err
    site.wait_for(lambda: site.cluster.all("jobs"))
    (job,) = site.cluster.all("jobs")
    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "team-queue"
    assert job["spec"]["suspend"] is True
    listed = site.launch("runs", "list", "--json").out
    assert "Kueue's queue team-queue has no room yet" in listed
    assert site.launch("runs", "stop", site.record().name).code == 0
    site.wait_for(site.nothing_left)


def test_a_queue_lets_it_go(site: Site) -> None:
    started = site.start("run", site.probe("echo admitted"), *site.options, "--k8s-queue", "team")
    site.wait_for(lambda: site.cluster.all("jobs"))
    (job,) = site.cluster.all("jobs")
    site.cluster.patch("jobs", job["metadata"]["name"], {"spec": {"suspend": False}})
    _, err = started.communicate(timeout=60)
    assert started.returncode == 0, err
    assert site.log() == "admitted\n"


def test_a_queue_takes_its_place_away_and_gives_another(site: Site) -> None:
    body = 'echo "start $LAUNCH_RESTARTS"; [[ $LAUNCH_RESTARTS == 1 ]] && sleep 3 && exit 3; sleep 60'
    started = site.start("run", site.probe(body), *site.options, "--k8s-queue", "team", "--nodes", "2")
    site.wait_for(lambda: names.COMPLETE in site.cluster.all("jobs")[0]["metadata"]["annotations"])
    name = site.cluster.all("jobs")[0]["metadata"]["name"]
    site.cluster.patch("jobs", name, {"spec": {"suspend": False}})
    site.wait_for(lambda: site.log().count("start 0") == 2)
    site.cluster.patch("jobs", name, {"spec": {"suspend": True}})
    site.wait_for(lambda: not site.cluster.all("pods"))
    listed = site.launch("runs", "list", "--json").out
    assert "Kueue's queue team has no room yet" in listed
    site.cluster.patch("jobs", name, {"spec": {"suspend": False}})
    _, err = started.communicate(timeout=60)
    assert started.returncode == 3, err
    said = sorted(site.log().splitlines())
    assert said == ["[node0] start 0", "[node0] start 1", "[node1] start 0", "[node1] start 1"]
    (attempt,) = result(site)["attempts"]  # type: ignore[misc]
    assert attempt["restarts"] == 1
    assert site.nothing_left()


@pytest.mark.parametrize("kind", ["job", "trainjob"])
def test_a_container_that_is_made_anew_ends_as_it_did(site: Site, kind: str) -> None:
    site.cluster.trainer = kind == "trainjob"
    site.kubelet.again = True
    done = site.run('echo "once: $LAUNCH_RESTARTS"; exit 5')
    assert done.code == 5, done.err
    first, *again = site.log().splitlines()
    assert (first, bool(again)) == ("once: 0", True)
    assert all("this start has ended before" in line for line in again)


@pytest.mark.parametrize("kind", ["job", "trainjob"])
def test_the_lines_of_shell_are_sound(site: Site, kind: str) -> None:
    site.cluster.trainer = kind == "trainjob"
    done = site.run("true", "--dry-run", "--json")
    assert done.code == 0, done.err
    text = json.loads(done.out)["command"].partition("<<'YAML'\n")[2].removesuffix("YAML")
    (job,) = [one for one in yaml.safe_load_all(text) if one["kind"] != "Service"]
    spec = job["spec"]
    container = spec["trainer"] if kind == "trainjob" else spec["template"]["spec"]["containers"][0]
    assert container["command"][:2] == ["bash", "-c"]
    shellcheck = Path(sys.executable).parent / "shellcheck"
    found = subprocess.run(
        [shellcheck, "--shell", "bash", "-"], input=container["command"][2], capture_output=True, text=True
    )
    assert found.returncode == 0, found.stdout


def test_a_dry_run_asks_for_nothing_that_it_makes(site: Site) -> None:
    done = site.run("true", "--dry-run")
    assert done.code == 0, done.err
    assert "kind: Job" in done.out
    assert not any(method == "POST" for method, _, _ in site.cluster.wire)


def _makes(method: str, path: str) -> bool:
    return method == "POST" and "dryRun" not in path and "review" not in path


def test_a_plan_is_repeated(site: Site) -> None:
    assert site.run("echo again").code == 0
    first = site.record()
    done = site.launch("run", "--plan", first / "plan.json")
    assert done.code == 0, done.err
    (second,) = [path for path in (site.folder / "runs").iterdir() if path != first and path.name[0] != "."]
    assert (second / "log.txt").read_text() == "again\n"
    assert site.nothing_left()
