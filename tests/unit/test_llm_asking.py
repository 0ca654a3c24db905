"""What recipes/llm does to text and to files' headers; the models themselves are in tests/runtime."""

import importlib
import io
import json
import struct
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

RECIPES = str(Path(__file__).resolve().parents[2] / "recipes")
if RECIPES not in sys.path:
    sys.path.append(RECIPES)
adapters: Any = importlib.import_module("llm.adapters")
layout: Any = importlib.import_module("llm.layout")
prompts: Any = importlib.import_module("llm.prompts")
thinking: Any = importlib.import_module("llm.thinking")
generating: Any = importlib.import_module("llm.generating")
cards: Any = importlib.import_module("llm.cards")


# ------------------------------------------------------------------------------------------------- thoughts
@pytest.mark.parametrize(
    ("text", "prompt", "expected"),
    [
        ("<think>a b</think>\n\nc d", "", ("a b", "c d")),
        ("\n<thinking>x<y</thinking>z", "", ("x<y", "z")),
        ("a word, <think>, in an answer", "", ("", "a word, <think>, in an answer")),
        ("<think>never closed", "", ("never closed", "")),
        ("<think>\n\n</think>\n\nplain", "", ("", "plain")),
        ("it goes on</think>so", "<|im_start|>assistant\n<think>\n", ("it goes on", "so")),
        ("[THINK]a[/THINK]b", "", ("a", "b")),
        ("plain", "user said <think> in the middle, then", ("", "plain")),
        ("", "", ("", "")),
    ],
)
def test_thoughts_are_parted(text: str, prompt: str, expected: tuple[str, str]) -> None:
    assert thinking.parted(text, prompt) == expected


_PIECES = st.lists(
    st.sampled_from(
        ["<think>", "</think>", "<thin", "k>", "<", "/", "a", " ", "\n", "[THINK]", "[/THINK]", "想"]
    )
)


@given(pieces=_PIECES, cuts=st.lists(st.integers(1, 5), min_size=1))
def test_thoughts_do_not_depend_on_how_a_text_comes(pieces: list[str], cuts: list[int]) -> None:
    text = "".join(pieces)
    parter, found, at, turn = thinking.Parter(), [], 0, 0
    while at < len(text):
        size = cuts[turn % len(cuts)]
        found += parter.feed(text[at : at + size])
        at, turn = at + size, turn + 1
    found += parter.finish()
    parts = tuple(
        "".join(piece for kind, piece in found if kind is thought).strip() for thought in (True, False)
    )
    assert parts == thinking.parted(text)


@pytest.mark.parametrize(
    ("shown", "expected"),
    [(False, "[thinking … 2 tokens]\nso it is\n"), (True, "[thinking]\na b\n[thought 2 tokens]\nso it is\n")],
)
def test_thoughts_are_folded_while_they_come(shown: bool, expected: str) -> None:
    out = io.StringIO()
    screen = layout.Screen(thinking=shown, length=lambda text: len(text.split()), out=out)
    for thought, text in ((True, "a "), (True, "b"), (False, "\n\nso it"), (False, " is")):
        screen.said(thought, text)
    screen.done()
    assert out.getvalue() == expected


def test_thoughts_that_were_none_are_not_shown() -> None:
    out = io.StringIO()
    screen = layout.Screen(thinking=False, length=len, out=out)
    for thought, text in ((True, "\n"), (True, "\n"), (False, "\n\nso it is")):
        screen.said(thought, text)
    screen.done()
    assert out.getvalue() == "so it is\n"


# ------------------------------------------------------------------------------------------------- columns
def test_side_by_side() -> None:
    text = layout.side_by_side(("base", "tuned"), ("one two three four", "一二三四五六七八九十一二三四"), 56)
    assert text.split("\n") == [
        "base                       | tuned",
        "-------------------------- | --------------------------",
        "one two three four         | 一二三四五六七八九十一二三",
        "                           | 四",
    ]


@given(one=st.text(max_size=60), two=st.text(max_size=60), width=st.integers(52, 90))
def test_columns_keep_their_width_and_their_words(one: str, two: str, width: int) -> None:
    lines = layout.side_by_side(("a", "b"), (one, two), width).split("\n")
    for line in lines:
        assert sum(map(layout._cells, line)) <= width


def test_terminals_obey_no_model() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    out = Terminal()
    layout.Screen(thinking=False, length=len, out=out).said(False, "a\x1b[2Jb\x07\tc\n")
    assert out.getvalue() == "a\ufffd[2Jb\ufffd\tc\n"
    assert "\x1b" not in layout.side_by_side(("a", "b"), ("\x1b[2J", "x\ry"), 60)


