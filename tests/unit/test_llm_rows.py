"""recipes/llm: which tokens carry loss, rows of every layout, arguments. Real tokenizers: tests/runtime."""

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import jinja2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.data.model import Rules
from launcher.data.rows import judge_row

RECIPES = Path(__file__).resolve().parents[2] / "recipes"


def module(name: str) -> ModuleType:
    """A module of recipes/llm; none of them imports a library before it is used."""
    if str(RECIPES) not in sys.path:
        sys.path.append(str(RECIPES))
    return importlib.import_module(f"llm.{name}")


answers, rows, templates, options = map(module, ("answers", "rows", "templates", "options"))

CHATML = templates.NAMED["chatml"][0]
#: As Qwen 3's: thoughts of earlier turns are left out, an empty one is put before the last answer.
THINKING = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' }}"
    "{% if message['role'] == 'assistant' %}{% if loop.last %}{{ '<think>\\n\\n</think>\\n\\n' }}{% endif %}"
    "{{ message['content'].split('</think>')[-1].lstrip('\\n') }}"
    "{% else %}{{ message['content'] }}{% endif %}{{ '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
#: As DeepSeek's: the prompt opens a thought, which the written dialogue has not.
OPENING = (
    "{% for message in messages %}{% if message['role'] == 'user' %}{{ '<|User|>' + message['content'] }}"
    "{% else %}{{ '<|Assistant|>' + message['content'] + '<|im_end|>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|Assistant|><think>\\n' }}{% endif %}"
)
#: As Mistral's: no word of the assistant at all, and no end behind an answer.
BARE = (
    "{% for message in messages %}{% if message['role'] == 'user' %}"
    "{{ '[INST] ' + message['content'] + ' [/INST]' }}"
    "{% else %}{{ ' ' + message['content'] }}{% endif %}{% endfor %}"
)
#: As Gemma's: no system, and turns that alternate.
STRICT = (
    "{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}"
    "{{ '<turn>' + message['role'] + '\\n' + message['content'] + '<end>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<turn>model\\n' }}{% endif %}"
)


class Letters:
    """A tokenizer whose tokens are letters."""

    is_fast = True
    bos_token, eos_token, eos_token_id = "", "$", ord("$")

    def __init__(self, template: str = CHATML) -> None:
        self.chat_template = template

    def get_vocab(self) -> dict[str, int]:
        return {"<|im_end|>": 1}

    def __call__(self, text: str, **asked: Any) -> dict[str, Any]:
        offsets = {"offset_mapping": [(at, at + 1) for at in range(len(text))]}
        return {"input_ids": [*map(ord, text)], **(offsets if asked.get("return_offsets_mapping") else {})}

    def apply_chat_template(
        self, messages: list[Any], *, tools: Any, tokenize: bool, add_generation_prompt: bool
    ) -> str:
        def refuse(text: str) -> None:
            raise jinja2.TemplateError(text)

        template = jinja2.Environment().from_string(self.chat_template)  # noqa: S701 - texts, no pages
        return template.render(
            messages=messages,
            add_generation_prompt=add_generation_prompt,
            raise_exception=refuse,
            eos_token=self.eos_token,
        )


def told(*texts: str) -> list[dict[str, str]]:
    return [{"role": ("user", "assistant")[number % 2], "content": text} for number, text in enumerate(texts)]


def learned(dialogue: list[dict[str, Any]], template: str) -> list[str]:
    """The pieces of the dialogue that carry loss."""
    ids, mask = answers.encode(dialogue, Letters(template))
    assert len(ids) == len(mask)
    text = "".join(chr(each) if on else "\0" for each, on in zip(ids, mask, strict=True))
    return [part for part in text.split("\0") if part]


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        (CHATML, ["one<|im_end|>", "b<|im_end|>"]),
        (THINKING, ["one<|im_end|>", "<think>\n\n</think>\n\nb<|im_end|>"]),
        (OPENING, ["one<|im_end|>", "b<|im_end|>"]),
        (BARE, [" one", " b$"]),
        (templates.NAMED["alpaca"][0], ["one$", "b$"]),
        (templates.NAMED["llama-3"][0], ["one<|eot_id|>", "b<|eot_id|>"]),
    ],
)
def test_answers_of_every_turn_carry_loss_and_nothing_else(template: str, expected: list[str]) -> None:
    assert learned(told("is b one or b ?", "one", "and one b ?", "b"), template) == expected


def test_the_last_answer_ends_with_a_token_that_ends_it() -> None:
    """A template without such a mark gets one; one with it does not get two."""
    for template, end in ((BARE, "a$"), (CHATML, "a<|im_end|>\n")):
        ids, _ = answers.encode(told("q", "a"), Letters(template), answers_only=False)
        assert "".join(map(chr, ids)).endswith(end)


def test_what_a_template_refuses_is_said_of_the_row() -> None:
    system = [{"role": "system", "content": "s"}, *told("q", "a")]
    with pytest.raises(answers.Unfit, match="the chat template refuses it: roles must alternate"):
        answers.encode(system, Letters(STRICT))
    assert learned(told("q", "a", "q", "b"), STRICT) == ["a<end>", "b<end>"]


@given(
    turns=st.lists(
        st.tuples(*[st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1)] * 2).filter(
            lambda pair: all(text.strip() == text for text in pair)
        ),
        min_size=1,
        max_size=4,
    )
)
def test_any_dialogue_in_chatml(turns: list[tuple[str, str]]) -> None:
    dialogue = told(*[text for pair in turns for text in pair])
    assert learned(dialogue, CHATML) == [f"{answer}<|im_end|>" for _, answer in turns]


