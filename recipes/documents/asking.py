"""Questions about chunks, by an OpenAI-compatible endpoint that the user names.

What it answered is appended to ``answers.jsonl`` as it comes: who starts again over the same folder, or gives
that file of an earlier run as data, asks for the rest only. The key comes from OPENAI_API_KEY and goes into
one header, nowhere else.
"""

import json
import os
import re
import sys
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from hashlib import sha256
from io import StringIO
from pathlib import Path
from typing import Any

from documents.selection import Chunk, Store

KEY = "OPENAI_API_KEY"

#: Replies, in the output; of an earlier run also among the data.
ANSWERS = "answers.jsonl"

#: Worth another try: too many requests, and what servers say while they start, restart or are overloaded.
_LATER = (408, 409, 425, 429, 500, 502, 503, 504, 529)
_WAIT = 60.0  # seconds at most between two tries, also where the server names more

PROMPTS = {
    "en": (
        "You write training data. Reply with JSON alone: "
        '{{"questions": [{{"question": "…", "answer": "…"}}]}}.',
        "Write {count} questions that the following text answers, each with its answer. A question must be "
        "understandable without the text; an answer must follow from the text alone."
        "\n\nHeading: {heading}\n\n{text}",
    ),
    "zh": (
        '你负责编写训练数据。只回复 JSON：{{"questions": [{{"question": "…", "answer": "…"}}]}}。',
        "请根据下面的文本写出 {count} 个问题及其答案。问题离开文本也应能看懂，答案只能来自文本。"
        "\n\n标题：{heading}\n\n{text}",
    ),
}


class MalformedError(Exception):
    """A reply that is not what was asked for; it is counted, and its chunk gives no row."""


class EndpointError(Exception):
    """The endpoint refuses, or cannot be reached: nothing else will come of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Whom to ask, and how.

    Attributes:
        url: up to and with ``/v1``.
        language: of the prompt and so of the questions: en, zh.
        count: questions about a chunk.
        together: requests at a time.
        tries: of a request, waits between them as the server says, or 1, 2, 4 … seconds.
        seconds: that a reply may take.
    """

    url: str
    model: str
    language: str
    count: int
    together: int = 4
    tries: int = 6
    seconds: float = 120.0

    def messages(self, chunk: Chunk) -> list[dict[str, str]]:
        """What is sent about a chunk."""
        system, user = PROMPTS[self.language]
        asked = user.format(count=self.count, heading=chunk.heading or chunk.name, text=chunk.text)
        return [{"role": "system", "content": system.format()}, {"role": "user", "content": asked}]

    def mark(self, chunk: Chunk) -> str:
        """The same for the same question to the same model."""
        asked = json.dumps([self.model, self.messages(chunk)], ensure_ascii=False)
        return sha256(asked.encode()).hexdigest()


Answers = list[tuple[str, str]]


def parsed(reply: str) -> Answers:
    """Questions and answers of a reply; a fence around the JSON, and a model's thoughts, are passed over.

    Raises:
        MalformedError: there are none.
    """
    text = re.sub(r"<think>.*?</think>", "", reply, flags=re.S)
    start, end = text.find("{"), text.rfind("}")
    try:
        content = json.loads(text[start : end + 1])
        found = [(_said(each["question"]), _said(each["answer"])) for each in content["questions"]]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise MalformedError(f"{type(error).__name__}: {reply[:80]!r}") from None
    found = [(question, answer) for question, answer in found if question and answer]
    if not found:
        raise MalformedError("no question in it")
    return found


def _said(value: object) -> str:
    """A text, or a number as one; null and lists are no answer, though Python would print them."""
    if isinstance(value, str):
        return _whole(value).strip()
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else ""


def _whole(text: str) -> str:
    """JSON may spell half a character, where a reply was cut off: no file could hold it."""
    return text.encode("utf-8", "replace").decode()


@dataclass(slots=True)
class Asked:
    """What was asked so far.

    Attributes:
        known: mark -> reply, of earlier runs over the same folder.
        malformed: chunk's file and what is wrong with the reply.
    """

    file: Path
    known: dict[str, str] = field(default_factory=dict)
    malformed: list[str] = field(default_factory=list)
    requests: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def load(cls, file: Path, earlier: Iterable[Path] = ()) -> "Asked":
        """Replies of this output and of earlier ones; a last line that a kill cut off is asked for again."""
        asked = cls(file)
        for path in (file, *earlier):
            with path.open(encoding="utf-8", errors="replace") if path.is_file() else StringIO() as lines:
                for line in lines:
                    try:
                        row = json.loads(line)
                        asked.known[str(row["mark"])] = str(row["reply"])
                    except (ValueError, KeyError, TypeError):
                        continue
        return asked

    def keep(self, mark: str, reply: str) -> None:
        """Write a reply down before anything is made of it."""
        line = json.dumps({"mark": mark, "reply": reply}, ensure_ascii=False) + "\n"
        with self._lock:
            self.requests += 1
            with self.file.open("a+b") as stream:
                if stream.seek(0, os.SEEK_END):  # a kill may have cut off the last line
                    stream.seek(-1, os.SEEK_END)
                    line = line if stream.read(1) == b"\n" else "\n" + line
                stream.write(line.encode())
                stream.flush()
                os.fsync(stream.fileno())


