"""recipes/llm/rewards.py: which functions judge, what is wrong with them before a training, and in one."""

import importlib
import json
import re
import sys
from collections.abc import Coroutine
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

RECIPES = Path(__file__).resolve().parents[2] / "recipes"

GOOD = '''"""Rewards of mine."""
import math

LENGTH = 8

def _hidden(completions, **_): return [9.0 for _ in completions]

def helper(text): return len(text)

def short(completions, **_):
    return [-abs(helper(each) - LENGTH) for each in completions]

async def late(prompts, completions, level=None, **_):
    return [None if each is None else each for each in level]
'''

ROWS = [{"prompt": "one?", "answer": "1", "level": 2}, {"prompt": "two?", "answer": 2, "level": None}]


def module(name: str) -> ModuleType:
    """A module of recipes/llm; none of them imports a library before it is used."""
    if str(RECIPES) not in sys.path:
        sys.path.append(str(RECIPES))
    return importlib.import_module(f"llm.{name}")


rewards, built_in = module("rewards"), module("built_in")
Settings, RewardError = built_in.Settings, rewards.RewardError


def chosen(
    named: str = "", code: str | None = None, folder: Path | None = None, **settings: str
) -> list[Any]:
    file = None
    if code is not None:
        assert folder is not None
        file = folder / "mine.py"
        file.write_text(code)
    return list(rewards.choose(named, file, Settings(**settings)))


