"""Images on their way to a site: a real engine, real registries, and other programs that look at the results.

The image is a tiny one with the labels of the cpu target's, built on a base that only it has.
"""

import base64
import hashlib
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from launcher import manifest, paths
from launcher.image import inputs
from tests.integration.conftest import Launch

pytestmark = pytest.mark.engine

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "tests" / "support" / "registry.sh"
PROGRAM = Path(
    os.environ.get("FINETUNE_REGISTRY_DIR", Path.home() / ".cache" / "finetune-launch-registry")
).joinpath("usr", "bin", "docker-registry")

Start = Callable[..., "Registry"]


@dataclass(frozen=True)
class Registry:
    """One that runs; its folder has its log, and password and certificate where asked for."""

    address: str
    folder: Path

    def login(self, password: str, into: Path) -> dict[str, str]:
        """Variables of a Docker configuration with this login."""
        secret = base64.b64encode(f"tester:{password}".encode()).decode()
        into.mkdir()
        (into / "config.json").write_text(json.dumps({"auths": {self.address: {"auth": secret}}}))
        return {"DOCKER_CONFIG": str(into)}


@dataclass(frozen=True)
class Tiny:
    """An image that passes for the cpu target's; ``options`` make the launcher take it."""

    reference: str
    id: str
    options: tuple[str, ...]


def need(program: Path | str, script: str = "registry.sh") -> None:
    """Skip without a program; fail under CI."""
    if shutil.which(str(program)) is None:
        reason = f"no {program}; tests/support/{script} install brings it"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """``start("login", "tls")``: a registry of its own."""
    need(PROGRAM)
    made: list[Path] = []

    def begin(*wanted: str, folder: Path | None = None) -> Registry:
        place = folder or tmp_path / f"registry-{len(made)}"
        done = subprocess.run(
            [SCRIPT, "start", place, *wanted], capture_output=True, text=True, stdin=subprocess.DEVNULL
        )
        assert done.returncode == 0, done.stderr
        made.append(place)
        return Registry(address=done.stdout.strip(), folder=place)

    yield begin
    for each in made:
        subprocess.run([SCRIPT, "stop", each], check=True)


def make_image(engine: Any, megabytes: int) -> tuple[str, tuple[str, ...]]:
    """Import random bytes as an image with the labels of the cpu target's; its reference and the options."""
    target = manifest.shipped().target("cpu")
    base = f"finetune-push-test:{uuid.uuid4().hex[:12]}"
    what = inputs.load(paths.images(), target, base=base)
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        content = os.urandom(megabytes << 20) + b"arrived"
        member = tarfile.TarInfo("payload")
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    labels = {
        "launch.target": "cpu",
        "launch.lock-digest": f"sha256:{what.lock.digest}",
        "launch.build-digest": f"sha256:{what.digest}",
        "launch.without": "",
    }
    repository, tag = what.reference.split(":")
    changes = ['CMD ["true"]', *(f"LABEL {name}={json.dumps(value)}" for name, value in labels.items())]
    engine.api.import_image_from_data(packed.getvalue(), repository=repository, tag=tag, changes=changes)
    return what.reference, ("--base", base)


@pytest.fixture
def tiny(engine: Any) -> Iterator[Tiny]:
    """A megabyte."""
    reference, options = make_image(engine, 1)
    yield Tiny(reference=reference, id=engine.images.get(reference).id, options=options)
    engine.images.remove(reference, force=True)


@pytest.fixture
def heavy(engine: Any) -> Iterator[Tiny]:
    """So much that it can be interrupted on its way."""
    reference, options = make_image(engine, 24)
    yield Tiny(reference=reference, id=engine.images.get(reference).id, options=options)
    engine.images.remove(reference, force=True)


def names(engine: Any, address: str) -> list[str]:
    """The engine's names of images in a registry."""
    return [tag for image in engine.images.list() for tag in image.tags if tag.startswith(f"{address}/")]


