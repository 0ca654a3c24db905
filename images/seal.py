"""Runs inside the image build, after the packages of one lock layer were installed.

    python -S seal.py LOCK SITE_PACKAGES LAYER [--keep-headers]

1. Removes what no program needs at run time (PRUNED; each entry with what it saves).
2. Removes the installer's notes about this machine, and brings RECORD in line with the files.
3. Keeps equal files once.
4. Writes the bytecode. It is reproducible only when a fresh process compiles a fixed list of files in a fixed
   order: what a process compiled before decides which constants `marshal` writes as references. So each
   package, in fixed portions, gets a process of its own; the processes may run side by side.
5. Writes the layer's bill of materials, share/launch/LAYER.json of the environment.

Uses the standard library only. Also run outside a build by the unit tests.
"""

import csv
import json
import os
import py_compile
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.util import cache_from_source
from pathlib import Path
from shutil import rmtree

#: Distribution -> globs below site-packages, with the megabytes that each saves. Test suites, archives for
#: static linking, and what nothing in the environment names (images/checks/pruned.py looks). Licences stay.
PRUNED: dict[str, tuple[str, ...]] = {
    # 27: JupyterLab asks for names of languages that it was translated to: English, and Chinese by its pack
    "babel": tuple(
        f"babel/locale-data/{names}.dat" for names in ("[!erz]*", "[e][!n]*", "[r][!o]*", "[z][!h]*")
    ),
    "debugpy": ("debugpy/_vendored/pydevd/**/*.c",),  # 6, what its extension modules were made from
    "ir-datasets": ("test", "examples"),  # 4, and top-level names that belong to nobody
    "joblib": ("joblib/test",),  # 1
    "mpmath": ("mpmath/tests",),  # 1
    "networkx": ("networkx/**/tests",),  # 8
    # 15; numpy.testing imports what _core/tests has beside its tests, and scikit-learn imports numpy.testing
    "numpy": (
        "numpy/[!_]*/**/tests",
        "numpy/tests",
        "numpy/_*/tests/test_*",
        "numpy/_*/tests/data",
        "numpy/_*/tests/examples",
    ),
    "nvidia-cuda-nvrtc-cu12": ("nvidia/cuda_nvrtc/lib/libnvrtc.alt.so*",),  # 105, the compiler a second time
    "nvidia-cusolver-cu12": ("nvidia/cusolver/lib/libcusolverMg.so*",),  # 161, one process with several GPUs
    "pandas": ("pandas/tests",),  # 42
    "pyarrow": ("pyarrow/tests",),  # 7
    "scikit-learn": ("sklearn/**/tests",),  # 14
    "scipy": ("scipy/**/tests", "scipy/special/_precompute"),  # 31; the latter asks for the former
    "sympy": ("sympy/**/tests",),  # 33
    "tensorboard-data-server": (
        "tensorboard_data_server/bin/*",
    ),  # 20: without it TensorBoard reads in Python
    # 86 and 54; torch/bin keeps torch_shm_manager, which data loaders start.
    "torch": (
        "torch/test",
        "torch/bin/*[Tt]est*",
        "torch/bin/protoc*",
        "torch/bin/*.p*t*",
        "torch/lib/lib*test*.so",
        "torch/lib/libbackend_with_compiler.so",
        "torch/lib/libaoti_custom_ops.so",
    ),
    "triton": ("triton/backends/nvidia/lib/cupti/*.a",),  # 77
    # 84: a server with its pages, a command line for it, and what starts that; both are under the AGPL, and
    # nothing else in the package asks for either
    "unsloth": ("studio", "unsloth_cli", "../../../bin/unsloth"),
    # 17: a screen of the machine's load, and what reads tables that were downloaded from a server
    "wandb": ("wandb/bin/wandb-symon", "wandb/bin/librust_parquet_ffi.so"),
}

#: Distributions that carry one library per accelerator, of which a program loads that of the installed torch:
#: 93 in a CUDA image, 189 in one without a GPU.
ACCELERATED: dict[str, str] = {"bitsandbytes": "bitsandbytes/libbitsandbytes_*.so"}

#: A file of at least so many bytes is kept once, under all its names, for wheels cannot hold links: 67.
SHARED = 1 << 16

#: Only a compiler reads these; kept where the image has one.
HEADERS: dict[str, tuple[str, ...]] = {
    "torch": ("torch/include", "torch/share/cmake"),  # 60
    "pyarrow": ("pyarrow/include", "pyarrow/src"),
}

#: What installers note about how and where from; none of it is the package's own.
NOTES = ("direct_url.json", "uv_cache.json", "uv_build.json", "REQUESTED")

#: Files per compiling process: a constant, because it decides what is compiled together.
PORTION = 300


