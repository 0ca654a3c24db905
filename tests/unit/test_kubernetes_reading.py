"""launcher.engines.kubernetes.reading: what the cluster's objects say of a run."""

import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.engines.base import Phase
from launcher.engines.kubernetes import names, reading
from launcher.engines.kubernetes.reading import End
from launcher.errors import EngineError, ImageMissingError, TakenAwayError

NOW = datetime.datetime(2026, 1, 1, 12, tzinfo=datetime.UTC).timestamp()


def at(ago: float) -> str:
    return datetime.datetime.fromtimestamp(NOW - ago, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def job(
    nodes: int = 1, condition: str = "", complete: bool = True, kind: str = "Job", **more: Any
) -> dict[str, Any]:
    spec = {"completions": nodes, "trainer": {"numNodes": nodes}, **more}
    return {
        "kind": kind,
        "metadata": {
            "name": "launch-x",
            "creationTimestamp": at(10),
            "annotations": {names.COMPLETE: "true"} if complete else {},
            "labels": {},
        },
        "spec": spec,
        "status": {"conditions": [{"type": condition, "status": "True"}] if condition else []},
    }


def pod(node: int = 0, state: dict[str, Any] | None = None, ago: float = 10, **status: Any) -> dict[str, Any]:
    containers = [{"name": "recipe", "state": state}] if state else []
    return {
        "metadata": {"annotations": {names.INDEX: str(node)}, "creationTimestamp": at(ago)},
        "status": {"startTime": at(ago), "containerStatuses": containers, **status},
    }


RUNS: dict[str, Any] = {"running": {}}


def over(code: int, reason: str = "Error", ago: float = 5) -> dict[str, Any]:
    return {"terminated": {"exitCode": code, "reason": reason, "finishedAt": at(ago)}}


@pytest.mark.parametrize(
    ("there", "pods", "phase"),
    [
        (job(), [], Phase.PENDING),
        (job(), [pod()], Phase.PENDING),
        (job(), [pod(state=RUNS)], Phase.RUNNING),
        (job(2), [pod(state=RUNS), pod(1)], Phase.PENDING),
        (job(2), [pod(state=RUNS), pod(1, RUNS)], Phase.RUNNING),
        (job(2), [pod(state=over(1)), pod(1, RUNS)], Phase.RUNNING),
        (job(2, "Failed"), [pod(state=over(1)), pod(1, RUNS)], Phase.RUNNING),
        (job(2, "Failed"), [pod(state=over(1))], Phase.ENDED),
        (job(1, "Complete"), [pod(state=over(0))], Phase.ENDED),
        (job(1), [pod(state=over(0))], Phase.RUNNING),  # the controller says so in a moment
        (None, [pod(state=RUNS)], Phase.RUNNING),
        (None, [], Phase.ENDED),
        (job(complete=False), [], Phase.PENDING),
        ({**job(complete=False), "metadata": {"creationTimestamp": at(500)}}, [], Phase.UNSTARTED),
        (job(2, kind="TrainJob"), [pod(state=over(1)), pod(1, RUNS)], Phase.RUNNING),
        (job(2, kind="TrainJob"), [pod(state=over(1, ago=90)), pod(1, RUNS)], Phase.ENDED),
        (job(), [pod(state={"waiting": {"reason": "InvalidImageName"}})], Phase.ENDED),
        (job(), [pod(state={"waiting": {"reason": "ErrImagePull"}})], Phase.PENDING),
        (job(), [pod(state={"waiting": {"reason": "ImagePullBackOff"}}, ago=400)], Phase.ENDED),
    ],
)
def test_phases(there: dict[str, Any] | None, pods: list[dict[str, Any]], phase: Phase) -> None:
    assert reading.phase(there, pods, (), NOW) is phase


def test_a_pod_on_a_node_that_nobody_reaches_is_not_waited_for() -> None:
    lost = pod(state=RUNS)
    lost["metadata"]["deletionTimestamp"] = at(-20)
    assert reading.phase(job(1, "Failed"), [lost], (), NOW) is Phase.RUNNING
    lost["metadata"]["deletionTimestamp"] = at(120)
    assert reading.phase(job(1, "Failed"), [lost], (), NOW) is Phase.ENDED


def test_a_container_that_is_made_anew_has_ended() -> None:
    again = pod(state=RUNS)
    again["status"]["containerStatuses"][0]["lastState"] = over(7)
    found = reading.end(again)
    assert found is not None
    assert found.code == 7
    assert reading.started(again)


@pytest.mark.parametrize(
    ("ends", "code"),
    [
        ([End(node=0, code=0), End(node=1, code=0)], 0),
        ([End(node=0, code=1, at=at(3)), End(node=1, code=5, at=at(9))], 5),
        ([End(node=0, code=143, at=at(9)), End(node=1, code=5, at=at(3))], 5),
        ([End(node=0, code=137, reason="OOMKilled", at=at(3)), End(node=1, code=1, at=at(9))], 137),
        ([End(node=1, code=4, at=at(3)), End(node=0, code=3, at=at(3))], 3),
    ],
)
def test_the_end_that_counts(ends: list[End], code: int) -> None:
    assert reading.verdict(ends).code == code


@given(
    st.lists(
        st.builds(End, node=st.integers(0, 9), code=st.integers(0, 255), at=st.sampled_from([at(1), at(2)])),
        min_size=1,
    )
)
def test_a_failure_is_never_taken_for_a_success(ends: list[End]) -> None:
    assert (reading.verdict(ends).code == 0) == all(end.code == 0 for end in ends)


@pytest.mark.parametrize("reason", ["Evicted", "PreemptionByScheduler", "NodeLost", "DeadlineExceeded"])
def test_what_the_site_took_away(reason: str) -> None:
    evicted = pod(1, phase="Failed", reason=reason, message="low on memory")
    if reason.endswith("Scheduler"):
        condition = {"type": "DisruptionTarget", "status": "True", "reason": reason}
        evicted = pod(1, over(137), phase="Failed", conditions=[condition], message="low on memory")
    found = reading.end(evicted)
    assert found is not None
    with pytest.raises(TakenAwayError, match=f"node 1 was taken away: {reason}") as caught:
        reading.verdict([End(node=0, code=1), found])
    assert caught.value.why == "low on memory"


def test_a_pod_without_a_program() -> None:
    found = reading.end(
        pod(phase="Failed", reason="OutOfcpu", message="Node didn't have enough resource: cpu")
    )
    assert found is not None
    with pytest.raises(EngineError, match="OutOfcpu"):
        reading.verdict([found])


@pytest.mark.parametrize(
    ("pods", "events", "said"),
    [
        ([], [], "the cluster has made no pods yet"),
        (
            [],
            [{"type": "Warning", "reason": "FailedCreate", "message": "exceeded quota: team"}],
            "exceeded quota",
        ),
        ([pod()], [], "its containers are being made"),
        (
            [pod()],
            [{"type": "Warning", "reason": "FailedMount", "message": 'secret "x" not found'}],
            'FailedMount: secret "x" not found',
        ),
        (
            [
                pod(
                    conditions=[
                        {
                            "type": "PodScheduled",
                            "status": "False",
                            "reason": "Unschedulable",
                            "message": 'persistentvolumeclaim "data" not found',
                        }
                    ]
                )
            ],
            [],
            'Unschedulable: persistentvolumeclaim "data" not found',
        ),
        (
            [pod(state=RUNS), pod(1, {"waiting": {"reason": "ImagePullBackOff", "message": "denied"}})],
            [],
            "1 of 2 nodes run; the image cannot be pulled: ImagePullBackOff: denied",
        ),
    ],
)
def test_why_it_waits(pods: list[dict[str, Any]], events: list[dict[str, Any]], said: str) -> None:
    assert said in reading.waiting(job(2), pods, events)


def test_why_a_suspended_one_waits() -> None:
    held = job(suspend=True)
    assert reading.waiting(held, [], []) == "somebody has suspended it"
    held["metadata"]["labels"] = {names.QUEUE: "team"}
    assert "queue team" in reading.waiting(held, [], [])
    assert reading.waiting(job(suspend=True, complete=False), [], []) == "it is being made"


def test_what_never_starts() -> None:
    never = pod(state={"waiting": {"reason": "ImagePullBackOff", "message": "not found"}}, ago=400)
    assert isinstance(reading.stuck(never, NOW), ImageMissingError)
    wrong = pod(state={"waiting": {"reason": "CreateContainerConfigError", "message": "m"}}, ago=400)
    assert isinstance(reading.stuck(wrong, NOW), EngineError)
    assert reading.stuck(pod(state={"waiting": {"reason": "ContainerCreating"}}, ago=9000), NOW) is None


@pytest.mark.parametrize(
    ("code", "there", "pods", "gone"),
    [
        (143, job(suspend=True), [], True),
        (143, job(), [], False),
        (143, job(), ["new"], True),
        (143, job(), ["old"], False),
        (1, job(), ["new"], False),  # it failed by itself, and was made anew
        (143, job(condition="Failed"), ["new"], False),
        (143, None, [], False),
    ],
)
def test_ends_that_a_queue_has_made(
    code: int, there: dict[str, Any] | None, pods: list[str], gone: bool
) -> None:
    found = [pod(state=RUNS) for _ in pods]
    for one, uid in zip(found, pods, strict=True):
        one["metadata"]["uid"] = uid
    assert reading.overcome(End(node=0, code=code, pod="old"), there, found) is gone
