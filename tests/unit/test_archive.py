"""launcher.archive: the same bytes for the same files, and nothing that lies elsewhere when unpacked."""

import contextlib
import gzip
import io
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher import archive
from launcher.errors import RecordError

NAMES = st.from_regex(r"[a-zé][a-z0-9_.é-]{0,12}", fullmatch=True)


@given(st.dictionaries(NAMES, st.binary(max_size=64), max_size=6))
def test_back_and_forth(files: dict[str, bytes]) -> None:
    packed = archive.pack(files)
    assert archive.unpack(packed, "x") == files
    assert archive.pack(dict(reversed(files.items()))) == packed


@given(st.binary(max_size=300))
def test_any_bytes_are_refused_or_unpacked(content: bytes) -> None:
    for packed in (content, gzip.compress(content)):
        with contextlib.suppress(RecordError):
            assert isinstance(archive.unpack(packed, "x"), dict)


def tar(*members: tarfile.TarInfo) -> bytes:
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as made:
        for member in members:
            made.addfile(member, io.BytesIO(b"x" * member.size))
    return gzip.compress(plain.getvalue())


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    found = tarfile.TarInfo(name)
    found.type, found.linkname, found.size = kind, link, 1 if kind == tarfile.REGTYPE else 0
    return found


@pytest.mark.parametrize(
    ("members", "why"),
    [
        ([member("/etc/passwd")], "lie elsewhere"),
        ([member("a/../../b")], "lie elsewhere"),
        ([member("a\\..\\b")], "lie elsewhere"),
        ([member("a", tarfile.SYMTYPE, "/etc")], "no plain file"),
        ([member("a", tarfile.LNKTYPE, "b")], "no plain file"),
        ([member("a", tarfile.FIFOTYPE)], "no plain file"),
        ([member("a", tarfile.DIRTYPE)], "no plain file"),
        ([member("a"), member("a")], "in it twice"),
        ([member("a"), member("a/b")], "also a folder"),
    ],
)
def test_what_is_not_unpacked(members: list[tarfile.TarInfo], why: str) -> None:
    with pytest.raises(RecordError) as caught:
        archive.unpack(tar(*members), "run.tar.gz")
    assert why in caught.value.why


def test_a_small_file_of_very_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MOST_BYTES", 1 << 20)
    with pytest.raises(RecordError, match="not unpacked"):
        archive.unpack(gzip.compress(b"\0" * (3 << 20)), "x")
    monkeypatch.setattr(archive, "MOST_FILES", 1)
    with pytest.raises(RecordError, match="not unpacked"):
        archive.unpack(archive.pack({"a": b"", "b": b""}), "x")


def test_a_sparse_member_says_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.PAX_FORMAT) as made:
        sparse = member("a")
        sparse.pax_headers = {"GNU.sparse.map": "0,1", "GNU.sparse.size": str(50 << 30)}
        made.addfile(sparse, io.BytesIO(b"x"))
    with pytest.raises(RecordError) as caught:
        archive.unpack(gzip.compress(plain.getvalue()), "x")
    assert "no plain file" in caught.value.why
    large = tarfile.TarInfo("a")
    large.size = archive.MOST_BYTES + 1
    with pytest.raises(RecordError) as caught:
        archive.unpack(gzip.compress(large.tobuf()), "x")
    assert "256 MiB" in caught.value.why