def main(arguments: list[str]) -> int:
    """Seal the distributions of one lock; see the module's text."""
    if arguments[:1] == ["--compile"]:
        return compile_files(sys.stdin.read().splitlines())
    site, layer = Path(arguments[1]), arguments[2]
    names = locked(Path(arguments[0]).read_text(encoding="utf-8"))
    sources, files = [], []
    for name, folder in sorted(distributions(site).items()):
        if name not in names:
            continue
        remove(site, PRUNED.get(name, ()))
        if "--keep-headers" not in arguments:
            remove(site, HEADERS.get(name, ()))
        if name in ACCELERATED:
            for library in other_accelerators(site, ACCELERATED[name]):
                library.unlink()
        rows = tidy_record(site, folder)
        files += rows
        sources.append([str(site / row[0]) for row in rows if row[0].endswith(".py")])
    missing = names.keys() - distributions(site).keys()
    if missing:
        raise SystemExit(f"locked, but not installed: {', '.join(sorted(missing))}")
    share(site, files)
    compile_all(sources)
    write_bill(site, layer, names)
    return 0


def canonical(name: str) -> str:
    """A distribution's name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def locked(text: str) -> dict[str, tuple[str, str]]:
    """Canonical name -> version and sha256 of the file, by a lock in requirements form."""
    entries = re.findall(r"^([A-Za-z0-9._-]+)==(\S+) \\\n +--hash=sha256:([0-9a-f]{64})$", text, re.M)
    return {canonical(name): (version, sha256) for name, version, sha256 in entries}


def distributions(site: Path) -> dict[str, Path]:
    """Canonical name -> .dist-info folder."""
    return {canonical(path.name.split("-")[0]): path for path in site.glob("*.dist-info")}


def remove(site: Path, patterns: tuple[str, ...]) -> None:
    """Remove folders and files below site-packages."""
    for pattern in patterns:
        for path in sorted(site.glob(pattern)):
            if path.is_dir() and not path.is_symlink():
                rmtree(path)
            else:
                path.unlink(missing_ok=True)  # its folder may have gone before it


def other_accelerators(site: Path, pattern: str) -> list[Path]:
    """The libraries that torch's own build never loads; all stay where its build cannot be told."""
    version = site / "torch" / "version.py"
    if not version.is_file():
        return []
    built = dict(re.findall(r"^(cuda|xpu|hip)\b[^=]*= '([^']+)'", version.read_text(encoding="utf-8"), re.M))
    own = [f"{kind}{number.replace('.', '')}" if kind == "cuda" else kind for kind, number in built.items()]
    return [path for path in site.glob(pattern) if not path.stem.split("_", 1)[1].startswith(("cpu", *own))]


def share(site: Path, rows: list[list[str]]) -> None:
    """Make equal files one file with several names, by what RECORD says of them."""
    first: dict[str, Path] = {}
    for name, checksum, size in sorted(rows):
        path = site / name
        if not checksum or not size or int(size) < SHARED or path.is_symlink():
            continue
        if checksum not in first:
            first[checksum] = path
        elif not path.samefile(first[checksum]):
            path.unlink()
            path.hardlink_to(first[checksum])


def tidy_record(site: Path, folder: Path) -> list[list[str]]:
    """Drop the installer's notes and the lines of removed files; return the lines that are left, in order."""
    for note in NOTES:
        (folder / note).unlink(missing_ok=True)
    record = folder / "RECORD"
    with record.open(encoding="utf-8", newline="") as stream:
        rows = sorted(row for row in csv.reader(stream) if row and (site / row[0]).exists())
    with record.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream, lineterminator="\n").writerows(rows)
    return rows


def compile_all(sources: list[list[str]]) -> None:
    """Compile each distribution's sources in fixed portions, one fresh process per portion."""
    portions = [files[i : i + PORTION] for files in sources for i in range(0, len(files), PORTION)]
    command = [sys.executable, "-S", __file__, "--compile"]

    def one(files: list[str]) -> None:
        subprocess.run(command, input="\n".join(files), text=True, check=True)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(one, portions))


def compile_files(files: list[str]) -> int:
    """Compile files in the given order; sources that are templates or for another Python stay as they are."""
    for file in files:
        try:
            py_compile.compile(
                file, doraise=True, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH
            )
        except (py_compile.PyCompileError, UnicodeDecodeError, ValueError):
            continue
    return 0


def write_bill(site: Path, layer: str, names: dict[str, tuple[str, str]]) -> None:
    """Write what a layer holds, for whoever looks into the image.

    The version is the lock's, because a distribution's own metadata may lack the local part. A layer's
    position is the number of layers below it, whose bills are there already.
    """
    bill = site.parents[2] / "share" / "launch" / f"{layer}.json"
    bill.parent.mkdir(parents=True, exist_ok=True)
    folders, seen = distributions(site), set()
    content = {
        "schema": 1,
        "layer": layer,
        "position": sum(path != bill for path in bill.parent.glob("*.json")),
        "distributions": [
            {"name": name, "version": version, "sha256": sha256, "bytes": size(site, folders[name], seen)}
            for name, (version, sha256) in sorted(names.items())
        ],
    }
    bill.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    bill.chmod(0o644)


def size(site: Path, folder: Path, seen: set[int]) -> int:
    """Bytes of a distribution's files and their bytecode; each file counts under its first name alone."""
    with (folder / "RECORD").open(encoding="utf-8", newline="") as stream:
        files = [site / row[0] for row in csv.reader(stream) if row]
    total = 0
    for file in (*files, *(Path(cache_from_source(str(file))) for file in files if file.suffix == ".py")):
        if file.is_file() and (found := file.lstat()).st_ino not in seen:
            seen.add(found.st_ino)
            total += found.st_size
    return total


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
