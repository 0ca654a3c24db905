"""Which tokens of a dialogue are the assistant's own: found for every template, with or without marks in it.

Templates say where answers are by ``{% generation %}``, and most of them do not. So the dialogue is written
down as far as each answer, with and without it: what is between the two is the answer, with the token that
ends it. Some templates rewrite an earlier answer when another follows (thinking is left out); there the
answer's own text is looked for behind its question.
"""

from typing import Any

#: Stands for an answer to see what a template writes around one; of Unicode's private area.
_MARK = "\ue000"


class Unfit(ValueError):  # noqa: N818 - a verdict
    """A row that cannot be trained on; the text says why."""


def encode(
    dialogue: list[dict[str, Any]], tokenizer: Any, *, tools: Any = None, answers_only: bool = True
) -> tuple[list[int], list[int]]:
    """A dialogue's tokens, and 1 for each that carries loss.

    Args:
        dialogue: messages with role and content.
        tokenizer: a fast one of transformers that has a template.
        tools: for the template.
        answers_only: otherwise all tokens carry loss.

    Raises:
        Unfit: the template refuses the dialogue, or rewrites an answer so that it cannot be found.
        SystemExit: the tokenizer cannot say which letters a token stands for.
    """
    text = _written(dialogue, tokenizer, tools)
    found = spans(dialogue, tokenizer, tools, text) if answers_only else [(0, len(text))]
    if answers_only and not tokenizer.is_fast:
        raise SystemExit("loss on answers alone needs a fast tokenizer (tokenizer.json); this model has none")
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=answers_only)
    ids = [*encoded["input_ids"]]
    mask = [1] * len(ids)
    if answers_only:
        offsets = encoded["offset_mapping"]
        mask = [int(any(a < end and start < b for start, end in found)) for a, b in offsets]
    head, tail = _around(dialogue, tokenizer, tools)
    if dialogue[-1]["role"] == "assistant" and head and not tail.strip():
        ids, mask = [*ids, tokenizer.eos_token_id], [*mask, 1]  # or it would never learn to stop
    return ids, mask


def end(tokenizer: Any) -> int | None:
    """The special token that a tokenizer's template writes right behind an answer; None: it writes none.

    It need not be the tokenizer's own end of text: base models have the template of their family, and end
    texts otherwise.
    """
    if not tokenizer.chat_template:
        return None
    dialogue = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "!"}]
    _, tail = _around(dialogue, tokenizer, None)
    numbers = tokenizer(tail.strip(), add_special_tokens=False)["input_ids"] if tail.strip() else []
    special = {number for number, token in tokenizer.added_tokens_decoder.items() if token.special}
    return int(numbers[0]) if numbers and numbers[0] in special else None


def spans(dialogue: list[dict[str, Any]], tokenizer: Any, tools: Any, text: str) -> list[tuple[int, int]]:
    """Begin and end of every answer in the written dialogue, in letters.

    Raises:
        Unfit: an answer cannot be found.
    """
    found: list[tuple[int, int]] = []
    for number, message in enumerate(dialogue):
        if message["role"] == "assistant":
            after = found[-1][1] if found else 0
            found.append(_span(dialogue[: number + 1], tokenizer, tools, text, after))
    return found


def _span(part: list[dict[str, Any]], tokenizer: Any, tools: Any, text: str, after: int) -> tuple[int, int]:
    """The last answer of the first messages."""
    content = (part[-1].get("content") or "").strip()
    asked = _attempt(part[:-1], tokenizer, tools, prompt=True)
    told = _attempt(part, tokenizer, tools)
    head, tail = _around(part, tokenizer, tools)
    begun = bool(asked) and text.startswith(asked)
    if begun and told and text.startswith(told):
        closed = tail.strip() and told.endswith(tail)
        return len(asked), len(told) - (len(tail) - len(tail.rstrip()) if closed else len(tail))
    # The prompt opens a thought that the row has not, or the template leaves an earlier thought out.
    content = content.rpartition("</think>")[2].strip()
    before = len(head) if head and text.startswith(head) else len(asked) if begun else -1
    begin = text.find(content, max(before, after)) if content and before >= 0 else -1
    if begin < 0:
        raise Unfit("the chat template rewrites an answer: loss on answers alone cannot find it")
    end = begin + len(content)
    closing = len(tail.rstrip()) if tail.strip() and text.startswith(tail, end) else 0
    return len(asked) if begun else begin, end + closing


def _around(part: list[dict[str, Any]], tokenizer: Any, tools: Any) -> tuple[str, str]:
    """What the template writes before and behind the last message's text; empty where it cannot be told."""
    found = _attempt([*part[:-1], {**part[-1], "content": _MARK}], tokenizer, tools)
    head, mark, tail = found.partition(_MARK)
    return (head, tail) if mark else ("", "")


def _attempt(part: list[dict[str, Any]], tokenizer: Any, tools: Any, *, prompt: bool = False) -> str:
    """A part of the dialogue; empty where the template takes none such (without a question, for one)."""
    try:
        return _written(part, tokenizer, tools, prompt=prompt) if part else ""
    except Unfit:
        return ""


def _written(part: list[dict[str, Any]], tokenizer: Any, tools: Any, *, prompt: bool = False) -> str:
    try:
        return str(
            tokenizer.apply_chat_template(part, tools=tools, tokenize=False, add_generation_prompt=prompt)
        )
    except Exception as error:  # noqa: BLE001 - templates raise what they like
        raise Unfit(f"the chat template refuses it: {error}") from None
