"""Rewards of answers: the built-in functions, those of a user's file, and what each of them gives.

All that can be wrong with them is found before a model is loaded: ``choose`` reads names, patterns and the
file, ``try_out`` calls each function once on rows of the data. Standard library only.
"""

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llm import reward_files
from llm.built_in import BUILT_IN, Scores, Settings, said

#: The column of TRL's data set that holds all further columns of a row, as JSON: their values stay what they
#: are, whatever kinds the rows mix.
ROW = "row"

#: Characters of a prompt or an answer in a message.
_SHOWN = 200


class RewardError(RuntimeError):
    """A reward function stopped, or what it returned is no reward."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reward:
    """One function with its share.

    Attributes:
        name: as it is reported.
        weight: of its scores in the sum.
        call: TRL's signature: ``(prompts, completions, completion_ids, …columns, trainer_state)``.
        file: of a user's function; None: a built-in one.
        line: of its definition in the file.
    """

    name: str
    weight: float
    call: Callable[..., Scores]
    file: Path | None = None
    line: int = 0

    @property
    def place(self) -> str:
        """``file:line``, or what it is."""
        return f"{self.file}:{self.line}" if self.file else "built in"


def choose(named: str, file: Path | None, settings: Settings) -> list[Reward]:
    """The rewards of a training.

    Args:
        named: names separated by commas, each perhaps with ``:weight``; empty: every function of the file
            that takes completions, without a file all that are built in.
        file: Python of the user; None: none.
        settings: of the built-in ones.

    Raises:
        RewardError: everything that is wrong, a line each.
    """
    problems: list[str] = []
    wanted = _parsed(named, problems)
    own = reward_files.functions(file, problems) if file is not None else {}
    taken = [name for name in own if name in BUILT_IN]
    if not wanted:
        wanted = dict.fromkeys(own if file else BUILT_IN, 1.0)
        if file is not None and not wanted and not problems:
            problems.append(f"{file}: no function in it takes completions")
    found = []
    for name, weight in wanted.items():
        if name in taken:
            problems.append(f"{file}:{own[name].line}: {name} is built in; give your function another name")
        elif name in BUILT_IN:
            try:
                found.append(Reward(name=name, weight=weight, call=BUILT_IN[name](settings)))
            except re.error as error:
                problems.append(f"reward {name}: its pattern is no regular expression: {error}")
        elif name in own:
            found.append(
                Reward(name=name, weight=weight, call=own[name].call, file=file, line=own[name].line)
            )
        elif not problems:  # a file that could not be read has nothing
            known = ", ".join((*BUILT_IN, *own))
            where = f"{file} has no public function" if file else "there is no built-in reward"
            hint = "" if file else "; functions of your own come by --reward-file"
            problems.append(f"rewards: {where} {name}; there are {known}{hint}")
    if problems:
        raise RewardError("\n".join(problems))
    return found


def _parsed(named: str, problems: list[str]) -> dict[str, float]:
    """Name -> weight."""
    found: dict[str, float] = {}
    for part in filter(None, (each.strip() for each in named.split(","))):
        name, separator, text = (each.strip() for each in part.partition(":"))
        try:
            weight = float(text) if separator else 1.0
        except ValueError:
            weight = math.nan
        if not math.isfinite(weight):
            problems.append(f"rewards: {part!r}: a weight is a number, as in format:0.5")
        elif not name.isidentifier():
            problems.append(f"rewards: {part!r}: {name!r} is not a function's name")
        elif name in found:
            problems.append(f"rewards: {name} is there twice")
        else:
            found[name] = weight
    return found


def try_out(chosen: Sequence[Reward], rows: Sequence[Mapping[str, Any]], *, spoken: bool) -> None:
    """Call each function once, as the training will.

    Args:
        rows: some of the data's, with ``prompt``.
        spoken: prompts and completions are messages, not texts.

    Raises:
        RewardError: everything that is wrong, a line each.
    """
    problems = []
    given = _trial(rows, spoken=spoken)
    for reward in chosen:
        if misfit := reward_files.misfit(reward.call, given):
            problems.append(f"{reward.place}: {reward.name}: {misfit}")
            continue
        try:
            _judged(reward, given)
        except RewardError as error:
            problems.append(f"{error} (tried with made-up answers, before the training)")
    if problems:
        raise RewardError("\n".join(problems))


def _trial(rows: Sequence[Mapping[str, Any]], *, spoken: bool) -> dict[str, Any]:
    """What TRL passes (0.20 all but the last two), with answers that a model might give."""
    texts = ["", "<think>because</think> <answer>42</answer>", "I do not know."]
    texts = [texts[number % len(texts)] for number in range(len(rows))]
    return {
        **_columns([{key: value for key, value in row.items() if key != "prompt"} for row in rows]),
        "prompts": [row["prompt"] for row in rows],
        "completions": [[{"role": "assistant", "content": text}] if spoken else text for text in texts],
        "completion_ids": [[0] for _ in rows],
        "trainer_state": None,
        "log_extra": lambda *_: None,
        "log_metric": lambda *_: None,
    }


def for_trainer(reward: Reward, *, spoken: bool, opening: str) -> Callable[..., list[float | None]]:
    """A function that TRL calls by its own signature, and reports under the reward's name.

    Args:
        reward: what it is about.
        spoken: the rows have messages; otherwise the function sees texts, also where the model's chat
            template made messages of them.
        opening: what the template itself puts before an answer, such as ``<think>``: a built-in function
            sees it as a part of the answer.
    """

    def judge(
        prompts: list[Any], completions: list[Any], row: list[str] | None = None, **more: Any
    ) -> list[float | None]:
        if reward.file is None:
            completions = [opening + said(each) for each in completions]
        elif not spoken:
            prompts, completions = [*map(said, prompts)], [*map(said, completions)]
        columns = _columns([json.loads(each) for each in row or ["{}"] * len(completions)])
        return _judged(reward, {**columns, **more, "prompts": prompts, "completions": completions})

    judge.__name__ = judge.__qualname__ = reward.name
    return judge


def _columns(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in names}


def _judged(reward: Reward, given: Mapping[str, Any]) -> list[float | None]:
    """What a function gives, checked.

    Raises:
        RewardError: it stopped, or gave something else than one finite number (or None) for each completion.
    """
    count = len(given["completions"])
    try:
        found = reward.call(**given)
    except Exception as error:
        sample = _failing_sample(reward, given)
        raise RewardError(f"{_named(reward, given)} stopped: {_of(error, reward)}{sample}") from error
    try:
        scores = [*found]
    except TypeError:
        raise RewardError(
            f"{_named(reward, given)}: it returned {_kind(found)}, no list of numbers"
        ) from None
    if len(scores) != count:
        raise RewardError(f"{_named(reward, given)}: {len(scores)} numbers for {count} completions")
    for number, score in enumerate(scores):
        problem = _problem(score)
        if problem:
            raise RewardError(f"{_named(reward, given)}: {problem}{_sample(number, given)}")
    return [None if score is None else float(score) for score in scores]


def _problem(score: object) -> str:
    """Why this is no reward; empty: it is one. None stands for: this function says nothing of that answer."""
    if score is None:
        return ""
    try:
        value = float(score)  # type: ignore[arg-type] # numbers of numpy and torch have it too
    except (TypeError, ValueError):
        return f"it returned {_kind(score)}, no number"
    return (
        ""
        if math.isfinite(value) and not isinstance(score, str)
        else f"it returned {score!r:.40}, no finite number"
    )


def _failing_sample(reward: Reward, given: Mapping[str, Any]) -> str:
    """The first sample that makes the function stop when it is alone."""
    count = len(given["completions"])
    for number in range(count):
        alone = {
            name: [value[number]] if isinstance(value, list) and len(value) == count else value
            for name, value in given.items()
        }
        try:
            reward.call(**alone)
        except Exception:  # noqa: BLE001 - whatever a user's function raises
            return _sample(number, given)
    return f"; with all {count} samples at once, with none of them alone"


def _named(reward: Reward, given: Mapping[str, Any]) -> str:
    step = getattr(given.get("trainer_state"), "global_step", None)
    return f"reward {reward.name} ({reward.place})" + ("" if step is None else f", step {step}")


def _of(error: Exception, reward: Reward) -> str:
    line = reward_files.line_of(error, reward.file) if reward.file else 0
    return f"{type(error).__name__}: {error}" + (f" (line {line})" if line else "")


def _sample(number: int, given: Mapping[str, Any]) -> str:
    prompt, completion = said(given["prompts"][number]), said(given["completions"][number])
    shown = (text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…" for text in (prompt, completion))
    asked, answered = (repr(text) for text in shown)
    return f"; sample {number + 1} of {len(given['completions'])}: prompt {asked}, answer {answered}"


def _kind(value: object) -> str:
    return "None" if value is None else f"a value of the type {type(value).__name__}"
