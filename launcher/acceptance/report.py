"""The report of ``launch accept`` as Markdown: for people first, with all data as JSON at its end."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from launcher.acceptance import (
    BATCH_SIZE,
    GROUP_SIZE,
    PASSAGE_LENGTH,
    QUERY_LENGTH,
    TOKENS,
    Known,
    Report,
    Speed,
)

#: How many of a failed part's last lines stand in the text; the JSON has all of them.
_LINES = 40


_NOTHING = "Not run."

#: Sizes that no reported figure can be compared with.
_SMALL = ("tiny", "base")


def verdict(report: Report) -> str:
    """One line: what it comes to."""
    failed, waiting = report.failed, [each.name for each in report.checks if each.status == "needs-gpu"]
    said = f"{len(failed)} failed" if failed else "nothing failed"
    if waiting:
        said += f"; undecided without a GPU: {', '.join(waiting)}"
    return said if report.complete else f"INCOMPLETE, it was interrupted; so far {said}"


def render(report: Report) -> str:
    """The file's text."""
    lines = [
        f"# Acceptance of `{report.target}`",
        "",
        f"**{_capital(verdict(report))}.** {report.created}, engine {report.engine}, "
        f"{report.seconds / 60:.0f} min.",
    ]
    if report.facts is not None:
        lines += ["", "## Machine", "", *_table(("what", "value"), list(_facts(report.facts)))]
    if "checks" in report.steps:
        lines += ["", "## Checks", "", *_checks(report)]
    if "curves" in report.steps:
        lines += ["", "## Losses beside the recorded ones", "", *_curves(report)]
    if "speed" in report.steps:
        lines += ["", "## Speed and memory", "", *_speed(report)]
    details = list(_details(report))
    if details:
        lines += ["", "## What failed parts said", *details]
    if report.notes:
        lines += ["", "## Notes", "", *(f"* {_cell(note)}" for note in report.notes)]
    data = json.dumps(as_data(report), indent=1, ensure_ascii=False)
    return "\n".join([*lines, "", "## Data", "", "```json", data, "```", ""])


def as_data(report: Report) -> dict[str, Any]:
    """The report for programs."""
    data = asdict(report)
    for each in data["speed"]:
        each["parameters"] = dict(each["parameters"])
    return data


def speed_rows(report: Report) -> list[tuple[str, ...]]:
    """Measured trainings, then others' figures: name, status, s/it, tokens/s, tensors, reserved."""
    rows = [_measured(each) for each in report.speed]
    return rows + [_reported(each) for each in report.known]


SPEED_TITLES = ("training", "status", "s/it", "tokens/s", "peak MB", "reserved MB")


def _measured(found: Speed) -> tuple[str, ...]:
    pace = found.step_seconds
    return (
        found.name,
        found.status,
        f"{pace:.3g}" if pace else "",
        f"{TOKENS / pace:,.0f}" if pace else "",
        _megabytes(found.peak_memory),
        _megabytes(found.peak_reserved),
    )


def _reported(known: Known) -> tuple[str, ...]:
    how = {True: ", with unsloth", False: ", without unsloth", None: ""}[known.unsloth]
    memory = f"{known.peak_memory_mb:,.0f}" if known.peak_memory_mb else ""
    pace = f"{known.step_seconds:g}" if known.step_seconds else ""
    return (f"{known.card}: {known.precision or 'precision unknown'}{how}", "reported", pace, "", memory, "")


def _megabytes(amount: int | None) -> str:
    return "" if amount is None else f"{amount / 1e6:,.0f}"


def _facts(facts: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested facts as rows; ``…_bytes`` in GB."""
    for key, value in facts.items():
        name = f"{prefix}{key}".replace("_", " ")
        if isinstance(value, dict):
            yield from _facts(value, f"{prefix}{key} ")
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            for number, each in enumerate(value):
                yield from _facts(each, f"{prefix}{key} {number} ")
        elif key.endswith("_bytes") and isinstance(value, int):
            yield name.removesuffix(" bytes"), f"{value / 1e9:.2f} GB ({value} bytes)"
        elif isinstance(value, list):
            yield name, ", ".join(map(str, value)) or "none"
        else:
            yield name, "unknown" if value in ("", None) else str(value)


def _checks(report: Report) -> list[str]:
    rows = [(each.name, each.status, f"{each.seconds:.1f}", _first(each.detail)) for each in report.checks]
    return _table(("check", "status", "seconds", "detail"), rows) if rows else [_NOTHING]


def _curves(report: Report) -> list[str]:
    rows = []
    for each in report.curves:
        off = "" if each.off is None else f"{each.off:.4f} of {each.tolerance:.4f}"
        start = {True: "same", False: "other weights", None: ""}[each.same_start]
        rows.append((each.recipe, each.precision, each.status, _numbers(each.losses), off, start))
        rows.append(("", "", "recorded", _numbers(each.recorded), "", ""))
    titles = ("recipe", "precision", "status", "losses", "off, of what is allowed", "first weights")
    return _table(titles, rows) if rows else [_NOTHING]


def _speed(report: Report) -> list[str]:
    if not report.speed:
        return [_NOTHING]
    shape = ", ".join(f"{key} {value}" for key, value in report.model.items())
    smaller = " The measured model is smaller than theirs can have been." if report.size in _SMALL else ""
    return [
        f"Reranker ({report.size}: {shape}); {BATCH_SIZE} queries per step, groups of {GROUP_SIZE}, every "
        f"pair {QUERY_LENGTH}+{PASSAGE_LENGTH} tokens. Medians of {_steps(report.speed)} step(s) after the "
        "warm-up. MB are 10⁶ bytes: what tensors took at most, and what torch's allocator had reserved; on "
        "a CPU the process's peak resident set.",
        "",
        *_table(SPEED_TITLES, speed_rows(report)),
        "",
        f"*reported* are figures of others; nothing is judged by them.{smaller}",
        "",
        *(f"* {_reported(each)[0]}: {_cell(each.source)}" for each in report.known),
    ]


def _steps(found: Sequence[Speed]) -> str:
    counts = sorted({each.steps for each in found if each.steps})
    return " or ".join(map(str, counts)) or "no"


def _details(report: Report) -> Iterator[str]:
    for name, detail in report.failed:
        # A fence longer than any that the text may hold.
        yield from ("", f"### {name}", "", "`````text", *detail.splitlines()[-_LINES:], "`````")


def _numbers(values: Sequence[float]) -> str:
    return " ".join(f"{value:.4f}" for value in values)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _first(detail: str) -> str:
    return (detail.splitlines() or [""])[0]


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [
        f"| {' | '.join(titles)} |",
        f"|{'---|' * len(titles)}",
        *(f"| {' | '.join(map(_cell, row))} |" for row in rows),
    ]
