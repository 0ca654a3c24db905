"""Whether two models say the same: logits on the same texts, and the tokens that follow from them.

The texts are prompts, each with what the first model answers greedily; every position of the answer counts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from llm import generating

#: What a merged model is asked: prose, instructions, code and Chinese, for adapters change each of them.
PROMPTS = (
    "What is the capital of France, and what is it known for?",
    "Rewrite in one sentence: the meeting was moved to Friday because the room was taken.",
    "def add(a, b):",
    "用一句话介绍你自己。",
)

#: Tokens of each answer that are compared.
_NEW = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """A text, and what the first model makes of it.

    Attributes:
        numbers: prompt and answer as tokens.
        answer: where the answer begins.
        logits: float32 [positions of the answer, vocabulary].
        effect: how far the adapters moved them, in the measure of :class:`Difference`.
    """

    numbers: list[int]
    answer: int
    logits: Any
    effect: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """How far a second model is from the first.

    Attributes:
        error: root mean square of the logits' difference over the standard deviation of the first one's
            logits; the worst probe counts. NaN when there are such.
        effect: the same between base and base with adapters, the least moved probe: what an error is seen
            against.
        tokens: compared greedy tokens.
        equal: of them, the same in both.
        torn: of the others, those that were no near tie: the first model preferred its own by more than
            ``4 * tolerance`` standard deviations.
        strict: only rounding to 16 bit lies between the two: no token may be torn, and the adapters must be
            seen.
    """

    error: float
    effect: float
    tokens: int
    equal: int
    torn: int
    tolerance: float
    strict: bool = True

    @property
    def passed(self) -> bool:
        """Whether the second is the first, up to rounding.

        An error must be within the tolerance, and less than half of what the adapters do: adapters that were
        lost would be an error as large as their effect. What moves the logits less than rounding does cannot
        be seen, and is not asked for.
        """
        seen = self.error < self.effect / 2 or self.effect < self.tolerance
        near = self.error <= self.tolerance  # NaN is not
        return near and (not self.strict or (seen and not self.torn))

    def text(self) -> str:
        """For people."""
        return (
            f"logits differ by {self.error:.2%} of their spread (tolerance {self.tolerance:.0%}, the "
            f"adapters move them by {self.effect:.1%}); {self.equal} of {self.tokens} greedy tokens are equal"
            + (f", {self.torn} differ without a near tie" if self.torn else "")
        )


def probes(model: Any, tokenizer: Any, device: str, prompts: Sequence[str] = PROMPTS) -> list[Probe]:
    """What a model with its adapters, not merged, says to each prompt."""
    speaker = generating.Speaker(model, tokenizer, device=device)
    sampling = generating.Sampling(max_new_tokens=_NEW).options()
    found = []
    for prompt in prompts:
        asked = generating.rendered(tokenizer, speaker.positions, [{"role": "user", "content": prompt}])
        numbers = _continued(model, asked.numbers, device, min(_NEW, asked.room), sampling)
        start = len(asked.numbers)
        logits = _logits(model, numbers, start, device)
        with generating.without_adapters(model):
            before = _logits(model, numbers, start, device)
        effect = _distance(logits, before)
        found.append(Probe(numbers=numbers, answer=start, logits=logits, effect=effect))
    return found


def compare(
    model: Any, found: Sequence[Probe], device: str, *, tolerance: float, strict: bool = True
) -> Difference:
    """What another model makes of the same texts; the limits are those of :class:`Difference`."""
    errors, equal, torn, tokens = [], 0, 0, 0
    for probe in found:
        here = _logits(model, probe.numbers, probe.answer, device)[:, : probe.logits.shape[1]]
        there = probe.logits[:, : here.shape[1]]  # tables may be padded to another number of rows
        errors.append(_distance(there, here))
        first, second = there.argmax(-1), here.argmax(-1)
        margin = (there.gather(1, first[:, None]) - there.gather(1, second[:, None])).squeeze(1)
        equal += int((first == second).sum())
        torn += int((margin > 4 * tolerance * there.std(-1)).sum())
        tokens += len(first)
    worst = max(errors, key=lambda error: (error != error, error))
    effect = min(probe.effect for probe in found)
    return Difference(
        error=worst,
        effect=effect,
        tokens=tokens,
        equal=equal,
        torn=torn,
        tolerance=tolerance,
        strict=strict,
    )


def _continued(model: Any, prompt: list[int], device: str, count: int, sampling: dict[str, Any]) -> list[int]:
    """A prompt and so many tokens behind it: an answer that ends early is no reason to compare less."""
    import torch

    numbers = torch.tensor([prompt], device=device)
    with torch.inference_mode():
        made = model.generate(
            input_ids=numbers,
            attention_mask=torch.ones_like(numbers),
            max_new_tokens=count,
            min_new_tokens=count,
            pad_token_id=0,
            **sampling,
        )
    return [int(number) for number in made[0].tolist()]


def _logits(model: Any, numbers: list[int], start: int, device: str) -> Any:
    """float32 [positions, vocabulary] of what follows each position from the prompt's last on."""
    import torch

    with torch.inference_mode():
        found = model(input_ids=torch.tensor([numbers], device=device), use_cache=False).logits
    return found[0, start - 1 : -1].float().cpu()


def _distance(one: Any, two: Any) -> float:
    return float(((one - two).square().mean().sqrt() / one.std()).item())
