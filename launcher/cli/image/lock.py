"""``launch image lock``: resolve the manifest's pins into locks, or check them."""

import rich_click as click

from launcher.cli import ui


@click.command()
@click.argument("targets", nargs=-1)
@click.option(
    "--upgrade",
    multiple=True,
    metavar="PKG",
    help="Let this package move to a newer version; '*' for all. Without it nothing moves unless it must.",
)
@click.option(
    "--check", is_flag=True, help="Only say whether the locks are what the manifest says; no network."
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def command(targets: tuple[str, ...], upgrade: tuple[str, ...], check: bool, as_json: bool) -> None:
    """Resolve the packages of TARGETS (default: all) into images/locks, with hashes.

    Targets that share layers are resolved together, as one set.
    """
    from launcher.app import locks

    if check:
        names = locks.check(targets)
        if as_json:
            ui.print_json({"schema": 1, "checked": list(names), "stale": []})
        else:
            ui.out.print(f"the locks are what the manifest says: {', '.join(names)}")
        return
    with ui.TerminalProgress() as progress:
        report = locks.make(targets, upgrade=upgrade, progress=progress)
    if as_json:
        ui.print_json(
            {
                "schema": 1,
                "targets": {
                    each.target: {"digest": each.digest, "packages": len(each.packages)}
                    for each in report.locks
                },
                "changes": [
                    {"file": c.file, "package": c.package, "before": c.before, "after": c.after}
                    for c in report.changes
                ],
                "sources": list(report.sources),
            }
        )
        return
    for change in report.changes:
        ui.out.print(f"{change.file}: {change.package} {change.before or '-'} → {change.after or '-'}")
    for each in report.locks:
        ui.out.print(f"{each.target}: {len(each.packages)} packages, lock {each.digest[:12]}")
    if report.sources:
        ui.out.print(f"built from source: {', '.join(report.sources)}")
