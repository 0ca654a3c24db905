"""Every file of the environment belongs to one distribution, and so does every import package.

Two owners of one package (generic triton over pytorch-triton-xpu, onnxruntime over onnxruntime-gpu) overwrite
each other silently: which one is imported then depends on the order of the installation.
"""

import sysconfig
from collections import defaultdict
from importlib import metadata
from pathlib import Path

from _common import Failed, canonical, main

# Made by the interpreter or for it, owned by no distribution.
_UNOWNED = {"__pycache__"}


def check() -> str:
    """Read every RECORD, then walk the folder for files that none of them lists."""
    site = Path(sysconfig.get_path("purelib"))
    owners: defaultdict[str, dict[str, str]] = defaultdict(dict)
    packages: defaultdict[str, set[str]] = defaultdict(set)
    problems = []
    for distribution in metadata.distributions(path=[str(site)]):
        name = canonical(distribution.metadata["Name"])
        for file in distribution.files or []:
            owners[str(file)][name] = file.hash.value if file.hash else ""
            if not (site / file).exists():
                problems.append(f"{name}: {file} is missing")
            if file.name == "__init__.py" and len(file.parts) == 2:
                packages[file.parts[0]].add(name)
    for path, by in sorted(owners.items()):
        # The same content twice is harmless: wheels of one family each carry the family's empty __init__.py.
        if len(by) > 1 and len(set(by.values())) > 1:
            problems.append(f"{path}: {' and '.join(sorted(by))}")
    shared = {package for package, by in packages.items() if len(by) > 1}
    problems += [
        f"import package {package}: {' and '.join(sorted(packages[package]))}"
        for package in sorted(shared)
        if len(set(owners[f"{package}/__init__.py"].values())) > 1
    ]
    problems += [
        f"{path}: no owner"
        for path in sorted(str(p.relative_to(site)) for p in site.rglob("*") if p.is_file())
        if path not in owners and _UNOWNED.isdisjoint(Path(path).parts)
    ]
    if problems:
        more = f" … and {len(problems) - 10} more" if len(problems) > 10 else ""
        raise Failed("; ".join(problems[:10]) + more)
    return f"{len(owners)} files, {len(packages)} import packages, one owner each"


main(check)
