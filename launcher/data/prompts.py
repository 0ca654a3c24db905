"""Rows of training by rewards: a prompt, and columns that reward functions read beside the answers."""

from collections.abc import Iterator
from typing import Any

from launcher.data.dialogues import judge_messages
from launcher.data.model import Issue, Rules
from launcher.data.values import kind, text_issues

#: What TRL 0.20 and 1.2 pass to reward functions themselves (GRPOTrainer._calculate_rewards).
TAKEN = (
    "prompts",
    "completions",
    "completion_ids",
    "trainer_state",
    "log_extra",
    "log_metric",
    "environments",
)


def judge_prompt(row: dict[str, Any], rules: Rules) -> Iterator[Issue]:
    """A row with a prompt, as text or as messages."""
    prompt = row.get("prompt")
    if prompt is None:
        yield Issue("prompt-missing", "prompt", "missing")
    elif isinstance(prompt, list):
        yield from _messages(prompt)
    elif not isinstance(prompt, str):
        yield Issue("content-type", "prompt", f"a text or a list of messages, not {kind(prompt)}")
    elif not prompt.strip():
        yield Issue("prompt-empty", "prompt", "empty")
    else:
        yield from text_issues(prompt, "prompt")
    for name in TAKEN:
        if name in row:
            yield Issue("column-taken", name, "a name that the trainer uses itself")
    if rules.reference:
        yield from _reference(row.get(rules.reference), rules.reference)


def _messages(prompt: list[Any]) -> Iterator[Issue]:
    roles: list[str] = []
    yield from judge_messages(prompt, "prompt", "role", "content", roles)
    if not roles:
        return
    if "user" not in roles:
        yield Issue("prompt-empty", "prompt", "no message of the user")
    elif roles[-1] == "assistant":
        yield Issue("prompt-answered", f"prompt[{len(roles) - 1}]", "the last message is of: assistant")


def _reference(value: object, name: str) -> Iterator[Issue]:
    """What an answer is compared with: a text or a number, or several of which one is enough."""
    several = value if isinstance(value, list) else [value]
    for each in several:
        if isinstance(each, bool) or not isinstance(each, str | int | float):
            yield Issue("reference-missing", name, f"a text or a number, not {kind(each)}")
        elif isinstance(each, str) and not each.strip():
            yield Issue("reference-missing", name, "empty")
    if not several:
        yield Issue("reference-missing", name, "an empty list")
