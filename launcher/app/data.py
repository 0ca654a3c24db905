"""Data sets: check, repair, convert, split."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from launcher import data, paths, recipe
from launcher.app import batches
from launcher.app.crews import crew
from launcher.app.rules import rules_of
from launcher.data import FORMATS, Report, Rules, Wanted, fixing
from launcher.data import convert as conversion
from launcher.data import split as splitting
from launcher.data.convert import Choices, Converted
from launcher.data.documents import DOCUMENTS
from launcher.data.files import expand, kind_of, meant
from launcher.data.fixing import Fixed
from launcher.data.inspection import inspect
from launcher.data.model import Findings, Issue
from launcher.data.profile import Profile, profile
from launcher.data.split import Split
from launcher.errors import DataError, UsageError
from launcher.progress import Progress

#: Rows that the profile looks at.
SAMPLE = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the rows are for: a recipe with its parameters, or a format.

    Attributes:
        parameters: of the recipe, as text.
        scores: distillation is on, whatever the recipe says.
        model: a folder with ``tokenizer.json``, for lengths in tokens.
    """

    recipe: str = ""
    format: str = ""
    target: str = ""
    parameters: Mapping[str, str] = field(default_factory=dict)
    scores: bool = False
    model: Path | None = None
    nproc: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A report, and what the data looks like."""

    report: Report
    profile: Profile


def rules(asked: Asked) -> tuple[Rules, dict[str, str]]:
    """The rules, and the recipe's parameters with their values.

    Raises:
        UsageError: neither a recipe nor a format, or both, or a recipe without data; a format with what
            only a recipe has.
    """
    if bool(asked.recipe) == bool(asked.format):
        raise UsageError(
            "say what the rows are for: --recipe NAME, or --format F",
            why="each kind of training has its own rules",
            hint=f"formats: {', '.join(FORMATS)}; launch recipe list has the recipes",
        )
    if asked.format:
        if asked.parameters or asked.target or asked.nproc != 1:
            raise UsageError(
                "--set, --target and --nproc go with --recipe",
                why="a format by itself has no parameters, and does not say how it is trained on",
                hint="--recipe NAME instead of --format",
            )
        return Rules(format=asked.format, scores=asked.scores), {}
    loaded = recipe.load(recipe.find(asked.recipe, paths.recipes()))
    if loaded.data is None:
        raise UsageError(f"{loaded.name} takes no data")
    if loaded.data.format == DOCUMENTS:
        raise UsageError(
            f"{loaded.name} takes documents, which have no rows to check",
            why="the recipe itself says of each file what is wrong with it, and goes on with the others",
            hint="check the rows that it makes: launch data check OUTPUT --format plain (embedder, sft)",
        )
    values = dict(loaded.values(asked.target or loaded.targets[0], asked.parameters))
    if asked.scores:
        values["knowledge_distillation"] = "true"
    return rules_of(loaded.data.format, values, launch=loaded.launch), values


def check(
    given: tuple[Path, ...], asked: Asked, *, jobs: int | None, limit: int, progress: Progress
) -> Judged:
    """Check data sets, and describe them.

    Args:
        jobs: processes; None: as many as cores may be used.
        limit: findings of a rule that are shown.
    """
    wanted_rules, values = rules(asked)
    count = None
    if asked.model is not None:
        from launcher.data.tokens import counter

        # Its threads must not be there when the processes are forked; it makes them at the first text.
        count = counter(asked.model)
    given = meant(given)
    with crew(jobs, data.size(given)) as work:
        wanted = Wanted(sample=SAMPLE, limit=limit)
        report = inspect(given, wanted_rules, wanted, work=work, progress=progress)
    looks = profile(report.sample, count=count, limits=_limits(values))
    report = _with_unused(report, given, values, asked, limit)
    findings = Findings(limit)
    for each in looks.lengths:
        if each.longer and each.interval and each.limit:
            low, high = each.interval
            text = f"{each.longer:.1%} have more than {each.limit} tokens (95 %: {low:.1%} to {high:.1%})"
            findings.add(given[0], 0, Issue("too-long", each.field, text))
    return Judged(report=report.joined(findings), profile=looks)


def _with_unused(
    report: Report, given: tuple[Path, ...], values: Mapping[str, str], asked: Asked, limit: int
) -> Report:
    """The report with what a trainer would leave out."""
    findings = Findings(limit)
    for problem in batches.never_trained(given, report.files, values, asked.nproc):
        path, _, text = problem.partition(": ")
        findings.add(Path(path), 0, Issue("never-trained", "", text))
    return report.joined(findings)


def _limits(values: Mapping[str, str]) -> dict[str, int]:
    names = {"query": "query_max_len", "pos": "passage_max_len", "neg": "passage_max_len"}
    return {name: int(values[key]) for name, key in names.items() if values.get(key, "").isdigit()}


def fix(given: tuple[Path, ...], asked: Asked, *, jobs: int | None, out: Path, progress: Progress) -> Fixed:
    """Write a repaired copy, and judge it as :func:`check` does.

    Raises:
        OutputError: the folder is there and holds something.
        DataError: see :func:`launcher.data.fixing.fix`.
    """
    wanted_rules, values = rules(asked)
    with crew(jobs, data.size(meant(given))) as work:  # about what the copy will have; before any thread
        done = fixing.fix(given, wanted_rules, out, progress=progress)
        again = inspect((out,), wanted_rules, Wanted(), work=work, progress=progress)
    again = _with_unused(again, (out,), values, asked, data.SHOWN)
    return replace(done, remaining=again.count(errors=True))


def convert(
    given: tuple[Path, ...], choices: Choices, output: Path, *, progress: Progress
) -> tuple[Converted, Report]:
    """Convert files, and check the result."""
    with crew(None, data.size(given)) as work:  # about what the result will have; before any thread
        done = conversion.convert(given, choices, output, progress=progress)
        report = inspect((output,), Rules(format=choices.format), Wanted(), work=work, progress=progress)
    return done, report


def split(
    given: tuple[Path, ...], out: Path, *, share: float, seed: int, format_: str, progress: Progress
) -> Split:
    """Divide files into train and dev.

    Raises:
        DataError: a path that is no data, besides what ``launcher.data.split`` raises.
    """
    findings = Findings(data.SHOWN)
    files = expand(given, Rules(format=format_), findings, for_run=False)
    wrong = [str(each) for group in findings.groups.values() if group.error for each in group.shown]
    if wrong or not files:
        raise DataError("these cannot be split", wrong)
    if tables := [path for path in files if kind_of(path) == "table"]:
        raise DataError(
            f"{tables[0]}: a set in BEIR's layout cannot be split",
            [],
            why="its passages, queries and judgements refer to each other: a part of them is no set",
            hint="launch data convert FOLDER --format retrieval makes rows of it, which can be split",
        )
    return splitting.split(files, out, share=share, seed=seed, format_=format_, progress=progress)
