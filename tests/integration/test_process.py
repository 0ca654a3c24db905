"""launcher.process with real programs: output, ends, groups, and what stays behind (nothing)."""

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from launcher import process
from launcher.errors import ProgramError


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and waits to be collected does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


def ended(pid: int, within: float = 5) -> bool:
    until = time.monotonic() + within
    while alive(pid) and time.monotonic() < until:
        time.sleep(0.01)
    return not alive(pid)


def test_output_code_and_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INHERITED", "1")
    done = process.run(
        ["bash", "-c", "echo $INHERITED $ADDED $PWD; cat; echo warn >&2; exit 3"],
        env={"ADDED": "2"}, cwd=tmp_path, stdin="typed", check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (3, f"1 2 {tmp_path}\ntyped", "warn\n")


def test_standard_input_is_empty_unless_given() -> None:
    assert process.run(["cat"]).stdout == ""


def test_failure_carries_code_and_last_lines() -> None:
    with pytest.raises(ProgramError, match="bash exited with code 7") as caught:
        process.run(["bash", "-c", "for n in $(seq 30); do echo line $n >&2; done; exit 7"])
    assert caught.value.returncode == 7
    assert caught.value.why.splitlines() == [f"line {n}" for n in range(16, 31)]
    assert "line 1\n" in caught.value.output
    assert caught.value.hint.startswith("to see it by itself: bash -c ")


def test_not_installed() -> None:
    for start in (
        lambda: process.run(["no-such-program"]),
        lambda: process.Child(["no-such-program"], env={"PATH": os.environ["PATH"]}),
    ):
        with pytest.raises(ProgramError, match="no-such-program is not installed") as caught:
            start()
        assert caught.value.returncode == 127


def test_too_slow() -> None:
    with pytest.raises(ProgramError, match=r"did not finish within 0\.2 s"):
        process.run(["sleep", "30"], timeout=0.2)


def test_output_that_is_no_text() -> None:
    assert process.run(["printf", "\\377"]).stdout == "\ufffd"
    child = process.Child(["printf", "a\\377\\nb"], env={"PATH": os.environ["PATH"]})
    assert list(child.lines()) == ["a\ufffd", "b"]
    assert child.wait() == 0


def test_programs_are_announced_before_they_run(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(process, "announce", said.append)
    process.run(["printf", "a b"])
    process.Child(["true"], env={"PATH": os.environ["PATH"]}).wait()
    assert said == ["printf 'a b'", "true"]


def test_child_gets_exactly_its_variables() -> None:
    child = process.Child(["/usr/bin/env"], env={"ONLY": "this"})
    assert list(child.lines()) == ["ONLY=this"]


def test_both_streams_are_one() -> None:
    child = process.Child(["bash", "-c", "echo a; echo b >&2; echo c"], env={"PATH": os.environ["PATH"]})
    assert list(child.lines()) == ["a", "b", "c"]


def test_a_signal_reaches_the_whole_group() -> None:
    child = process.Child(
        ["bash", "-c", "sleep 60 & echo $!; wait"], env={"PATH": os.environ["PATH"]}
    )  # fmt: skip
    grandchild = int(next(child.lines()))
    assert child.wait(0.05) is None
    child.signal_group(signal.SIGTERM)
    assert child.wait(5) == -signal.SIGTERM
    assert ended(grandchild)
    child.signal_group(signal.SIGKILL)  # all have ended: nothing happens


def test_a_block_that_is_left_early_leaves_no_program() -> None:
    with pytest.raises(RuntimeError, match="own"), process.started(["sleep", "60"]) as child:
        raise RuntimeError("own")
    assert not alive(child.pid)
    with process.started(["true"]) as child:
        assert child.wait(5) == 0


def test_a_detached_program_has_a_session_and_a_log_of_its_own(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("before\n")
    pid = process.detach([sys.executable, "-c", "import os; print(os.getsid(0))"], log=log)
    os.waitpid(pid, 0)
    assert log.read_text() == f"before\n{pid}\n"
    assert os.getsid(0) != pid


@pytest.mark.parametrize(("script", "code"), [("exit 7", 7), ("kill -TERM $$", 143)])
def test_a_program_on_the_launchers_own_streams(
    script: str, code: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    variables = {"PATH": os.environ["PATH"], "ONLY": "1"}
    before = signal.getsignal(signal.SIGINT)
    assert (
        process.attached(["bash", "-c", f"echo $ONLY $HOME $PWD; {script}"], env=variables, cwd=tmp_path)
        == code
    )
    assert capfd.readouterr().out.split() == ["1", str(tmp_path)]
    assert signal.getsignal(signal.SIGINT) is before


def test_ctrl_c_is_the_programs(tmp_path: Path) -> None:
    script = "trap 'echo; exit 3' INT; kill -INT $PPID; kill -INT $$; sleep 5"
    assert process.attached(["bash", "-c", script], env={"PATH": os.environ["PATH"]}, cwd=tmp_path) == 3


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_what_ends_the_launcher_is_passed_on(number: signal.Signals, tmp_path: Path) -> None:
    script = f"trap 'exit 3' {number.name}; kill -{number.name} $PPID; while :; do sleep 0.05; done"
    assert process.attached(["bash", "-c", script], env={"PATH": os.environ["PATH"]}, cwd=tmp_path) == 3
    assert signal.getsignal(number) is signal.SIG_DFL


def test_a_program_that_does_not_heed_it_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_HEED", 0.3)
    script = "trap '' TERM; kill -TERM $PPID; while :; do sleep 0.05; done"
    assert process.attached(["bash", "-c", script], env={"PATH": os.environ["PATH"]}, cwd=tmp_path) == 137


def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ProgramError, match="no-such-program is not installed"):
        process.attached(["no-such-program"], env={"PATH": os.environ["PATH"]}, cwd=tmp_path)
