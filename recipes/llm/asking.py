"""Ask a language model: a file of prompts, or a chat in a terminal.

    python -m llm.asking --model MODEL [--base BASE] --output FOLDER [--data prompts.jsonl]

Adapters are put on their base and not merged, so that both answer from one loaded model. ``answers.jsonl`` in
the output has what was asked and answered. Exit codes: 0, 1 for what is refused, 130 when Ctrl-C ended it.
"""

import argparse
import json
import os
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from llm import adapters, generating, layout, prompts
from llm.adapters import Adapter
from llm.generating import Answer, Message, Rendered, Sampling, Speaker
from llm.layout import Screen
from llm.prompts import Prompt

ANSWERS = "answers.jsonl"

#: 128 + SIGINT, as shells have it.
INTERRUPTED = 130

#: Prompts that are refused one by one; the rest is counted.
_SHOWN = 20

_HELP = "Ctrl-C ends an answer; Ctrl-D or /exit ends the chat; /reset forgets what was said"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the command line asks for.

    Attributes:
        folder: of the model, or of the adapters.
        base: of the adapters; None: the folder is a whole model.
        output: gets ``answers.jsonl``.
    """

    folder: Path
    adapter: Adapter | None
    base: Path | None
    output: Path
    sampling: Sampling
    system: str
    before_after: bool
    thinking: bool
    as_json: bool

    def chat(self, messages: Sequence[Message]) -> list[Message]:
        """Messages behind the system message, unless they have one of their own."""
        own = bool(messages) and messages[0]["role"] == "system"
        before = [{"role": "system", "content": self.system}] if self.system and not own else []
        return [*before, *messages]


class Interrupt:
    """Whether Ctrl-C was pressed while an answer was made."""

    def __init__(self) -> None:
        self.pressed = False

    def seen(self) -> bool:
        """Whether it was, as a question."""
        return self.pressed

    @contextmanager
    def watched(self) -> Iterator[None]:
        """In this block Ctrl-C sets :attr:`pressed`, and interrupts nothing."""
        self.pressed = False

        def note(*_: Any) -> None:
            self.pressed = True

        before = signal.signal(signal.SIGINT, note)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)


def answer_all(speaker: Speaker, asked: Asked, given: Sequence[Prompt], ready: Sequence[Rendered]) -> int:
    """Answer each prompt, show it, and keep all; returns the exit code."""
    rows: list[dict[str, Any]] = []
    interrupt = Interrupt()
    for number, (prompt, text) in enumerate(zip(given, ready, strict=True), 1):
        shown = sys.stderr if asked.as_json else sys.stdout
        if len(given) > 1:
            print(f"\n[{number} of {len(given)}] {layout.visible(prompt.asked)}", file=shown, flush=True)
        with interrupt.watched():
            row = _row(speaker, asked, prompt, text, interrupt, shown)
        if interrupt.pressed and len(given) > 1:
            break  # half an answer says nothing beside whole ones
        rows.append(row)
        if interrupt.pressed:
            break
    if rows:
        keep(asked.output, rows)
    memory = generating.peak_memory(speaker.device)
    if asked.as_json:
        print(json.dumps({"schema": 1, "answers": rows, "peak_memory": memory}, ensure_ascii=False, indent=2))
    elif len(given) > 1:
        print(f"\n{summary(rows, len(given))}; peak memory {memory / 1e9:.2f} GB")
    return INTERRUPTED if interrupt.pressed else 0


def _row(
    speaker: Speaker, asked: Asked, prompt: Prompt, text: Rendered, interrupt: Interrupt, shown: Any
) -> dict[str, Any]:
    """One prompt's row of answers.jsonl, shown as it is made."""
    quiet = asked.as_json or asked.before_after
    row: dict[str, Any] = {"messages": asked.chat(prompt.messages), "place": prompt.place}
    if prompt.expected:
        row["expected"] = prompt.expected
    if asked.before_after:
        with generating.without_adapters(speaker.model):
            before = speaker.answer(text, asked.sampling, stopped=interrupt.seen)
        row["before"] = described(before)
    screen = Screen(thinking=asked.thinking, length=speaker.length)
    tell = {} if quiet else {"said": screen.said}
    answer = speaker.answer(text, asked.sampling, stopped=interrupt.seen, **tell)
    row["answer"] = described(answer)
    memory = generating.peak_memory(speaker.device)
    if asked.before_after and not asked.as_json:
        texts = (layout.whole(before, thinking=asked.thinking), layout.whole(answer, thinking=asked.thinking))
        print(layout.side_by_side(("base", "tuned"), texts))
        print(
            f"base  {layout.figures(before, memory)}\ntuned {layout.figures(answer, memory)}", file=sys.stderr
        )
    elif not asked.as_json:
        screen.done()
        print(layout.figures(answer, memory), file=sys.stderr)
    if prompt.expected:
        print(f"expected: {prompt.expected}", file=shown, flush=True)
    return row


