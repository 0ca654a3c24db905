"""``launch image diff``: what changed between two images or locks."""

from collections.abc import Iterable, Iterator
from dataclasses import asdict

import rich_click as click
from rich.filesize import decimal
from rich.markup import escape
from rich.table import Table

from launcher.cli import ui
from launcher.difference import SYSTEM, Change, Difference, Side, Sum, Total
from launcher.errors import UsageError
from launcher.lock import BUILD
from launcher.manifest import DRIVERS

# How a package changed -> mark, colour, the word in sentences.
_HOW = {
    "added": ("+", "green", "added"),
    "removed": ("−", "red", "removed"),
    "newer": ("↑", "cyan", "newer"),
    "older": ("↓", "yellow", "older"),
    "moved": ("→", "blue", "in another layer"),
    "replaced": ("≠", "magenta", "another file"),
    "resized": ("~", "dim", "another size"),
}

# Why a layer can be on one side alone.
_BESIDE = {
    SYSTEM: "a lock says nothing of system packages",
    DRIVERS: "an image has the drivers among its system packages",
    BUILD: "what sources are built with is in no image",
}


@click.command()
@click.argument("before", metavar="A")
@click.argument("after", metavar="B")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.option("--markdown", is_flag=True, help="Print it as GitHub shows it, for a pull request.")
def command(before: str, after: str, as_json: bool, markdown: bool) -> None:
    """Say what changed from A to B: packages, their layers and sizes, and the base.

    Each is a target (cpu), a target at a git revision (cpu@HEAD~1), or an image on the engine
    (finetune:cpu, sha256:…). A lock knows the sizes of fetched files, an image those of what is installed.

    Exit code 0, also when something changed.
    """
    from launcher.app import difference

    if as_json and markdown:
        raise UsageError("--json and --markdown do not go together")
    found = difference.diff(before, after)
    if as_json:
        ui.print_json(_as_data(found))
    elif markdown:
        click.echo("\n".join(_markdown(found)))
    else:
        _print(found)


def _print(found: Difference) -> None:
    """For people, on 80 columns, too."""
    if found.empty:
        ui.out.print(escape(_headline(found)), soft_wrap=True)
    else:
        ui.out.print(f"[bold]{escape(_headline(found))}[/]", soft_wrap=True)
    for what, before, after in _facts(found):
        ui.out.print(escape(f"{what}: {before} → {after}"), soft_wrap=True)
    if found.changes:
        table = Table("", box=None, pad_edge=False)
        table.add_column("package", no_wrap=True)
        table.add_column("before → after", overflow="fold")
        table.add_column("layer", no_wrap=True)
        table.add_column("bytes", justify="right", no_wrap=True)
        for change in found.changes:
            mark, style, _ = _HOW[change.how]
            cells = (change.name, _versions(change), _layers(change), _signed(change.bytes))
            table.add_row(f"[{style}]{mark}[/]", *map(escape, cells))
        ui.out.print(table)
    if not found.empty:
        totals = Table("layer", box=None, pad_edge=False)
        for title in ("packages", "size", "bytes"):
            totals.add_column(title, justify="right", no_wrap=True)
        for total in (*found.layers, found.total):
            totals.add_row(*_total(total))
        ui.out.print()
        ui.out.print(totals)
    for line in _remarks(found):
        ui.note(line)


def _markdown(found: Difference) -> Iterator[str]:
    """A heading line and GitHub's tables."""
    yield _headline(found, quote="`")
    facts = [(what, f"`{before}`", f"`{after}`") for what, before, after in _facts(found)]
    if facts:
        yield from _markdown_table(("", "before", "after"), facts)
    if found.changes:
        rows = [
            (
                _HOW[change.how][0],
                f"`{change.name}`",
                _versions(change),
                _layers(change),
                _signed(change.bytes),
            )
            for change in found.changes
        ]
        yield from _markdown_table(("", "package", "before → after", "layer", "bytes"), rows)
    if not found.empty:
        yield from _markdown_table(
            ("layer", "packages", "size", "bytes"), [_total(total) for total in (*found.layers, found.total)]
        )
    for line in _remarks(found):
        yield from ("", f"_{line}_")


def _markdown_table(titles: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    rules = ["---:" if title in ("packages", "size", "bytes") else "---" for title in titles]
    yield ""
    for line in (titles, rules, *rows):
        yield f"| {' | '.join(line)} |"


def _headline(found: Difference, quote: str = "") -> str:
    names = f"{quote}{found.before.name}{quote} → {quote}{found.after.name}{quote}"
    counts = [(len([each for each in found.changes if each.how == how]), how) for how in _HOW]
    said = ", ".join(f"{count} {_HOW[how][2]}" for count, how in counts if count)
    return f"{names}: {said or ('nothing differs' if found.empty else 'the same packages')}"


def _facts(found: Difference) -> list[tuple[str, str, str]]:
    """What differs beside packages: name, before, after."""
    one, other = found.before, found.after
    pairs = (("base", one.base, other.base), ("without", " ".join(one.without), " ".join(other.without)))
    return [
        (what, before or "nothing", after or "nothing") for what, before, after in pairs if before != after
    ]


def _remarks(found: Difference) -> Iterator[str]:
    """What a reader should know of the comparison itself."""
    if found.before.kind != found.after.kind:
        yield "sizes are not compared: a lock has those of files, an image those of what is installed"
    yield from (f"{layer} is not compared: {_BESIDE[layer]}" for layer in found.beside)
    unknown = [
        side.name
        for side in (found.before, found.after)
        if any(item.bytes is None and item.layer not in found.beside for item in side.items)
    ]
    if unknown:
        yield f"some sizes are unknown, their files were not fetched: {', '.join(unknown)}"


def _versions(change: Change) -> str:
    versions = [item.version for item in (change.before, change.after) if item]
    return " → ".join(dict.fromkeys(versions))


def _layers(change: Change) -> str:
    return " → ".join(change.layers)


def _total(total: Total) -> tuple[str, str, str, str]:
    packages = dict.fromkeys(str(each.packages) for each in (total.before, total.after))
    sizes = dict.fromkeys(_size(each) for each in (total.before, total.after))
    return total.layer or "all", " → ".join(packages), " → ".join(sizes), _signed(total.bytes)


def _size(of: Sum) -> str:
    return "?" if of.bytes is None else decimal(of.bytes)


def _signed(size: int | None) -> str:
    if size is None:
        return ""
    return f"{'−' if size < 0 else '+'}{decimal(abs(size))}" if size else "0"


def _as_data(found: Difference) -> dict[str, object]:
    """Schema 1."""
    return {
        "schema": 1,
        "before": _side(found.before),
        "after": _side(found.after),
        "empty": found.empty,
        "not_compared": list(found.beside),
        "changes": [asdict(change) for change in found.changes],
        "layers": [asdict(total) for total in found.layers],
        "total": {key: value for key, value in asdict(found.total).items() if key != "layer"},
    }


def _side(side: Side) -> dict[str, object]:
    return {key: value for key, value in asdict(side).items() if key != "items"}
