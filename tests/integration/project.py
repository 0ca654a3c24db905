"""A target of two tiny packages in two layers, made here: for what an engine does with any image."""

import base64
import hashlib
import shutil
import zipfile
from pathlib import Path

from launcher import lock, manifest, process
from launcher.image import inputs
from launcher.lock import Lock, LockedPackage

MANIFEST = """
schema = 1
[targets.tiny]
summary = {{ en = "Two tiny packages", zh = "两个小包" }}
platform = "linux/amd64"
python = "3.11"
glibc = "2.36"
system_packages = ["python3"]
checks = []
[targets.tiny.base]
image = "docker.io/library/debian"
tag = "bookworm-20260824-slim"
digest = "sha256:{zeros}"
evidence = "made up; every test names another base"
[[targets.tiny.layers]]
name = "lower"
pins = ["tiny-lower=={lower}"]
[[targets.tiny.layers]]
name = "upper"
pins = ["tiny-upper=={upper}"]
"""

DRIVERS = """
[[targets.tiny.drivers]]
name = "tiny-driver"
version = "{version}"
url = "https://drivers.invalid/{filename}"
sha256 = "{sha256}"
licence = "MIT"
evidence = "made here"
"""


def _wheel(folder: Path, name: str, version: str) -> LockedPackage:
    """A wheel of one module, the same bytes every time."""
    folder.mkdir(parents=True, exist_ok=True)
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}/__init__.py": f'VERSION = "{version}"\nNAMES = {{"a", "b", "c"}}\n',
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }

    def digest(text: str) -> str:
        return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=")

    record = "".join(f"{path},sha256={digest(text)},{len(text)}\n" for path, text in files.items())
    files[f"{info}/RECORD"] = record + f"{info}/RECORD,,\n"
    wheel = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, text in files.items():
            archive.writestr(zipfile.ZipInfo(path, (2020, 1, 1, 0, 0, 0)), text)
    sha256 = hashlib.sha256(wheel.read_bytes()).hexdigest()
    return LockedPackage(name=name.replace("_", "-"), version=version, filename=wheel.name, sha256=sha256)


def _deb(folder: Path, version: str) -> LockedPackage:
    """A package of one library's name, as dpkg takes it."""
    root = folder / "root"
    (root / "DEBIAN").mkdir(parents=True)
    (root / "usr/lib").mkdir(parents=True)
    (root / "usr/lib/libtiny_driver.so.1").write_text(f"not a library: {version}\n")
    (root / "usr/share/doc/tiny-driver").mkdir(parents=True)
    (root / "usr/share/doc/tiny-driver/copyright").write_text("MIT\n")
    (root / "usr/share/doc/tiny-driver/changelog").write_text("long\n")
    control = f"Package: tiny-driver\nVersion: {version}\nArchitecture: amd64\nMaintainer: T <t@t.invalid>\n"
    (root / "DEBIAN/control").write_text(f"{control}Description: for a test\n")
    deb = folder / f"tiny-driver_{version}_amd64.deb"
    process.run(["dpkg-deb", "--build", "--root-owner-group", str(root), str(deb)])
    shutil.rmtree(root)
    sha256 = hashlib.sha256(deb.read_bytes()).hexdigest()
    return LockedPackage(name="tiny-driver", version=version, filename=deb.name, sha256=sha256)


class Project:
    """A folder images/ of its own, with one target of two layers."""

    def __init__(self, folder: Path, checkout: Path, base: str) -> None:
        self.images, self.wheels, self.base = folder / "images", folder / "wheels", base
        self.images.mkdir()
        for name in (inputs.TEMPLATE, *inputs.TOOLS):
            shutil.copyfile(checkout / "images" / name, self.images / name)

    def inputs(
        self, *, lower: str = "1.0", upper: str = "1.0", driver: str = "", without: tuple[str, ...] = ()
    ) -> inputs.Inputs:
        """Write manifest, wheels, locks and Dockerfile for these versions; what was there is gone."""
        shutil.rmtree(self.wheels, ignore_errors=True)
        text = MANIFEST.format(lower=lower, upper=upper, zeros="0" * 64)
        if driver:
            made = _deb(self.wheels / manifest.DRIVERS, driver)
            text = text.replace("checks = []", 'checks = []\noptional = ["drivers"]')
            text += DRIVERS.format(version=driver, filename=made.filename, sha256=made.sha256)
        (self.images / "manifest.toml").write_text(text)
        target = manifest.parse(text).target("tiny")
        digest = manifest.lock_inputs_digest((target,))
        (self.images / "locks").mkdir(exist_ok=True)
        (self.images / "tiny").mkdir(exist_ok=True)
        if driver:
            named = lock.of_drivers(target, manifest_digest=digest, tool="uv 0, tests")
            (self.images / "locks" / named.file_name).write_text(lock.render(named))
        for layer, version in (("lower", lower), ("upper", upper)):
            package = _wheel(self.wheels / layer, f"tiny_{layer}", version)
            part = Lock(
                owner="tiny", layer=layer, packages=(package,), manifest_digest=digest, tool="uv 0, tests"
            )
            (self.images / "locks" / part.file_name).write_text(lock.render(part))
        locked = lock.load(self.images, target)
        (self.images / "tiny" / "Dockerfile").write_text(inputs.rendered(self.images, target, locked))
        return inputs.load(self.images, target, base=self.base, without=without)
