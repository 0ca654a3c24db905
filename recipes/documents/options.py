"""The command line of the steps, as documents-to-dataset.sh gives it."""

import argparse
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import rows as lines


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """See the header of documents-to-dataset.sh."""

    data: tuple[Path, ...]
    output: Path
    model: Path | None
    rows: str
    extractor: str
    ocr: str
    chunk_size: int
    overlap: int
    dev: float
    seed: int
    negatives: int
    endpoint: str
    endpoint_model: str
    language: str
    questions: int
    question_rows: str
    requests: int
    processes: int
    seconds: float
    memory: float
    push: str
    private: bool


def parse(arguments: Sequence[str]) -> Options:
    """The options.

    Raises:
        SystemExit: one cannot be used (64).
    """
    parser = argparse.ArgumentParser(prog="documents", allow_abbrev=False)
    parser.add_argument("--data", type=Path, nargs="+", required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--model", type=_folder, default=None)
    parser.add_argument("--rows", choices=["text", "headings", "questions"], default="text")
    parser.add_argument("--extractor", choices=["pdfplumber", "pypdfium2"], default="pdfplumber")
    parser.add_argument("--ocr", choices=["auto", "never", "always"], default="auto")
    parser.add_argument("--chunk-size", type=_at_least(1), default=1500)
    parser.add_argument("--overlap", type=_at_least(0), default=0)
    parser.add_argument("--dev", type=float, default=0.05)
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--negatives", type=_at_least(1), default=7)
    parser.add_argument("--endpoint", default="")
    parser.add_argument("--endpoint-model", default="")
    parser.add_argument("--language", choices=["en", "zh"], default="en")
    parser.add_argument("--questions", type=_at_least(1), default=3)
    parser.add_argument("--question-rows", choices=["chat", "pairs"], default="chat")
    parser.add_argument("--requests", type=_at_least(1), default=4)
    parser.add_argument("--processes", type=_at_least(0), default=0)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--memory", type=float, default=4.0)
    parser.add_argument("--push", default="")
    parser.add_argument("--private", type=_boolean, default=True)
    found = vars(parser.parse_args(arguments))
    options = Options(**{**found, "data": tuple(found["data"]), "processes": found["processes"] or _cores()})
    if problem := _problem(options):
        raise lines.stop(problem)
    return options


def _problem(options: Options) -> str:
    if options.overlap >= options.chunk_size:
        return "--overlap must be smaller than --chunk-size"
    if not 0 <= options.dev < 1:
        return "--dev is a share: 0 (none) or more, below 1"
    if options.seconds <= 0 or options.memory < 0:
        return "--seconds-per-file must be above 0, and --memory-gib 0 (no limit) or more"
    if options.endpoint and not re.match(r"https?://[^/@\s]+(/\S*)?$", options.endpoint):
        return "--endpoint is an address such as http://HOST:8000/v1, without a name and password in it"
    if options.rows == "questions" and not (options.endpoint and options.endpoint_model):
        return "--rows questions needs --endpoint (an address up to /v1) and --endpoint-model"
    return ""


def _folder(text: str) -> Path | None:
    return Path(text) if text else None


def _cores() -> int:
    return len(os.sched_getaffinity(0))


def _boolean(text: str) -> bool:
    if text not in ("true", "false"):
        raise argparse.ArgumentTypeError("true or false")
    return text == "true"


def _at_least(least: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        value = int(text)
        if value < least:
            raise argparse.ArgumentTypeError(f"{least} or more")
        return value

    return number
