"""What result.json says of a run, collected while it goes on or found afterwards."""

import datetime
import json
import platform
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from launcher import metrics, model, paths, runs
from launcher.app.plan import Planned
from launcher.app.verdict import Outcome
from launcher.data.profile import Profile
from launcher.metrics import Event
from launcher.plan import Folders, Model
from launcher.runs import Attempt, Result

#: Digests of the models, as they were at the start: whoever concludes the run later finds them here.
_MODELS = "models.json"

#: What the rows look like, as they were when they were checked.
PROFILE = "profile.json"


class Recorder:
    """Writes the ends of a run's starts, and of the run.

    Args:
        following: the run is about to start: its models are hashed while it goes on. Otherwise they are what
            was noted then.
    """

    def __init__(self, planned: Planned, place: Folders, *, following: bool) -> None:
        self._planned, self._place = planned, place
        self.reported = metrics.Reader(place.run / "metrics.jsonl")
        runs.sweep(place)
        self._models = {
            name: {"name": item.name, "revision": item.revision} for name, item in self._used().items()
        }
        self._hashing: threading.Thread | None = None
        if noted := self._noted():
            self._models = noted
        elif following and not all(item.revision for item in self._used().values()):
            self._hashing = threading.Thread(target=self._hash, daemon=True)
            self._hashing.start()

    def _used(self) -> dict[str, Model]:
        """The model to start from as ``model``, which no parameter may be called, and the parameters' own."""
        plan = self._planned.plan
        return {**({} if plan.model is None else {"model": plan.model}), **dict(plan.models)}

    def _noted(self) -> dict[str, dict[str, str]]:
        """What was hashed before; nothing when that cannot be read: a run's end is worth more."""
        with suppress(OSError, ValueError, RecursionError):
            found = json.loads((self._place.run / _MODELS).read_bytes())
            if isinstance(found, dict) and found.keys() == self._models.keys():
                return found
        return {}

    def _hash(self) -> None:
        known: dict[Path, str] = {}
        for name, item in self._used().items():
            if not item.revision:
                if item.path not in known:
                    known[item.path] = model.weights_sha256(item)
                self._models[name]["weights_sha256"] = known[item.path]
        with suppress(OSError):  # a full disk, say: the result will have them anyway
            paths.write_atomic(self._place.run / _MODELS, json.dumps(self._models, indent=2) + "\n")

    def hashed(self) -> None:
        """Wait until the models' digests are noted, for whoever comes later."""
        if self._hashing is not None:
            self._hashing.join()

    def end(self, attempt: Attempt, outcome: Outcome) -> Attempt:
        """Put the end of one start on the record."""
        failed = f"exit code {outcome.exit_code}" if outcome.exit_code else ""
        runs.make_room(self._place)
        done = replace(
            attempt,
            ended=outcome.ended or runs.moment(),
            recipe_exit=outcome.recipe_exit,
            cause=outcome.message or failed,
            restarts=outcome.restarts,
        )
        runs.write_attempt(self._place.run, done)
        return done

    def close(self, outcome: Outcome) -> Result:
        """Write result.json."""
        if self._hashing is not None:  # many GB take a while: only a good run waits for all of them
            self._hashing.join(None if outcome.exit_code == 0 else 1)
        plan, events = self._planned.plan, list(self._events())
        attempts = runs.attempts(self._place.run)
        last = attempts[-1] if attempts else None
        result = Result(
            run=self._place.run.name,
            recipe=plan.recipe,
            target=plan.target,
            engine=plan.engine,
            stage=outcome.stage,
            exit_code=outcome.exit_code,
            recipe_exit=outcome.recipe_exit,
            error=outcome.message,
            image=plan.image,
            image_digest=last.image_digest if last else None,
            lock_digest=plan.lock_digest,
            data=[{**asdict(file), "path": str(file.path)} for file in plan.data],
            profile=_profile(self._place.run / PROFILE),
            model=self._models.get("model", {}),
            models={name: self._models[name] for name, _ in plan.models},
            started=attempts[0].began if attempts else runs.moment(),
            ended=last.ended if last else runs.moment(),
            seconds=round(sum(_seconds(attempt) for attempt in attempts), 3),
            world_size=plan.world_size or None,
            steps=metrics.steps(events) if plan.world_size else None,
            final=metrics.final_numbers(events),
            outputs={}
            if outcome.exit_code
            else runs.outputs(self._place.output, trained=plan.world_size > 0),
            runtime=metrics.runtime(events),
            buckets=metrics.buckets(events),
            summary=asdict(metrics.summary(events)) if plan.world_size else None,
            failure=_failure(events, last) if outcome.exit_code else None,
            attempts=[asdict(attempt) for attempt in attempts],
            versions={
                "launcher": plan.launcher,
                "python": platform.python_version(),
                plan.engine: last.engine_version if last else "unknown",
            },
            host=asdict(self._planned.host),
        )
        runs.finish(self._place, result)
        return result

    def _events(self) -> Sequence[Event]:
        self.reported.new()
        return self.reported.events


def note_profile(profile: Profile, run: Path) -> None:
    """Keep what the rows look like for the result; a run is as good without."""
    with suppress(OSError):
        paths.write_atomic(run / PROFILE, json.dumps(asdict(profile), indent=2, ensure_ascii=False) + "\n")


def _profile(file: Path) -> dict[str, Any] | None:
    """What the launcher that began the run has noted; None: nothing that can be read."""
    with suppress(OSError, ValueError):
        return dict(json.loads(file.read_bytes()))
    return None


def _failure(events: Sequence[Event], last: Attempt | None) -> dict[str, Any] | None:
    """Of the last start: what an earlier one failed of was overcome."""
    found = metrics.failure(metrics.of_attempt(events, last.newest)) if last else None
    return None if found is None else asdict(found)


def _seconds(attempt: Attempt) -> float:
    if not attempt.ended:
        return 0.0
    began, ended = (datetime.datetime.fromisoformat(text) for text in (attempt.began, attempt.ended))
    return max(0.0, (ended - began).total_seconds())
