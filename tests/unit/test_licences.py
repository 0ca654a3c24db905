"""launcher.licences: the tables that ship are about the locks, and name what deserves a look."""

import json
import re
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from launcher import licences, lock, manifest, paths
from launcher.app import licences as shipping
from launcher.cli import root
from launcher.errors import ManifestError
from launcher.licences import Look, Stated

#: Licences that ask for no more than their text and a notice. Everything else wants a row in licences.toml.
USUAL = re.compile(
    r"(The )?(MIT|MIT-0|MIT-CMU|0BSD|BSD|BSD-[23]-Clause|Apache-2\.0|Apache License, Version 2\.0|ISC|"
    r"PSF-2\.0|PSFL|Unlicense|CC0-1\.0|Zlib|BSL-1\.0|CNRI-Python)"
    r"( license| License( \(ISCL\))?)?( with LLVM exceptions| WITH LLVM-exception)?",
    re.IGNORECASE,
)


def test_every_package_of_the_locks_is_in_the_table_and_nothing_else() -> None:
    known = manifest.shipped()
    packages = {
        (package.name, package.version)
        for target in known.targets
        for package in lock.load(paths.images(), target).packages
    }
    assert licences.shipped().keys() == packages


def test_whatever_is_not_usual_has_a_row_that_says_why() -> None:
    looks = licences.looks()
    for stated in licences.shipped().values():
        usual = all(USUAL.fullmatch(part) for part in re.split(r" (?:AND|OR) ", stated.licence))
        rows = [row for row in looks if row.about(stated)]
        assert usual or rows, stated
        assert not (rows and rows[0].open) or usual, stated


def test_every_row_is_about_a_package_that_ships() -> None:
    stated = list(licences.shipped().values())
    for row in licences.looks():
        for pattern in row.packages:
            assert any(fnmatchcase(each.package, pattern) and row.about(each) for each in stated), pattern


def stated(package: str, licence: str = "MIT") -> Stated:
    return Stated(package=package, version="1", licence=licence, stated="License")


def test_the_first_row_counts() -> None:
    def row(*packages: str, **more: Any) -> Look:
        return Look(packages=packages, licence="x", why="y", source="z", **more)

    rows = (row("nvidia-nccl", open=True), row("nvidia-*"), row("torch", only_unread=True))
    assert licences.look(stated("nvidia-nccl"), rows) is None
    assert licences.look(stated("nvidia-x"), rows) == rows[1]
    assert licences.look(stated("torch"), rows) is None
    assert licences.look(stated("torch", licences.UNREAD), rows) == rows[2]
    assert licences.look(stated("other"), rows) is None


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    rows = {(each.package, each.version): each for each in (stated("b"), stated("a", 'its own ("é")'))}
    file = tmp_path / "licences.json"
    file.write_text(licences.text(rows), encoding="utf-8")
    assert licences.read(file) == rows
    assert licences.text(licences.read(file)) == licences.text(rows)
    for content in (
        "",
        "[]",
        '{"schema": 2, "packages": []}',
        '{"schema": 1, "packages": [{"package": "a"}]}',
    ):
        file.write_text(content)
        with pytest.raises(ManifestError, match="cannot be read"):
            licences.read(file)


def test_a_row_without_a_reason_is_refused() -> None:
    with pytest.raises(ManifestError) as raised:
        licences.parse('schema = 1\n[[look]]\npackages = []\nlicence = ""\nwhy = ""\n')
    assert {problem.partition(":")[0] for problem in raised.value.problems} == {
        "look.0.packages",
        "look.0.why",
        "look.0.source",
    }


def test_the_list_names_what_deserves_a_look_first() -> None:
    done = CliRunner().invoke(root, ["image", "list", "--licences", "--json"])
    assert done.exit_code == 0, done.output
    targets = json.loads(done.output)["targets"]
    assert set(targets) == set(manifest.shipped().names())
    for name, rows in targets.items():
        looked = [row["look"] is not None for row in rows]
        assert looked == sorted(looked, reverse=True), name
        assert rows[0]["package"] == "unsloth"
    assert any(row["stated_in"] == "manifest.toml" for row in targets["xpu"])
    without = CliRunner().invoke(root, ["image", "list", "--licences", "--without", "flash-attn", "--json"])
    assert "flash-attn" not in {row["package"] for row in json.loads(without.output)["targets"]["cuda"]}
    text = CliRunner(env={"COLUMNS": "300"}).invoke(root, ["image", "list", "--licences"]).output
    assert "the model that a run starts from, which has a licence of its own" in text
    assert text.index("AGPL-3.0") < text.index("absl-py")


def test_locks_that_the_table_does_not_know(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(licences, "shipped", dict)
    with pytest.raises(ManifestError) as raised:
        shipping.shipped(base=None, without=())
    assert raised.value.hint == "make docs"


@pytest.mark.parametrize(
    ("card", "said"),
    [
        ("---\nlanguage: en\nlicense: apache-2.0\n---\n# Model", ""),
        ("---\nlicense: MIT\n---\n", ""),
        ('---\nlicense: "llama3.1"\n---\n', "llama3.1"),
        ("---\r\nlicense: other\r\nlicense_name: my-terms\r\n---\r\n", "my-terms"),
        ("---\nlicense: other\n---\n", "other"),
        ("---\ntags: [x]\n---\nlicense: cc-by-nc-4.0\n", ""),
        ("# Model\n\nlicense: gemma\n", ""),
        ("---\nlicense:\n- mit\n---\n", ""),
        ("---\nlicense: gemma", ""),
        ("", ""),
    ],
)
def test_conditions_of_a_model(tmp_path: Path, card: str, said: str) -> None:
    (tmp_path / "README.md").write_bytes(card.encode())
    assert licences.conditions(tmp_path) == said


def test_a_model_without_a_card_and_a_plan_with_one(bench: Any, tmp_path: Path) -> None:
    assert licences.conditions(tmp_path / "nowhere") == ""
    model = bench.model()
    (model / "README.md").write_bytes(b"---\nlicense: gemma\n---\n\xff")
    (note,) = [note for note in bench.plan(target="cpu", model=str(model)).notes if "licence" in note]
    assert "its README names the licence gemma" in note
