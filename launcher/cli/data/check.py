"""``launch data check``: all problems of data sets, by rule, before anything starts."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import rich_click as click

from launcher.app.data import Asked, Judged
from launcher.cli import ui
from launcher.cli.data import options
from launcher.data.model import Group
from launcher.data.rules import RULES
from launcher.errors import DataError


@click.command()
@options.paths
@click.option("--recipe", metavar="NAME", help="Judge by what this recipe and its parameters ask for.")
@options.format_
@click.option(
    "--target", metavar="TARGET", help="With --recipe: whose defaults count; its first one if none."
)
@click.option("--set", "values", multiple=True, metavar="NAME=VALUE", help="With --recipe: a parameter.")
@click.option("--distillation", is_flag=True, help="Every row must have teacher scores.")
@click.option(
    "--nproc", type=click.IntRange(1), default=1, show_default=True, help="Processes of the training."
)
@click.option(
    "--model",
    type=click.Path(exists=True, path_type=Path),
    help="A model's folder: lengths are then counted in its tokens, on a sample.",
)
@click.option(
    "--limit", type=click.IntRange(1), default=5, show_default=True, help="Places shown for a rule."
)
@click.option(
    "--fix",
    type=click.Path(path_type=Path),
    metavar="OUT",
    help="Write a repaired copy into this new folder, with a log of all changes.",
)
@options.jobs
@options.as_json
def command(
    paths: tuple[Path, ...],
    recipe: str | None,
    format_: str | None,
    target: str | None,
    values: tuple[str, ...],
    distillation: bool,
    nproc: int,
    model: Path | None,
    limit: int,
    fix: Path | None,
    jobs: int | None,
    as_json: bool,
) -> None:
    """Find what would stop a training, or teach it something wrong, in files, folders and patterns.

    Reads .jsonl and .json, also as .gz and .zst, and parquet. Exit code 0: no errors (there may be warnings);
    67: errors. Nothing is changed: --fix writes a copy.
    """
    from launcher.app import data

    asked = Asked(
        recipe=recipe or "",
        format=format_ or "",
        target=target or "",
        parameters=options.pairs(values, "--set"),
        scores=distillation,
        model=model,
        nproc=nproc,
    )
    with ui.TerminalProgress() as progress:
        judged = data.check(paths, asked, jobs=jobs, limit=limit, progress=progress)
    fixed = None
    if fix is not None:
        # Another progress: the thread of the first one has to end before processes are forked.
        with ui.TerminalProgress() as progress:
            fixed = data.fix(paths, asked, jobs=jobs, out=fix, progress=progress)
    if as_json:
        ui.print_json(_as_json(judged, fixed))
    else:
        _show(judged)
        if fixed is not None:
            ui.out.print(fixed.summary(), soft_wrap=True, markup=False)
    if fixed is not None and fixed.remaining:
        count = fixed.remaining
        raise DataError(
            f"{count} error{'s remain' if count > 1 else ' remains'} in the copy",
            [],
            why="they are about whole columns or files, and no row by itself can be mended",
            hint=f"launch data check {fixed.folder} says what they are",
        )
    if fixed is None and (count := judged.report.count(errors=True)):
        whole = any(
            group.error and group.rule.startswith(("path-", "file-")) for group in judged.report.groups
        )
        first = "first correct the paths and files; then " if whole else ""
        raise DataError(
            f"{count} error{'s' if count > 1 else ''} in the data",
            [],
            why="the trainer would stop at these rows in the middle of the run, or learn from wrong text",
            hint=f"{first}--fix OUT writes a repaired copy; what each rule is about: docs/data.md",
        )


def _as_json(judged: Judged, fixed: Any) -> dict[str, Any]:
    report = judged.report
    result: dict[str, Any] = {
        "schema": 1,
        "format": report.rules.format,
        "errors": report.count(errors=True),
        "warnings": report.count(errors=False),
        "rows": report.rows,
        "files": [{"path": str(file.path), "bytes": file.size, "rows": file.rows} for file in report.files],
        "findings": [_group_as_json(group) for group in report.groups],
        "profile": asdict(judged.profile),
    }
    if fixed is not None:
        result["fixed"] = asdict(fixed)
    return result


def _group_as_json(group: Group) -> dict[str, Any]:
    rule = RULES[group.rule]
    return {
        "rule": rule.name,
        "severity": rule.severity,
        "count": group.count,
        "without": rule.without,
        "fix": rule.fix,
        "places": [
            {
                "path": str(found.path),
                "line": found.line or None,
                "field": found.issue.field or None,
                "text": found.issue.text,
            }
            for found in group.shown
        ],
    }


def _show(judged: Judged) -> None:
    from rich.markup import escape
    from rich.table import Table

    report = judged.report
    for group in report.groups:
        rule = RULES[group.rule]
        style = "bold red" if group.error else "yellow"
        times = f" ({group.count} times)" if group.count > 1 else ""
        ui.out.print(
            f"[{style}]{rule.severity}[/] [bold]{rule.name}[/]{times}: {escape(rule.without)}", soft_wrap=True
        )
        for found in group.shown:
            ui.out.print(f"  {escape(str(found))}", soft_wrap=True)
        if group.count > len(group.shown):
            ui.out.print(f"  … and {group.count - len(group.shown)} more", soft_wrap=True)
        ui.out.print(f"  [green]fix[/]: {escape(rule.fix)}", soft_wrap=True)
    if judged.profile.lengths:
        table = Table("texts", "looked at", "unit", "median", "95 %", "longest", "cut off")
        for each in judged.profile.lengths:
            cut = ""
            if each.longer is not None and each.interval is not None:
                low, high = each.interval
                cut = f"{each.longer:.1%} ({low:.1%} to {high:.1%}) beyond {each.limit}"
            numbers = (str(each.median), str(each.high), str(each.most))
            table.add_row(each.field, str(each.texts), each.unit, *numbers, cut)
        ui.out.print(table)
    if judged.profile.scripts:
        shares = ", ".join(f"{name} {share:.0%}" for name, share in judged.profile.scripts[:5])
        ui.out.print(f"scripts: {shares}", soft_wrap=True)
    errors, warnings = report.count(errors=True), report.count(errors=False)
    files = f"{len(report.files)} file{'' if len(report.files) == 1 else 's'}"
    ui.out.print(f"{files}, {report.rows} rows: {errors} errors, {warnings} warnings", soft_wrap=True)