# ------------------------------------------------------------------------------------------ registries
def test_what_is_pushed_is_what_others_get(
    engine: Any, launch: Launch, start: Start, tiny: Tiny, tmp_path: Path
) -> None:
    need("skopeo")
    registry = start()
    done = launch("image", "push", "cpu", f"{registry.address}/team", *tiny.options)
    assert done.code == 0, done.err
    reference = done.out.strip()
    name, _, digest = reference.partition("@")
    assert name == f"{registry.address}/team/finetune"
    assert not names(engine, registry.address)  # the name was for the way

    tag = tiny.reference.partition(":")[2]
    seen = subprocess.run(
        ["skopeo", "inspect", "--tls-verify=false", f"docker://{name}:{tag}"], capture_output=True, text=True
    )
    assert seen.returncode == 0, seen.stderr
    assert json.loads(seen.stdout)["Digest"] == digest

    pulled = engine.images.pull(name, tag=digest)
    try:
        assert pulled.id == tiny.id
    finally:
        engine.images.remove(reference, force=True)

    again = launch("image", "push", "cpu", f"{registry.address}/team", *tiny.options, "--json")
    said = json.loads(again.out)
    assert (said["reference"], said["digest"], said["id"]) == (reference, digest, tiny.id)
    assert launch("image", "verify", reference, "cpu", "--digest", digest).code == 0
    assert launch("image", "verify", f"{name}:{tag}", "cpu").code == 0
    assert launch("image", "verify", reference, "cuda").code == 72
    wrong = launch("image", "verify", reference, "cpu", "--digest", f"sha256:{'0' * 64}")
    assert wrong.code == 72
    assert "and not sha256:000" in wrong.err
    assert launch("image", "verify", f"{name}@sha256:{'0' * 64}", "cpu").code == 74


def test_a_name_of_the_users_own_stays(engine: Any, launch: Launch, start: Start, tiny: Tiny) -> None:
    """Also where it is the only name that its image has."""
    registry = start()
    other, _ = make_image(engine, 1)
    mine = f"{registry.address}/team/{tiny.reference}"
    engine.images.get(other).tag(*mine.rsplit(":", 1))
    engine.images.remove(other)
    try:
        before = engine.images.get(mine).id
        assert launch("image", "push", "cpu", f"{registry.address}/team", *tiny.options).code == 0
        assert engine.images.get(mine).id == before != tiny.id
    finally:
        engine.images.remove(mine, force=True)


def test_logins_are_dockers_and_nobody_sees_them(
    engine: Any, launch: Launch, start: Start, tiny: Tiny, tmp_path: Path
) -> None:
    registry = start("login")
    password = (registry.folder / "password").read_text()
    place = f"{registry.address}/team"
    none = launch("image", "push", "cpu", place, *tiny.options)
    assert none.code == 86
    assert "registry access error" in none.err
    wrong = registry.login("wrong-password", tmp_path / "wrong")
    refused = launch("image", "push", "cpu", place, *tiny.options, **wrong)
    assert refused.code == 86
    assert "wrong-password" not in refused.out + refused.err
    assert not names(engine, registry.address)

    right = registry.login(password, tmp_path / "right")
    done = launch("--verbose", "image", "push", "cpu", place, *tiny.options, "--json", **right)
    assert done.code == 0, done.err
    assert password not in done.out + done.err
    reference = json.loads(done.out)["reference"]
    assert launch("image", "verify", reference, "cpu", **right).code == 0
    assert launch("image", "verify", reference, "cpu", **wrong).code == 86
    assert launch("image", "verify", reference, "cpu").code == 86


def test_a_credential_helper_is_asked(launch: Launch, start: Start, tiny: Tiny, tmp_path: Path) -> None:
    registry = start("login")
    helper = tmp_path / "bin" / "docker-credential-kept"
    helper.parent.mkdir()
    answer = {"Username": "tester", "Secret": (registry.folder / "password").read_text()}
    helper.write_text(f"#!/bin/sh\ncat >/dev/null\nprintf '%s' '{json.dumps(answer)}'\n")
    helper.chmod(0o755)
    config = tmp_path / "config"
    config.mkdir()
    (config / "config.json").write_text(json.dumps({"credHelpers": {registry.address: "kept"}}))
    variables = {"DOCKER_CONFIG": str(config), "PATH": f"{helper.parent}:{os.environ['PATH']}"}
    done = launch("image", "push", "cpu", registry.address, *tiny.options, **variables)
    assert done.code == 0, done.err
    assert done.out.startswith(f"{registry.address}/finetune@sha256:")
    helper.write_text("#!/bin/sh\necho no keyring; exit 1\n")
    assert launch("image", "verify", done.out.strip(), "cpu", **variables).code == 86


