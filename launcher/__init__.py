"""One manifest, one locked image per accelerator, and one command that runs recipes in them."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("finetune-launch")
except PackageNotFoundError:  # a plain source tree on PYTHONPATH
    __version__ = "0+unknown"
