"""The demo: the whole flow on real text, from a data set of this machine to recall before and after."""

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launcher import demo
from launcher.app import execute, images
from launcher.app import plan as planning
from launcher.app.execute import Ended
from launcher.errors import BuildError, EngineError, RecipeFailedError
from launcher.image.client import connect
from launcher.plan import RunPlan
from launcher.progress import Progress, RunView
from launcher.settings import Settings

#: Gives the view in which one step of the demo is watched.
Watch = Callable[[RunPlan], AbstractContextManager[RunView]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What the demo found.

    Attributes:
        before, after: metrics.json of the evaluation, by head and metric.
        seconds: wall time of the training, start of the container and imports included.
        engine: ``docker`` or ``venv``.
    """

    folder: Path
    data: demo.DemoData
    engine: str
    seconds: float
    before: dict[str, Any]
    after: dict[str, Any]

    def recall(self) -> list[tuple[str, float, float]]:
        """(head, recall@10 before, recall@10 after) of each head that was measured."""
        heads = self.after["heads"]
        return [(head, self.before["heads"][head]["recall@10"], heads[head]["recall@10"]) for head in heads]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """Data and an engine that can run: what the recipes of the demo need."""

    folder: Path
    data: demo.DemoData
    engine: str
    progress: Progress


def prepare(folder: Path, chosen: Settings, *, engine: str | None, progress: Progress) -> Prepared:
    """Make the data set, and the image or the environment when it is not there.

    Args:
        folder: where everything goes; it must not exist.
        engine: ``docker`` or ``venv``; None: by settings, where ``auto`` takes containers if an engine
            answers and can build the image.

    Raises:
        LaunchError: no data, image or environment can be made here.
    """
    data = demo.write(folder / "data")
    progress.say(f"data: {data.rows} rows, {data.held_out} held-out queries, {data.passages} passages")
    return Prepared(folder=folder, data=data, engine=_engine(engine, chosen, progress), progress=progress)


def run(prepared: Prepared, chosen: Settings, *, watch: Watch) -> Report:
    """Make a tiny model, measure, train, measure again.

    Raises:
        LaunchError: a step could not be planned or started, or failed.
    """
    data, steps = prepared.data, _Steps(prepared=prepared, chosen=chosen, watch=watch)
    tiny = steps.run("tiny-xlmr", (data.train,), None, "tiny", demo.TINY_PARAMETERS)
    dev = (data.dev, data.corpus)
    before = steps.run("evaluate", dev, tiny.place.output, "before", demo.EVALUATION_PARAMETERS)
    trained = steps.run(
        "bge-m3-unified", (data.train,), tiny.place.output, "model", demo.RECIPE_PARAMETERS, nproc=demo.NPROC
    )
    after = steps.run("evaluate", dev, trained.place.output, "after", demo.EVALUATION_PARAMETERS)
    return Report(
        folder=prepared.folder,
        data=data,
        engine=prepared.engine,
        seconds=trained.result.seconds,
        before=_metrics(before),
        after=_metrics(after),
    )


def _engine(engine: str | None, chosen: Settings, progress: Progress) -> str:
    """The engine to use; with containers, the image is built when it is not there."""
    wanted = engine or chosen.engine.value
    if wanted == "venv":
        return "venv"
    try:
        connect().close()
        images.build(
            "cpu",
            base=chosen.base.value,
            without=(),
            no_cache=False,
            verify=False,
            secrets=(),
            progress=progress,
        )
    except (BuildError, EngineError) as error:
        if wanted == "docker":
            raise
        why = error.message
        if isinstance(error, BuildError) and error.why:
            why += f" ({error.why.splitlines()[-1]})"  # of a step's output the last line says it
        progress.say(f"{why}: running without a container, from the same lock")
        return "venv"
    return "docker"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Steps:
    prepared: Prepared
    chosen: Settings
    watch: Watch

    def run(
        self,
        recipe: str,
        data: tuple[Path, ...],
        model: Path | None,
        output: str,
        parameters: tuple[tuple[str, str], ...] = (),
        *,
        nproc: int | None = None,
    ) -> Ended:
        """One recipe, as ``launch run`` would run it; its record goes to the demo's own runs/."""
        request = planning.Request(
            recipe=recipe,
            target="cpu",
            engine=self.prepared.engine,
            data=data,
            model=str(model) if model else None,
            output=self.prepared.folder / output,
            parameters=dict(parameters),
            nproc=nproc,
        )
        planned = planning.make(request, self.chosen, dry_run=False, progress=self.prepared.progress)
        begun = execute.begin(planned, parent=self.prepared.folder / "runs")
        with self.watch(planned.plan) as view:
            ended = execute.execute(begun, view, grace=self.chosen.stop_grace.value)
        if ended.error is not None:
            raise ended.error
        if ended.result.exit_code:
            raise RecipeFailedError(
                f"{recipe} failed",
                exit_code=ended.result.exit_code,
                why="\n".join(ended.tail),
                hint=f"log: {ended.place.run / 'log.txt'}",
            )
        return ended


def _metrics(ended: Ended) -> dict[str, Any]:
    found = json.loads((ended.place.output / "metrics.json").read_text(encoding="utf-8"))
    return dict(found)
