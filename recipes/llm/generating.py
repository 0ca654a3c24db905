"""Answers of a loaded model: rendered by its chat template, generated token by token, timed."""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from llm import answers, thinking

#: A message of a chat: role and content.
Message = dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How the next token is chosen.

    Attributes:
        temperature: 0: always the most likely one, and nothing below counts.
        top_p: only the most likely tokens that reach this probability together; 1: all.
        top_k: only so many of the most likely ones; 0: all.
        max_new_tokens: of an answer, thoughts included.
        seed: of the choices; each answer begins with it.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    max_new_tokens: int = 512
    seed: int = 42

    def options(self) -> dict[str, Any]:
        """As transformers' generate takes them; what the model's own files say of sampling is set aside."""
        # Chat models bring penalties along, by which greedy is not the most likely token any more.
        plain = {"num_beams": 1, "repetition_penalty": 1.0, "no_repeat_ngram_size": 0, "min_p": None}
        if not self.temperature:
            return {**plain, "do_sample": False, "temperature": None, "top_p": None, "top_k": None}
        return {
            **plain,
            "do_sample": True,
            "temperature": float(self.temperature),
            "top_p": float(self.top_p),
            "top_k": self.top_k,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendered:
    """A prompt as the model reads it.

    Attributes:
        numbers: its tokens.
        text: what they say.
        room: tokens that the model has places for behind it.
    """

    numbers: list[int]
    text: str
    room: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a model said, and how fast.

    Attributes:
        thoughts: tokens of them, 0: it did not think aloud.
        stop: ``end`` when the model ended it, ``length`` at the limit, ``interrupted`` by Ctrl-C.
        first_token: seconds to it: the prompt is read in that time.
        rate: tokens per second from the first on; 0 of a single token.
    """

    text: str
    thinking: str
    thoughts: int
    tokens: int
    stop: str
    first_token: float
    seconds: float
    rate: float


class Speaker:
    """A loaded model and its tokenizer."""

    def __init__(self, model: Any, tokenizer: Any, *, device: str) -> None:
        self.model, self.tokenizer, self.device = model, tokenizer, device

    @property
    def positions(self) -> int:
        """See :func:`positions`."""
        return positions(self.model.config)

    def length(self, text: str) -> int:
        """Of a text, in tokens."""
        return len(self.tokenizer.encode(text, add_special_tokens=False))

    def answer(
        self,
        prompt: Rendered,
        sampling: Sampling,
        *,
        said: Callable[[bool, str], None] = lambda thought, text: None,
        stopped: Callable[[], bool] = lambda: False,
    ) -> Answer:
        """Generate an answer.

        Args:
            prompt: see :func:`rendered`.
            sampling: how.
            said: told each piece as it comes: whether it is a thought, and the text.
            stopped: asked after each token; True ends the answer.
        """
        import torch
        from transformers import StoppingCriteriaList

        listener = _Listener(self.tokenizer, prompt, said)
        torch.manual_seed(sampling.seed)
        numbers = torch.tensor([prompt.numbers], device=self.device)
        begun = time.perf_counter()
        with torch.inference_mode():
            made = self.model.generate(
                input_ids=numbers,
                attention_mask=torch.ones_like(numbers),
                max_new_tokens=min(sampling.max_new_tokens, prompt.room),
                eos_token_id=ends(self.model, self.tokenizer),
                pad_token_id=_padding(self.tokenizer),
                streamer=listener,
                stopping_criteria=StoppingCriteriaList(
                    [lambda *_, **__: torch.tensor([stopped()], device=self.device)]
                ),
                **sampling.options(),
            )
        ended = time.perf_counter()
        new = made[0, len(prompt.numbers) :].tolist()
        text = self.tokenizer.decode(new, skip_special_tokens=True)
        thoughts, words = thinking.parted(text, prompt.text)
        first = listener.first or ended
        closed = bool(new) and new[-1] in ends(self.model, self.tokenizer)
        return Answer(
            text=words,
            thinking=thoughts,
            thoughts=self.length(thoughts) if thoughts else 0,
            tokens=len(new),
            stop="end" if closed else "interrupted" if stopped() else "length",
            first_token=first - begun,
            seconds=ended - begun,
            rate=(len(new) - 1) / (ended - first) if len(new) > 1 and ended > first else 0.0,
        )


#: Tokens that are decoded anew for each piece of an answer; at the end of a line they may be forgotten, since
#: no character and no word goes on behind it.
_DECODED = 200


class _Listener:
    """transformers' streamer: hears of every token as it is made."""

    def __init__(self, tokenizer: Any, prompt: Rendered, said: Callable[[bool, str], None]) -> None:
        self._tokenizer, self._said = tokenizer, said
        self._parter = thinking.Parter(prompt.text)
        self._waiting, self._shown = True, ""
        self._new: list[int] = []
        self.first = 0.0

    def put(self, numbers: Any) -> None:
        """The prompt, then each new token."""
        if self._waiting:  # the prompt comes first
            self._waiting = False
            return
        self.first = self.first or time.perf_counter()
        self._new += numbers.flatten().tolist()
        text = self._tokenizer.decode(self._new, skip_special_tokens=True)
        if not text.endswith("�"):  # half a character: the rest of it comes with the next token
            self._tell(self._parter.feed(text.removeprefix(self._shown)))
            self._shown = text
            if text.endswith("\n") and len(self._new) > _DECODED:
                self._new, self._shown = [], ""

    def end(self) -> None:
        """There will be no more."""
        text = self._tokenizer.decode(self._new, skip_special_tokens=True)
        self._tell(self._parter.feed(text.removeprefix(self._shown)))
        self._tell(self._parter.finish())

    def _tell(self, pieces: Iterator[tuple[bool, str]]) -> None:
        for thought, text in pieces:
            self._said(thought, text)


def positions(config: Any) -> int:
    """The longest text that a model was made for, in tokens; 0: its configuration names none."""
    found = getattr(config, "max_position_embeddings", None)
    if found is None and hasattr(config, "get_text_config"):
        found = getattr(config.get_text_config(), "max_position_embeddings", None)
    return int(found or 0)


def ends(model: Any, tokenizer: Any) -> list[int]:
    """Tokens that end an answer: the model's, the tokenizer's, and its template's."""
    own = getattr(model.generation_config, "eos_token_id", None)
    found = [*(own if isinstance(own, list) else [own]), tokenizer.eos_token_id, answers.end(tokenizer)]
    return sorted({number for number in found if number is not None})


def _padding(tokenizer: Any) -> int | None:
    own: int | None = tokenizer.pad_token_id
    return tokenizer.eos_token_id if own is None else own


def rendered(tokenizer: Any, places: int, messages: Sequence[Message], tools: Any = None) -> Rendered:
    """A chat as its template has it; without a template the last message is text that is continued.

    Raises:
        ValueError: it leaves no place for an answer, with the numbers; or roles need a template.
    """
    if tokenizer.chat_template:
        text = tokenizer.apply_chat_template(
            list(messages), tools=tools, tokenize=False, add_generation_prompt=True
        )
        numbers = tokenizer(text, add_special_tokens=False)["input_ids"]
    elif len(messages) > 1:
        raise ValueError("the tokenizer has no chat template: a system message or a chat cannot be put")
    else:
        text = messages[0]["content"]
        numbers = tokenizer(text)["input_ids"]
    room = places - len(numbers) if places else 1 << 30
    if room < 1:
        raise ValueError(
            f"the prompt has {len(numbers)} tokens, the model {places} positions: there is no place for an "
            "answer. Shorten it"
        )
    return Rendered(numbers=list(numbers), text=text, room=room)


def peak_memory(device: str) -> int:
    """The most memory that was taken so far, in bytes: of the device, on a CPU of the process."""
    if device == "cpu":
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    import torch

    return int(getattr(torch, device.partition(":")[0]).max_memory_allocated())


@contextlib.contextmanager
def without_adapters(model: Any) -> Iterator[None]:
    """The base that a model with adapters was made on, in the same memory."""
    with model.disable_adapter():
        yield