@pytest.mark.parametrize(
    "row",
    [
        {"messages": told("q\ni", "a")},
        {"conversations": [{"from": "human", "value": "q\ni"}, {"from": "gpt", "value": "a"}]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "q\ni"}]}, *told("", "a")[1:]]},
        {"instruction": "q", "input": "i", "output": "a"},
        {"prompt": "q\ni", "completion": "a"},
        {"prompt": told("q\ni"), "completion": told("", "a")[1:]},
    ],
)
def test_every_layout_becomes_the_same_dialogue(row: dict[str, Any]) -> None:
    assert rows.messages(row) == told("q\ni", "a")
    assert list(judge_row(row, Rules(format="llm"))) == []


def test_alpacas_history_and_system() -> None:
    row = {"system": "s", "history": [["q1", "a1"]], "instruction": "q2", "output": "a2"}
    assert rows.messages(row) == [{"role": "system", "content": "s"}, *told("q1", "a1", "q2", "a2")]


@pytest.mark.parametrize(
    ("row", "rule"),
    [
        ({"text": " "}, "passage-empty"),
        ({"text": 1}, "field-type"),
        ({"text": "x", "messages": []}, "messages-empty"),
        ({"other": "x"}, "row-unknown"),
        ({"instruction": "q"}, "answer-missing"),
    ],
)
def test_rows_of_either_kind_are_judged_by_its_rules(row: dict[str, Any], rule: str) -> None:
    assert rule in {issue.rule for issue in judge_row(row, Rules(format="llm"))}
    seen = rows.Seen()
    with pytest.raises(answers.Unfit):
        list(rows.encode(row, Letters(), limit=99, answers_only=True, seen=seen))


def write(path: Path, *content: Any) -> Path:
    path.write_text("".join(json.dumps(each) + "\n" for each in content), encoding="utf-8")
    return path


def made(path: Path, limit: int, **more: Any) -> tuple[list[dict[str, Any]], Any]:
    seen = rows.Seen()
    asked = {"limit": limit, "answers_only": True, "seen": seen, **more}
    return list(rows.pieces([path], Letters(), **asked)), seen


def test_long_rows_are_counted_texts_are_split_and_lose_nothing(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", {"text": "0123456789"}, {"messages": told("q", "a" * 50)})
    found, seen = made(path, 80)
    assert [len(piece["input_ids"]) for piece in found] == [11, 80]
    assert (seen.counts["cut"], seen.counts["split"], seen.longest) == (1, 0, 112)
    found, seen = made(path, 112)
    assert seen.counts["cut"] == 0
    found, seen = made(write(tmp_path / "b.jsonl", {"text": "0123456789"}), 4)
    assert "".join(chr(each) for piece in found for each in piece["input_ids"]) == "0123456789$"
    assert [piece["assistant_masks"] for piece in found] == [[0, 1, 1, 1], [0, 1, 1, 1], [0, 1, 1]]
    assert seen.record() == {
        "rows": 1, "made": 3, "tokens": 11, "answer_tokens": 8, "cut": 0, "split": 1, "longest": 11,
    }  # fmt: skip


def test_rows_without_an_answer_are_named_and_refused(tmp_path: Path) -> None:
    long = {"messages": told("q" * 60, "a")}
    path = write(tmp_path / "a.jsonl", {"messages": told("q", "a")}, long, {"instruction": "q"}, [1])
    found, seen = made(path, 60)
    assert len(found) == 1
    with pytest.raises(SystemExit) as refused:
        seen.refuse()
    assert str(refused.value).splitlines() == [
        "nothing is trained:",
        f"{path}:2: no answer is within the first 60 of 122 tokens: raise --max-seq-length",
        f"{path}:3: a question and its answer are two texts",
        f"{path}:4: a row is an object",
    ]
    with pytest.raises(SystemExit, match="the data holds no row"):
        made(write(tmp_path / "b.jsonl"), 60)[1].refuse()


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("{}\n\nx\n")
    (tmp_path / "none").mkdir()
    for path, reason in (
        (tmp_path / "a.jsonl", r"a\.jsonl:3: not JSON"),
        (tmp_path / "b.jsonl", "there is no such file"),
        (tmp_path / "none", "no .jsonl or .json file"),
    ):
        with pytest.raises(SystemExit, match=reason):
            list(rows.read([path]))


def test_a_named_template_ends_texts_as_it_ends_answers() -> None:
    words = Letters("")
    with pytest.raises(SystemExit, match=r"no chat template, as those of base models.*--chat-template"):
        templates.needed(words)
    templates.give(words, "chatml")
    assert (words.eos_token, words.chat_template) == ("<|im_end|>", CHATML)
    with pytest.raises(SystemExit, match=r"no token <\|eot_id\|>, which ends an answer; alpaca needs none"):
        templates.give(words, "llama-3")
    with pytest.raises(SystemExit, match="there is no chat template gpt"):
        templates.give(words, "gpt")


def test_arguments() -> None:
    given_ = (
        "--model_name_or_path m --load_in_4bit true --lora_dropout 0.5 --max_steps 3 --method full".split()
    )
    found, rest = options.parse(given_, options.ModelOptions)
    assert (found.load_in_4bit, found.quantized, found.lora_dropout, found.lora_r) == (True, False, 0.5, 16)
    assert rest == ["--max_steps", "3"]
    for wrong in (["--load_in_4bit", "1"], ["--method", "qlora"], ["--max_seq_length", "x"]):
        with pytest.raises(SystemExit):
            options.parse(["--model_name_or_path", "m", *wrong], options.ModelOptions)
    with pytest.raises(SystemExit):
        options.parse([], options.ModelOptions)
