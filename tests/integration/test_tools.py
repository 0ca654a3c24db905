"""The programs beside the recipes: their own tests inside the environment, then each recipe by plain bash."""

import json
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from launcher import demo, process

from .conftest import SHARED

ROOT = Path(__file__).resolve().parents[2]
RECIPES = ROOT / "recipes"
CRANFIELD = SHARED / "cranfield"

#: A cross-encoder of one score, with a tokenizer that exists; its weights are random but fixed.
CROSS_ENCODER = """
import sys
import torch
from transformers import AutoTokenizer, XLMRobertaConfig, XLMRobertaForSequenceClassification
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
torch.manual_seed(int(sys.argv[3]))
config = XLMRobertaConfig(
    vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=1, num_attention_heads=2,
    intermediate_size=64, max_position_embeddings=130, num_labels=1, pad_token_id=1,
)
XLMRobertaForSequenceClassification(config).save_pretrained(sys.argv[2])
tokenizer.save_pretrained(sys.argv[2])
"""

pytestmark = pytest.mark.environment

#: Runs a recipe with variables; gives the exit code and the log.
Recipe = Callable[..., tuple[int, str]]


@pytest.fixture(scope="session")
def variables(environment: Path) -> dict[str, str]:
    """What a program needs in the environment, and no model hub."""
    return {
        "PATH": f"{environment / 'bin'}:{os.environ['PATH']}",
        "HOME": os.environ.get("HOME", "/"),
        "HF_HUB_OFFLINE": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONPATH": f"{RECIPES}:{RECIPES / 'tools'}",
    }


@pytest.fixture
def recipe(variables: dict[str, str], tmp_path: Path) -> Recipe:
    """Run a shipped recipe by plain bash, as its last comment says."""

    def start(name: str, *arguments: str, **given: object) -> tuple[int, str]:
        told = {key: str(value) for key, value in given.items()}
        command = ["bash", str(RECIPES / f"{name}.sh"), *arguments]
        child = process.Child(command, env={**variables, "TMPDIR": str(tmp_path), **told})
        log = "\n".join(child.lines())
        return child.wait(), log

    return start