def described(answer: Answer) -> dict[str, Any]:
    """An answer as data; seconds and rates rounded."""
    found = asdict(answer)
    return {name: round(value, 4) if isinstance(value, float) else value for name, value in found.items()}


def summary(rows: Sequence[dict[str, Any]], wanted: int) -> str:
    """How many were answered, and how many as expected."""
    known = [row for row in rows if "expected" in row]
    parts = [f"{len(rows)} of {wanted} answered"]
    for name, title in (("before", "base"), ("answer", "tuned" if rows and "before" in rows[0] else "model")):
        if known and name in known[0]:
            right = sum(row[name]["text"].strip() == row["expected"].strip() for row in known)
            parts.append(f"{title}: {right} of {len(known)} exactly as expected")
    return "; ".join(parts)


def chat(speaker: Speaker, asked: Asked) -> int:
    """Talk until the end of the input; returns the exit code."""
    with suppress(ImportError):
        import readline  # noqa: F401 - input() then has a history and keys to move
    print(f"{_HELP}", flush=True)
    said: list[Message] = []
    rows: list[dict[str, Any]] = []
    interrupt = Interrupt()
    while True:
        try:
            line = input("> ").strip()
        except KeyboardInterrupt:
            print(f"\n{_HELP}", flush=True)
            continue
        except EOFError:
            print()
            return 0
        if line == "/exit":
            return 0
        if line == "/reset":
            said = []
        elif line.startswith("/"):
            print(_HELP)
        elif line:
            said = _turn(speaker, asked, [*said, {"role": "user", "content": line}], interrupt, rows)
            keep(asked.output, rows)


def _turn(
    speaker: Speaker, asked: Asked, said: list[Message], interrupt: Interrupt, rows: list[dict[str, Any]]
) -> list[Message]:
    """One question and its answer; gives what was said so far, thoughts left out as templates expect it."""
    try:
        text = generating.rendered(speaker.tokenizer, speaker.positions, asked.chat(said))
    except ValueError as error:
        print(f"{error} (/reset forgets what was said)", flush=True)
        return said[:-1]
    screen = Screen(thinking=asked.thinking, length=speaker.length)
    with interrupt.watched():
        answer = speaker.answer(text, asked.sampling, said=screen.said, stopped=interrupt.seen)
    screen.done()
    print(layout.figures(answer, generating.peak_memory(speaker.device)), flush=True)
    rows.append({"messages": asked.chat(said), "answer": described(answer)})
    return [*said, {"role": "assistant", "content": answer.text}]


