"""recipes/llm-grpo.sh as the launcher sees it: what it refuses before anything starts."""

from typing import Any

import pytest

from launcher.errors import DataError, RefusedError, UsageError


@pytest.mark.parametrize(
    ("target", "parameters", "reason"),
    [
        ("cpu", {"use_vllm": "true"}, "cuda-vllm alone"),
        ("cuda", {"use_vllm": "true"}, "cuda-vllm alone"),
        ("cuda-vllm", {"method": "full"}, "adapters alone"),  # vLLM and Unsloth are its defaults
        ("cuda-vllm", {"method": "full", "unsloth": "false", "load_in_4bit": "true"}, "4 bit are frozen"),
        ("xpu", {"loss_type": "dapo"}, "bnpo is the nearest"),
    ],
)
def test_options_that_do_not_go_together(
    bench: Any, target: str, parameters: dict[str, str], reason: str
) -> None:
    with pytest.raises(RefusedError) as caught:
        bench.plan(recipe="llm-grpo", target=target, parameters=parameters)
    assert reason in " ".join(caught.value.problems)


def test_vllm_with_all_weights_is_trls(bench: Any) -> None:
    plan = bench.plan(
        recipe="llm-grpo", target="cuda-vllm", parameters={"method": "full", "unsloth": "false"}
    ).plan
    assert dict(plan.parameters)["use_vllm"] == "true"


def test_groups_are_whole(bench: Any) -> None:
    with pytest.raises(UsageError, match="8 answers cannot be shared out in groups of 6"):
        bench.plan(recipe="llm-grpo", target="cpu", parameters={"num_generations": "6"})
    assert bench.plan(recipe="llm-grpo", target="cpu", nproc=3, parameters={"num_generations": "6"}).plan
    with pytest.raises(UsageError, match="8 answers"):
        bench.plan(recipe="llm-grpo", target="cpu", arguments=("--num_generations", "3"))


def test_rows_need_an_answer_for_exact_alone(bench: Any) -> None:
    rows = bench.folder / "rows.jsonl"
    rows.write_text('{"prompt": "1 + 1?"}\n')
    ready = {"recipe": "llm-grpo", "target": "cpu", "data": (rows,)}
    with pytest.raises(DataError) as caught:
        bench.plan(**ready)
    assert "answer" in caught.value.problems[0]
    assert bench.plan(**ready, parameters={"rewards": "format"}).plan.data[0].rows == 1
    (bench.folder / "mine.py").write_text("")
    own = {"reward_file": str(bench.folder / "mine.py")}
    assert bench.plan(**ready, parameters=own).plan.files[0][0] == "reward_file"
