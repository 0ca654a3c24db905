"""Whole runs: rows, sides, reports; files that fail, hang or grow beside others that do not."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from conftest import lines
from documents import chunks, selection, sources, work
from documents.chunks import Sizes
from documents.pdf import RefusedError
from documents.work import Result, Task

Run = Callable[..., Any]

ANIMALS = ["otter", "heron", "badger", "lynx", "beaver", "stork", "marten", "viper"]


def write(folder: Path, names: list[str]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / f"{name}.md").write_text(
            f"# The {name}\n\nThe {name} is an animal of our woods and waters.\n\n"
            f"## Food\n\nWhat the {name} eats depends on the season and on the place.\n\n"
            f"## Young\n\nThe young of the {name} leave their parents after some months.\n",
            encoding="utf-8",
        )
    return folder


def test_rows_of_text_and_a_report_of_every_file(tmp_path: Path, run: Run) -> None:
    data = write(tmp_path / "data" / "deep", ANIMALS).parent
    (data / "broken.pdf").write_bytes(b"no pdf")
    (data / "empty.docx").touch()
    (data / "twice.md").write_bytes((data / "deep" / "otter.md").read_bytes())
    (data / "picture.png").write_bytes(b"PNG")
    done = run("--data", data, "--output", tmp_path / "out", "--dev", 0.25)
    assert done.returncode == 0, done.stderr
    train, dev = lines(tmp_path / "out" / "train.jsonl"), lines(tmp_path / "out" / "dev.jsonl")
    assert (len(train), len(dev)) == (18, 6)
    assert train[0]["text"].startswith("# The ")
    assert not {row["text"] for row in train} & {row["text"] for row in dev}
    names = {name: sum(name in row["text"] for row in dev) for name in ANIMALS}
    assert set(names.values()) == {0, 3}  # whole documents
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    problems = {each["name"]: each["problem"] for each in report["files"] if each["problem"]}
    assert set(problems) == {"broken.pdf", "empty.docx", "deep/otter.md", "picture.png"}
    assert all(name in done.stdout for name in problems)
    assert report["repeated_chunks"] == 3
    assert json.loads((tmp_path / "out" / "profile.json").read_text())["train"]["scripts"] == {"Latin": 1.0}
    assert (tmp_path / "out" / "text" / "deep" / "heron.md.md").is_file()


def test_the_same_rows_whatever_the_processes(tmp_path: Path, run: Run) -> None:
    data = write(tmp_path / "data", ANIMALS)
    for processes in (1, 3):
        run(
            "--data",
            data,
            "--output",
            tmp_path / str(processes),
            "--rows",
            "headings",
            "--processes",
            processes,
        )
    for name in ("train.jsonl", "dev.jsonl", "chunks.jsonl"):
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "3" / name).read_bytes()


def test_headings_become_queries_with_wrong_answers_of_other_documents(tmp_path: Path, run: Run) -> None:
    write(tmp_path / "data", ANIMALS)
    done = run(
        "--data", tmp_path / "data", "--output", tmp_path / "out", "--rows", "headings", "--negatives", 3
    )
    assert done.returncode == 0, done.stderr
    for row in lines(tmp_path / "out" / "train.jsonl") + lines(tmp_path / "out" / "dev.jsonl"):
        (name,) = [each for each in ANIMALS if each in row["pos"][0]]
        assert row["query"].startswith(f"The {name}")
        assert len(set(row["neg"])) == 3
        assert not any(name in text for text in row["neg"])
    held = [
        name for name in ANIMALS if name in (tmp_path / "out" / "dev.jsonl").read_text().split('"neg"')[0]
    ]
    assert not any(name in (tmp_path / "out" / "train.jsonl").read_text() for name in held)


def test_nothing_at_all_is_a_failure_and_nothing_is_overwritten(tmp_path: Path, run: Run) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.pdf").write_bytes(b"no pdf")
    done = run("--data", tmp_path / "data", "--output", tmp_path / "out")
    assert done.returncode == 1
    assert "a.pdf: broken" in done.stderr
    assert (tmp_path / "out" / "report.json").is_file()
    (tmp_path / "out" / "train.jsonl").write_text("mine")
    done = run("--data", tmp_path / "data", "--output", tmp_path / "out")
    assert (done.returncode, (tmp_path / "out" / "train.jsonl").read_text()) == (64, "mine")


def task(folder: Path, **changes: Any) -> Task:
    values = {"extractor": "pdfplumber", "ocr": "auto", "seconds": 60.0, "memory": 4 << 30, **changes}
    return Task(folder=folder, sizes=Sizes(size=1000, overlap=0), **values)


@pytest.mark.parametrize("kind", ["hangs", "dies", "grows"])
def test_a_file_that_takes_its_process_down_is_named(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader that does what damaged files make libraries do, in the real processes."""
    does = {"hangs": "time.sleep(100)", "dies": "os._exit(3)", "grows": "bytearray(1 << 34)"}[kind]
    hook = tmp_path / "hook"
    hook.mkdir()
    (hook / "sitecustomize.py").write_text(
        "import sys, time, os\n"
        "import importlib.abc\n"
        "class Finder(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path, target=None):\n"
        "        if name == 'mammoth':\n"
        f"            {does}\n"
        "sys.meta_path.insert(0, Finder())\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{hook}:{os.environ['PYTHONPATH']}")
    data = write(tmp_path / "data", ANIMALS[:3])
    (data / "lion.docx").write_bytes(b"PK")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    started = time.monotonic()
    told: list[str] = []
    results = work.run(
        sources.find([data]), task(scratch, seconds=5.0), 2, lambda each: told.append(each.name)
    )
    assert time.monotonic() - started < 60
    assert [each.name for each in results] == sorted([*(f"{name}.md" for name in ANIMALS[:3]), "lion.docx"])
    assert sorted(told) == [each.name for each in results]
    problems = {each.name: each.problem for each in results if each.problem}
    wanted = {"hangs": "took longer than 5 s", "dies": "the process died", "grows": "more memory than"}
    assert set(problems) == {"lion.docx"}
    assert wanted[kind] in problems["lion.docx"]


