"""A user's Python file with reward functions: read, and looked at before anything is trained."""

import asyncio
import inspect
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

#: The name that the file has as a module.
MODULE = "reward_file"


@dataclass(frozen=True, slots=True, kw_only=True)
class Function:
    """A public function of the file.

    Attributes:
        call: it; one that is asynchronous is waited for.
        line: of its definition.
    """

    call: Callable[..., Any]
    line: int


def functions(path: Path, problems: list[str]) -> dict[str, Function]:
    """The functions of a file that take completions, by name, in their order.

    Args:
        path: the file; it is run, as an import would do.
        problems: gets why it could not be.
    """
    try:
        # Not imported: that would leave a compiled file beside the user's own.
        code = compile(path.read_bytes(), str(path), "exec")
    except SyntaxError as error:
        problems.append(f"{path}:{error.lineno or 0}: not Python: {error.msg}")
        return {}
    except (OSError, ValueError) as error:
        problems.append(f"{path}: cannot be read: {error}")
        return {}
    module = ModuleType(MODULE)
    module.__file__ = str(path)
    sys.modules[MODULE] = module  # dataclasses and pickle look for it there
    try:
        exec(code, module.__dict__)  # noqa: S102 - what the user asked for
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever a user's file raises
        reason = f"{type(error).__name__}: {error}"
        problems.append(f"{path}:{line_of(error, path)}: it cannot be loaded: {reason}")
        return {}
    return {
        name: Function(
            call=_waited(value) if inspect.iscoroutinefunction(value) else value, line=_line(value)
        )
        for name, value in vars(module).items()
        if isinstance(value, FunctionType)
        and not name.startswith("_")
        and value.__module__ == MODULE
        and _takes_completions(value)
    }


def _takes_completions(function: FunctionType) -> bool:
    return "completions" in inspect.signature(function).parameters


def _line(function: FunctionType) -> int:
    return int(inspect.unwrap(function).__code__.co_firstlineno)


def _waited(function: FunctionType) -> Callable[..., Any]:
    def call(**given: Any) -> Any:
        return asyncio.run(function(**given))

    call.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]
    return call


def misfit(function: Callable[..., Any], given: Mapping[str, Any]) -> str:
    """Why a function cannot be called with these keywords; empty: it can."""
    try:
        inspect.signature(function).bind(**given)
    except TypeError as error:
        return f"it cannot be called: {error}; it gets {', '.join(given)}: take the others by **kwargs"
    return ""


def line_of(error: BaseException, path: Path) -> int:
    """The line of the file where an exception came from, at the innermost; 0: none of it."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == str(path)]
    return next((line for line in reversed(lines) if line), 0)
