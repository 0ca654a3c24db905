"""launcher.image.saved: images as files, made up in the layouts that engines write, and damaged ones."""

import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.errors import CheckError
from launcher.image import saved
from launcher.progress import Silent

LABELS = {"launch.target": "cpu", "launch.lock-digest": "sha256:10cc"}
LAYERS = (b"lowest layer" * 50, b"highest layer" * 70)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def as_json(document: Any) -> bytes:
    return json.dumps(document).encode()


CONFIG = as_json(
    {"config": {"Labels": LABELS}, "rootfs": {"diff_ids": [f"sha256:{sha256(x)}" for x in LAYERS]}}
)


def blob(content: bytes) -> dict[str, bytes]:
    return {f"blobs/sha256/{sha256(content)}": content}


def described(content: bytes, **more: Any) -> dict[str, Any]:
    return {"digest": f"sha256:{sha256(content)}", "size": len(content), **more}


def containerd() -> dict[str, bytes]:
    """As an engine with the containerd image store: both layouts share their blobs."""
    packed = [b"packed " + layer for layer in LAYERS]
    manifest = as_json({"config": described(CONFIG), "layers": [described(each) for each in packed]})
    docker = {
        "Config": f"blobs/sha256/{sha256(CONFIG)}",
        "RepoTags": ["finetune:cpu"],
        "Layers": [f"blobs/sha256/{sha256(each)}" for each in packed],
    }
    return {
        **blob(CONFIG),
        **blob(manifest),
        **blob(packed[0]),
        **blob(packed[1]),
        "index.json": as_json({"manifests": [described(manifest)]}),
        "manifest.json": as_json([docker]),
        "oci-layout": b"{}",
    }


def nested() -> dict[str, bytes]:
    """As builders that attest: an index in the index."""
    plain = containerd()
    (entry,) = json.loads(plain["index.json"])["manifests"]
    entry["platform"] = {"os": "linux", "architecture": "amd64"}
    other = {**described(b"attested"), "platform": {"os": "unknown", "architecture": "unknown"}}
    index = as_json({"manifests": [other, entry]})
    return {**plain, **blob(index), "index.json": as_json({"manifests": [described(index)]})}


def classic() -> dict[str, bytes | str]:
    """As engines before 25: a folder for each layer, not packed; an equal layer is a link."""
    docker = {
        "Config": f"{sha256(CONFIG)}.json",
        "RepoTags": None,
        "Layers": ["aa/layer.tar", "bb/layer.tar"],
    }
    return {
        f"{sha256(CONFIG)}.json": CONFIG,
        "aa/layer.tar": LAYERS[0],
        "cc/layer.tar": LAYERS[1],
        "bb/layer.tar": "../cc/layer.tar",
        "manifest.json": as_json([docker]),
    }


EVIL = b"another layer" * 40


def docker_of(*layers: str) -> bytes:
    return as_json([{"Config": f"blobs/sha256/{sha256(CONFIG)}", "Layers": layers}])


def tar(members: dict[str, Any]) -> bytes:
    return tar_of(*members.items())


def tar_of(*members: tuple[str, Any]) -> bytes:
    """A tar of names, in their order, with the content of files, the targets of links, None for folders."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, content in members:
            member = tarfile.TarInfo(name)
            if content is None:
                member.type = tarfile.DIRTYPE
                archive.addfile(member)
            elif isinstance(content, str):
                member.type, member.linkname = tarfile.SYMTYPE, content
                archive.addfile(member)
            else:
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def examined(folder: Path, content: bytes) -> saved.FileImage:
    file = folder / "image.tar"
    file.write_bytes(content)
    return saved.examine(file, progress=Silent())


@pytest.mark.parametrize(
    ("members", "layouts", "digests"),
    [
        (containerd(), ("docker-archive", "oci-archive"), 2),
        (nested(), ("docker-archive", "oci-archive"), 3),
        ({k: v for k, v in containerd().items() if k != "manifest.json"}, ("oci-archive",), 2),
        (classic(), ("docker-archive",), 1),
    ],
)
def test_what_is_in_a_file(
    tmp_path: Path, members: dict[str, Any], layouts: tuple[str, ...], digests: int
) -> None:
    content = tar(members)
    found = examined(tmp_path, content)
    assert (found.labels, found.layouts, found.config) == (LABELS, layouts, f"sha256:{sha256(CONFIG)}")
    assert (found.sha256, found.size, len(found.digests)) == (sha256(content), len(content), digests)
    assert bool(found.manifest) == ("oci-archive" in layouts)


@given(st.integers(min_value=0, max_value=len(tar(containerd())) - 1024 - 1))
def test_a_file_that_was_cut_short_is_never_taken(
    tmp_path_factory: pytest.TempPathFactory, length: int
) -> None:
    """But for the two empty blocks at its end, which hold nothing."""
    with pytest.raises(CheckError):
        examined(tmp_path_factory.mktemp("cut"), tar(containerd())[:length])


@given(st.data())
def test_a_changed_byte_of_any_part_is_never_taken(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Names, links and what is packed: only what no digest covers (times, the tags) may differ."""
    members = containerd()
    name = data.draw(st.sampled_from(sorted(name for name in members if name.startswith("blobs/"))))
    at = data.draw(st.integers(min_value=0, max_value=len(members[name]) - 1))
    changed = bytearray(members[name])
    changed[at] ^= data.draw(st.integers(min_value=1, max_value=255))
    with pytest.raises(CheckError) as caught:
        examined(tmp_path_factory.mktemp("changed"), tar({**members, name: bytes(changed)}))
    assert name in caught.value.problems[0]


