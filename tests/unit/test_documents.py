"""The launcher's part of documents: which files they are. What is in them the recipe judges."""

import hashlib
import os
from pathlib import Path

import pytest

from launcher import recipe
from launcher.app.data import Asked, rules
from launcher.data import documents
from launcher.errors import DataError, RefusedError, UsageError
from launcher.recipe.refusals import refuse

ROOT = Path(__file__).resolve().parents[2]


def write(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())
    return folder


def test_folders_are_searched_to_the_bottom_in_a_stable_order(tmp_path: Path) -> None:
    write(
        tmp_path,
        "b.PDF",
        "a/c.docx",
        "a/b/x.md",
        "notes.txt",
        "picture.png",
        ".hidden.md",
        "~$b.docx",
        ".git/a.md",
    )
    found = documents.find([tmp_path, tmp_path / "b.PDF"])
    names = [str(file.path.relative_to(tmp_path)) for file in found]
    assert names == ["b.PDF", "notes.txt", "a/c.docx", "a/b/x.md"]
    assert found[0].sha256 == hashlib.sha256(b"b.PDF").hexdigest()
    assert (found[0].size, found[0].rows) == (5, 0)


def test_all_problems_are_named_at_once(tmp_path: Path) -> None:
    write(tmp_path, "in/a.md", "outside.md", "rows.jsonl", "none/picture.png", "a:b.md")
    (tmp_path / "in" / "link.md").symlink_to(tmp_path / "outside.md")
    given = ["in", "gone.pdf", "rows.jsonl", "none", "a:b.md"]
    with pytest.raises(DataError) as caught:
        documents.find([tmp_path / name for name in given])
    said = "\n".join(caught.value.problems)
    for part in ("link.md: a link out", "gone.pdf: does not exist", "rows.jsonl: not a document"):
        assert part in said
    for part in ("none: no document in", "a:b.md: a colon"):
        assert part in said


def test_a_folder_that_cannot_be_opened_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "a.md", "closed/b.md")
    scan = os.scandir

    def denied(path: Path) -> object:
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", denied)  # root opens any
    with pytest.raises(DataError) as caught:
        documents.find([tmp_path])
    assert caught.value.problems == (f"{tmp_path / 'closed'}: cannot be read: Permission denied",)


def test_answers_of_an_earlier_run_are_taken_by_name_alone(tmp_path: Path) -> None:
    write(tmp_path, "a.md", "answers.jsonl")
    assert [file.path.name for file in documents.find([tmp_path])] == ["a.md"]
    given = [tmp_path, tmp_path / "answers.jsonl"]
    assert [file.path.name for file in documents.find(given)] == ["a.md", "answers.jsonl"]


def test_broken_and_empty_files_do_not_stop_a_run(tmp_path: Path) -> None:
    write(tmp_path, "broken.pdf")
    (tmp_path / "empty.docx").touch()
    assert [file.size for file in documents.find([tmp_path])] == [10, 0]


def test_the_recipe_reads_the_same_endings() -> None:
    text = (ROOT / "recipes" / "documents" / "sources.py").read_text(encoding="utf-8")
    kinds = text.split("KINDS = {")[1].split("}")[0]
    assert tuple(part.split('"')[1] for part in kinds.splitlines() if '"' in part) == documents.ENDINGS


def test_documents_have_no_rows_to_check() -> None:
    with pytest.raises(UsageError, match="no rows to check"):
        rules(Asked(recipe="documents-to-dataset"))


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"extractor": "marker"}, "transformers"),
        ({"extractor": "docling"}, "docling is in no image"),
        ({"rows": "questions"}, "--endpoint"),
        ({"rows": "questions", "endpoint": "http://x/v1"}, "--endpoint-model"),
    ],
)
def test_what_the_recipe_refuses(given: dict[str, str], why: str) -> None:
    found = recipe.load(ROOT / "recipes" / "documents-to-dataset.sh")
    values = dict(found.values("cpu", given))
    with pytest.raises(RefusedError) as caught:
        refuse(found, "cpu", values, (), language="en")
    assert why in caught.value.problems[0]
