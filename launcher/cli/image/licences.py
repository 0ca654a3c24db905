"""``launch image list --licences``: what the images ship, what deserves a look first."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from launcher.cli import ui

if TYPE_CHECKING:
    from launcher.app.licences import Shipped

#: What people would look for in vain above.
_NOT_HERE = (
    "Not among these: Debian's packages, whose licences lie in /usr/share/doc/*/copyright of an image; and "
    "the model that a run starts from, which has a licence of its own (docs/licences.md). No image holds a "
    "language model."
)


def show(base: str | None, without: tuple[str, ...], *, as_json: bool) -> None:
    """Print the packages of all targets with their licences."""
    from launcher.app import licences

    rows = licences.shipped(base=base, without=without)
    if as_json:
        ui.print_json({"schema": 1, "targets": _by_target(rows)})
        return
    looks = dict.fromkeys(row.look for row in rows if row.look is not None)
    table = Table("deserves a look", "in", "licence", "why", "source", box=None, pad_edge=False)
    for look in looks:
        of_it = [row for row in rows if row.look == look]
        table.add_row(
            escape(" ".join(_names(of_it))),
            " ".join(dict.fromkeys(row.target for row in of_it)),
            escape(look.licence),
            escape(look.why),
            escape(look.source),
        )
    ui.out.print(table)
    ui.out.print()
    table = Table("package", "version", "licence", "stated in", "in", box=None, pad_edge=False)
    for stated in dict.fromkeys(row.stated for row in rows):
        where = dict.fromkeys(row.target for row in rows if row.stated == stated)
        words = (stated.package, stated.version, stated.licence, stated.stated)
        table.add_row(*map(escape, words), " ".join(where))
    ui.out.print(table)
    ui.out.print()
    ui.out.print(_NOT_HERE, soft_wrap=True)


def _names(rows: Sequence["Shipped"]) -> list[str]:
    return list(dict.fromkeys(row.stated.package for row in rows))


def _by_target(rows: Sequence["Shipped"]) -> dict[str, list[dict[str, str | None]]]:
    found: dict[str, list[dict[str, str | None]]] = {}
    for row in rows:
        found.setdefault(row.target, []).append(
            {
                "package": row.stated.package,
                "version": row.stated.version,
                "licence": row.stated.licence,
                "stated_in": row.stated.stated,
                "look": row.look.licence if row.look else None,
                "why": row.look.why if row.look else None,
                "source": row.look.source if row.look else None,
            }
        )
    return found
