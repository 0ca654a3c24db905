"""Rows of supervised fine-tuning: dialogues, instructions with their output, prompts with a completion."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from launcher.data.model import Issue, Rules
from launcher.data.values import kind, text_issues

#: Roles by the names of the two layouts that are in use: OpenAI's messages and ShareGPT's conversations.
ASKING = frozenset({"user", "human"})
ANSWERING = frozenset({"assistant", "gpt", "model", "bing", "chatgpt"})
OTHERS = frozenset({"system", "developer", "tool", "function", "observation", "function_call"})

#: The layouts of a row: key of the dialogue, of a message's role and of its text.
_PLAIN = ("role", "content")
LAYOUTS = (("messages", *_PLAIN), ("conversations", "from", "value"))

#: One of these makes a row a dialogue.
KEYS = frozenset({"messages", "conversations", "instruction", "output", "prompt", "completion"})


def judge_dialogue(row: dict[str, Any], rules: Rules) -> Iterator[Issue]:
    """A row of any of the layouts."""
    for key, role, content in LAYOUTS:
        if key in row:
            yield from _messages(row[key], key, role, content)
            return
    if "instruction" in row or "output" in row:
        yield from _exchange(row, "instruction", "output")
    elif "prompt" in row or "completion" in row:
        yield from _prompt(row)
    else:
        yield Issue(
            "row-unknown", "", "neither messages nor instruction and output nor prompt and completion"
        )


def asked(row: dict[str, Any]) -> str | None:
    """What a row asks first, of any layout that :func:`judge_dialogue` takes; None when it asks nothing."""
    for key, role, content in (*LAYOUTS, ("prompt", *_PLAIN)):
        messages = row.get(key)
        for message in messages if isinstance(messages, list) else ():
            if isinstance(message, dict):
                own_role, own_content = _keys(message, role, content)
                if message.get(own_role) in ASKING:
                    text = _text(message.get(own_content))
                    return text if isinstance(text, str) and text.strip() else None
    texts = [row[key] for key in ("instruction", "prompt", "input") if isinstance(row.get(key), str)]
    return "\n".join(texts) if any(text.strip() for text in texts) else None


def _keys(message: dict[str, Any], role: str, content: str) -> tuple[str, str]:
    """Where a message has its role and its text.

    Files with ShareGPT's key and OpenAI's messages are common, and templates read them.
    """
    return (role, content) if role in message else _PLAIN


def _text(content: object) -> object:
    """A message's text; of parts, as multimodal templates have them, their texts in a row."""
    if not isinstance(content, list):
        return content
    parts = [part.get("text", "") for part in content if isinstance(part, dict)]
    return "".join(part for part in parts if isinstance(part, str)) if parts else None


def _messages(messages: object, key: str, role: str, content: str) -> Iterator[Issue]:
    if not isinstance(messages, list):
        yield Issue("messages-type", key, f"a list of messages, not {kind(messages)}")
        return
    if not messages:
        yield Issue("messages-empty", key, "an empty list")
        return
    roles: list[str] = []
    for position, message in enumerate(messages):
        where = f"{key}[{position}]"
        if not isinstance(message, dict):
            yield Issue("messages-type", where, f"an object with {role} and {content}, not {kind(message)}")
            return
        own_role, own_content = _keys(message, role, content)
        found = message.get(own_role)
        if not isinstance(found, str) or found not in ASKING | ANSWERING | OTHERS:
            text = f"{found!r:.30}" if isinstance(found, str) else kind(found)
            yield Issue("role-unknown", f"{where}.{own_role}", f"a role, not {text}")
            return
        roles.append("user" if found in ASKING else "assistant" if found in ANSWERING else found)
        yield from _content(message, f"{where}.{own_content}", own_content, roles[-1])
    yield from _order(roles, key)


def _content(message: dict[str, Any], where: str, key: str, role: str) -> Iterator[Issue]:
    content = _text(message.get(key))
    called = role in ("assistant", "function_call") and message.get("tool_calls")
    if content is None and called:
        return
    if not isinstance(content, str):
        yield Issue("content-type", where, f"a text, not {kind(content)}")
    elif not content.strip() and not called:
        if role == "assistant":
            yield Issue("answer-empty", where, "empty")
        elif role == "user":
            yield Issue("question-empty", where, "empty")
    else:
        yield from text_issues(content, where)


def _order(roles: list[str], key: str) -> Iterator[Issue]:
    if "assistant" not in roles and "function_call" not in roles:
        yield Issue("answer-missing", key, "no message of the assistant")
        return
    if roles[-1] not in ("assistant", "function_call"):
        yield Issue("answer-not-last", f"{key}[{len(roles) - 1}]", f"the last message is of: {roles[-1]}")
    for position, (before, role) in enumerate(pairwise(roles), start=1):
        late_system = role == "system"
        if late_system or (before == role and role in ("user", "assistant")):
            text = "system comes first" if late_system else f"{role} twice in a row"
            yield Issue("roles-order", f"{key}[{position}]", text)
            return


def _exchange(row: dict[str, Any], question: str, answer: str) -> Iterator[Issue]:
    for key in (question, answer):
        if key not in row:
            rule = "answer-missing" if key == answer else "row-unknown"
            yield Issue(rule, key, "missing")
            continue
        text = row[key]
        if not isinstance(text, str):
            yield Issue("content-type", key, f"a text, not {kind(text)}")
        elif not text.strip():
            yield Issue("answer-empty" if key == answer else "question-empty", key, "empty")
        else:
            yield from text_issues(text, key)
    if not isinstance(row.get("input"), str | None):
        yield Issue("content-type", "input", f"a text, not {kind(row['input'])}")


def _prompt(row: dict[str, Any]) -> Iterator[Issue]:
    """Prompt and completion: two texts, or two lists of messages."""
    prompt, completion = row.get("prompt"), row.get("completion")
    if isinstance(prompt, list) and isinstance(completion, list):
        yield from _messages([*prompt, *completion], "messages", *_PLAIN)
    else:
        yield from _exchange(row, "prompt", "completion")
