"""What is checked: one table, read by the checker, the reports, the repairs and the documentation.

A rule's name is stable: scripts and people filter by it. What happens without a rule was measured with
FlagEmbedding 1.4.2 and datasets 5.0 on a CPU where it says so; the rest follows from reading their source.
"""

from dataclasses import dataclass
from typing import Literal

#: An error stops the trainer, or teaches it something wrong; a warning is worth a look.
Severity = Literal["error", "warning"]

#: What a recipe may ask for, and how its rows look.
FORMATS = {
    "embedder": '{"query": "…", "pos": ["…"], "neg": ["…"]}, one object per line',
    "reranker": '{"query": "…", "pos": ["…"], "neg": ["…"]}, one object per line',
    "retrieval": '{"query": "…", "pos": ["…"]} rows, and {"id": "…", "text": "…"} rows of the corpus; '
    "or BEIR: corpus.jsonl, queries.jsonl, qrels/SPLIT.tsv (query-id, corpus-id, score)",
    "texts": "objects that hold text, one per line",
    "sft": '{"messages": [{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}]}, '
    "or instruction and output, or prompt and completion, one object per line",
    "plain": '{"text": "…"}, one object per line',
    "llm": "rows of sft or of plain, also both in one file",
}

_PAIRS = ("embedder", "reranker")
_WITH_PAIRS = (*_PAIRS, "retrieval")
_ALL = tuple(FORMATS)
_DIALOGUE = ("sft", "llm")
_WHOLE_TEXTS = ("retrieval", "plain", "llm")

