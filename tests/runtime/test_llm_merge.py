"""recipes/llm with the real libraries: a merged model is base and adapters, or is not kept; both answer."""

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from llm import adapters, comparing, generating, merging
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

SUPPORT = Path(__file__).resolve().parents[1] / "support" / "tiny_llm.py"

Make = Callable[..., Path]


def tiny(folder: Path, *, hidden: int = 64, tied: bool = False) -> Path:
    """A tiny Llama in a folder."""
    spec = importlib.util.spec_from_file_location("tiny_llm", SUPPORT)
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    torch.manual_seed(3)
    training, _ = made.rows(3)
    words = made.tokenizer([message["content"] for row in training for message in row["messages"]])
    model = made.model("llama", len(words), hidden, 2, words)
    if tied:
        model.config.tie_word_embeddings = True
        model.tie_weights()
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny(tmp_path_factory.mktemp("base") / "tiny")


@pytest.fixture
def adapter(base: Path, tmp_path: Path) -> Make:
    """Adapters that change a lot, as if they had been trained."""

    def make(on: Path = base, **more: Any) -> Path:
        torch.manual_seed(5)
        given = {"r": 8, "lora_alpha": 16, "target_modules": "all-linear", "task_type": "CAUSAL_LM", **more}
        model = AutoModelForCausalLM.from_pretrained(on)
        words = AutoTokenizer.from_pretrained(on)
        if rows := given.pop("rows", 0):
            words.add_tokens([f"<new{n}>" for n in range(rows)])
            model.resize_token_embeddings(len(words))
        model = get_peft_model(model, LoraConfig(**given))
        with torch.no_grad():
            for name, each in model.named_parameters():
                if "lora_B" in name or (each.requires_grad and "lora" not in name):
                    each.add_(torch.randn_like(each) * 0.05)
        model.peft_config["default"].base_model_name_or_path = str(on)
        model.save_pretrained(tmp_path / "lora")
        words.save_pretrained(tmp_path / "lora")
        return tmp_path / "lora"

    return make


def logits(model: Any, words: Any) -> torch.Tensor:
    with torch.inference_mode():
        found: torch.Tensor = model(
            **words("what colour has the tiny red ball ?", return_tensors="pt")
        ).logits
    return found


@pytest.mark.parametrize(
    "kind",
    [
        {},
        {"use_rslora": True},
        {"bias": "lora_only"},
        {"use_dora": True},
        {"modules_to_save": ["lm_head"]},
        {"rows": 5},
        {"target_modules": ["q_proj", "embed_tokens"]},
    ],
    ids=lambda kind: next(iter(kind), "lora"),
)
def test_merged_is_base_and_adapters(base: Path, adapter: Make, tmp_path: Path, kind: dict[str, Any]) -> None:
    folder, output = adapter(**kind), tmp_path / "out"
    output.mkdir()
    said = merging.merge(folder, output, "merged_16bit", base)
    assert said.passed
    assert said.effect > 0.1
    words = AutoTokenizer.from_pretrained(output)
    model = adapters.load(base, precision="fp32", device="cpu")
    one = logits(adapters.attach(model, adapters.read(folder), device="cpu"), words)
    two = logits(AutoModelForCausalLM.from_pretrained(output, torch_dtype=torch.float32), words)
    assert (one - two).square().mean().sqrt() < 0.02 * one.std()
    assert words.chat_template
    assert not [file for file in output.iterdir() if file.name.startswith(".")]
    assert json.loads((output / "config.json").read_text()).get("dtype", "bfloat16") == "bfloat16"
    assert "merged_16bit" in (output / "README.md").read_text()


@pytest.mark.parametrize(
    "kind", [{}, {"modules_to_save": ["lm_head"]}, {"target_modules": ["v_proj", "lm_head"]}]
)
def test_tied_tables(adapter: Make, tmp_path: Path, kind: dict[str, Any]) -> None:
    base = tiny(tmp_path / "tied", tied=True)
    folder, output = adapter(base, **kind), tmp_path / "out"
    output.mkdir()
    assert merging.merge(folder, output, "merged_16bit", base).passed
    assert json.loads((output / "config.json").read_text())["tie_word_embeddings"] is (not kind)