def spoken(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


@pytest.fixture(autouse=True)
def no_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """A loop has a socket, which no unit test opens; these coroutines wait for nothing."""

    def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
        try:
            coroutine.send(None)
        except StopIteration as ended:
            return ended.value
        raise AssertionError("it waits")

    monkeypatch.setattr("llm.reward_files.asyncio.run", run)


# ------------------------------------------------------------------------------------------ which ones
def test_without_names_all_that_there_are(tmp_path: Path) -> None:
    assert [(each.name, each.weight, each.place) for each in chosen()] == [
        ("format", 1.0, "built in"),
        ("exact", 1.0, "built in"),
    ]
    found = chosen("", GOOD, tmp_path)
    assert [(each.name, each.place) for each in found] == [
        ("short", f"{tmp_path / 'mine.py'}:10"),
        ("late", f"{tmp_path / 'mine.py'}:13"),
    ]
    assert not (tmp_path / "__pycache__").exists()


def test_names_with_weights(tmp_path: Path) -> None:
    found = chosen(" format:0.5 ,short:-2, exact", GOOD, tmp_path)
    assert [(each.name, each.weight) for each in found] == [("format", 0.5), ("short", -2.0), ("exact", 1.0)]


@pytest.mark.parametrize(
    ("named", "code", "message"),
    [
        ("exakt", None, "rewards: there is no built-in reward exakt; there are format, exact; functions of"),
        ("shrt", GOOD, "mine.py has no public function shrt; there are format, exact, short, late"),
        ("_hidden", GOOD, "mine.py has no public function _hidden"),
        ("format:much", None, "rewards: 'format:much': a weight is a number"),
        ("format:nan", None, "rewards: 'format:nan': a weight is a number"),
        ("exact,exact:2", None, "rewards: exact is there twice"),
        ("a b", None, "rewards: 'a b': 'a b' is not a function's name"),
        ("", "x = 1\n", "mine.py: no function in it takes completions"),
        ("", "def f(:\n", "mine.py:1: not Python: "),
        ("", "\nimport nowhere_at_all\n", "mine.py:2: it cannot be loaded: ModuleNotFoundError"),
        ("", "\n\nraise SystemExit(3)\n", "mine.py:3: it cannot be loaded: SystemExit"),
        ("", "def exact(completions, **_): return []\n", "mine.py:1: exact is built in"),
        ("format", "def format(completions, **_): return []\n", "mine.py:1: format is built in"),
    ],
)
def test_what_is_wrong_with_them(tmp_path: Path, named: str, code: str | None, message: str) -> None:
    with pytest.raises(RewardError) as caught:
        chosen(named, code, tmp_path)
    assert message in str(caught.value)


def test_everything_that_is_wrong_at_once(tmp_path: Path) -> None:
    with pytest.raises(RewardError) as caught:
        chosen("format:x,exakt,short", GOOD, tmp_path, format_pattern="(")
    assert len(str(caught.value).splitlines()) == 1  # what follows from an unread list is not said
    with pytest.raises(RewardError, match="reward format: its pattern is no regular expression"):
        chosen("format", format_pattern="(")
    with pytest.raises(RewardError, match="cannot be read"):
        rewards.choose("", tmp_path / "nowhere.py", Settings())


@given(st.text(st.sampled_from("ab:,. 05-ñ\t"), max_size=12))
def test_any_list_of_names_is_read_or_refused(named: str) -> None:
    problems: list[str] = []
    found = rewards._parsed(named, problems)
    if not problems:
        again = ",".join(f"{name}:{weight!r}" for name, weight in found.items())
        assert rewards._parsed(again, problems) == found
        assert not problems


# ------------------------------------------------------------------------------------------ tried out
@pytest.mark.parametrize(
    ("code", "message"),
    [
        (
            "def f(completions): return [0.0] * len(completions)\n",
            ":1: f: it cannot be called: got an unexpected keyword",
        ),
        (
            "def f(completions, solution, **_): return [0.0]\n",
            ":1: f: it cannot be called: missing a required argument: 'solution'",
        ),
        (
            "def f(completions, **_):\n    return [1 / (len(each) - 0) for each in completions]\n",
            "mine.py:1) stopped: ZeroDivisionError: division by zero (line 2); sample 1 of 2: prompt 'one?'",
        ),
        (
            "def f(completions, **_): return 1.0\n",
            "it returned a value of the type float, no list of numbers",
        ),
        ("def f(completions, **_): return None\n", "it returned None, no list of numbers"),
        ("def f(completions, **_): return [1.0]\n", ": 1 numbers for 2 completions"),
        ("def f(completions, **_): return ['1' for _ in completions]\n", "it returned '1', no finite number"),
        (
            "def f(completions, **_): return [[] for _ in completions]\n",
            "a value of the type list, no number",
        ),
        (
            "def f(completions, **_): return [float('nan') for _ in completions]\n",
            "it returned nan, no finite number; sample 1 of 2",
        ),
    ],
)
def test_a_function_that_would_fail(tmp_path: Path, code: str, message: str) -> None:
    found = chosen("", code, tmp_path)
    with pytest.raises(RewardError) as caught:
        rewards.try_out(found, ROWS, spoken=False)
    assert message in str(caught.value)


def test_good_ones_pass(tmp_path: Path) -> None:
    rewards.try_out(chosen("format,exact,short,late", GOOD, tmp_path), ROWS, spoken=False)
    read = "def f(completions, **_): return [len(each[0]['content']) for each in completions]\n"
    rewards.try_out(chosen("", read, tmp_path), ROWS, spoken=True)
    with pytest.raises(RewardError, match="no column 'solution'"):
        rewards.try_out(chosen("exact", answer_column="solution"), ROWS, spoken=False)


# ------------------------------------------------------------------------------------ in the training
def called(
    reward: Any, texts: list[str], rows: list[dict[str, Any]], *, messages: bool, opening: str = ""
) -> Any:
    """As TRL calls it: the model's chat template has made messages of everything."""
    judge = rewards.for_trainer(reward, spoken=messages, opening=opening)
    assert judge.__name__ == reward.name
    return judge(
        prompts=[[{"role": "user", "content": row["prompt"]}] for row in rows],
        completions=[spoken(text) for text in texts],
        completion_ids=[[1] for _ in texts],
        row=[json.dumps({key: value for key, value in row.items() if key != "prompt"}) for row in rows],
        trainer_state=SimpleNamespace(global_step=7),
        log_metric=print,
    )


def test_columns_and_texts_reach_a_function(tmp_path: Path) -> None:
    code = (
        "def f(prompts, completions, answer, level, trainer_state, **_):\n"
        "    assert all(isinstance(each, str) for each in prompts + completions), completions\n"
        "    assert trainer_state.global_step == 7\n"
        "    return [None if each is None else each + (text == str(right))\n"
        "            for text, right, each in zip(completions, answer, level)]\n"
    )
    (reward,) = chosen("", code, tmp_path)
    assert called(reward, ["1", "2"], ROWS, messages=False) == [3.0, None]
    (reward,) = chosen("", "def f(completions, **_): return [len(each) for each in completions]\n", tmp_path)
    assert called(reward, ["abc", "d"], ROWS, messages=True) == [1.0, 1.0]  # one message each
    (reward,) = chosen("late", GOOD, tmp_path)
    assert called(reward, ["", ""], ROWS, messages=False) == [2.0, None]


def test_a_failure_names_function_step_and_sample(tmp_path: Path) -> None:
    code = "def f(completions, **_):\n    return [1 / len(each) for each in completions]\n"
    (reward,) = chosen("", code, tmp_path)
    with pytest.raises(RewardError) as caught:
        called(reward, ["x" * 300, ""], ROWS, messages=False)
    assert str(caught.value) == (
        f"reward f ({tmp_path / 'mine.py'}:1), step 7 stopped: ZeroDivisionError: division by zero (line 2); "
        "sample 2 of 2: prompt 'two?', answer ''"
    )
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    code = "def f(completions, **_):\n    return [] if len(completions) == 1 else completions.nothing\n"
    (reward,) = chosen("", code, tmp_path)
    with pytest.raises(RewardError, match="with all 2 samples at once, with none of them alone"):
        called(reward, ["a", "b"], ROWS, messages=False)
    (reward,) = chosen("", "def f(completions, **_): return [1, float('inf')]\n", tmp_path)
    with pytest.raises(
        RewardError, match=r"no finite number; sample 2 of 2: prompt 'two\?', answer 'b{200}…'"
    ):
        called(reward, ["a", "b" * 300], ROWS, messages=False)


# -------------------------------------------------------------------------------------- the built-in ones
@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("<think>because</think><answer>4</answer>", 1.0),
        (" \n<think>\nlong\ntext\n</think>\n\n<answer>\n4\n</answer>\n", 1.0),
        ("<think></think><answer></answer>", 1.0),
        ("<answer>4</answer>", 0.0),
        ("<answer>4</answer><think>because</think>", 0.0),
        ("<think>a</think><think>b</think><answer>4</answer>", 0.0),
        ("<think>a</think><answer>4</answer> and more", 0.0),
        ("<think><answer>x</answer></think><answer>4</answer>", 0.0),
        ("", 0.0),
    ],
)
def test_format(text: str, score: float) -> None:
    (reward,) = chosen("format")
    assert called(reward, [text], ROWS[:1], messages=False) == [score]
    if text.startswith("<think>"):
        rest = text.removeprefix("<think>")
        assert called(reward, [rest], ROWS[:1], messages=False, opening="<think>") == [score]


