"""launcher.errors: every error has its own code, clear of those of shells and programs."""

import inspect

import pytest

from launcher import errors
from launcher.errors import (
    BaseNotFoundError,
    ChangedError,
    ClusterError,
    EngineGoneError,
    GridError,
    LaunchError,
    ModelConfigError,
    ProblemsError,
    ProgramError,
    RecipeFailedError,
    RefusedError,
    TakenAwayError,
    UncoveredError,
    UnfitDeviceError,
)


def test_codes_are_unique_and_clear_of_others() -> None:
    found = errors.all_errors()
    codes = [cls.exit_code for cls in found]
    assert len(set(codes)) == len(codes)
    assert codes == sorted(codes)
    assert not set(codes) & {0, 1, 2, *range(126, 166)}
    assert all(2 < code < 126 for code in codes)


def test_titles_and_texts() -> None:
    found = errors.all_errors()
    assert len({cls.title for cls in found}) == len(found)
    assert all(inspect.getdoc(cls) for cls in found)


def test_every_error_of_the_module_is_in_the_table() -> None:
    defined = {
        value for value in vars(errors).values() if inspect.isclass(value) and issubclass(value, LaunchError)
    }
    without_a_code_of_their_own = {
        BaseNotFoundError,
        ChangedError,
        ClusterError,
        EngineGoneError,
        GridError,
        LaunchError,
        ModelConfigError,
        ProblemsError,
        RefusedError,
        RecipeFailedError,
        TakenAwayError,
        UncoveredError,
        UnfitDeviceError,
    }
    assert defined - without_a_code_of_their_own == set(errors.all_errors())


@pytest.mark.parametrize("cls", errors.all_errors())
def test_what_it_carries(cls: type[LaunchError]) -> None:
    arguments = (["a problem"],) if issubclass(cls, ProblemsError) else ()
    error = cls("what", *arguments, why="why", hint="do")
    assert (str(error), error.message, error.why, error.hint) == ("what", "what", "why", "do")
    if isinstance(error, ProblemsError):
        assert error.problems == ("a problem",)


def test_program_error() -> None:
    error = ProgramError("x", returncode=7, output="text")
    assert (error.returncode, error.output, error.exit_code) == (7, "text", 83)