def test_tls_is_trusted_or_named(launch: Launch, start: Start, tiny: Tiny, tmp_path: Path) -> None:
    registry = start("tls")
    place = f"{registry.address}/team"
    unknown = launch("image", "push", "cpu", place, *tiny.options)
    assert unknown.code == 87
    assert "certs.d" in unknown.err
    plain = launch("image", "push", "cpu", place, *tiny.options, "--plain-http")
    assert plain.code == 87
    assert "leave out --plain-http" in plain.err
    folder = tmp_path / "home" / ".config" / "docker" / "certs.d" / registry.address
    folder.mkdir(parents=True)
    shutil.copy(registry.folder / "ca.crt", folder)
    done = launch("image", "push", "cpu", place, *tiny.options, HOME=str(tmp_path / "home"))
    assert done.code == 0, done.err


def test_what_is_no_registry_is_named(
    launch: Launch, start: Start, tiny: Tiny, engine: Any, tmp_path: Path
) -> None:
    registry = start()
    subprocess.run([SCRIPT, "stop", registry.folder], check=True)
    gone = launch("image", "push", "cpu", registry.address, *tiny.options)
    assert gone.code == 85
    assert "cannot be reached" in gone.err
    assert launch("image", "push", "cpu", "me:secret-word@registry.example/team").code == 64
    assert launch("image", "push", "cuda", registry.address, "--base", "nowhere:1").code == 74
    with socket.create_server(
        ("127.0.0.1", 0)
    ) as silent:  # answers TLS and HTTP alike with the same nonsense
        stop = threading.Event()
        worker = threading.Thread(target=_nonsense, args=(silent, stop))
        worker.start()
        try:
            mute = launch("image", "push", "cpu", f"127.0.0.1:{silent.getsockname()[1]}", *tiny.options)
        finally:
            stop.set()
            worker.join()
    assert mute.code == 85, mute.err
    assert not names(engine, "127.0.0.1")


def _nonsense(server: socket.socket, stop: threading.Event) -> None:
    server.settimeout(0.2)
    while not stop.is_set():
        try:
            connection, _ = server.accept()
        except TimeoutError:
            continue
        with connection:
            connection.recv(65536)
            connection.sendall(b"220 mail.example ESMTP\r\n")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 4 MB."""
    place = tmp_path / "small"
    place.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", place], capture_output=True, text=True
    )
    if done.returncode:
        pytest.skip(f"no disk can be mounted here: {done.stderr.strip()}")
    yield place
    subprocess.run(["umount", place], check=True)


def test_a_full_registry_is_named(
    launch: Launch, small_disk: Path, start: Start, heavy: Tiny, engine: Any
) -> None:
    """The disk comes first, so that it goes last: the registry's own file says which process to end."""
    registry = start(folder=small_disk)
    done = launch("image", "push", "cpu", f"{registry.address}/team", *heavy.options)
    assert done.code == 88, done.err
    assert "_state" not in done.err
    assert not names(engine, registry.address)


@dataclass
class Slow:
    """A way to a registry that lets little through, and counts it."""

    to: int
    server: socket.socket = field(default_factory=lambda: socket.create_server(("127.0.0.1", 0)))
    sent: int = 0
    ended: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        self.server.settimeout(0.1)
        while not self.ended.is_set():
            try:
                one, _ = self.server.accept()
            except TimeoutError:
                continue
            two = socket.create_connection(("127.0.0.1", self.to))
            threading.Thread(target=self._pipe, args=(one, two, 0.05), daemon=True).start()
            threading.Thread(target=self._pipe, args=(two, one, 0.0), daemon=True).start()

    def _pipe(self, source: socket.socket, sink: socket.socket, pause: float) -> None:
        try:
            while not self.ended.is_set() and (piece := source.recv(65536)):
                sink.sendall(piece)
                if pause:
                    self.sent += len(piece)
                    time.sleep(pause)
        except OSError:
            pass
        for each in (source, sink):
            each.close()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 1), (signal.SIGTERM, 143)])
