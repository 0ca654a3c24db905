"""Documents become rows, rows a tuned model, and the model answers what no document of its training says.

The documents are a catalogue: a heading asks for colour, size or shape of a thing, the answer is below it.
The recipe decides which documents are dev: what is asked at the end was never trained on.
"""

import html
import json
import os
from pathlib import Path
from typing import Any

import pytest

from launcher import process
from tests.integration.conftest import Launch
from tests.support import office, tiny_llm

SUPPORT = Path(__file__).resolve().parents[1] / "support"

Sections = list[tuple[str, str]]

#: Documents of each kind; the rest of the catalogue are HTML files.
KINDS = {"pdf": 1, "docx": 2, "md": 9}
SECTIONS = 36


@pytest.fixture(scope="module")
def model(environment: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny language model with random weights."""
    folder = tmp_path_factory.mktemp("tiny")
    made = [str(environment / "bin" / "python"), str(SUPPORT / "tiny_llm.py"), str(folder)]
    process.run(made, env={"PATH": "/usr/bin:/bin", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"})
    return folder / "model"


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of documents, the Word and PDF files written by LibreOffice itself."""
    if office.PROGRAM is None:
        reason = "no LibreOffice; tests/support/documents.sh install brings one"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("catalogue")
    training, held_out = tiny_llm.rows(seed=7)
    known = [section(row) for row in training + held_out]
    parts = [known[start : start + SECTIONS] for start in range(0, len(known), SECTIONS)]
    kinds = [kind for kind, count in KINDS.items() for _ in range(count)]
    kinds += ["html"] * (len(parts) - len(kinds))
    for number, (kind, part) in enumerate(zip(kinds, parts, strict=True)):
        write(folder / f"part-{number:02d}.{kind}", part)
    return folder


def section(row: dict[str, Any]) -> tuple[str, str]:
    """A question, and its answer as a sentence that no other section has."""
    question, answer = (message["content"] for message in row["messages"])
    _, kind, _, _, *thing, _ = question.split()
    return question, f"{answer} is the {kind} of the {' '.join(thing)}"


def write(path: Path, sections: Sections) -> None:
    """A document of a kind, by the ending of its name."""
    if path.suffix == ".md":
        path.write_text("\n\n".join(f"## {heading}\n\n{text}" for heading, text in sections) + "\n")
    elif path.suffix == ".html":
        body = "".join(f"<h2>{html.escape(heading)}</h2><p>{text}</p>" for heading, text in sections)
        path.write_text(f"<html><head><title>Things</title></head><body>{body}</body></html>")
    else:
        blocks = [
            block
            for heading, text in sections
            for block in (office.heading(heading, 2), office.paragraph(text))
        ]
        source = office.write(path.parent / f".{path.stem}.fodt", *blocks)
        office.convert(source, path.suffix[1:], path.parent).rename(path)


@pytest.mark.environment
def test_documents_to_a_model_that_knows_them(
    on: tuple[str, ...], launch: Launch, workspace: Path, catalogue: Path, model: Path
) -> None:
    read = launch(
        *("run", "documents-to-dataset", *on, "--data", catalogue, "--rows", "headings", "--negatives", 1),
        *("--dev", 0.1, "--output", "rows"),
    )
    assert read.code == 0, read.err
    report = json.loads((workspace / "rows" / "report.json").read_text())
    assert [file["problem"] for file in report["files"]] == [""] * 18, report

    for part in ("train", "dev"):
        columns = ("--map", "instruction=query", "--map", "output=pos")
        made = launch(
            *("data", "convert", f"rows/{part}.jsonl", "--format", "sft", *columns),
            *("--output", f"{part}.jsonl"),
        )
        assert made.code == 0, made.err
    asked = (workspace / "dev.jsonl").read_text().splitlines()
    trained = {
        json.loads(line)["instruction"] for line in (workspace / "train.jsonl").read_text().splitlines()
    }
    assert len(trained) + len(asked) == 648
    assert not trained & {json.loads(line)["instruction"] for line in asked}

    tuned = launch(
        *("run", "llm-sft", *on, "--data", "train.jsonl", "--model", model, "--output", "tuned"),
        *("--max-seq-length", 128, "--r", 32, "--lora-alpha", 64, "--learning-rate", 3e-3),
        *("--per-device-train-batch-size", 32, "--gradient-accumulation-steps", 1, "--max-steps", 120),
    )
    assert tuned.code == 0, tuned.err
    plans = [json.loads(file.read_text()) for file in (workspace / "runs").glob("*/plan.json")]
    assert [plan["access"]["network"] for plan in plans] == ["none", "none"]

    (workspace / "asked.jsonl").write_text("\n".join(asked[:12]) + "\n")
    said = launch(
        *("ask", "last", "--file", "asked.jsonl", "--before-after", "--json", "--max-new-tokens", 24, *on)
    )
    assert said.code == 0, said.err
    answers = json.loads(said.out)["answers"]
    assert len(answers) == 12
    assert all(row["before"]["text"] != row["answer"]["text"] for row in answers)
    assert not any(row["before"]["text"].strip() == row["expected"] for row in answers)
    right = sum(row["answer"]["text"].strip() == row["expected"] for row in answers)
    assert right >= 10, answers