def test_chunks_keep_their_headings_and_their_size() -> None:
    text = "Intro text that stands before any heading.\n\n# A\n\n## B\n\n" + "这是一个句子。" * 100
    text += (
        "\n\n```\n# no heading, a comment\n```\n\nUnder\n-----\n\nWords under a heading with a line below."
    )
    found = list(chunks.cut(text, Sizes(size=200, overlap=0)))
    assert found[0].headings == ()
    assert {each.headings for each in found[1:-1]} == {("A", "B")}
    assert found[-1].headings == ("A", "Under")
    assert all(len(each.text) <= 200 for each in found)
    assert all(each.text.endswith("。") for each in found if "句子" in each.text and "#" not in each.text)
    assert sum(each.text.count("句子") for each in found) == 100


def test_rows_of_text_are_no_longer_than_asked_for_with_their_heading() -> None:
    text = "# A long heading over the section\n\n" + "Words of the section stand here. " * 50
    found = list(chunks.cut(text, Sizes(size=200, overlap=0)))
    assert all(100 < len(chunks.heading_line(each.headings) + each.text) <= 200 for each in found[:-1])


def test_a_short_chinese_sentence_is_a_chunk_and_a_page_number_is_none() -> None:
    text = "# 甲\n\n山里的雪到夏天才融化。\n\n# 乙\n\n第 12 页\n\n# C\n\nFig. 3.1"
    assert [each.headings for each in chunks.cut(text, Sizes(size=100, overlap=0))] == [("甲",)]


def test_overlap_repeats_the_end_of_the_chunk_before() -> None:
    text = " ".join(f"Sentence number {n} is here." for n in range(50))
    found = [each.text for each in chunks.cut(text, Sizes(size=200, overlap=60))]
    shared = [one for one, two in pairwise(found) if two.split(".")[0].strip() in one]
    assert len(shared) == len(found) - 1


