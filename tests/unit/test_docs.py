"""The documentation: complete, the same in both languages, its links and commands real, no registry named."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import rich_click as click

from launcher import errors, manifest, recipe, runs, settings
from launcher.cli import root
from launcher.plan import Access, Model, RunPlan

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "ds_configs").glob("*.md")])
RECIPES = [recipe.load(path) for path in recipe.catalogue(ROOT / "recipes")]
ENGLISH, CHINESE = ROOT / "README.md", ROOT / "README.zh-CN.md"

#: In pieces, so that this file does not hold the names that it looks for.
REGISTRIES = [
    ".".join(parts)
    for parts in (
        ("pypi", "org"),
        ("pythonhosted", "org"),
        ("deb", "debian", "org"),
        ("security", "debian", "org"),
        ("snapshot", "debian", "org"),
        ("archive", "ubuntu", "com"),
        ("npmjs", "org"),
        ("npmjs", "com"),
    )
]

#: Not of the repository: what git ignores, and git's own.
OTHERS = {".git", ".venv", "__pycache__", "build", "demo", "dist", "runs"}


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def blocks(text: str) -> list[tuple[str, str]]:
    """Fenced code blocks: language and content."""
    return re.findall(r"^```(\w*)\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


def without_blocks(text: str) -> str:
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


def headings(text: str) -> list[tuple[str, str]]:
    """Level (as ``##``) and title."""
    return re.findall(r"^(#+) (.+)$", without_blocks(text), flags=re.MULTILINE)


def anchor(title: str) -> str:
    """A heading's anchor, by GitHub's rule."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def verbs(command: click.Command, name: str) -> Iterator[tuple[str, click.Command]]:
    """All commands but the recipes, which are data."""
    yield name, command
    if isinstance(command, click.Group) and name not in (
        "launch run",
        "launch export",
        "launch sweep",
        "launch fit",
    ):
        context = click.Context(command, info_name=name)
        for each in command.list_commands(context):
            found = command.get_command(context, each)
            assert found is not None, f"{name} lists {each}, and does not have it"
            yield from verbs(found, f"{name} {each}")


def commands() -> list[tuple[str, str]]:
    """Every line that begins with ``launch`` or ``make`` in a shell block: page and line."""
    found = []
    for page in PAGES:
        for language, content in blocks(page.read_text(encoding="utf-8")):
            if language in ("sh", "bash"):
                lines = [line for line in content.splitlines() if line.startswith(("launch ", "make "))]
                found += [(named(page), line) for line in lines]
    return found


def test_there_are_pages_and_commands() -> None:
    assert len(PAGES) >= 10
    assert len(commands()) >= 20


def test_every_verb_is_in_the_reference() -> None:
    page = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    titles = {title for _, title in headings(page)}
    for name, command in verbs(root, "launch"):
        assert f"`{name}`" in titles, f"{name}: make docs"
        assert command.help, f"{name} has no help"
        for option in command.params:
            if isinstance(option, click.Option) and not option.hidden:
                assert option.help, f"{name} {option.opts} has no help"
                assert option.opts[-1] in page, f"{name} {option.opts}: make docs"


def test_every_recipe_is_in_the_reference() -> None:
    titles = {title for _, title in headings((ROOT / "docs" / "cli.md").read_text(encoding="utf-8"))}
    assert {each.name for each in RECIPES} <= titles


def test_every_exit_code_is_in_the_reference() -> None:
    page = (ROOT / "docs" / "exit-codes.md").read_text(encoding="utf-8")
    for each in errors.all_errors():
        assert f"| {each.exit_code} | {each.title} |" in page


def test_every_setting_is_documented() -> None:
    page = (ROOT / "docs" / "runs.md").read_text(encoding="utf-8")
    for name in settings.Settings.__dataclass_fields__:
        assert f"| `LAUNCH_{name.upper()}` | `{name}` |" in page


def test_every_key_of_a_record_is_documented() -> None:
    page = (ROOT / "docs" / "runs.md").read_text(encoding="utf-8")
    _, result, plan = re.split(r"^## (?:result|plan)\.json$", page, flags=re.MULTILINE)
    for name in runs.Result.__dataclass_fields__:
        assert f"`{name}`" in result, f"{name} of result.json"
    for name in (*RunPlan.__dataclass_fields__, *Access.__dataclass_fields__, *Model.__dataclass_fields__):
        assert f"`{name}`" in plan, f"{name} of plan.json"


def test_contributing_names_files_that_exist() -> None:
    words = re.findall(r"`([\w./-]+)`", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"))
    named_there = [word for word in words if "/" in word and "NAME" not in word]
    assert len(named_there) > 20
    assert [word for word in named_there if not (ROOT / word).exists()] == []


def test_both_readmes_say_the_same() -> None:
    english, chinese = ENGLISH.read_text(encoding="utf-8"), CHINESE.read_text(encoding="utf-8")
    assert blocks(english) == blocks(chinese)
    assert [level for level, _ in headings(english)] == [level for level, _ in headings(chinese)]

    def shape(text: str) -> list[int]:
        return [line.count("|") for line in without_blocks(text).splitlines() if line.startswith("|")]

    assert shape(english) == shape(chinese)

    def links(text: str) -> set[str]:
        return {target for target in re.findall(r"\]\(([^)]+)\)", text) if not target.startswith("README")}

    assert links(english) == links(chinese)


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_relative_links_resolve(page: Path) -> None:
    text = without_blocks(page.read_text(encoding="utf-8"))
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in target:
            continue
        path, _, fragment = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{named(page)}: {target}"
        if fragment:
            anchors = {anchor(title) for _, title in headings(file.read_text(encoding="utf-8"))}
            assert fragment in anchors, f"{named(page)}: {target}"


@pytest.mark.parametrize(("page", "line"), commands())
def test_commands_are_real(page: str, line: str) -> None:
    words = shlex.split(line.split(" >")[0])
    if words[0] == "make":
        makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
        rules = {*re.findall(r"^([a-z-]+):", makefile, flags=re.MULTILINE)}
        rules |= {f"{verb}-{target}" for verb in ("image", "smoke") for target in manifest.shipped().names()}
        variables = {word.split("=")[0] for word in words if "=" in word}
        assert all(f"$({name})" in makefile for name in variables), line
        assert {word for word in words[1:] if "=" not in word} <= rules, line
        return
    name, command = longest(words)
    options = [
        *command.params,
        *(
            own_options(name, words[2])
            if name in ("launch run", "launch export", "launch sweep", "launch fit")
            else []
        ),
    ]
    known = {spelling for option in options for spelling in option.opts} | {"--help"}
    given = words[: words.index("--")] if "--" in words else words
    used = {word for word in given if word.startswith("-")}
    assert used <= known, f"{page}: {line}: {sorted(used - known)}"


def longest(words: list[str]) -> tuple[str, click.Command]:
    """The verb that a line names: the longest one that it begins with."""
    named_there = [(name, command) for name, command in verbs(root, "launch") if starts(words, name)]
    return max(named_there, key=lambda each: len(each[0]))


def starts(words: list[str], name: str) -> bool:
    return words[: len(name.split())] == name.split()


def own_options(verb: str, word: str) -> list[click.Parameter]:
    """The options of the recipe that a line names; one of the reader's own stands for any."""
    group = dict(verbs(root, "launch"))[verb]
    assert isinstance(group, click.Group)
    names = [each.name for each in RECIPES]
    stem = Path(word).name.removesuffix(".sh")
    found = group.get_command(click.Context(group), stem if stem in names else names[0])
    assert found is not None
    return found.params


def test_no_registry_is_named() -> None:
    """A mirror must work unchanged, so nothing may name the host that it replaces."""
    found = []
    for path in ROOT.rglob("*"):
        parts = set(path.relative_to(ROOT).parts)
        if parts & OTHERS or any(part.endswith(("_cache", ".egg-info")) for part in parts):
            continue
        if ".hypothesis" in parts or not path.is_file():
            continue
        text = path.read_text(encoding="utf-8", errors="ignore")
        found += [f"{named(path)}: {host}" for host in REGISTRIES if host in text]
    assert not found