def ask(
    store: Store, numbers: Sequence[int], endpoint: Endpoint, asked: Asked
) -> Iterator[tuple[int, Answers]]:
    """Questions and answers of each chunk by its position, in the chunks' order; a few requests at a time.

    Raises:
        EndpointError: it refuses, or cannot be reached.
    """
    import httpx

    key = _key()
    if not re.fullmatch("[!-~]*", key):  # the client would repeat it in its error
        raise EndpointError(f"{KEY} holds a character that no header can have: give the key alone")
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    pending: deque[tuple[int, Chunk, Future[str]]] = deque()
    with (
        httpx.Client(headers=headers, timeout=endpoint.seconds) as client,
        ThreadPoolExecutor(endpoint.together) as pool,
    ):
        waiting = iter(numbers)
        try:
            while True:
                while len(pending) < 2 * endpoint.together and (number := next(waiting, None)) is not None:
                    (chunk,) = store.at([number])
                    pending.append((number, chunk, pool.submit(_reply, client, chunk, endpoint, asked)))
                if not pending:
                    return
                number, chunk, future = pending.popleft()
                try:
                    yield number, parsed(future.result())
                except MalformedError as error:
                    asked.malformed.append(f"{chunk.name}: {error}")
        finally:
            pool.shutdown(cancel_futures=True)


def _reply(client: Any, chunk: Chunk, endpoint: Endpoint, asked: Asked) -> str:
    mark = endpoint.mark(chunk)
    if mark in asked.known:
        return asked.known[mark]
    body = {"model": endpoint.model, "messages": endpoint.messages(chunk)}
    content = _posted(client, f"{endpoint.url.rstrip('/')}/chat/completions", body, endpoint.tries)
    try:
        reply = content["choices"][0]["message"]["content"]
    except (KeyError, IndexError, TypeError):
        reply = None
    if not isinstance(reply, str):
        raise MalformedError("a response without a message")
    reply = _whole(reply)
    asked.keep(mark, reply)
    return reply


def _posted(client: Any, url: str, body: dict[str, Any], tries: int) -> Any:
    import httpx
    import tenacity

    def wait(state: tenacity.RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        named = (
            error.response.headers.get("retry-after", "") if isinstance(error, httpx.HTTPStatusError) else ""
        )
        if re.fullmatch(r"\d+(\.\d+)?", named):
            return min(float(named), _WAIT)
        return tenacity.wait_random_exponential(multiplier=1, max=_WAIT)(state)

    def stop(state: tenacity.RetryCallState) -> bool:
        error = state.outcome.exception() if state.outcome else None
        refused = isinstance(error, httpx.ConnectError)  # nobody is there: minutes would not help
        return state.attempt_number >= (min(tries, 3) if refused else tries)

    def again(error: BaseException) -> bool:
        late = isinstance(error, httpx.HTTPStatusError) and error.response.status_code in _LATER
        return late or isinstance(error, httpx.TransportError)

    retrying = tenacity.Retrying(
        stop=stop,
        wait=wait,
        retry=tenacity.retry_if_exception(again),
        reraise=True,
    )

    def once() -> Any:
        response = client.post(url, json=body)
        response.raise_for_status()
        return response.json()

    try:
        return retrying(once)
    except httpx.HTTPStatusError as error:
        status, said = error.response.status_code, masked(error.response.text[:300])
        if status in (400, 413, 422) and "context" in said.lower():
            raise MalformedError(f"the chunk is too long for the model: {said}") from None
        raise EndpointError(f"{url} says {status}: {said}{_hint(status)}") from None
    except httpx.RequestError as error:
        raise EndpointError(
            f"{url} cannot be reached ({masked(str(error)) or type(error).__name__}): a container has "
            "a network with --network bridge only, and 127.0.0.1 is the container itself there"
        ) from None
    except ValueError:
        raise MalformedError("a response that is not JSON") from None


def _hint(status: int) -> str:
    hints = {
        401: f"; give the key with --env {KEY}",
        403: f"; give the key with --env {KEY}",
        404: "; --endpoint ends in /v1, and --endpoint-model names one of its models",
    }
    return hints.get(status, "")


def _key() -> str:
    """Without the line's end that a file of it has."""
    return os.environ.get(KEY, "").strip()


def masked(text: str) -> str:
    """A text of the server without the key, which some repeat in their errors."""
    key = _key()
    return text.replace(key, "…") if key else text


def say(asked: Asked) -> None:
    """What came of it, in the log."""
    print(f"{asked.requests} requests, {len(asked.malformed)} replies that could not be used")
    for each in asked.malformed[:10]:
        print(f"  {each}", file=sys.stderr)