def test_chunks_of_a_size_in_tokens(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    sizes = Sizes(size=30, overlap=0, model=tmp_path)
    found = [each.text for each in chunks.cut("one two three four five six. " * 40, sizes)]
    assert all(20 < chunks.counter(sizes)(text) <= 30 for text in found[:-1])
    with pytest.raises(SystemExit, match=r"no tokenizer\.json"):
        chunks.counter(Sizes(size=30, overlap=0, model=tmp_path / "none"))


@pytest.mark.parametrize(("counts", "share", "least", "most"), [
    ([10] * 20, 0.1, 20, 20),
    ([100, 1, 1, 1], 0.05, 1, 6),
    ([5, 5], 0.01, 5, 5),
    ([5], 0.5, 0, 0),
    ([5, 5, 5], 0.0, 0, 0),
    ([1000, 10], 0.9, 10, 1000),
])  # fmt: skip
def test_documents_for_dev(counts: list[int], share: float, least: int, most: int) -> None:
    results = [Result(name=f"{n}", sha256=f"{n}", chunks=count) for n, count in enumerate(counts)]
    for seed in range(5):
        held = selection.held_out(results, share=share, seed=seed)
        assert least <= sum(counts[n] for n in held) <= most
        assert len(held) < len(counts)
        assert held == selection.held_out(results, share=share, seed=seed)


def test_a_name_as_long_as_a_system_allows_stops_nothing(run: Run, tmp_path: Path) -> None:
    """Chinese ones come to that: three bytes for each character."""
    write(tmp_path / "data", ANIMALS[:2])
    for last in "甲乙":
        name = "长" * 80 + last + ".md"
        (tmp_path / "data" / name).write_text(f"# {last}\n\nA text of {last} that is long enough for a row.")
    done = run("--data", tmp_path / "data", "--output", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "out" / "text").iterdir())) == 4
    assert {row["document"] for row in lines(tmp_path / "out" / "chunks.jsonl")} >= {"长" * 80 + "甲.md"}


def test_a_folder_that_cannot_be_opened_stops_nothing_and_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "data" / "closed", ANIMALS[:1])
    write(tmp_path / "data", ANIMALS[1:2])
    scan = os.scandir

    def denied(path: str) -> object:
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied", path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", denied)  # root opens any
    found = sources.find([tmp_path / "data"])
    assert [each.name for each in found] == ["heron.md", "closed"]
    with pytest.raises(RefusedError, match="cannot be opened"):
        sources.read(found[1], extractor="pdfplumber", ocr="never")


def test_no_process_outlives_a_killed_parent(tmp_path: Path) -> None:
    """Nobody would be there to end a file that takes for ever: this one does."""
    (tmp_path / "hook").mkdir()
    (tmp_path / "hook" / "mammoth.py").write_text(
        "import os, time\n"
        f"open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()) + '\\n')\n"
        "time.sleep(300)\n"
    )
    data = write(tmp_path / "data", ANIMALS[:1])
    (data / "lion.docx").write_bytes(b"PK")
    program = [sys.executable, "-m", "documents", "--data", data, "--output", tmp_path / "out"]
    path = f"{tmp_path / 'hook'}:{os.environ['PYTHONPATH']}"
    environment = {**os.environ, "PYTHONPATH": path, "LAUNCH_SCRATCH": str(tmp_path)}
    with subprocess.Popen(program, env=environment, stdout=subprocess.DEVNULL) as parent:
        wait_until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text().endswith("\n"))
        parent.kill()
    child = Path("/proc") / (tmp_path / "pid").read_text().strip() / "status"
    wait_until(lambda: not alive(child))


def alive(status: Path) -> bool:
    """A zombie, which nobody waits for, is not."""
    try:
        return "State:\tZ" not in status.read_text()
    except OSError:
        return False


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.1)
