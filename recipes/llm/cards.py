"""What a merged model says of where it comes from: README.md, merge.json, the base's licence."""

import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from llm.adapters import Adapter
from llm.comparing import Difference

#: Files of a base that go with every model that is made from it.
_LEGAL = re.compile(r"(?i)(licen[cs]e|notice|use_policy|copying)[^/]*")

#: Lines of a card's head that say under which terms a model is.
_TERMS = re.compile(r"^(license|license_name|license_link):\s*(.+)$", re.MULTILINE)

_LIBRARIES = ("torch", "transformers", "peft", "bitsandbytes")


def write(partial: Path, adapter: Adapter, base: Path, proofs: Mapping[str, Difference]) -> None:
    """Write them into the folder of a model that is about to get its name.

    Args:
        partial: the folder.
        adapter: what was merged.
        base: into what.
        proofs: how the model compares with both, by format; the last one is the format that is kept.
    """
    for file in sorted(base.iterdir()):
        if file.is_file() and _LEGAL.fullmatch(file.name) and not (partial / file.name).exists():
            shutil.copyfile(file, partial / file.name)
    name = named(adapter.base, base)
    method = list(proofs)[-1]
    (partial / "README.md").write_text(_readme(name, base, method, proofs[method]), encoding="utf-8")
    facts = {
        "schema": 1,
        "method": method,
        "base": name,
        "base_read_from": base.resolve().name,  # the hub's commit, when it lies in its cache
        "adapter": {
            key: adapter.config.get(key) for key in ("r", "lora_alpha", "use_rslora", "use_dora", "bias")
        },
        "comparison": {name: asdict(difference) for name, difference in proofs.items()},
        "versions": dict(_versions()),
    }
    (partial / "merge.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def named(written: str, base: Path) -> str:
    """A base's name for others: an id on the hub, or the last part of a path: the rest is this machine's."""
    hub = re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", written) and not Path(written).is_dir()
    return written if hub else Path(written).name or base.name


def _readme(name: str, base: Path, method: str, difference: Difference) -> str:
    hub = [f"base_model: {name}"] if "/" in name else []
    card = base / "README.md"
    head = card.read_text(encoding="utf-8", errors="replace").partition("\n---")[0] if card.is_file() else ""
    terms = (
        [f"{key}: {value.strip()}" for key, value in _TERMS.findall(head)] if head.startswith("---") else []
    )
    lines = ["---", *hub, "library_name: transformers", *terms, "---"]
    known = "The terms above are the base's." if terms else "The base's terms apply; they are not known here."
    return "\n".join(
        [
            *lines,
            f"\n# {name}, fine-tuned\n",
            f"LoRA adapters merged into {name} ({method}). {known} "
            "What the adapters were trained on may add others.\n",
            f"Compared with base and adapters before it was kept: {difference.text()}.\n",
        ]
    )


def _versions() -> list[tuple[str, str]]:
    found = []
    for name in _LIBRARIES:
        try:
            found.append((name, version(name)))
        except PackageNotFoundError:
            continue
    return found