def without(members: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: content for name, content in members.items() if name not in names}


LAYER = f"blobs/sha256/{sha256(b'packed ' + LAYERS[1])}"


@pytest.mark.parametrize(
    ("members", "problem"),
    [
        ({}, "neither manifest.json nor index.json"),
        ({"etc/passwd": b"x"}, "neither manifest.json nor index.json"),
        (without(containerd(), LAYER), "is missing"),
        (without(containerd(), "manifest.json", LAYER), "is missing"),
        (without(containerd(), f"blobs/sha256/{sha256(CONFIG)}"), "is missing"),
        ({**classic(), "aa/layer.tar": LAYERS[1]}, "is not the configuration's"),
        ({**classic(), f"{sha256(CONFIG)}.json": CONFIG + b" "}, "its content is"),
        (without(classic(), "cc/layer.tar"), "is missing"),
        (without(containerd(), "index.json") | {"manifest.json": docker_of()}, "has 0 layers"),
        ({**containerd(), "manifest.json": as_json([])}, "describes 0 images"),
        ({**containerd(), "manifest.json": b"[{]"}, "manifest.json:"),
        ({**containerd(), "index.json": as_json({"manifests": []})}, "leads to no image"),
        ({**containerd(), "index.json": as_json({"layers": []})}, "describes no image"),
    ],
)
def test_what_is_missing_or_contradicts_itself_is_named(
    tmp_path: Path, members: dict[str, Any], problem: str
) -> None:
    with pytest.raises(CheckError) as caught:
        examined(tmp_path, tar(members))
    assert problem in " ".join(caught.value.problems)


@pytest.mark.parametrize(
    ("members", "problem"),
    [
        ((("manifest.json", docker_of()), *containerd().items()), "manifest.json twice"),
        ((*containerd().items(), ("./manifest.json", docker_of())), "manifest.json twice"),
        ((*containerd().items(), ("manifest.json", None)), "manifest.json twice"),
        ((*containerd().items(), ("/manifest.json", docker_of())), "leads out of the archive"),
        ((*containerd().items(), ("../manifest.json", docker_of())), "leads out of the archive"),
        ((*containerd().items(), ("x/../../manifest.json", docker_of())), "leads out of the archive"),
        ((("blobs", "elsewhere"), *containerd().items()), "blobs is no folder"),
        ((*containerd().items(), ("blobs/sha256", "../elsewhere")), "blobs/sha256 is no folder"),
    ],
)
def test_what_programs_would_read_in_different_ways_is_refused(
    tmp_path: Path, members: tuple[tuple[str, Any], ...], problem: str
) -> None:
    with pytest.raises(CheckError) as caught:
        examined(tmp_path, tar_of(*members))
    assert problem in caught.value.problems[0]


def test_folders_may_be_named_again(tmp_path: Path) -> None:
    folders = [(name, None) for name in ("./", "blobs", "blobs/sha256", "blobs/")]
    found = examined(tmp_path, tar_of(*folders, *containerd().items(), ("blobs", None)))
    assert found.labels == LABELS


@pytest.mark.parametrize(
    "members",
    [
        {**blob(CONFIG), **blob(LAYERS[0]), **blob(EVIL)},
        {**containerd(), **blob(EVIL), **blob(LAYERS[0])},
    ],
)
def test_a_blob_is_a_layer_only_if_something_says_so(tmp_path: Path, members: dict[str, Any]) -> None:
    """It has the digest that it is called by, and is not the configuration's layer all the same."""
    layers = (f"blobs/sha256/{sha256(each)}" for each in (LAYERS[0], EVIL))
    with pytest.raises(CheckError) as caught:
        examined(tmp_path, tar({**members, "manifest.json": docker_of(*layers)}))
    assert f"is not the configuration's sha256:{sha256(LAYERS[1])}" in caught.value.problems[0]