#: What trainers load with datasets, which makes columns of rows; tools read any format line by line.
LOADED = (*_PAIRS, "sft", "plain")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One thing that is checked.

    Attributes:
        name: stable, short.
        formats: the data formats that it is about.
        without: what happens when nobody looks.
        fix: what to do about it.
        repair: what ``--fix`` does; empty when a row can only be left out, or nothing can be done.
    """

    name: str
    severity: Severity
    formats: tuple[str, ...]
    without: str
    fix: str
    repair: str = ""


def _error(name: str, formats: tuple[str, ...], without: str, fix: str, repair: str = "") -> Rule:
    return Rule(name=name, severity="error", formats=formats, without=without, fix=fix, repair=repair)


def _warning(name: str, formats: tuple[str, ...], without: str, fix: str, repair: str = "") -> Rule:
    return Rule(name=name, severity="warning", formats=formats, without=without, fix=fix, repair=repair)


_FILES = (
    _error("path-missing", _ALL, "the trainer stops when it opens the file", "correct the path"),
    _error("path-colon", _ALL, "recipes separate paths by colons", "rename the file or folder"),
    _error("path-link", _ALL, "no container can follow a link out of the folder", "name the file itself"),
    _warning(
        "link-outside",
        _ALL,
        "no container can follow it; a run refuses it",
        "name the file itself",
        "copied",
    ),
    _error(
        "file-kind",
        _ALL,
        "measured: a file of another ending is passed over, and alone it is an 'empty list of datasets'",
        "launch data convert",
    ),
    _warning(
        "convert-first",
        _ALL,
        "the trainer reads .jsonl and .json only; a run refuses this file",
        "launch data convert",
        "written as .jsonl",
    ),
    _error("file-unreadable", _ALL, "the trainer stops when it opens the file", "chmod, or another file"),
    _error("file-damaged", _ALL, "the rest of the file is lost", "copy or compress it anew"),
    _error(
        "file-changed",
        _ALL,
        "what was checked is not what is trained on",
        "wait until the file is whole, then check again",
    ),
    _error(
        "file-empty",
        _ALL,
        "measured: StopIteration while the data is loaded",
        "leave the file out",
    ),
    _error(
        "json-array",
        _ALL,
        "it is loaded as a whole; tools that read line by line stop at it",
        "launch data convert",
        "written as one object per line",
    ),
    _error(
        "no-in-batch-unified",
        ("embedder",),
        "measured: unified fine-tuning trains on a constant loss, or stops with IndexError",
        "rename the file or folder, or --unified-finetuning false",
    ),
    _error(
        "never-trained",
        ("embedder",),
        "with same_dataset_within_batch, what does not fill a file's batch is left out without a word",
        "a smaller batch, larger files, --length-bucketing true or --same-dataset-within-batch false",
    ),
)
_LINES = (
    _error("not-utf8", _ALL, "measured: DatasetGenerationError", "iconv -f ENCODING -t UTF-8", "left out"),
    _error("not-json", _ALL, "measured: DatasetGenerationError", "correct or drop the line", "left out"),
    _error("not-object", _ALL, "the trainer looks for keys and stops", "one object per line", "left out"),
    _error(
        "line-long",
        _ALL,
        "memory of many times its size in every process",
        "one object per line; split the text",
        "left out",
    ),
    _error(
        "half-character",
        _ALL,
        "a tokenizer stops: half a surrogate pair is no character",
        "write the text anew from its source",
        "left out",
    ),
    _error(
        "key-repeated",
        _ALL,
        "measured: DatasetGenerationError; in a file of one row lists of one text become texts",
        "one value for each key",
        "the last one is kept",
    ),
    _error(
        "number-range",
        _ALL,
        "measured: DatasetGenerationError; in a file of one row lists of one text become texts",
        "a number below 1e308; a whole one within 64 bits, or as text",
        "left out",
    ),
    _warning(
        "blank-line",
        _ALL,
        "trainers pass over it; FlagEmbedding's miner of hard negatives stops",
        "drop the line",
        "dropped",
    ),
    _warning(
        "bom", _ALL, "trainers pass over it; other tools do not", "save as UTF-8 without BOM", "removed"
    ),
    _warning(
        "row-repeated",
        _ALL,
        "the row counts twice, and is a false negative of itself in a batch",
        "keep one of them",
        "later ones are dropped",
    ),
)
_COLUMNS = (
    _error(
        "column-late",
        LOADED,
        "measured: DatasetGenerationError: columns and kinds follow from the first 10 MiB of a file",
        "the column in every row from the first on; whole numbers as 1.0 where others are not whole",
    ),
    _error(
        "column-files",
        LOADED,
        "measured: ValueError 'features can't be aligned' when the files are put together",
        "the same kind of value in every file",
    ),
    _error(
        "text-as-time",
        LOADED,
        "measured: a column of nothing but dates becomes dates, and no text is left",
        "any text that is no date in one of the rows, or words around the dates",
    ),
    _error(
        "list-null-first",
        LOADED,
        "measured: where a block of the file begins with such a list, pyarrow loses the null: "
        "UnicodeDecodeError, ArrowInvalid, or other values than the file's (apache/arrow#51305)",
        "the list without null, or with another item before it",
        "null is dropped",
    ),
    _warning(
        "column-mixed",
        LOADED,
        "measured: datasets 5.0 keeps such a column as JSON; not tried with older ones",
        "one kind of value in a column",
    ),
)
_ROWS = (
    _error("query-missing", _WITH_PAIRS, "KeyError when the row is drawn", "add query", "left out"),
    _error("query-type", _WITH_PAIRS, "the tokenizer stops when the row is drawn", "a text", "left out"),
    _error("query-empty", _WITH_PAIRS, "accepted: nothing is learned as a question", "a text", "left out"),
    _error("pos-missing", _WITH_PAIRS, "KeyError when the row is drawn", "add pos", "left out"),
    _error(
        "pos-string",
        _WITH_PAIRS,
        "measured: AssertionError without text; with same_dataset one character becomes the passage",
        'write ["…"]',
        "made a list",
    ),
    _error("pos-type", _WITH_PAIRS, "TypeError or AssertionError when drawn", "a list of texts", "left out"),
    _error(
        "pos-empty",
        _WITH_PAIRS,
        "measured: IndexError 'Cannot choose from an empty sequence'",
        "at least one right answer",
        "left out",
    ),
    _error(
        "neg-missing",
        _PAIRS,
        "measured: KeyError; in one row alone an AssertionError without text, or TypeError",
        "launch run mine-hard-negatives",
        "left out",
    ),
    _error(
        "neg-string",
        _WITH_PAIRS,
        "AssertionError without text; with same_dataset one character becomes the passage",
        'write ["…"]',
        "made a list",
    ),
    _error("neg-type", _WITH_PAIRS, "TypeError or AssertionError when drawn", "a list of texts", "left out"),
    _error(
        "neg-empty",
        _PAIRS,
        "measured: ZeroDivisionError when the row is drawn",
        "launch run mine-hard-negatives",
        "left out",
    ),
    _warning(
        "neg-few",
        _PAIRS,
        "negatives are drawn twice to fill the group (--train-group-size)",
        "launch run mine-hard-negatives, or a smaller --train-group-size",
    ),
    _error("text-null", _WITH_PAIRS, "measured: accepted, and trained as a passage", "drop it", "dropped"),
    _error("text-type", _WITH_PAIRS, "the tokenizer stops when the row is drawn", "a text", "dropped"),
    _error(
        "text-empty",
        _WITH_PAIRS,
        "measured: accepted, and trained as a passage",
        "drop it",
        "dropped",
    ),
    _error(
        "pos-in-neg",
        _WITH_PAIRS,
        "the same text is trained as right and as wrong",
        "drop it from neg",
        "dropped from neg",
    ),
    _warning("text-repeated", _WITH_PAIRS, "it counts twice within its group", "keep one of them", "dropped"),
    _error("prompt-type", _PAIRS, "the text of a list or number is put before the query", "a text or null"),
    _error(
        "scores-missing",
        _PAIRS,
        "measured: ValueError or AssertionError; with same_dataset distillation is silently off",
        "launch run score-with-teacher, or --knowledge-distillation false",
        "left out",
    ),
    _warning(
        "scores-mixed",
        _PAIRS,
        "with distillation it stops at the first row without scores",
        "scores in every row, or in none: launch run score-with-teacher",
    ),
    _error("scores-type", _PAIRS, "AssertionError when the row is drawn", "a list of numbers", "left out"),
    _error(
        "scores-number",
        _PAIRS,
        "measured: ValueError, or accepted: strings are taken for scores",
        "a number",
        "left out",
    ),
    _error("scores-finite", _PAIRS, "the loss is NaN from there on", "a finite number", "left out"),
    _error(
        "scores-length",
        _PAIRS,
        "measured: IndexError when the row is drawn",
        "one score for each text",
        "left out",
    ),
    _error(
        "batch-size",
        ("embedder",),
        "read from the first row for the whole file: range() stops at zero, text stops earlier",
        "a whole number above 0, or drop the column",
    ),
    _error(
        "first-row",
        ("embedder",),
        "measured, same_dataset: TypeError \"argument of type 'NoneType' is not iterable\" while loading",
        "type and batch_size in the first row of a file when any row has them",
    ),
    _error(
        "row-unknown",
        ("retrieval", "sft", "texts", "plain", "llm"),
        "the trainer finds nothing to read in the row",
        "launch data convert",
        "left out",
    ),
    _error("passage-empty", _WHOLE_TEXTS, "nothing to learn or to find", "drop the row", "left out"),
    _error("field-type", _WHOLE_TEXTS, "the reader stops at it", "a text", "left out"),
    _error("judgement", ("retrieval",), "the evaluation stops, or counts wrongly", "correct the line"),
)
_DIALOGUES = (
    _error("messages-type", _DIALOGUE, "the chat template stops", "a list of role and content", "left out"),
    _error("messages-empty", _DIALOGUE, "there is nothing to learn", "at least one exchange", "left out"),
    _error(
        "role-unknown", _DIALOGUE, "templates stop, or drop the message", "user, assistant, …", "left out"
    ),
    _error("content-type", _DIALOGUE, "the chat template stops", "a text", "left out"),
    _error("answer-empty", _DIALOGUE, "the model learns to say nothing", "an answer", "left out"),
    _error("answer-missing", _DIALOGUE, "no token is trained on", "a message of the assistant", "left out"),
    _warning("question-empty", _DIALOGUE, "the answer is learned without its question", "a question"),
    _warning("answer-not-last", _DIALOGUE, "what follows the last answer is not learned", "cut it off"),
    _warning("roles-order", _DIALOGUE, "some templates stop at it", "user and assistant by turns"),
)
_TEXTS = (
    _warning("nul", _ALL, "NUL is a token of its own, or cuts the text in other tools", "drop it", "dropped"),
    _warning(
        "replacement-character",
        _ALL,
        "the text was decoded wrongly before: U+FFFD stands where letters were",
        "decode the source with its own encoding",
    ),
    _warning(
        "mojibake",
        _ALL,
        "UTF-8 was read as Latin-1 before: the model learns Ã© for é",
        "decode the source as UTF-8",
    ),
    _warning("bom-inside", _ALL, "an invisible character is learned", "drop it", "dropped"),
    _warning(
        "too-long",
        _WITH_PAIRS,
        "what is beyond the limit is cut off and not learned",
        "a longer --passage-max-len or --query-max-len, or split the texts",
    ),
)

#: All rules by name, in the order of the documentation.
RULES = {rule.name: rule for group in (_FILES, _LINES, _COLUMNS, _ROWS, _DIALOGUES, _TEXTS) for rule in group}
