"""What the programs beside the recipes share: rows of JSON-lines files in, whole files out.

Standard library only, so that every environment, and a test without one, can import it.
"""

import json
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

SUFFIXES = (".jsonl", ".json")
ALONE = "no_in_batch_neg"  # FlagEmbedding: rows of such files and folders see no other rows' passages
SHOWN = 20  # problems that are listed in full; the rest is counted


def files(given: Iterable[Path]) -> list[Path]:
    """The JSON-lines files of some files and folders, a folder's in the order of their names.

    Raises:
        SystemExit: a path does not exist, or a folder holds no such file.
    """
    found: list[Path] = []
    for path in given:
        if path.is_dir():
            inside = sorted(item for item in path.iterdir() if item.suffix in SUFFIXES and item.is_file())
            if not inside:
                sys.exit(f"{path}: no .jsonl or .json file in this folder")
            found += inside
        elif path.is_file():
            found.append(path)
        else:
            sys.exit(f"{path}: does not exist")
    return found


def outputs(given: Iterable[Path]) -> list[tuple[Path, str]]:
    """The files of :func:`files`, and for each the name of the file that is made from it.

    The name stays, because trainers take a file for a data set; what a folder's name says (its end
    ``no_in_batch_neg``) goes into the name, since the results of all folders lie side by side.

    Raises:
        SystemExit: two files of one name in folders of one name.
    """
    result: list[tuple[Path, str]] = []
    names: set[str] = set()
    for path in files(given):
        stem = path.stem
        if path.parent.name.endswith(ALONE) and not stem.endswith(ALONE):
            stem += f"_{ALONE}"
        if f"{stem}.jsonl" in names:
            stem = f"{path.parent.name}_{stem}"
        if f"{stem}.jsonl" in names:
            raise stop(f"{path}: another file has this name, and their results would have one name too")
        names.add(f"{stem}.jsonl")
        result.append((path, f"{stem}.jsonl"))
    return result


def read(path: Path) -> Iterator[tuple[int, Any]]:
    """Line number and content of every line that is not blank; see :func:`raw`."""
    for number, _, content in raw(path):
        yield number, content


def raw(path: Path) -> Iterator[tuple[int, str, Any]]:
    """Line number, text and content of every line that is not blank.

    Raises:
        SystemExit: a line is not UTF-8 or not JSON; the message names it.
    """
    number = 0
    with path.open(encoding="utf-8-sig") as lines:  # a mark at the start is passed over
        try:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield number, line, json.loads(line)
        except json.JSONDecodeError as error:
            sys.exit(f"{path}:{number}: not JSON: {error}")
        except UnicodeDecodeError as error:
            sys.exit(f"{path}:{number + 1}: not UTF-8: {error.reason}")


def check_pairs(given: Sequence[Path]) -> int:
    """Read training rows once, so that a bad one stops a program before it loads a model.

    Returns:
        The number of rows.

    Raises:
        SystemExit: rows without query, pos and neg, the first ones listed; or no rows at all.
    """
    problems: list[str] = []
    count = 0
    for path in given:
        for number, row in read(path):
            count += 1
            problems += [f"{path}:{number}: {problem}" for problem in pair_problems(row)]
    if not count:
        problems.append(f"there is no row in {', '.join(map(str, given))}")
    refuse(problems)
    return count


def pair_problems(row: object, *, negatives: bool = True) -> Iterator[str]:
    """What is wrong with a row of query, pos and neg.

    Args:
        row: what the line held.
        negatives: ``neg`` must be there and hold a text; otherwise it may be missing or empty.
    """
    if not isinstance(row, dict):
        yield 'a row is an object such as {"query": "…", "pos": ["…"]}'
        return
    if not is_text(row.get("query")):
        yield "query: a text is needed"
    for field, needed in (("pos", True), ("neg", negatives)):
        texts = row.get(field)
        if texts is None and not needed:
            continue
        if not isinstance(texts, list) or (needed and not texts) or not all(map(is_text, texts)):
            yield f"{field}: a list of texts is needed, none of them empty"


def is_text(value: object) -> bool:
    """Whether a value is a text that says something."""
    return isinstance(value, str) and bool(value.strip())


def refuse(problems: Sequence[str]) -> None:
    """Stop when there are problems, and list them.

    Raises:
        SystemExit: there is at least one.
    """
    if not problems:
        return
    rest = [f"… and {len(problems) - SHOWN} more"] if len(problems) > SHOWN else []
    sys.exit("\n".join([*problems[:SHOWN], *rest]))


def stop(message: str) -> SystemExit:
    """Say why a program cannot go on, and give what to raise: wrong usage is 64, as the launcher has it."""
    print(message, file=sys.stderr)
    return SystemExit(64)


@contextmanager
def written(path: Path, mode: str = "w") -> Iterator[IO[Any]]:
    """A file that is there whole or not at all: temporary file, fsync, rename, fsync of the folder.

    Readable for all (0644), because the temporary file's own mode would hide a result from other users.

    Args:
        path: the file; its folder is made when missing.
        mode: ``w`` for text (UTF-8), ``wb`` for bytes.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    encoding = None if "b" in mode else "utf-8"
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(handle, mode, encoding=encoding) as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def as_line(row: object) -> str:
    """A row as one line of a JSON-lines file."""
    return json.dumps(row, ensure_ascii=False) + "\n"


def write_json(path: Path, content: object) -> None:
    """Write one JSON document for people and programs."""
    with written(path) as stream:
        json.dump(content, stream, indent=2, ensure_ascii=False)
        stream.write("\n")
