"""runtime.entry: what masks a recipe's output, piece by piece, and reads what the launcher wrote."""

import itertools
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from launcher import secretfile
from tests.unit.test_runtime import load

entry: Any = load("entry")

values = st.lists(st.binary(min_size=1, max_size=14), max_size=3)


def pieces(text: bytes, cuts: list[int]) -> list[bytes]:
    at = [0, *sorted(cut % (len(text) + 1) for cut in cuts), len(text)]
    return [text[a:b] for a, b in itertools.pairwise(at)]


def masked(secrets: list[bytes], blocks: list[bytes]) -> bytes:
    mask = entry.Mask(secrets)
    return b"".join([*map(mask.feed, blocks), mask.rest()])


@given(
    secrets=values,
    words=st.lists(st.binary(max_size=6) | st.integers(0, 2), max_size=8),
    cuts=st.lists(st.integers(0, 200), max_size=6),
)
@example(secrets=[b"abababababX"], words=[b"abab", 0], cuts=[3, 9])
@example(secrets=[b"abcdefgh", b"abcdefghij"], words=[1, b"-", 0], cuts=[8])
def test_the_pieces_do_not_matter(secrets: list[bytes], words: list[bytes | int], cuts: list[int]) -> None:
    """However the output is cut: what is said is the same, and no value is in it."""
    known = [word if isinstance(word, bytes) else secrets[word % len(secrets)] for word in words if secrets]
    text = b"".join(known)
    said = masked(secrets, pieces(text, cuts))
    assert said == masked(secrets, [text])
    lines = entry.Mask(secrets)._lines
    assert not any(line in part for line in lines for part in said.split(entry.MASK))


@given(text=st.binary(max_size=60), cuts=st.lists(st.integers(0, 60), max_size=5))
def test_what_holds_no_value_is_not_changed(text: bytes, cuts: list[int]) -> None:
    assert masked([b"\x00no such text\x00"], pieces(text, cuts)) == text
    assert masked([b"short"], pieces(text, cuts)) == text
    assert masked([], pieces(text, cuts)) == text


def test_values_are_masked_line_by_line_and_short_ones_are_left() -> None:
    key = b"-----BEGIN KEY-----\n  abcdefgh12345678\n}\n"
    said = masked([key, b"true", b"hf_0123456789"], [b"true } abcdefgh12345678\r", b"x hf_0123", b"456789\n"])
    assert said == b"true } ***\rx ***\n"


def test_only_what_may_be_a_beginning_waits() -> None:
    mask = entry.Mask([b"hf_0123456789"])
    assert mask.feed(b"50% done hf_012") == b"50% done "
    assert mask.feed(b"4!\n") == b"hf_0124!\n"
    assert (mask.feed(b"hf_"), mask.rest(), mask.rest()) == (b"", b"hf_", b"")


texts = st.text(st.characters(exclude_characters="\0"), max_size=20)
names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True)


@given(found=st.dictionaries(names, texts | st.binary(max_size=9).map(os.fsdecode), max_size=4))
def test_what_is_written_is_read_back_and_gone(
    tmp_path_factory: pytest.TempPathFactory, found: dict[str, str]
) -> None:
    found = {name: value.replace("\0", "") for name, value in found.items()}
    try:
        content = secretfile.encoded(tuple(found), found)
    except UnicodeEncodeError:  # a lone surrogate: no variable of a process has one
        return
    file = tmp_path_factory.getbasetemp() / "handed"
    file.write_bytes(content)
    assert {os.fsdecode(n): os.fsdecode(v) for n, v in entry.read(str(file)).items()} == found
    assert not file.exists()


def test_without_its_file_nothing_is_started(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert entry.main(["mask", str(tmp_path / "gone"), "bash", "recipe.sh"]) == 126
    assert "the secrets cannot be read" in capsys.readouterr().err


def test_a_folder_of_values_is_read_and_stays(tmp_path: Path) -> None:
    """As a cluster mounts its secrets: links into a folder that it exchanges as a whole."""
    (tmp_path / "..2026").mkdir()
    (tmp_path / "..data").symlink_to("..2026")
    for name, value in ((b"HF_TOKEN", b"a\nb"), (b"BYTES", b"\xff\x00=")):
        (tmp_path / "..2026" / os.fsdecode(name)).write_bytes(value)
        (tmp_path / os.fsdecode(name)).symlink_to(Path("..data") / os.fsdecode(name))
    assert entry.read(str(tmp_path)) == {b"HF_TOKEN": b"a\nb", b"BYTES": b"\xff\x00="}
    assert (tmp_path / "HF_TOKEN").exists()