def keep(output: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write ``answers.jsonl``, whole or not at all."""
    handle, name = tempfile.mkstemp(dir=output, prefix=f".{ANSWERS}.")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.chmod(0o644)
        temporary.replace(output / ANSWERS)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def prepared(asked: Asked, given: Sequence[Prompt]) -> tuple[Any, list[Rendered]]:
    """The tokenizer, and all prompts as the model will read them: before it is loaded.

    Raises:
        SystemExit: prompts that do not fit, each with its numbers.
    """
    from transformers import AutoConfig

    tokenizer = adapters.tokenizer_of(asked.folder, asked.base)
    places = generating.positions(AutoConfig.from_pretrained(asked.base or asked.folder))
    ready, problems = [], []
    for prompt in given:
        try:
            ready.append(generating.rendered(tokenizer, places, asked.chat(prompt.messages), prompt.tools))
        except ValueError as error:
            problems.append(f"{prompt.place}: {error}".removeprefix(": "))
    if problems:
        more = [f"… and {len(problems) - _SHOWN} more"] if len(problems) > _SHOWN else []
        raise SystemExit("\n".join([*problems[:_SHOWN], *more]))
    return tokenizer, ready


def _loaded(asked: Asked, tokenizer: Any, *, precision: str, device: str, in_4bit: bool) -> Speaker:
    model = adapters.load(asked.base or asked.folder, precision=precision, device=device, in_4bit=in_4bit)
    if asked.adapter is not None:
        model = adapters.attach(model, asked.adapter, device=device)
    return Speaker(model, tokenizer, device=device)


def _asked(given: argparse.Namespace) -> Asked:
    """What is asked for, judged.

    Raises:
        SystemExit: things that do not go together.
    """
    adapter = adapters.read(given.model) if adapters.is_adapter(given.model) else None
    base = adapters.locate(adapter, given.base) if adapter else None
    if adapter is None and (given.base or given.before_after):
        raise SystemExit(
            f"{given.model} is a whole model: --base and --before-after go with adapters, "
            "which can be taken off"
        )
    if adapter and base:
        adapters.check(adapter, base)
        if given.before_after and adapter.config.get("bias", "none") != "none":
            raise SystemExit(
                "--before-after: these adapters changed biases of the base (bias), which cannot be taken off "
                "again: ask base and adapters one after the other"
            )
    if (given.output / ANSWERS).exists():
        raise SystemExit(f"{given.output / ANSWERS} exists: give another --output")
    sampling = Sampling(
        temperature=given.temperature,
        top_p=given.top_p,
        top_k=given.top_k,
        max_new_tokens=given.max_new_tokens,
        seed=given.seed,
    )
    return Asked(
        folder=given.model,
        adapter=adapter,
        base=base,
        output=given.output,
        sampling=sampling,
        system=given.system,
        before_after=given.before_after,
        thinking=given.thinking,
        as_json=given.json,
    )


def main() -> int:
    """Judge, load, answer."""
    given = _arguments()
    asked = _asked(given)
    if not given.data and asked.before_after:
        raise SystemExit("--before-after goes with prompts, not with a chat")
    asked.output.mkdir(parents=True, exist_ok=True)
    questions = prompts.read(given.data) if given.data else []
    tokenizer, ready = prepared(asked, questions)
    device = adapters.device_of(given.target)
    if not given.data:
        print("loading …", flush=True)  # somebody waits for it
    speaker = _loaded(asked, tokenizer, precision=given.precision, device=device, in_4bit=given.load_in_4bit)
    return answer_all(speaker, asked, questions, ready) if questions else chat(speaker, asked)


def _arguments() -> argparse.Namespace:
    """The command line, as the recipe gives it; booleans are the words true and false."""

    def boolean(word: str) -> bool:
        return {"true": True, "false": False}[word]

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--base", default="")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--data", type=Path, nargs="+", default=[])
    parser.add_argument("--target", default="cpu")
    for name in ("--before-after", "--thinking", "--load-in-4bit"):
        parser.add_argument(name, type=boolean, default=False)
    parser.add_argument("--system", default="")
    parser.add_argument("--temperature", type=float, default=0.0)
    parser.add_argument("--top-p", type=float, default=1.0)
    parser.add_argument("--top-k", type=int, default=0)
    parser.add_argument("--max-new-tokens", type=int, default=512)
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--precision", choices=list(adapters.TYPES), default="fp32")
    parser.add_argument("--json", action="store_true")
    found = parser.parse_args()
    if found.temperature < 0 or not 0 < found.top_p <= 1 or found.top_k < 0 or found.max_new_tokens < 1:
        raise SystemExit("temperature and top_k from 0 on, top_p above 0 up to 1, max_new_tokens from 1 on")
    return found


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