@pytest.fixture(scope="session")
def cross_encoders(
    tiny_model: Path, variables: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path]:
    """Two tiny cross-encoders."""
    folder = tmp_path_factory.mktemp("cross")
    for seed in ("1", "2"):
        command = ["python", "-c", CROSS_ENCODER, str(tiny_model), str(folder / seed), seed]
        child = process.Child(command, env=variables)
        lines = list(child.lines())
        assert child.wait() == 0, lines
    return folder / "1", folder / "2"


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's data cut to forty queries and three hundred passages: as rows, and in BEIR's layout."""
    folder = tmp_path_factory.mktemp("small")
    data = demo.write(folder / "all")
    rows = [json.loads(line) for line in data.train.read_text().splitlines()[:40]]
    others = [json.loads(line)["text"] for line in data.corpus.read_text().splitlines()[:260]]
    texts = list(dict.fromkeys([*(text for row in rows for text in row["pos"]), *others]))
    lines(folder / "rows" / "train.jsonl", *rows)
    lines(folder / "rows" / "corpus.jsonl", *({"text": text} for text in texts))
    named = [{"_id": f"d{n}", "text": text} for n, text in enumerate(texts)]
    lines(folder / "beir" / "corpus.jsonl", *named)
    lines(
        folder / "beir" / "queries.jsonl", *({"_id": f"q{n}", "text": r["query"]} for n, r in enumerate(rows))
    )
    judged = [f"q{n}\td{texts.index(text)}\t1" for n, row in enumerate(rows) for text in row["pos"]]
    (folder / "beir" / "qrels").mkdir()
    (folder / "beir" / "qrels" / "dev.tsv").write_text("\n".join(["query-id\tcorpus-id\tscore", *judged, ""]))
    return folder


def lines(path: Path, *rows: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return path


def read(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def metrics(folder: Path) -> Any:
    return json.loads((folder / "metrics.json").read_text())


# --------------------------------------------------------------------------------------------- evaluate
def test_before_and_after_of_every_head(
    recipe: Recipe, small: Path, tiny_model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    data = f"{small / 'rows' / 'train.jsonl'}:{small / 'rows' / 'corpus.jsonl'}"
    code, log = recipe(
        "evaluate", DATA=data, MODEL=tiny_model, BASELINE=tiny_model, OUTPUT=out, MAX_LENGTH=64, K="5"
    )
    assert code == 0, log
    found = metrics(out)
    assert found["schema"] == 2
    assert list(found["heads"]) == ["dense", "sparse", "colbert", "ensemble"]
    assert list(found["heads"]["dense"]) == ["ndcg@5", "recall@5", "mrr@5"]
    assert found["baseline"]["heads"] == found["heads"]
    assert {value for head in found["difference"].values() for value in head.values()} == {0.0}
    assert (found["queries"], found["baseline"]["model"]) == (40, str(tiny_model))
    assert found["heads"]["sparse"]["recall@5"] > 0.3  # words alone find something
    assert "before     after  difference" in log
    runs = {path.name for path in (out / "runs").iterdir()}
    assert runs == {"dense.trec", "sparse.trec", "colbert.trec", "ensemble.trec"}
    assert len((out / "run.trec").read_text().splitlines()) == 40 * 5
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o644 for path in out.glob("*.*"))


def test_the_layout_of_beir_gives_the_same_figures(
    recipe: Recipe, small: Path, tiny_model: Path, tmp_path: Path
) -> None:
    given = {"MODEL": tiny_model, "MAX_LENGTH": 64, "COLBERT": "false", "K": "10"}
    for name in ("rows", "beir"):
        code, log = recipe("evaluate", DATA=small / name, OUTPUT=tmp_path / name, **given)
        assert code == 0, log
    found = metrics(tmp_path / "beir")
    assert found["heads"] == metrics(tmp_path / "rows")["heads"]
    assert list(found["heads"]) == ["dense", "sparse"]
    line = (tmp_path / "beir" / "run.trec").read_text().splitlines()[0].split()
    assert line[0][0] == "q"
    assert line[2][0] == "d"


def test_rerankers(
    recipe: Recipe, small: Path, tiny_model: Path, cross_encoders: tuple[Path, Path], tmp_path: Path
) -> None:
    one, two = cross_encoders
    given = {
        "DATA": small / "beir",
        "MODEL": tiny_model,
        "COLBERT": "false",
        "MAX_LENGTH": 64,
        "RERANK_TOP": 20,
    }
    code, log = recipe("evaluate", RERANKER=one, RERANKER_BASELINE=two, OUTPUT=tmp_path / "a", **given)
    assert code == 0, log
    found = metrics(tmp_path / "a")
    assert list(found["heads"]) == ["dense", "sparse", "reranked"]
    assert list(found["baseline"]["heads"]) == ["reranked"]
    # the order is the cross-encoder's, the set is that of the dense head
    reranked = (tmp_path / "a" / "runs" / "reranked.trec").read_text().splitlines()
    assert len(reranked) == 40 * 20
    dense = (tmp_path / "a" / "runs" / "dense.trec").read_text().splitlines()
    first = {(line.split()[0], line.split()[2]) for line in dense if int(line.split()[3]) <= 20}
    assert {(line.split()[0], line.split()[2]) for line in reranked} == first
    # a cross-encoder as the model sorts what the rows offer
    given = {"DATA": small / "rows" / "train.jsonl", "MAX_LENGTH": 64}
    code, log = recipe("evaluate", MODEL=one, BASELINE=two, OUTPUT=tmp_path / "b", **given)
    assert code == 0, log
    assert list(metrics(tmp_path / "b")["heads"]) == ["reranked"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"RERANKER": "embedder"}, "not a cross-encoder"),
        ({"RERANKER_BASELINE": "cross"}, "give that one too"),
        ({"BASELINE": "cross"}, "of another kind than the model"),
        ({"PRECISION": "fp16"}, "fp16 has no effect on a CPU"),
        ({"MODEL": "cross"}, "there is no row with neg in the data"),
        ({"DATA": "bad"}, "bad.jsonl:2: pos: a list of texts is needed"),
    ],
)
def test_what_does_not_go_together_is_refused_before_a_model_is_loaded(
    recipe: Recipe, tmp_path: Path, given: dict[str, str], message: str
) -> None:
    # folders without weights: loading one would fail in another way
    lines(tmp_path / "embedder" / "config.json", {"architectures": ["XLMRobertaModel"]})
    lines(
        tmp_path / "cross" / "config.json",
        {"architectures": ["XLMRobertaForSequenceClassification"], "id2label": {"0": "x"}},
    )
    rows = lines(tmp_path / "rows.jsonl", {"query": "q", "pos": ["p"]})
    lines(tmp_path / "bad.jsonl", {"query": "q", "pos": ["p"]}, {"query": "q", "pos": []})
    paths = {
        "embedder": str(tmp_path / "embedder"),
        "cross": str(tmp_path / "cross"),
        "bad": str(tmp_path / "bad.jsonl"),
    }
    told = {"DATA": str(rows), "MODEL": paths["embedder"], "OUTPUT": str(tmp_path / "out")}
    code, log = recipe("evaluate", **told | {key: paths.get(value, value) for key, value in given.items()})
    assert code in {1, 64}
    assert message in log
    assert "Traceback" not in log
    assert not (tmp_path / "out").exists()


@pytest.mark.shared_data
def test_a_real_model_on_a_real_collection(recipe: Recipe, minilm: Path, tmp_path: Path) -> None:
    if not CRANFIELD.is_dir():
        pytest.skip(f"no real data in {CRANFIELD}")
    code, log = recipe(
        "evaluate", DATA=CRANFIELD, SPLIT="dev", MODEL=minilm, OUTPUT=tmp_path / "out", MAX_LENGTH=256
    )
    assert code == 0, log
    assert metrics(tmp_path / "out")["heads"]["dense"]["ndcg@10"] == pytest.approx(0.415, abs=0.005)


# ---------------------------------------------------------------------------------- what makes the rows
def test_mined_and_scored_rows_go_into_the_training(
    recipe: Recipe, small: Path, minilm: Path, cross_encoders: tuple[Path, Path], tmp_path: Path
) -> None:
    given = {"MODEL": minilm, "MAX_LENGTH": 64, "RANGE_FOR_SAMPLING": "0-30", "NEGATIVE_NUMBER": 5}
    for out in ("a", "b"):
        code, log = recipe("mine-hard-negatives", DATA=small / "rows", OUTPUT=tmp_path / out, **given)
        assert code == 0, log
    mined, before = read(tmp_path / "a" / "train.jsonl"), read(small / "rows" / "train.jsonl")
    assert (tmp_path / "a" / "train.jsonl").read_bytes() == (tmp_path / "b" / "train.jsonl").read_bytes()
    assert [(row["query"], row["pos"]) for row in mined] == [(row["query"], row["pos"]) for row in before]
    for row in mined:
        assert len(set(row["neg"])) == 5
        assert not set(row["neg"]) & {*row["pos"], row["query"]}
    report = json.loads((tmp_path / "a" / "report.json").read_text())
    assert (report["rows"], report["negatives"], report["rows_dropped"]) == (40, 200, 0)

    data = tmp_path / "a" / "train.jsonl"
    for teacher, scale in ((cross_encoders[0], 1), (minilm, 50)):
        out = tmp_path / f"scored-{scale}"
        code, log = recipe(
            "score-with-teacher", DATA=data, MODEL=teacher, OUTPUT=out, SCALE=scale, MAX_LENGTH=64
        )
        assert code == 0, log
        scored = read(out / "train.jsonl")
        assert [{k: v for k, v in row.items() if not k.endswith("scores")} for row in scored] == mined
        assert all(
            len(row["neg_scores"]) == 5 and len(row["pos_scores"]) == len(row["pos"]) for row in scored
        )
    best = [max([*row["pos_scores"], *row["neg_scores"]]) in row["pos_scores"] for row in scored]
    assert sum(best) > 15  # by chance: seven of forty
    assert 5 < max(max(row["pos_scores"]) for row in scored) <= 50.001

    code, log = recipe(
        "split-by-length", DATA=data, MODEL=minilm, OUTPUT=tmp_path / "split", BOUNDARIES="64,256"
    )
    assert code == 0, log
    files = sorted((tmp_path / "split").iterdir())
    assert {file.name for file in files} <= {f"len-{name}.jsonl" for name in ("0-64", "64-256", "256-inf")}
    together = sorted(line for file in files for line in file.read_text().splitlines())
    assert together == sorted(data.read_text().splitlines())


def test_texts_become_vectors_and_a_query_is_tried(
    recipe: Recipe, small: Path, tiny_model: Path, tmp_path: Path, variables: dict[str, str]
) -> None:
    out = tmp_path / "out"
    row = read(small / "rows" / "train.jsonl")[0]
    given = {"MODEL": tiny_model, "MAX_LENGTH": 64, "OUTPUT": out, "QUERY": row["pos"][0], "TOP": 3}
    code, log = recipe("encode", DATA=small / "beir" / "corpus.jsonl", **given)
    assert code == 0, log
    texts = [row["text"] for row in read(out / "texts.jsonl")]
    assert len(texts) == len(read(out / "sparse.jsonl")) == len(read(small / "beir" / "corpus.jsonl"))
    found = json.loads((out / "search.json").read_text())
    assert list(found) == ["dense", "sparse", "colbert", "ensemble"]
    assert found["dense"][0]["text"] == found["colbert"][0]["text"] == row["pos"][0]  # a text finds itself
    shape = (
        "import numpy as np; a = np.load('dense.npy'); print(*a.shape, abs((a * a).sum(1) - 1).max() < 1e-4)"
    )
    child = process.Child(["python", "-c", f"import os; os.chdir({str(out)!r}); {shape}"], env=variables)
    assert list(child.lines()) == [f"{len(texts)} 128 True"]
    assert child.wait() == 0


def test_a_folder_is_data_for_the_tiny_model_too(recipe: Recipe, small: Path, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    shutil.copytree(small / "rows", folder)
    code, log = recipe("tiny-xlmr", DATA=folder, OUTPUT=tmp_path / "tiny", VOCAB_SIZE=600, HIDDEN_SIZE=32)
    assert code == 0, log
    assert (tmp_path / "tiny" / "config.json").is_file()
