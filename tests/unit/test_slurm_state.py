"""What Slurm says, in several versions' words.

22.05: printed by a real one. The others were put together from what is known of those versions' words: no
such Slurm was asked.
"""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.engines.base import Phase
from launcher.engines.slurm import problems, state
from launcher.errors import EngineError, ImageMissingError, LaunchError

#: scontrol -o show job of 22.05.8: a job with a hostile comment that runs, one that was cancelled.
RUNNING = (
    "JobId=12 JobName=launch-20261122-025648-probe-d1538e-1 UserId=root(0) GroupId=root(0) MCS_label=N/A "
    "Priority=4294901752 Nice=0 Account=(null) JobState=RUNNING Reason=None Dependency=(null) "
    "Requeue=1 Restarts=2 BatchFlag=1 Reboot=0 ExitCode=0:0 RunTime=00:00:04 TimeLimit=01:00:00 TimeMin=N/A "
    "NodeList=n[1-2] BatchHost=n1 NumNodes=2 NumCPUs=4 TRES=cpu=4,node=2,billing=4 Features=(null) "
    "Command=/tmp/a b/JobState=FAILED.sh WorkDir=/tmp/sl Comment=JobState=FAILED StdOut=/tmp/log.txt Power= "
)
CANCELLED = RUNNING.replace("JobState=RUNNING", "JobState=CANCELLED").replace("ExitCode=0:0", "ExitCode=0:15")

#: 20.11: fewer keys.
OLD = (
    "JobId=7 JobName=launch-x-1 UserId=me(5) JobState=COMPLETED Reason=None Requeue=1 Restarts=0 "
    "ExitCode=0:0 NodeList=a"
)
#: 24.11: a state with a flag behind it, more keys, the line of sbatch.
NEW = (
    "JobId=900719925474 JobName=launch-x-1 UserId=me(5) GroupId=me(5) MCS_label=N/A JobState=FAILED,REQUEUED "
    "Reason=NonZeroExitCode Dependency=(null) Requeue=1 Restarts=1 BatchFlag=1 Reboot=0 ExitCode=9:0 "
    "ReqNodeList=(null) ExcNodeList=(null) NodeList=gpu-[001-002] LicensesAlloc=(null) SubmitLine=sbatch a b"
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (RUNNING, ("12", "RUNNING", "None", 0, 2, "n[1-2]", Phase.RUNNING)),
        (CANCELLED, ("12", "CANCELLED", "None", 143, 2, "n[1-2]", Phase.ENDED)),
        (OLD, ("7", "COMPLETED", "None", 0, 0, "a", Phase.ENDED)),
        (NEW, ("900719925474", "FAILED", "NonZeroExitCode", 9, 1, "gpu-[001-002]", Phase.ENDED)),
    ],
)
def test_jobs_of_several_versions(text: str, expected: tuple[Any, ...]) -> None:
    job = state.job(text)
    assert job is not None
    assert (job.id, job.state, job.reason, job.code, job.restarts, job.nodes, job.phase) == expected


@pytest.mark.parametrize("text", ["", "\n", "slurm_load_jobs error: Invalid job id specified", "JobId=5"])
def test_what_is_no_job(text: str) -> None:
    assert state.job(text) is None


@given(st.text())
def test_no_text_breaks_the_reader(text: str) -> None:
    state.job(text)
    state.job("JobId=1 JobState=" + text)
    state.end(text)
    problems.lacking(text)
    assert isinstance(problems.refused(text), LaunchError)


