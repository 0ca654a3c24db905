"""launcher.engines.slurm: what is asked of Slurm, and what becomes of its answers; a made-up Slurm."""

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from launcher import process, runs, secretfile
from launcher.engines.base import Exit, Phase
from launcher.engines.slurm import SlurmEngine, client, handle
from launcher.engines.slurm.handle import SlurmHandle
from launcher.errors import EngineError, EngineGoneError, ImageMissingError, ProgramError
from launcher.plan import Folders, Slurm, Start
from launcher.process import Completed
from launcher.progress import SilentView

START = Start(run="RUN_ID")
NAME = "launch-RUN_ID-1"


class Site:
    """A made-up slurmctld.

    Attributes:
        job: what scontrol says of job 7; empty: it has forgotten it.
        gone: it does not answer.
        calls: programs that were started.
    """

    def __init__(self) -> None:
        self.job, self.gone, self.refuses, self.by_name = "", False, "", ""
        self.number = "7\n"
        self.calls: list[tuple[str, ...]] = []

    def run(self, argv: tuple[str, ...], **more: Any) -> Completed:
        self.calls.append(tuple(argv))
        words = [word for word in argv if "=" not in word or word.startswith("--")]
        asked = [word for word in words if word not in ("env", "-i")]
        name = asked[0]
        if self.gone:
            return self._answer(1, "", "slurm_load_jobs error: Unable to contact slurm controller")
        if name == "sbatch":
            return self._answer(int(bool(self.refuses)), "" if self.refuses else self.number, self.refuses)
        if name == "squeue":
            return self._answer(0, self.by_name, "")
        if name == "scancel":
            return self._answer(0, "", "")
        if asked[1] == "--version":
            return self._answer(0, "slurm 24.05.4", "")
        if asked[2] == "config":
            return self._answer(0, "ClusterName             = tux\n", "")
        if not self.job:
            return self._answer(1, "", "slurm_load_jobs error: Invalid job id specified")
        return self._answer(0, self.job, "")

    def says(
        self, state: str, reason: str = "None", code: str = "0:0", restarts: int = 0, name: str = NAME
    ) -> None:
        self.job = (
            f"JobId=7 JobName={name} JobState={state} Reason={reason} Restarts={restarts} ExitCode={code} "
            "NodeList=n[1-2] NumNodes=2"
        )

    @staticmethod
    def _answer(code: int, out: str, err: str) -> Completed:
        return Completed(argv=(), returncode=code, stdout=out, stderr=err)