def test_an_interrupted_push_leaves_nothing(
    engine: Any, start: Start, heavy: Tiny, tmp_path: Path, number: int, code: int
) -> None:
    registry = start()
    slow = Slow(to=int(registry.address.rpartition(":")[2]))
    relay = threading.Thread(target=slow.run)
    relay.start()
    address = f"127.0.0.1:{slow.server.getsockname()[1]}"
    try:
        pushing = subprocess.Popen(
            [sys.executable, "-m", "launcher", "image", "push", "cpu", address, *heavy.options],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        deadline = time.monotonic() + 30
        while slow.sent < 1_000_000 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert names(engine, address)
        pushing.send_signal(number)
        pushing.communicate(timeout=30)
        assert pushing.returncode == code
        assert not names(engine, address)
        assert engine.images.get(heavy.reference).id == heavy.id
        before = -1
        while before != slow.sent and time.monotonic() < deadline + 30:  # what the kernel still has
            before = slow.sent
            time.sleep(1)
        assert slow.sent < 20_000_000  # the engine does not go on behind the launcher's back
    finally:
        slow.ended.set()
        relay.join()
        slow.server.close()


# ----------------------------------------------------------------------------------------------- files
def test_a_saved_file_is_read_by_others(
    engine: Any, launch: Launch, tiny: Tiny, tmp_path: Path, workspace: Path
) -> None:
    need("skopeo")
    need("umoci")
    done = launch("image", "save", "cpu", "image.tar", *tiny.options, "--json")
    assert done.code == 0, done.err
    said = json.loads(done.out)
    assert sorted(file.name for file in workspace.iterdir()) == ["image.tar", "image.tar.sha256"]
    checked = subprocess.run(["sha256sum", "-c", "image.tar.sha256"], cwd=workspace, capture_output=True)
    assert checked.returncode == 0
    assert said["sha256"] == hashlib.sha256((workspace / "image.tar").read_bytes()).hexdigest()
    assert tiny.id in (said["manifest"], said["config"])
    assert launch("image", "verify", "image.tar", "cpu", "--digest", tiny.id).code == 0
    for layout in said["layouts"]:  # each is real: another program takes it, and finds the same image
        copied = subprocess.run(
            ["skopeo", "--insecure-policy", "copy", f"{layout}:image.tar", f"oci:{tmp_path}/{layout}:it"],
            cwd=workspace,
            capture_output=True,
            text=True,
        )
        assert copied.returncode == 0, copied.stderr
        unpacked = [
            "umoci",
            "unpack",
            "--rootless",
            "--image",
            f"{tmp_path}/{layout}:it",
            tmp_path / f"{layout}-d",
        ]
        assert subprocess.run(unpacked, capture_output=True).returncode == 0
        assert (tmp_path / f"{layout}-d" / "rootfs" / "payload").read_bytes().endswith(b"arrived")
    engine.images.remove(tiny.reference, force=True)
    with (workspace / "image.tar").open("rb") as stream:
        assert [image.id for image in engine.images.load(stream)] == [tiny.id]
    again = launch("image", "save", "cpu", "image.tar", *tiny.options)
    assert again.code == 77


def test_what_changed_on_the_way_is_named(launch: Launch, tiny: Tiny, workspace: Path) -> None:
    assert launch("image", "save", "cpu", "image.tar", *tiny.options).code == 0
    good = (workspace / "image.tar").read_bytes()
    beside = workspace / "image.tar.sha256"
    line = beside.read_text()

    def verified(content: bytes, *, summed: bool) -> str:
        (workspace / "image.tar").write_bytes(content)
        beside.write_text(f"{hashlib.sha256(content).hexdigest()}  image.tar\n" if summed else line)
        done = launch("image", "verify", "image.tar", "cpu")
        assert done.code == 72, done.err
        return done.err

    assert "cut short" in verified(good[: len(good) // 2], summed=True)
    at = good.index(b"cpu", good.index(b"launch.target"))
    assert "its content is" in verified(good[:at] + b"xpu" + good[at + 3 :], summed=True)
    padded = good[:-512] + b"\1" * 512  # behind the archive's end: only the checksum sees it
    assert "image.tar.sha256 says" in verified(padded, summed=False)
    assert "no archive of an image" in verified(b"nothing like it" * 1000, summed=True)
    (workspace / "image.tar").write_bytes(good)
    beside.write_text(line)
    assert launch("image", "verify", "image.tar", "cpu").code == 0
    beside.unlink()
    assert launch("image", "verify", "image.tar", "cpu").code == 72
    assert launch("image", "verify", "image.tar", "cuda").code == 72
    assert launch("image", "verify", "nothing.tar", "cpu").code == 64


def test_no_engine_is_needed_to_verify(launch: Launch, tiny: Tiny, workspace: Path) -> None:
    assert launch("image", "save", "cpu", "image.tar", *tiny.options).code == 0
    without = {"DOCKER_HOST": "unix:///nonexistent.sock", "CONTAINER_HOST": "unix:///nonexistent.sock"}
    assert launch("image", "verify", "image.tar", "cpu", **without).code == 0


def test_a_small_disk_is_known_before(launch: Launch, heavy: Tiny, small_disk: Path, workspace: Path) -> None:
    done = launch("image", "save", "cpu", small_disk / "image.tar", *heavy.options)
    assert done.code == 77
    assert "GB free" in done.err
    assert list(small_disk.iterdir()) == []


# ----------------------------------------------------------------------------------------- conversions
def stand_in(folder: Path, name: str, text: str) -> dict[str, str]:
    """A program of that name on PATH."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/bash\nset -eu\n{text}\n")
    (folder / name).chmod(0o755)
    return {"PATH": f"{folder}:{os.environ['PATH']}"}


def test_a_conversion_is_printed_or_run(
    launch: Launch, start: Start, tiny: Tiny, tmp_path: Path, workspace: Path
) -> None:
    registry = start()
    pushed = launch("image", "push", "cpu", f"{registry.address}/team", *tiny.options)
    reference = pushed.out.strip()
    digest = reference.partition("@")[2]
    said = launch(
        "image", "convert", reference, "--to", "enroot", "--user", "me", "--output", "it.sqsh", "--json"
    )
    planned = json.loads(said.out)
    assert planned["digest"] == digest
    assert f"docker://me@{registry.address}#team/finetune:{digest}" in planned["commands"][0]
    assert "ENROOT_ALLOW_HTTP=yes" in planned["commands"][0]

    # What the two runtimes do is done by skopeo and umoci, which Apptainer before 1.4 is made of.
    need("umoci")
    programs = stand_in(
        tmp_path / "bin",
        "apptainer",
        '[[ $1 == build && $3 == docker-archive:* ]]; d="$(mktemp -d)"; '
        'skopeo --insecure-policy copy -q "$3" "oci:$d/oci:it" && '
        'umoci unpack --rootless --image "$d/oci:it" "$d/b" >/dev/null && '
        'tar -cf "$2" -C "$d/b/rootfs" . ; rm -rf "$d"',
    )
    assert launch("image", "save", "cpu", "image.tar", *tiny.options).code == 0
    done = launch(
        "image", "convert", "image.tar", "--to", "apptainer", "--output", "it.sif", "--run", **programs
    )
    assert done.code == 0, done.err
    with tarfile.open(workspace / "it.sif") as archive:
        assert "./payload" in archive.getnames()
    taken = launch("image", "convert", "image.tar", "--to", "apptainer", "--output", "it.sif", **programs)
    assert taken.code == 77
    failing = stand_in(tmp_path / "bin", "apptainer", 'echo half >"$2"; exit 3')
    failed = launch(
        "image", "convert", "image.tar", "--to", "apptainer", "--output", "no.sif", "--run", **failing
    )
    assert failed.code == 83
    assert sorted(file.name for file in workspace.iterdir() if "sif" in file.name) == ["it.sif"]


def test_podman_finds_what_it_loaded_by_the_name_that_enroot_gives_it(launch: Launch, tiny: Tiny) -> None:
    need("podman", "podman.sh")
    assert launch("image", "save", "cpu", "image.tar", *tiny.options).code == 0
    said = launch("image", "convert", "image.tar", "--to", "enroot", "--output", "it.sqsh", "--json")
    load, convert = json.loads(said.out)["commands"]
    name = convert.rpartition("podman://")[2]
    with tempfile.TemporaryDirectory(prefix="pod-") as short:  # Podman takes no long names here
        podman = ["podman", "--root", f"{short}/root", "--runroot", f"{short}/run", "--storage-driver", "vfs"]
        loaded = subprocess.run([*podman, *load.split()[1:]], capture_output=True, text=True)
        assert loaded.returncode == 0, loaded.stderr
        found = subprocess.run([*podman, "create", "--network", "none", name], capture_output=True, text=True)
        assert found.returncode == 0, found.stderr
        subprocess.run([*podman, "rmi", "--all", "--force"], capture_output=True)