def test_format_by_a_pattern() -> None:
    (reward,) = chosen("format", format_pattern=r"-.*?\d+\.")
    assert called(reward, ["- first\nsecond 12.", "12."], ROWS, messages=True) == [1.0, 0.0]


@pytest.mark.parametrize(
    ("text", "reference", "is_right"),
    [
        ("<think>hm</think><answer> 42 </answer>", "42", True),
        ("<answer>1</answer> no: <answer>1,000.0</answer>", 1000, True),
        ("thinking…</think>\n The  CAT. ", "the cat", True),
        ("The dog", ["cat", "the dog"], True),
        ("$3.50", "3.5", True),
        ("+7", "7", True),
        ("7", "Janet sells 9 - 2 = 7 eggs.\n#### 7", True),
        ("<answer></answer>", "", False),
        ("13", "3", False),
        ("1,00", "100", False),
        ("42", None, False),
        ("true", True, False),
        ("42", [], False),
        ("1e5", "100000", False),
        ("四十二。", "四十二", True),
    ],
)
def test_exact(text: str, reference: Any, is_right: bool) -> None:
    (reward,) = chosen("exact")
    row = {"prompt": "q", "answer": reference}
    assert called(reward, [text], [row], messages=False) == [float(is_right)]


def test_exact_by_a_pattern_and_a_column() -> None:
    (reward,) = chosen("exact", answer_pattern=r"result: (\S+)", answer_column="level")
    texts = ["result: 1, result: 2", "2"]
    rows = [ROWS[0], {**ROWS[0], "prompt": "other"}]
    assert called(reward, texts, rows, messages=False) == [1.0, 0.0]
    assert built_in.answer_in("a12b345", re.compile(r"\d+")) == "345"


@given(st.text(max_size=20), st.text(max_size=20) | st.integers() | st.floats() | st.none())
def test_any_answer_is_judged(answer: str, reference: Any) -> None:
    assert built_in.right(answer, reference) in (True, False)
    if "####" not in answer and built_in._plain(answer) != "":
        assert built_in.right(answer, f"  {answer} ")
