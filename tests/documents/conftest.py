"""What tests of documents share: the programs that make real ones, and whole runs of the steps."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).resolve().parents[1] / "support"))

import office

CHINESE = (
    "人工智能正在改变世界。机器学习模型需要大量的数据来训练，而这些数据往往藏在各种文档之中。"
    "我们把文档转换为干净的文本，然后切分成合适的片段。"
)
TABLE = [
    ["Region", "Sales 2024", "Sales 2025"],
    ["North", "1,200", "1,350"],
    ["South | East", "900", "1,010"],
    ["中国", "2,000", "2,400"],
]


@pytest.fixture(scope="session")
def writer() -> None:
    """LibreOffice, or a reason to skip; under CI a failure."""
    if office.PROGRAM is None:
        reason = "no LibreOffice; tests/support/documents.sh install brings one"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)


@pytest.fixture(scope="session")
def report(writer: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One document as report.fodt, .pdf, .docx and .html: columns, a table, Chinese, 4 pages."""
    folder = tmp_path_factory.mktemp("report")
    source = office.write(
        folder / "report.fodt",
        office.heading("Annual Report"),
        office.paragraph("The efficient office finds waffles difficult. " + office.numbered("intro", 60)),
        office.heading("Two Columns", 2),
        office.columns(
            office.paragraph(office.numbered("alpha", 120)),
            office.paragraph(office.numbered("internationalization", 120)),
            office.heading("Inside a Column", 2),
            office.paragraph(office.numbered("beta", 150)),
        ),
        office.heading("Figures", 2),
        office.paragraph("The table shows sales."),
        office.table(TABLE),
        office.paragraph("After the table."),
        office.paragraph("", new_page=True),
        office.heading("中文部分"),
        office.paragraph(CHINESE * 3),
        office.heading("Details", 2),
        office.paragraph(office.numbered("gamma", 300)),
        office.paragraph("The last page. " + office.numbered("delta", 80), new_page=True),
        header="Company Confidential 2025",
    )
    for kind in ("pdf", "docx", "html"):
        office.convert(source, kind, folder)
    return folder


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Start the steps as the recipe does, in a process of its own."""

    def start(*arguments: object, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "documents", *map(str, arguments)],
            env={**os.environ, "LAUNCH_SCRATCH": str(tmp_path), "OMP_NUM_THREADS": "1", **variables},
            capture_output=True,
            text=True,
            timeout=300,
        )

    return start


def lines(path: Path) -> list[Any]:
    """The rows of a file."""
    import json

    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