def test_narrow_terminals_get_one_below_the_other() -> None:
    assert layout.side_by_side(("base", "tuned"), ("x", "y"), 30) == "base:\nx\ntuned:\ny"


# ------------------------------------------------------------------------------------------------- prompts
@pytest.mark.parametrize(
    ("row", "asked", "expected"),
    [
        ("just a text", ["just a text"], ""),
        ({"prompt": "p", "completion": "c"}, ["p"], "c"),
        ({"instruction": "sum", "input": "1 2", "output": "3"}, ["sum\n1 2"], "3"),
        ({"instruction": "sum", "history": [["1 1", "2"]], "system": "s"}, ["s", "1 1", "2", "sum"], ""),
        ({"prompt": [{"role": "user", "content": "u"}], "answer": 42}, ["u"], "42"),
        (
            {"prompt": [{"role": "user", "content": "u"}], "completion": [{"role": "x", "content": "y"}]},
            ["u"],
            "y",
        ),
        (
            {"conversations": [{"from": "human", "value": "问"}, {"from": "gpt", "value": "答"}]},
            ["问"],
            "答",
        ),
        ({"system": "s", "question": "q", "answer": "a"}, ["s", "q"], "a"),
        (
            {"messages": [{"role": "user", "content": "u"}, {"role": "assistant", "content": "x"}]},
            ["u"],
            "x",
        ),
        (
            {"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]},
            ["s", "u"],
            "",
        ),
    ],
)
def test_rows_as_prompts(row: object, asked: list[str], expected: str) -> None:
    found = prompts.of_row(row)
    assert [message["content"] for message in found.messages] == asked
    assert found.expected == expected


@given(
    row=st.recursive(
        st.none() | st.booleans() | st.text() | st.integers(),
        lambda x: (
            st.lists(x)
            | st.dictionaries(st.sampled_from(["messages", "prompt", "role", "content", "text"]), x)
        ),
    )
)
def test_any_row_is_a_prompt_or_named(row: object) -> None:
    try:
        found = prompts.of_row(row)
    except ValueError as error:
        assert str(error)  # noqa: PT017
    else:
        assert found.asked.strip() or found.messages


def test_files_of_prompts(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\n\n two \n")
    (tmp_path / "b.jsonl").write_text('{"prompt": "three"}\n')
    found = prompts.read([tmp_path / "a.txt", tmp_path / "b.jsonl"])
    assert [(each.asked, each.place) for each in found] == [
        ("one", "a.txt:1"),
        ("two", "a.txt:3"),
        ("three", "b.jsonl:1"),
    ]
    for content, message in (("{", "JSON|Expecting"), ('{"x": 1}', "no messages"), ("\n", "no prompt")):
        (tmp_path / "bad.jsonl").write_text(content)
        with pytest.raises(SystemExit, match=message):
            prompts.read([tmp_path / "bad.jsonl"])


class Words:
    """A tokenizer of words, with or without a template."""

    def __init__(self, template: str) -> None:
        self.chat_template = template

    def apply_chat_template(self, messages: list[dict[str, str]], **_: object) -> str:
        return " ".join(message["content"] for message in messages)

    def __call__(self, text: str, **_: object) -> dict[str, list[int]]:
        return {"input_ids": list(range(len(text.split())))}


def test_a_prompt_beyond_the_positions_is_refused_with_numbers() -> None:
    message = [{"role": "user", "content": "a b c d"}]
    assert generating.rendered(Words("x"), 5, message).room == 1
    with pytest.raises(ValueError, match="4 tokens, the model 4 positions"):
        generating.rendered(Words("x"), 4, message)
    with pytest.raises(ValueError, match="no chat template"):
        generating.rendered(Words(""), 9, [*message, *message])


# ---------------------------------------------------------------------------------------- adapters and bases
def tensors(file: Path, shapes: dict[str, list[int]]) -> None:
    header = json.dumps(
        {name: {"dtype": "F32", "shape": s, "data_offsets": [0, 0]} for name, s in shapes.items()}
    )
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(struct.pack("<Q", len(header)) + header.encode())


def base_of(
    folder: Path, *, width: int = 8, layers: int = 2, vocabulary: int = 10, prefix: str = "model."
) -> Path:
    shapes = {f"{prefix}layers.{n}.self_attn.q_proj.weight": [width, width] for n in range(layers)}
    shapes[f"{prefix}embed_tokens.weight"] = [vocabulary, width]
    tensors(folder / "model.safetensors", shapes)
    (folder / "config.json").write_text('{"architectures": ["LlamaForCausalLM"]}')
    words(folder, [f"w{n}" for n in range(vocabulary)])
    return folder


def words(folder: Path, tokens: list[str]) -> None:
    text = json.dumps({"model": {"vocab": {token: number for number, token in enumerate(tokens)}}})
    (folder / "tokenizer.json").write_text(text)


def adapter_of(
    folder: Path, *, width: int = 8, layers: int = 2, more: dict[str, list[int]] | None = None
) -> Any:
    shapes = dict(more or {})
    for n in range(layers):
        name = f"base_model.model.model.layers.{n}.self_attn.q_proj"
        shapes |= {f"{name}.lora_A.weight": [4, width], f"{name}.lora_B.weight": [width, 4]}
    tensors(folder / "adapter_model.safetensors", shapes)
    (folder / "adapter_config.json").write_text(
        '{"peft_type": "LORA", "base_model_name_or_path": "/old/base"}'
    )
    return adapters.read(folder)


def test_the_right_base(tmp_path: Path) -> None:
    found = adapter_of(tmp_path / "lora")
    words(tmp_path / "lora", [f"w{n}" for n in range(10)])
    for prefix in ("model.", "language_model.model."):
        adapters.check(found, base_of(tmp_path / prefix, prefix=prefix))


def test_adapters_without_weights_are_named(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    with pytest.raises(SystemExit, match="a copy or a training broke off"):
        adapters.read(tmp_path)


@pytest.mark.parametrize(
    ("base", "message"),
    [
        ({"width": 16}, "layers.0.self_attn.q_proj: the adapters are for 8 -> 8, the base has 16 -> 16"),
        ({"layers": 1}, "for 2 layers or more, the base has 1"),
        ({"prefix": "transformer.h."}, "none of the adapted layers"),
        ({"vocabulary": 5}, "10 tokens, the base 5 rows"),
    ],
)
def test_a_wrong_base_is_named(tmp_path: Path, base: dict[str, Any], message: str) -> None:
    found = adapter_of(tmp_path / "lora")
    words(tmp_path / "lora", [f"w{n}" for n in range(10)])
    other = base_of(tmp_path / "base", **base)
    if "prefix" in base:
        tensors(other / "model.safetensors", {"transformer.h.0.attn.c_attn.weight": [8, 24]})
    with pytest.raises(SystemExit) as caught:
        adapters.check(found, other)
    assert message in str(caught.value)
    assert "/old/base" in str(caught.value)


def test_another_vocabulary_is_a_wrong_base(tmp_path: Path) -> None:
    found = adapter_of(tmp_path / "lora")
    words(tmp_path / "lora", [f"w{n}" for n in reversed(range(10))])
    with pytest.raises(SystemExit, match="vocabularies differ: 10 tokens"):
        adapters.check(found, base_of(tmp_path / "base"))


def test_a_table_that_grew_is_seen(tmp_path: Path) -> None:
    more = {"base_model.model.model.embed_tokens.weight": [12, 8], "base_model.model.lm_head.weight": [12, 8]}
    found = adapter_of(tmp_path / "lora", more=more)
    words(tmp_path / "lora", [f"w{n}" for n in range(12)])
    adapters.check(found, base_of(tmp_path / "base"))
    assert (found.rows, found.touches_tables) == (12, True)
    narrow = adapter_of(tmp_path / "narrow", more={"base_model.model.model.embed_tokens.weight": [12, 4]})
    with pytest.raises(SystemExit, match="4 wide"):
        adapters.check(narrow, base_of(tmp_path / "base"))


def test_packed_weights_are_compared_by_name_alone(tmp_path: Path) -> None:
    base = base_of(tmp_path / "base")
    tensors(
        base / "model.safetensors", {f"model.layers.{n}.self_attn.q_proj.weight": [32, 1] for n in (0, 1)}
    )
    adapters.check(adapter_of(tmp_path / "lora"), base)


@given(content=st.binary(max_size=40))
def test_damaged_headers_are_named(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    file = tmp_path_factory.getbasetemp() / "model.safetensors"
    file.write_bytes(content)
    try:
        list(adapters._shapes(file))
    except SystemExit as error:
        assert "safetensors" in str(error)  # noqa: PT017


def test_a_path_of_this_machine_is_not_published(tmp_path: Path) -> None:
    assert cards.named("/home/me/secret/base", tmp_path) == "base"
    assert cards.named("org/base", tmp_path) == "org/base"