def test_unpacked_blobs_are_those_of_the_configuration(tmp_path: Path) -> None:
    layers = [f"blobs/sha256/{sha256(each)}" for each in LAYERS]
    members = {**blob(CONFIG), **blob(LAYERS[0]), **blob(LAYERS[1]), "manifest.json": docker_of(*layers)}
    assert examined(tmp_path, tar(members)).labels == LABELS


def test_blobs_of_another_kind_of_digest_are_not_believed(tmp_path: Path) -> None:
    """Only sha256 is computed."""
    manifest = containerd()[
        f"blobs/sha256/{json.loads(containerd()['index.json'])['manifests'][0]['digest'][7:]}"
    ]
    index = as_json({"manifests": [{"digest": "sha512:aa", "size": len(manifest)}]})
    with pytest.raises(CheckError) as caught:
        examined(tmp_path, tar({**containerd(), "index.json": index, "blobs/sha512/aa": manifest}))
    assert "blobs/sha512/aa: its content is sha256:" in caught.value.problems[0]


def sparse(**headers: str) -> bytes:
    """A tar of one empty file with PAX headers of its own."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive:
        member = tarfile.TarInfo("blobs/x")
        member.pax_headers = {name.replace("_", "."): value for name, value in headers.items()}
        archive.addfile(member)
    return stream.getvalue()


def old_sparse(size: int) -> bytes:
    """A tar of one sparse file as GNU tar's own format has it: no data, and this size."""
    header = bytearray(tarfile.TarInfo("blobs/x").tobuf(tarfile.GNU_FORMAT))
    header[156:157] = b"S"
    header[483:495] = b"%011o\0" % size
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + bytes(1024)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (old_sparse(64 << 20), "a sparse file"),
        (sparse(GNU_sparse_size="4096", GNU_sparse_map="0,0"), "a sparse file"),
        (sparse(GNU_sparse_size="zz", GNU_sparse_map="0,0"), "invalid literal"),
        (sparse(GNU_sparse_major="1", GNU_sparse_minor="0"), "no archive of an image"),
        (sparse(size="-1024"), "no archive of an image"),
        (tarfile.TarInfo("x").create_pax_global_header({"a": "b"}) * 2000, "no archive of an image"),
    ],
)
def test_headers_that_lie_are_named(tmp_path: Path, content: bytes, problem: str) -> None:
    with pytest.raises(CheckError) as caught:
        examined(tmp_path, content)
    assert problem in caught.value.problems[0]


def test_what_is_kept_in_memory_has_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Documents count; small layers do not, of which an image may have many."""
    monkeypatch.setattr(saved, "_MOST_DOCUMENTS", 64 << 10)
    layers = {**containerd(), **blob(b"a small layer" * 10_000)}
    assert examined(tmp_path, tar(layers)).labels == LABELS
    with pytest.raises(CheckError) as caught:
        examined(tmp_path, tar({**layers, **blob(b" {" + bytes(64 << 10))}))
    assert "of documents" in caught.value.problems[0]


def test_two_layouts_of_two_images_are_refused(tmp_path: Path) -> None:
    other = CONFIG.replace(b"cpu", b"xpu")
    docker = json.loads(containerd()["manifest.json"])
    docker[0]["Config"] = f"blobs/sha256/{sha256(other)}"
    with pytest.raises(CheckError) as caught:
        examined(tmp_path, tar({**containerd(), **blob(other), "manifest.json": as_json(docker)}))
    assert "different images" in caught.value.problems[0]


def test_an_index_that_leads_to_itself_ends(tmp_path: Path) -> None:
    index = {"manifests": [{"digest": "sha256:loop"}]}
    with pytest.raises(CheckError):
        examined(tmp_path, tar({"index.json": as_json(index), "blobs/sha256/loop": as_json(index)}))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (None, "nothing to compare with"),
        ("", "nothing to compare with"),
        ("not a sum\n", "nothing to compare with"),
        (f"{'0' * 64}  image.tar\n", "image.tar.sha256 says"),
    ],
)
def test_the_sum_beside_a_file_decides(tmp_path: Path, text: str | None, problem: str) -> None:
    found = examined(tmp_path, tar(containerd()))
    beside = saved.checksum_file(found.path)
    beside.write_text(saved.checksum_line(found.path, found.sha256))
    saved.compare_checksum(found)
    beside.unlink()
    if text is not None:
        beside.write_text(text)
    with pytest.raises(CheckError) as caught:
        saved.compare_checksum(found)
    assert problem in caught.value.problems[0]
