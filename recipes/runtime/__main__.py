"""``python -m runtime -m MODULE ARGS``: run a trainer's module with the launcher's callback in it.

Like ``python -m pdb -m …``: the module sees its own name and arguments as if it had been started alone.
"""

import runpy
import sys


def main() -> None:
    """Attach the metrics callback, then become the trainer."""
    if len(sys.argv) < 3 or sys.argv[1] != "-m":
        raise SystemExit("usage: python -m runtime -m MODULE [ARGS]")
    module = sys.argv[2]
    sys.argv = [module, *sys.argv[3:]]

    from runtime import metrics

    metrics.attach()
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
