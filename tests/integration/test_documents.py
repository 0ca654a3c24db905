"""Files to rows by `launch run`: in the embedded environment, and in a container that only reads them."""

import json
from pathlib import Path

import pytest

from tests.integration.conftest import Launch, result_of


@pytest.mark.environment
def test_a_folder_becomes_rows(launch: Launch, workspace: Path, on: tuple[str, ...]) -> None:
    folder = workspace / "papers" / "deep"
    folder.mkdir(parents=True)
    for name in ("otter", "heron", "badger"):
        text = (
            f"# The {name}\n\nThe {name} lives at rivers.\n\n## Food\n\nFish is what the {name} eats all day."
        )
        (folder / f"{name}.md").write_text(text)
    page = "<html><body><h1>山</h1><p>山里的雪到了夏天才会融化，河水因此上涨。</p></body></html>"
    (folder.parent / "page.html").write_text(page, encoding="utf-8")
    (folder.parent / "broken.pdf").write_bytes(b"%PDF-1.4 cut off")
    (folder.parent / "empty.docx").touch()
    done = launch(
        "run", "documents-to-dataset", *on, "--data", workspace / "papers", "--rows", "headings", "--dev", 0.3
    )
    assert done.code == 0, done.err
    result = result_of(workspace)
    assert result["stage"] == "done"
    assert len(result["data"]) == 6
    (output,) = (workspace / "runs").glob("*/output")
    report = json.loads((output / "report.json").read_text())
    problems = {each["name"]: each["problem"].split(":")[0] for each in report["files"] if each["problem"]}
    assert problems == {"broken.pdf": "broken", "empty.docx": "empty"}
    checked = launch("data", "check", output / "train.jsonl", output / "dev.jsonl", "--format", "embedder")
    assert checked.code == 0, checked.out + checked.err


@pytest.mark.environment
def test_nothing_that_can_be_read_is_a_failed_run(
    launch: Launch, workspace: Path, on: tuple[str, ...]
) -> None:
    (workspace / "broken.pdf").write_bytes(b"%PDF-1.4 cut off")
    done = launch("run", "documents-to-dataset", *on, "--data", workspace / "broken.pdf")
    assert done.code != 0
    assert "broken.pdf: broken" in done.out + done.err
