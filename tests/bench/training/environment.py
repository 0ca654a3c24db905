"""Print the Python of the embedded cpu environment, which is made when it is not there."""

from launcher import lock, manifest, paths
from launcher.image import environment
from launcher.progress import Silent

target = manifest.shipped().target("cpu")
print(
    environment.ensure(target, lock.load(paths.images(), target), progress=Silent()).folder / "bin" / "python"
)
