"""Everything that a page says of one run: frozen, and made of what its record holds. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from launcher import comparison, metrics, texts
from launcher.comparison import Fact, Run, State
from launcher.metrics import Event, Failure
from launcher.plan import RunPlan


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One figure of one head; ``before`` the training is None where nobody measured it."""

    head: str
    metric: str
    before: float | None
    after: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What a model was worth, before and after a training, on one set of data.

    Attributes:
        run: id of the run that measured the trained model.
        data: names of its files.
        queries, passages: how many of them.
        figures: every head's.
    """

    run: str
    data: str
    queries: int
    passages: int
    figures: tuple[Measured, ...]

    @property
    def heads(self) -> tuple[str, ...]:
        """What was measured, in the order of the report."""
        return tuple(dict.fromkeys(each.head for each in self.figures))

    @property
    def metrics(self) -> tuple[str, ...]:
        """The figures of all heads."""
        return tuple(dict.fromkeys(each.metric for each in self.figures))

    def cell(self, head: str, metric: str) -> Measured | None:
        """A head's figure; None where it has no such one."""
        return next((each for each in self.figures if (each.head, each.metric) == (head, metric)), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """One run.

    Attributes:
        id: the run's.
        folder: its record, as a text.
        state: how it stands; ``said`` in a few words.
        trains: it has steps and losses.
        started: UTC, ISO 8601; empty when nobody knows.
        seconds: wall time of a run that has ended.
        max_steps: that the trainer meant to do; 0: nobody knows.
        facts: what it was made of.
        summary: figures, by key.
        curves: (step, value) series by name; see launcher.metrics.curves.
        failure: of the rank that failed first.
        attempts: what each start of it says, oldest first.
        evaluations: what the model was worth.
        command: the engine's request.
        log: the end of the recipe's output.
    """

    id: str
    folder: str
    recipe: str
    state: State
    said: str
    trains: bool
    started: str
    seconds: float | None
    max_steps: int
    facts: tuple[Fact, ...]
    summary: tuple[tuple[str, float], ...]
    curves: Mapping[str, Sequence[tuple[int, float]]]
    failure: Failure | None
    attempts: tuple[Mapping[str, Any], ...]
    evaluations: tuple[Evaluation, ...]
    command: str
    log: str

    @property
    def run(self) -> Run:
        """The same for a comparison; its figures are also those of the first evaluation."""
        first = self.evaluations[:1]
        measured = {f"{found.head} {found.metric}": found.after for each in first for found in each.figures}
        return Run(
            name=self.id,
            recipe=self.recipe,
            state=self.state,
            said=self.said,
            trains=self.trains,
            facts=self.facts,
            figures=tuple({**measured, **dict(self.summary)}.items()),
        )

    @property
    def figures(self) -> dict[str, float]:
        """``summary`` by key."""
        return dict(self.summary)


def tell(
    *,
    id: str,
    started: str,
    folder: str,
    plan: RunPlan,
    result: Mapping[str, Any] | None,
    stands: tuple[State, str],
    events: Sequence[Event],
    attempts: Sequence[Mapping[str, Any]] = (),
    evaluations: Sequence[Evaluation] = (),
    command: str = "",
    log: str = "",
) -> Story:
    """Put a story together; see :class:`Story` for the parts."""
    now = metrics.current(list(events))
    seconds = (result or {}).get("seconds")
    state, said = stands
    return Story(
        id=id,
        folder=folder,
        recipe=plan.recipe,
        state=state,
        said=said,
        trains=bool(plan.world_size),
        started=str((result or {}).get("started") or started),
        seconds=seconds,
        max_steps=max(
            (metrics.whole(e, "max_steps") or 0 for e in now if e.get("event") == "begin"), default=0
        ),
        facts=comparison.of_run(plan, result or _so_far(events)),
        summary=tuple(comparison.from_summary(asdict(metrics.summary(now)), seconds).items()),
        curves=metrics.curves(now),
        failure=None if state == "done" else metrics.failure(list(events)),
        attempts=tuple(attempts),
        evaluations=tuple(evaluations),
        command=command.strip(),
        log=log,
    )


def _so_far(events: Sequence[Event]) -> dict[str, Any]:
    """What its end will say of a run, as far as it is known while it runs."""
    return {"runtime": metrics.runtime(list(events)), "buckets": metrics.buckets(list(events))}


def standing(result: Mapping[str, Any] | None) -> tuple[State, str]:
    """How a run stands, and what is to be said of it; its result alone decides."""
    if result is None:
        return "open", "has not ended: it runs, or its launcher was killed"
    code = int(result.get("exit_code") or 0)
    if not code:
        return "done", ""
    error = str(result.get("error") or "").partition("\n")[0]
    if error.startswith(texts.STOPPED_BY):
        return "stopped", error
    return "failed", f"failed in stage {result.get('stage', '?')}: {error or f'exit code {code}'}"


def evaluation(
    run: str,
    data: str,
    after: Mapping[str, Any],
    before: Mapping[str, Any] | None,
) -> Evaluation:
    """Two reports of the recipe ``evaluate`` as one.

    Args:
        run: id of the run that measured the trained model.
        data: names of its files.
        after: that run's metrics.json; its own baseline is the one before, where it has one.
        before: metrics.json of a run that measured the start model on the same data.
    """
    inside = after.get("baseline")
    heads = (inside if isinstance(inside, Mapping) else before or {}).get("heads") or {}
    return Evaluation(
        run=run,
        data=data,
        queries=int(after.get("queries") or 0),
        passages=int(after.get("passages") or 0),
        figures=tuple(
            Measured(
                head=head,
                metric=metric,
                before=_number((heads.get(head) or {}).get(metric)),
                after=float(value),
            )
            for head, values in (after.get("heads") or {}).items()
            for metric, value in values.items()
            if isinstance(value, int | float)
        ),
    )


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None