@pytest.mark.parametrize(
    ("word", "phase"),
    [
        ("PENDING", Phase.PENDING),
        ("CONFIGURING", Phase.PENDING),
        ("REQUEUED", Phase.PENDING),
        ("REQUEUE_HOLD", Phase.PENDING),
        ("COMPLETING", Phase.RUNNING),
        ("SUSPENDED", Phase.RUNNING),
        ("RESV_DEL_HOLD", Phase.PENDING),
        ("UPDATE_DB", Phase.RUNNING),
        ("OF_A_LATER_SLURM", Phase.RUNNING),
        *(
            (word, Phase.ENDED)
            for word in ("COMPLETED", "FAILED", "TIMEOUT", "NODE_FAIL", "PREEMPTED", "OUT_OF_MEMORY")
        ),
    ],
)
def test_phases(word: str, phase: Phase) -> None:
    job = state.job(RUNNING.replace("JobState=RUNNING", f"JobState={word}"))
    assert job is not None
    assert job.phase is phase


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        ("Resources", "Resources: it is next, and waits for nodes that are free"),
        ("Priority", "Priority: jobs with a higher priority come first"),
        (
            "QOSMaxJobsPerUserLimit",
            "QOSMaxJobsPerUserLimit: a limit of your account or quality of service is reached",
        ),
        ("SomethingNew", "SomethingNew"),
        ("None", "Slurm has not looked at it yet"),
    ],
)
def test_a_wait_has_slurms_word_and_what_it_means(reason: str, said: str) -> None:
    text = RUNNING.replace("RUNNING", "PENDING").replace("Reason=None", f"Reason={reason}")
    first = state.job(text.replace("Restarts=2", "Restarts=0"))
    again = state.job(text)
    assert first is not None
    assert again is not None
    assert state.waiting(first) == said
    assert state.waiting(again) == (said if reason == "None" else f"{said} (start 3)")


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("NODE_FAIL", "a node of it failed"),
        ("TIMEOUT", "its time was up"),
        ("PREEMPTED", "another job took its nodes"),
        ("CANCELLED", "somebody cancelled it"),
        ("BOOT_FAIL", "a node did not boot"),
        ("WHATEVER", "it ended as WHATEVER"),
    ],
)
def test_ends_by_slurm_have_names(word: str, said: str) -> None:
    job = state.job(RUNNING.replace("JobState=RUNNING", f"JobState={word}"))
    assert job is not None
    error = problems.ended_by_slurm(job, "RUN_ID")
    assert error.message == f"Slurm ended job 12: {said}"
    assert "launch runs resume RUN_ID" in error.hint
    assert error.exit_code == EngineError.exit_code


_FAILED = "sbatch: error: Batch job submission failed: "


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("allocation failure: Invalid partition name specified", "no such partition"),
        ("allocation failure: Requested node configuration is not available", "no nodes of this cluster"),
        (f"{_FAILED}Invalid account or account/partition combination specified", "that account"),
        (f"{_FAILED}Invalid qos specification", "that quality of service"),
        (f"{_FAILED}Requested time limit is invalid (missing or exceeds some limit)", "more time"),
        (
            f"sbatch: error: QOSMaxSubmitJobPerUserLimit\n{_FAILED}Job violates accounting/QOS policy",
            "a limit",
        ),
        ("sbatch: unrecognized option '--foo=1'", "no such option"),
        ("something else", "Slurm refuses the run"),
    ],
)
def test_refusals_have_names_and_slurms_words(text: str, said: str) -> None:
    error = problems.refused(text)
    assert said in error.message
    assert text.splitlines()[-1].removeprefix("sbatch: error: ") in error.why
    assert not problems.unreachable(text)


@pytest.mark.parametrize(
    "text",
    [
        "slurm_load_jobs error: Unable to contact slurm controller (connect failure)",
        "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation",
        "scontrol: error: If munged is up, restart with --num-threads=10\nProtocol authentication error",
    ],
)
def test_a_controller_that_does_not_answer_is_no_refusal(text: str) -> None:
    assert problems.unreachable(text)


def test_what_nodes_lack() -> None:
    error = problems.lacking("launch-problem\timage\tn1\tx:1\nlaunch-problem\timage\tn2\tx:1\n")
    assert isinstance(error, ImageMissingError)
    assert error.message == "the image x:1 is not on n1, n2"
    error = problems.lacking("launch-problem\tpath\tn2\t/data/rows.jsonl\nlaunch-problem\tpath\tn2\t/model\n")
    assert error is not None
    assert error.message == "n2: /data/rows.jsonl is not there"
    assert problems.lacking("") is None


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("slurm-wlm 22.05.8", "22.05.8"),
        ("slurm 20.11.9", "20.11.9"),
        ("slurm 25.05.0-0rc1", "25.05.0-0rc1"),
        ("slurm 26.05.1", "26.05.1"),
        ("", "unknown"),
    ],
)
def test_versions(text: str, found: str) -> None:
    assert state.version(text) == found


def test_the_clusters_name() -> None:
    assert (
        state.cluster("Configuration data as of x\nClusterName             = tux\nKillWait = 30 sec") == "tux"
    )
    assert state.cluster("") == ""
