"""One manifest, one locked image per accelerator, and one command that runs recipes in them."""


def version() -> str:
    """The launcher's own version; read when asked for, since importlib.metadata takes longer than a start."""
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as installed

    try:
        return installed("finetune-launch")
    except PackageNotFoundError:  # a plain source tree on PYTHONPATH
        return "0+unknown"