@pytest.fixture(autouse=True)
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    made = Site()
    monkeypatch.setattr(process, "run", made.run)
    monkeypatch.setattr(client.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(client, "FRESH", 0.0)
    monkeypatch.setattr(handle, "_LATE", 0.0)
    monkeypatch.setattr(handle, "_PAUSE", 0.0)
    client.forget()
    yield made
    client.forget()


@pytest.fixture
def place(bench: Any) -> Folders:
    found = runs.folders("RUN_ID", plan(bench))
    (found.run / "attempts").mkdir(parents=True)
    (found.run / "log.txt").touch()
    return found


def plan(bench: Any, **more: Any) -> Any:
    return bench.plan(target="cpu", site=Slurm(), preflight=False, **more).plan


def ended(place: Folders, code: int, *, job: str = "7", restarts: int = 0, terminated: int = 0) -> None:
    said = {
        "job": job,
        "restarts": restarts,
        "code": code,
        "terminated": terminated,
        "ended": "2026-11-22T02:57:00+00:00",
    }
    (place.run / "attempts" / "1.end").write_text(json.dumps(said))


def found(place: Folders) -> SlurmHandle:
    return SlurmHandle(place, START, "7")


def test_a_machine_without_slurm_is_named(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client.shutil, "which", lambda name: None if name == "sbatch" else name)
    with pytest.raises(EngineError, match="sbatch not found") as refused:
        SlurmEngine(Path("/env")).check(plan(bench))
    assert "login node" in refused.value.hint


def test_the_check_asks_slurm_itself_with_nothing_of_the_shell(
    bench: Any, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_s3cr3t")
    monkeypatch.setenv("SBATCH_ACCOUNT", "team")
    monkeypatch.setenv("SBATCH_EXPORT", "ALL")
    SlurmEngine(Path("/env")).check(plan(bench))
    call = site.calls[-1]
    assert call[:2] == ("env", "-i")
    assert call[-3:] == ("sbatch", "--export=ALL", "--test-only")
    assert "SBATCH_ACCOUNT=team" in call
    assert not [word for word in call if word.startswith(("HF_TOKEN", "SBATCH_EXPORT"))]


def test_what_the_user_says_beats_the_shells_variable(
    bench: Any, site: Site, place: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    """sbatch itself would take the variable, and the record would say otherwise."""
    for name in ("SBATCH_PARTITION", "SBATCH_TIMELIMIT", "SBATCH_QOS"):
        monkeypatch.setenv(name, "debug")
    said = Slurm(options=(("partition", "gpu"), ("time", "1:00")))
    planned = bench.plan(target="cpu", site=said, preflight=False).plan
    engine = SlurmEngine(Path("/env"))
    engine.check(planned)
    engine.start(engine.render(planned, place, START), {})
    calls = [call for call in site.calls if "sbatch" in call]
    assert len(calls) == 2
    for call in calls:
        assert [word for word in call if word.startswith("SBATCH_")] == ["SBATCH_QOS=debug"]


def test_variables_that_would_ask_another_cluster_or_hide_our_job_reach_no_program(
    bench: Any, site: Site, place: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = ("SLURM_CLUSTERS", "SCANCEL_INTERACTIVE", "SCANCEL_STATE", "SQUEUE_USERS", "SQUEUE_STATES")
    for name in odd:
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("SLURM_CONF", "/etc/slurm/slurm.conf")
    engine = SlurmEngine(Path("/env"))
    engine.check(plan(bench))
    engine.describe(plan(bench))
    engine.start(engine.render(plan(bench), place, START), {}).phase()
    client.number_of(NAME)
    client.cancel("7")
    asked = {
        word for call in site.calls for word in call if word in ("sbatch", "scontrol", "squeue", "scancel")
    }
    assert len(asked) == 4
    for call in site.calls:
        assert "SLURM_CONF=/etc/slurm/slurm.conf" in call
        assert not [word for word in call if word.startswith(odd)]


def test_a_program_that_does_not_end_has_its_name(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def silent(argv: tuple[str, ...], **more: Any) -> Completed:
        raise ProgramError(f"{argv[0]} did not finish within 60 s")

    monkeypatch.setattr(process, "run", silent)
    with pytest.raises(EngineGoneError) as gone:
        client.config()
    assert gone.value.why == "scontrol did not finish within 60 s"


def test_a_refusal_leaves_nothing(bench: Any, site: Site, place: Folders) -> None:
    site.refuses = "sbatch: error: invalid partition specified: nope"
    engine = SlurmEngine(Path("/env"))
    secret = plan(bench, secrets={"HF_TOKEN": "hf_s3cr3t"})
    with pytest.raises(EngineError, match="no such partition"):
        engine.start(engine.render(secret, place, START), {"HF_TOKEN": "hf_s3cr3t"})
    assert list((place.run.parent / ".secrets-1000").iterdir()) == []


def test_a_job_of_another_cluster_is_not_followed_here(site: Site) -> None:
    site.number = "7;other\n"
    with pytest.raises(EngineError, match="job 7 went to the cluster other") as refused:
        client.submit(Path("/it"))
    assert "scancel --clusters=other 7" in refused.value.hint


def test_a_job_is_found_by_its_number_or_its_name(bench: Any, site: Site, place: Folders) -> None:
    engine = SlurmEngine(Path("/env"))
    assert engine.find(place, START) is None
    engine.start(engine.render(plan(bench), place, START), {})
    site.says("RUNNING")
    assert [handle.id for handle in (engine.find(place, START),) if handle] == ["7"]
    (place.run / "attempts" / "1.job").unlink()  # the launcher was killed before it had noted it
    assert engine.find(place, START) is None
    site.by_name = "7\n"
    again = engine.find(place, START)
    assert again is not None
    assert again.phase() is Phase.RUNNING
    assert f"--name={NAME}" in site.calls[-2]
    site.by_name = ""
    ended(place, 0, job="8")  # slurmctld has forgotten it, and the script has not
    last = engine.find(place, START)
    assert last is not None
    assert last.id == "8"


def test_an_answer_that_does_not_come_is_no_refusal_when_slurm_has_the_job(
    bench: Any, site: Site, place: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = SlurmEngine(Path("/env"))
    site.by_name = "7\n"
    real = site.run

    def silent(argv: tuple[str, ...], **more: Any) -> Completed:
        if "sbatch" in argv:
            raise ProgramError("sbatch did not finish within 60 s")
        return real(argv, **more)

    monkeypatch.setattr(process, "run", silent)
    assert engine.start(engine.render(plan(bench), place, START), {}).id == "7"
    site.by_name = ""
    with pytest.raises(EngineGoneError):
        engine.start(engine.render(plan(bench), place, START), {})


def test_where_it_is_and_what_it_is(bench: Any, site: Site) -> None:
    described = SlurmEngine(Path("/env")).describe(plan(bench))
    assert (described.where, described.version, described.image_digest) == ("slurm:tux", "24.05.4", None)


def test_a_pending_job_says_why(site: Site, place: Folders) -> None:
    site.says("PENDING", "Resources")
    assert found(place).phase() is Phase.PENDING
    assert found(place).waiting().startswith("Resources: ")
    site.says("RUNNING")
    assert found(place).waiting() == ""
    site.gone = True
    assert found(place).waiting() == ""
    with pytest.raises(EngineGoneError, match="may still run"):
        found(place).phase()


@pytest.mark.parametrize(
    ("state", "code", "expected"),
    [("COMPLETED", 0, Exit(code=0)), ("FAILED", 9, Exit(code=9)), ("FAILED", 137, Exit(code=137))],
)
def test_the_recipes_code_is_the_scripts(
    site: Site, place: Folders, state: str, code: int, expected: Exit
) -> None:
    site.says(state, code=f"{code}:0", restarts=2)
    ended(place, code, restarts=2)
    end = found(place).wait()
    assert (end.code, end.restarts, end.ended) == (expected.code, 2, "2026-11-22T02:57:00+00:00")


def test_memory_that_ran_out(site: Site, place: Folders) -> None:
    site.says("OUT_OF_MEMORY", code="0:125")
    assert found(place).wait() == Exit(code=137, out_of_memory=True)


@pytest.mark.parametrize("state", ["TIMEOUT", "NODE_FAIL", "PREEMPTED", "CANCELLED", "BOOT_FAIL"])
def test_what_slurm_ended_is_an_error(site: Site, place: Folders, state: str) -> None:
    site.says(state)
    ended(place, 143, terminated=1)
    with pytest.raises(EngineError, match="Slurm ended job 7"):
        found(place).wait()


def test_an_end_that_was_asked_for_is_none(site: Site, place: Folders) -> None:
    site.says("CANCELLED")
    (place.run / "attempts" / "1.cancelled").touch()
    assert found(place).wait().code == 143


def test_the_end_of_an_earlier_start_does_not_count(site: Site, place: Folders) -> None:
    site.says("FAILED", code="0:53", restarts=1)
    ended(place, 0, restarts=0)
    with pytest.raises(EngineError, match="could not write"):
        found(place).wait()


def test_a_forgotten_job(site: Site, place: Folders) -> None:
    with pytest.raises(EngineError, match="the run was lost"):
        found(place).wait()
    ended(place, 5)
    assert found(place).wait().code == 5
    ended(place, 143, terminated=1)  # by Slurm, which no longer says why
    with pytest.raises(EngineError, match="the run was lost"):
        found(place).wait()


def test_another_clusters_job_of_the_same_number_is_none(site: Site, place: Folders) -> None:
    site.says("RUNNING", name="somebody-elses")
    assert found(place).phase() is Phase.ENDED


def test_what_a_node_lacks(site: Site, place: Folders) -> None:
    site.says("FAILED", code="78:0")
    ended(place, 78)
    (place.run / "attempts" / "1.problems").write_text("launch-problem\timage\tn2\tx:1\n")
    with pytest.raises(ImageMissingError, match="the image x:1 is not on n2"):
        found(place).wait()


def test_the_log_is_read_as_it_grows(site: Site, place: Folders) -> None:
    site.says("RUNNING")
    log = place.run / "log.txt"
    log.write_text("before\none\ntw")
    lines = found(place).lines(log, 7, 7)
    assert next(lines) == "one"
    with log.open("a") as stream:
        stream.write("o\nrest")
    site.says("COMPLETED")
    assert list(lines) == ["two", "rest"]


def test_following_outlasts_a_slurmctld_that_is_away_for_a_moment(
    site: Site, place: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.says("COMPLETED")
    ended(place, 0)
    real, left = site.run, [3]

    def run(argv: tuple[str, ...], **more: Any) -> Completed:
        left[0] -= 1
        site.gone = left[0] > 0
        return real(argv, **more)

    monkeypatch.setattr(process, "run", run)
    assert list(found(place).lines(place.run / "log.txt", 0, 0)) == []
    left[0] = 3
    assert found(place).wait().code == 0
    left[0] = 1000
    monkeypatch.setattr(handle, "_AWAY", 0.0)
    with pytest.raises(EngineGoneError):
        found(place).wait()


def test_an_end_is_asked_for_until_slurm_hears_of_it(
    site: Site, place: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first scancel fails: slurmctld is away for a moment."""
    site.says("RUNNING")
    real, asked, heard = site.run, [], threading.Event()

    def run(argv: tuple[str, ...], **more: Any) -> Completed:
        if "scancel" in argv:
            asked.append(argv)
            if len(asked) < 3:
                raise ProgramError("env did not finish within 60 s")
            heard.set()
        return real(argv, **more)

    monkeypatch.setattr(process, "run", run)
    found(place).stop(1.0)
    assert heard.wait(5)


def test_slurm_is_not_asked_more_often_than_every_two_seconds(
    site: Site, place: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "FRESH", 2.0)
    site.says("RUNNING")
    for _ in range(50):
        found(place).phase()
    assert len(site.calls) == 1


def test_the_shared_secrets_go_with_the_record_of_the_end(bench: Any, place: Folders) -> None:
    engine = SlurmEngine(Path("/env"))
    secret = engine.render(plan(bench, secrets={"HF_TOKEN": "x"}), place, START)
    handle = engine.start(secret, {"HF_TOKEN": "hf_s3cr3t"})
    (file,) = (place.run.parent / ".secrets-1000").iterdir()
    assert file.read_bytes() == b"HF_TOKEN=hf_s3cr3t\0"
    assert file.stat().st_mode & 0o777 == 0o600
    secretfile.forget("ANOTHER", place.run.parent)
    assert file.exists()
    handle.remove()
    assert not file.exists()


def test_a_run_that_waits_is_said_to_wait(site: Site, place: Folders) -> None:
    """The launcher that follows it says why, once for each reason."""
    from launcher.app import execute
    from launcher.metrics import Reader
    from launcher.runs import Attempt

    class View(SilentView):
        said: list[str]

        def notice(self, text: str) -> None:
            self.said.append(text)

    view = View()
    view.said = []
    site.says("PENDING", "Priority")
    job = found(place)
    words: list[Callable[[], None]] = [
        *[lambda: None] * 3,
        lambda: site.says("PENDING", "Resources"),
        *[lambda: None] * 3,
        lambda: site.says("RUNNING"),
        *[lambda: None] * 3,
        lambda: site.says("COMPLETED"),
    ]
    real = job.waiting

    def waiting() -> str:
        if words:
            words.pop(0)()
        return real()

    job.waiting = waiting  # type: ignore[method-assign]
    attempt = Attempt(number=1, where="", image_digest=None, engine_version="", began="")
    execute.follow(job, attempt, place, view, Reader(place.run / "metrics.jsonl"))
    assert [line.split(":")[1].strip() if "pending" in line else line for line in view.said] == [
        "Priority",
        "Resources",
        "it runs",
    ]
