"""From what people name to files: folders, patterns, kinds of files; what cannot be data is a finding."""

import glob
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path

from launcher.data.model import Findings, Issue, Rules

#: What trainers read.
LINES = (".jsonl", ".json")

#: BEIR's judgements are a table; recipes of the format retrieval read them beside the rows.
TABLE = ".tsv"

PACKED = (".gz", ".zst")
PARQUET = ".parquet"


def kind_of(path: Path) -> str:
    """``lines``, ``table``, ``packed``, ``parquet``, or empty for what the check cannot read."""
    if path.suffix in LINES:
        return "lines"
    if path.suffix in PACKED and Path(path.stem).suffix in LINES:
        return "packed"
    return {TABLE: "table", PARQUET: "parquet"}.get(path.suffix, "")


def expand(given: tuple[Path, ...], rules: Rules, findings: Findings, *, for_run: bool) -> list[Path]:
    """The files that are meant, in a stable order.

    Args:
        given: files, folders, and patterns that no shell has expanded.
        for_run: only what a trainer reads; otherwise also what the check can look into.
    """
    files: list[Path] = []
    for path in given if for_run else meant(given):
        if ":" in str(path.absolute()):  # the recipe gets the whole path, the working folder's included
            _say(findings, path, "path-colon", "a colon separates paths, rename the file or folder")
        elif path.is_dir():
            files += _of_folder(path, rules, findings, for_run=for_run)
        elif path.is_file():
            if _readable(path, rules, findings, for_run=for_run):
                files.append(path)
                findings.place(path)
        else:
            _say_absent(findings, path)
    return list(dict.fromkeys(files))


def meant(given: Iterable[Path]) -> tuple[Path, ...]:
    """The paths, patterns that no shell has expanded replaced by what they match, if they match anything.

    What a pattern matches is taken as it is: it may be a link to nothing, and its name may have a ``*`` too.
    """
    found: list[Path] = []
    for path in given:
        pattern = glob.has_magic(str(path)) and not path.exists()
        matches = glob.glob(str(path), recursive=True) if pattern else []  # noqa: PTH207 - absolute ones too
        found += sorted(map(Path, matches)) or [path]
    return tuple(found)


def judgements_of(folder: Path) -> list[Path]:
    """The judgements of a folder in BEIR's layout: ``qrels/test.tsv``, or ``qrels.test.tsv`` in it."""
    found = [*folder.glob(f"qrels.*{TABLE}"), *folder.glob(f"qrels/*{TABLE}")]
    return sorted(path for path in found if path.is_file())


def _of_folder(folder: Path, rules: Rules, findings: Findings, *, for_run: bool) -> list[Path]:
    kinds = ("lines",) if for_run else ("lines", "packed", "parquet")
    named = sorted(item for item in folder.iterdir() if kind_of(item) in kinds and not item.is_dir())
    inside = [item for item in named if item.is_file()]
    for item in named:
        if not item.is_file():
            _say_absent(findings, item)
    if not named:
        _say(findings, folder, "path-missing", f"no .jsonl or .json file in this folder{_others(folder)}")
    if rules.format == "retrieval":
        inside += judgements_of(folder)
    for item in inside:
        findings.place(item)
        if folder.resolve() not in item.resolve().parents:
            text = "a link out of the folder, which no container can follow; name the file"
            _say(findings, item, "path-link" if for_run else "link-outside", text)
        if kind_of(item) in ("packed", "parquet"):
            _say(findings, item, "convert-first", conversion(item, rules))
    return inside


def _others(folder: Path) -> str:
    convertible = [item for item in folder.iterdir() if kind_of(item) in ("packed", "parquet")]
    return f": launch data convert {folder} makes them of what is there" if convertible else ""


def _readable(path: Path, rules: Rules, findings: Findings, *, for_run: bool) -> bool:
    kind = kind_of(path)
    if kind == "lines" or (kind == "table" and rules.format == "retrieval"):
        return True
    if kind in ("packed", "parquet") and not for_run:
        _say(findings, path, "convert-first", conversion(path, rules))
        return True
    what = " and .tsv judgements" if rules.format == "retrieval" else ""
    text = f"the trainer reads .jsonl and .json files{what} only"
    _say(findings, path, "file-kind", f"{text}: {conversion(path, rules)}" if _convertible(path) else text)
    return False


def _convertible(path: Path) -> bool:
    return kind_of(path) != "" or Path(path.name.removesuffix(".gz").removesuffix(".zst")).suffix == ".csv"


def conversion(path: Path, rules: Rules) -> str:
    """The command that makes of a file what a trainer reads."""
    name = path.name.removesuffix(".gz").removesuffix(".zst")
    return f"launch data convert {path} --format {rules.format} --output {Path(name).stem}.jsonl"


def _say_absent(findings: Findings, path: Path) -> None:
    """Something that is no file where one is needed: pipes have no size, and are read only once."""
    if path.is_symlink() and not path.exists():
        _say(findings, path, "path-missing", "a link to nothing")
    elif path.exists():
        _say(
            findings, path, "file-unreadable", "no regular file: write what comes out of it to a .jsonl file"
        )
    else:
        _say(findings, path, "path-missing", "does not exist")


def _say(findings: Findings, path: Path, rule: str, text: str) -> None:
    findings.add(path, 0, Issue(rule, "", text))


def spans(size: int, head: int, step: int) -> Iterator[tuple[int, int]]:
    """A file of ``size`` bytes in parts; none crosses ``head``."""
    edges = sorted({0, min(size, 1 << 20), min(size, head), *range(head + step, size, step), size})
    yield from pairwise(edges)