def test_qlora_is_merged_into_16_bit_and_not_into_4(base: Path, adapter: Make, tmp_path: Path) -> None:
    rounded = tmp_path / "rounded"
    adapters.load(base, precision="bf16", device="cpu", in_4bit=True).save_pretrained(rounded)
    AutoTokenizer.from_pretrained(base).save_pretrained(rounded)
    model = adapters.load(base, precision="bf16", device="cpu", in_4bit=True)
    trained = get_peft_model(model, LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM"))
    with torch.no_grad():
        for name, each in trained.named_parameters():
            if "lora_B" in name:
                each.normal_(0, 0.1)
    trained.save_pretrained(tmp_path / "qlora")
    output = tmp_path / "out"
    output.mkdir()
    with pytest.raises(SystemExit, match="16 bit: --base"):
        merging.merge(tmp_path / "qlora", output, "merged_16bit", rounded)
    assert list(output.iterdir()) == []
    assert merging.merge(tmp_path / "qlora", output, "merged_16bit", base).passed


@pytest.mark.parametrize("name", ["merged_4bit", "merged_4bit_forced"])
def test_4_bit_by_both_names(
    base: Path, adapter: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    output = tmp_path / "out"
    output.mkdir()
    merging.merge(adapter(), output, name, base)
    said = capsys.readouterr().out
    assert said.startswith(f"{name}: merged in 16 bit first")
    config = json.loads((output / "config.json").read_text())
    assert config["quantization_config"]["bnb_4bit_quant_type"] == "nf4"
    proofs = json.loads((output / "merge.json").read_text())["comparison"]
    assert proofs["merged_16bit"]["error"] < 0.03 < proofs["merged_4bit"]["error"]
    model = AutoModelForCausalLM.from_pretrained(output)
    assert any(type(each).__name__ == "Linear4bit" for each in model.modules())


def forgotten(model: Any) -> Any:
    """A merge that loses the adapters."""
    return model.unload()


def doubled(model: Any) -> Any:
    """A merge that adds them twice."""
    for each in model.modules():
        if isinstance(getattr(each, "scaling", None), dict):
            each.scaling = {name: 2 * value for name, value in each.scaling.items()}
    return model.merge_and_unload()


def one_layer_lost(model: Any) -> Any:
    """A merge that misses one matrix of many."""
    merged = model.merge_and_unload()
    merged.model.layers[1].mlp.down_proj.weight.data.mul_(0.9)
    return merged


def numbers_lost(model: Any) -> Any:
    """A merge that brings something that is no number."""
    merged = model.merge_and_unload()
    merged.model.layers[0].mlp.down_proj.weight.data[0, 0] = float("nan")
    return merged


@pytest.mark.parametrize("broken", [forgotten, doubled, one_layer_lost, numbers_lost])
@pytest.mark.parametrize("method", ["merged_16bit", "merged_4bit"])
def test_a_broken_merge_is_not_kept(
    base: Path, adapter: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: Any, method: str
) -> None:
    whole = adapters.attach

    def attach(*given: Any, **more: Any) -> Any:
        adapted = whole(*given, **more)
        adapted.merge_and_unload_ = adapted.merge_and_unload
        return _Broken(adapted, broken)

    monkeypatch.setattr(adapters, "attach", attach)
    output = tmp_path / "out"
    output.mkdir()
    with pytest.raises(SystemExit, match="was not kept"):
        merging.merge(adapter(), output, method, base)
    assert list(output.iterdir()) == []


@pytest.mark.parametrize("change", ["scaled", "left out"])
def test_a_file_that_is_not_what_was_merged_is_not_kept(
    base: Path, adapter: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    from safetensors.torch import load_file, save_file

    whole = merging._write

    def write(adapter: Any, base: Path, partial: Path, **more: Any) -> Any:
        result = whole(adapter, base, partial, **more)
        (file,) = partial.glob("*.safetensors")
        tensors = load_file(file)
        name = "model.layers.0.mlp.up_proj.weight"
        if change == "scaled":
            tensors[name] = tensors[name] * 1.01
        else:
            del tensors[name]
        save_file(tensors, file, metadata={"format": "pt"})
        return result

    monkeypatch.setattr(merging, "_write", write)
    output = tmp_path / "out"
    output.mkdir()
    with pytest.raises(SystemExit, match=r"up_proj\.weight is not what was written"):
        merging.merge(adapter(), output, "merged_16bit", base)
    assert list(output.iterdir()) == []


class _Broken:
    """A model with adapters whose merge goes wrong."""

    def __init__(self, model: Any, merge: Any) -> None:
        self._model, self._merge = model, merge

    def merge_and_unload(self, **_: Any) -> Any:
        return self._merge(self._model)

    def __call__(self, *given: Any, **more: Any) -> Any:
        return self._model(*given, **more)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)


def test_a_base_of_another_width_is_refused_before_it_is_loaded(
    adapter: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tiny(tmp_path / "other", hidden=32)
    monkeypatch.setattr(adapters, "load", lambda *_, **__: pytest.fail("loaded"))
    with pytest.raises(SystemExit, match=r"is not the base of these adapters"):
        merging.merge(adapter(), tmp_path, "merged_16bit", other)


def test_what_peft_cannot_merge_is_refused(base: Path, adapter: Make, tmp_path: Path) -> None:
    folder = adapter()
    config = json.loads((folder / "adapter_config.json").read_text())
    for change, message in (
        ({"peft_type": "IA3"}, "IA3"),
        ({"layer_replication": [[0, 2]]}, "layer_replication"),
    ):
        (folder / "adapter_config.json").write_text(json.dumps(config | change))
        with pytest.raises(SystemExit, match=message):
            merging.merge(folder, tmp_path, "merged_16bit", base)
    for name, message in (("gguf", "convert_hf_to_gguf"), ("zip", "no method")):
        with pytest.raises(SystemExit, match=message):
            merging.merge(folder, tmp_path, name, base)
    (folder / "adapter_config.json").write_text(json.dumps(config))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(SystemExit, match="holds a model already"):
        merging.merge(folder, tmp_path, "merged_16bit", base)


def test_missing_weights_of_adapters_are_no_zeros(base: Path, adapter: Make) -> None:
    from safetensors.torch import load_file, save_file

    folder = adapter()
    tensors = load_file(folder / adapters.WEIGHTS)
    save_file({n: t for n, t in tensors.items() if "layers.1.mlp" not in n}, folder / adapters.WEIGHTS)
    with pytest.raises(SystemExit, match="missing adapter keys"):
        adapters.attach(
            adapters.load(base, precision="fp32", device="cpu"), adapters.read(folder), device="cpu"
        )


def test_nothing_is_overwritten(base: Path, adapter: Make, tmp_path: Path) -> None:
    output = tmp_path / "out"
    output.mkdir()
    (output / "README.md").write_text("mine")
    with pytest.raises(SystemExit, match=r"README\.md already"):
        merging.merge(adapter(), output, "merged_16bit", base)
    assert [file.name for file in output.iterdir()] == ["README.md"]
    assert (output / "README.md").read_text() == "mine"


# ------------------------------------------------------------------------------------------------- answers
@pytest.fixture
def speaker(base: Path, adapter: Make) -> generating.Speaker:
    folder = adapter()
    model = adapters.attach(
        adapters.load(base, precision="fp32", device="cpu"), adapters.read(folder), device="cpu"
    )
    return generating.Speaker(model, AutoTokenizer.from_pretrained(base), device="cpu")


def asked(speaker: generating.Speaker, text: str = "what size has it ?") -> generating.Rendered:
    return generating.rendered(speaker.tokenizer, speaker.positions, [{"role": "user", "content": text}])


def test_pieces_are_the_answer(speaker: generating.Speaker) -> None:
    pieces: list[str] = []
    found = speaker.answer(
        asked(speaker),
        generating.Sampling(max_new_tokens=40),
        said=lambda thought, text: pieces.append(text),
    )
    assert "".join(pieces).strip() == found.text
    assert found.tokens <= 40
    assert 0 < found.first_token <= found.seconds


def test_base_and_tuned_from_one_model(base: Path, speaker: generating.Speaker) -> None:
    sampling = generating.Sampling(max_new_tokens=12)
    with generating.without_adapters(speaker.model):
        before = speaker.answer(asked(speaker), sampling).text
    alone = generating.Speaker(
        adapters.load(base, precision="fp32", device="cpu"), speaker.tokenizer, device="cpu"
    )
    assert before == alone.answer(asked(speaker), sampling).text
    assert before != speaker.answer(asked(speaker), sampling).text


def test_an_answer_can_be_stopped_and_ends_at_the_last_position(speaker: generating.Speaker) -> None:
    seen: list[str] = []
    found = speaker.answer(
        asked(speaker),
        generating.Sampling(max_new_tokens=200),
        said=lambda thought, text: seen.append(text),
        stopped=lambda: len(seen) >= 3,
    )
    assert (found.stop, found.tokens < 20) == ("interrupted", True)
    prompt = asked(speaker, "red " * 100)
    long = speaker.answer(prompt, generating.Sampling(max_new_tokens=2000))
    assert len(prompt.numbers) + long.tokens <= speaker.positions
    with pytest.raises(ValueError, match="the model 256 positions"):
        asked(speaker, "red " * 300)


def test_draws_repeat_with_their_seed(speaker: generating.Speaker) -> None:
    drawn = [
        speaker.answer(asked(speaker), generating.Sampling(temperature=3, seed=seed, max_new_tokens=20)).text
        for seed in (1, 1, 2)
    ]
    assert drawn[0] == drawn[1] != drawn[2]


def test_the_same_model_has_no_difference(speaker: generating.Speaker) -> None:
    found = comparing.probes(speaker.model, speaker.tokenizer, "cpu")
    same = comparing.compare(speaker.model, found, "cpu", tolerance=0.001)
    assert (same.error, same.equal, same.passed) == (0.0, same.tokens, True)
