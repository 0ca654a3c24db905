"""How long the texts of a data set are at most, in tokens, without a tokenizer: a token is a byte or more."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from launcher.app.rules import rules_of
from launcher.errors import DataError

#: Tokens around a text that are no bytes of it.
_SPECIAL = 4

#: Columns that stand before a row's query or passages in the place of the recipe's instructions.
_OF_QUERY, _OF_PASSAGE = ("prompt", "query_prompt"), ("passage_prompt",)

#: Types whose passages are queries too. Source: FlagEmbedding 1.4.2, abc/finetune/embedder/AbsDataset.py.
_SYMMETRIC = ("symmetric_sts", "symmetric_clustering")


def longest(given: tuple[Path, ...], data_format: str, values: Mapping[str, str]) -> tuple[int, int]:
    """Tokens of the longest query and of the longest other text at most, with what is put before them.

    Args:
        given: files and folders, as for ``launch run``.
        data_format: of the recipe's header.
        values: the recipe's parameters, instructions among them.

    Raises:
        DataError: a file is not there, cannot be read, or holds no texts.
    """
    if data_format not in ("embedder", "reranker"):
        whole = max(map(_whole, _rows(given, data_format, values)), default=0)
        return whole, whole
    sizes: dict[str, int] = {}
    symmetric = False
    for row in _rows(given, data_format, values):
        for name, value in row.items():
            sizes[name] = max(sizes.get(name, 0), _bytes(value))
        symmetric = symmetric or row.get("type") in _SYMMETRIC
    query, *prompts = (sizes.pop(name, 0) for name in ("query", *_OF_QUERY, *_OF_PASSAGE))
    other = max(sizes.values(), default=0)
    if not other:
        raise DataError("--data has no texts", [str(path) for path in given], hint="rows as for launch run")
    before_query = _before("query", values, max(prompts[: len(_OF_QUERY)]))
    before_other = _before("passage", values, max(prompts[len(_OF_QUERY) :]))
    if symmetric:
        before_other = max(before_query, before_other)
    return query + before_query + _SPECIAL, other + before_other + _SPECIAL


def _before(whose: str, values: Mapping[str, str], prompts: int) -> int:
    """Bytes that instruction, or a row's own prompt, and format add to a text at most."""
    given = (values.get(f"{whose}_instruction_for_{purpose}", "") for purpose in ("retrieval", "rerank"))
    joined = values.get(f"{whose}_instruction_format", "").replace("{}", "")
    return max(prompts, *map(_bytes, given)) + len(joined.encode())


def _rows(given: tuple[Path, ...], data_format: str, values: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """The rows of the files that a run would read."""
    # Imported here: without data an estimate needs none of it.
    import msgspec

    from launcher.data.blocks import TOO_LONG
    from launcher.data.files import expand
    from launcher.data.fixing import lines_of
    from launcher.data.model import Findings
    from launcher.data.rows import parsed

    unread = "--data cannot be read"
    findings = Findings(20)
    files = expand(given, rules_of(data_format, values, launch="torchrun"), findings, for_run=True)
    if problems := [str(finding) for group in findings.groups.values() for finding in group.shown]:
        raise DataError(unread, problems)
    for file in files:
        for number, line in enumerate(lines_of(file), start=1):
            if line is None:
                raise DataError(unread, [f"{file}:{number}: {TOO_LONG}"])
            line = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
            if not line.strip():
                continue
            try:
                row = msgspec.json.decode(line)
            except (ValueError, RecursionError):  # no JSON, or what msgspec alone refuses, such as NaN
                row = None
            if not isinstance(row, dict):
                row, issues = parsed(line)
                if row is None:
                    raise DataError(unread, [f"{file}:{number}: {issues[0].text}"])
            yield row


def _whole(row: object) -> int:
    """All texts of a language model's row together, with what a chat template puts around each."""
    if isinstance(row, dict):
        return sum(map(_whole, row.values()))
    if isinstance(row, list):
        return sum(map(_whole, row))
    return len(row.encode()) + 2 * _SPECIAL if isinstance(row, str) else 0


def _bytes(value: object) -> int:
    """The longest text of a field."""
    if isinstance(value, str):
        return len(value.encode())
    return max(map(_bytes, value), default=0) if isinstance(value, list) else 0
