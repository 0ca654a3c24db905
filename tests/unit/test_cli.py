"""launcher.cli: every verb and option has help, wrong values get named errors, a dry run is complete."""

import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from launcher import cli, errors, process, recipe, runs
from launcher import plan as plans
from launcher.app import execute, place
from launcher.app import plan as planning
from launcher.cli import live, run, ui, variables, watching
from launcher.engines.base import Exit
from launcher.errors import DataError, LaunchError, OutputError, UsageError
from launcher.plan import Start
from tests.unit.conftest import fake_lock
from tests.unit.test_execute import FakeEngine, trained

Launch = Callable[..., Result]


@pytest.fixture
def launch(monkeypatch: pytest.MonkeyPatch) -> Launch:
    """``launch(*arguments)`` in this process; errors of the launcher are raised as they are."""
    monkeypatch.setenv("COLUMNS", "200")

    def run_(*arguments: str) -> Result:
        result = CliRunner().invoke(cli.root, list(arguments), prog_name="launch")
        if isinstance(result.exception, LaunchError):
            raise result.exception
        return result

    return run_


# ------------------------------------------------------------------------------------------------ help
def tree(command: click.Command, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command, info_name=path[-1])
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            assert child is not None
            yield from tree(child, (*path, name))


COMMANDS = dict(tree(cli.root, ("launch",)))


def test_the_tree_is_there() -> None:
    for words in ("launch", "launch run bge-m3-unified", "launch recipe check", "launch image lock"):
        assert tuple(words.split()) in COMMANDS


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_everything_has_help(path: tuple[str, ...]) -> None:
    command = COMMANDS[path]
    assert command.help
    assert command.get_short_help_str(200).strip()
    for parameter in command.params:
        if isinstance(parameter, click.Option) and not parameter.hidden:
            assert parameter.help, parameter.name
            assert parameter.help.strip()


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_help_is_printed(launch: Launch, path: tuple[str, ...]) -> None:
    result = launch(*path[1:], "--help")
    assert result.exit_code == 0, result.output
    assert "Usage: launch" in result.output
    if path[-1] in cli.VERBS:
        assert cli.VERBS[path[-1]][1]


def test_verbs_are_listed_without_being_imported(launch: Launch, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} was imported")

    monkeypatch.setattr(cli.importlib, "import_module", refuse)
    output = launch("--help").output
    for name, (_, text) in cli.VERBS.items():
        assert name in output
        assert text in output


def test_version(launch: Launch) -> None:
    assert re.match(r"launch, version \d", launch("--version").output)


def test_both_panels_of_a_recipe(launch: Launch) -> None:
    output = launch("run", "bge-m3-unified", "--help").output
    launcher, recipes = output.index("Launcher options"), output.index("Recipe options")
    assert launcher < output.index("--dry-run") < recipes < output.index("--learning-rate")
    unwrapped = re.sub(r"[\s│]+", " ", output)
    assert re.search(r"peak learning rate[^[]* \[default: \(1e-05\)\]", unwrapped)
    assert "cpu: fp32, cuda: bf16" in unwrapped
    assert "Targets: cpu, cuda, cuda-vllm, xpu." in output


def test_help_in_chinese(launch: Launch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAUNCH_LANG", "zh")
    assert "峰值学习率" in launch("run", "bge-m3-unified", "--help").output
    monkeypatch.setenv("LAUNCH_LANG", "en")
    monkeypatch.setenv("LC_ALL", "zh_CN.UTF-8")
    assert "峰值学习率" not in launch("run", "bge-m3-unified", "--help").output


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_completion(launch: Launch, shell: str) -> None:
    assert "_LAUNCH_COMPLETE" in launch("completion", shell).output


# ---------------------------------------------------------------------------------------------- errors
WRONG: dict[str, tuple[str, type[LaunchError], str]] = {
    "no such recipe": ("run nothing", errors.RecipeError, "there is no recipe 'nothing'"),
    "a number": ("run bge-m3-unified --learning-rate fast --target cpu", UsageError, "takes a number"),
    "a choice": (
        "run bge-m3-unified --precision fp8 --target cpu",
        UsageError,
        "takes one of fp32, bf16, fp16",
    ),
    "a target": ("run bge-m3-unified --target tpu", UsageError, "there is no target 'tpu'"),
    "processes": ("run bge-m3-unified --nproc many", UsageError, "--nproc takes a number"),
    "no process": ("run bge-m3-unified --nproc 0", UsageError, "--nproc takes a number"),
    "superscript": ("run bge-m3-unified --nproc ²", UsageError, "--nproc takes a number"),
    "no data": ("run bge-m3-unified --target cpu", UsageError, "needs --data"),
    "data": ("run bge-m3-unified --target cpu --data /nowhere", DataError, "1 problem"),
    "unset variable": ("run bge-m3-unified --env NOWHERE_SET", UsageError, "it is set nowhere"),
    "no variable": ("run bge-m3-unified --env =x", UsageError, "is not a variable's name"),
    "env file": ("run bge-m3-unified --env-file /nowhere", UsageError, "cannot be read"),
    "lost options": ("run --output x bge-m3-unified", UsageError, "follow its name"),
    "plan and recipe": ("run --plan {file} bge-m3-unified", UsageError, "--plan names the recipe already"),
    "no plan": ("run --plan {file}", errors.RecordError, "is not a plan"),
    "a folder as plan": ("run --plan {folder}", UsageError, "cannot be read"),
    "copy of nothing": ("recipe copy nothing x.sh", errors.RecipeError, "there is no recipe"),
    "copy to no script": ("recipe copy bge-m3-unified x.txt", UsageError, "must end in .sh"),
    "copy over a file": ("recipe copy bge-m3-unified {script}", errors.OutputError, "exists"),
    "check of no recipe": ("recipe check {script}", errors.RecipeError, "is not a recipe"),
}


@pytest.mark.parametrize(("line", "error", "message"), WRONG.values(), ids=WRONG.keys())
def test_wrong_values_are_named(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    line: str,
    error: type[LaunchError],
    message: str,
) -> None:
    (tmp_path / "file.json").write_text("{}")
    (tmp_path / "own.sh").write_text("echo\n")
    places = {"file": tmp_path / "file.json", "folder": tmp_path, "script": tmp_path / "own.sh"}
    monkeypatch.setattr(sys, "argv", ["launch", *line.format(**places).split()])
    with pytest.raises(SystemExit) as exit_:
        cli.main()
    assert exit_.value.code == error.exit_code
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(f"{error.title} error: ")
    assert message in printed.err
    assert "Traceback" not in printed.err


def test_what_only_the_system_knows(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(**_: object) -> None:
        raise OSError(28, "No space left on device", "/full/file")

    monkeypatch.setattr(cli.root, "main", full)
    with pytest.raises(SystemExit) as exit_:
        cli.main()
    assert exit_.value.code == OutputError.exit_code
    assert "/full/file: No space left on device" in capsys.readouterr().err


@pytest.mark.parametrize(
    "line", ["nothing", "run bge-m3-unified --nothing", "recipe show", "run --plan /nowhere"]
)
def test_what_click_refuses(launch: Launch, line: str) -> None:
    result = launch(*line.split())
    assert result.exit_code == 2


def test_an_error_is_printed_with_all_it_knows(capsys: pytest.CaptureFixture[str]) -> None:
    ui.print_error(DataError("[bold]what", ["a [red]x", "b"], why="w[0]", hint="do [it]"))
    assert capsys.readouterr().err == (
        "data error: [bold]what\n  - a [red]x\n  - b\nwhy:  w[0]\ndo:   do [it]\n"
    )


def test_verbose_announces_programs(launch: Launch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "announce", None)
    launch("--verbose", "recipe", "list")
    assert process.announce is not None


# -------------------------------------------------------------------------------------------- variables
REAL_KEYRING = variables._keyring  # before each test has one without anything in it


def test_variables_are_parted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FROM_SHELL", "s3cr3t")
    file = tmp_path / "env"
    file.write_bytes(b"\xef\xbb\xbf# comment\n\n A=1=2\r\nB=\nC= x\xc2\x85y\x0c\n")
    given_ = (
        "PLAIN=1",
        "EMPTY=",
        "HF_TOKEN=t",
        "WANDB_API_KEY=k",
        "HTTPS_PROXY=http://u:p@h:1",
        "FROM_SHELL",
    )
    found = variables.read(given_, (file,))
    assert found.plain == {"PLAIN": "1", "EMPTY": ""}
    assert found.secrets == {
        **{"A": "1=2", "B": "", "C": " x\x85y\x0c"},
        **{"HF_TOKEN": "t", "WANDB_API_KEY": "k", "HTTPS_PROXY": "http://u:p@h:1", "FROM_SHELL": "s3cr3t"},
    }


def test_a_name_is_looked_up_in_one_place_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The shell, a file that was named, .env where a setting says so, the keyring; no note has a value."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LAUNCH_DOTENV", ".env")
    monkeypatch.setenv("A", "of the shell")
    kept = {name: f"{name} of the keyring" for name in "ABCD"}
    monkeypatch.setattr(variables, "_keyring", lambda name: (kept.get(name), "the keyring"))
    (tmp_path / "more.env").write_text("A=of a file\nB=of a file\n")
    (tmp_path / ".env").write_text("export B='of .env'\nC=\"of .env\\n${A}\" # said\nUNASKED=x\n")
    found = variables.read(("A", "B", "C", "D"), (tmp_path / "more.env",))
    assert found.secrets == {
        "A": "of the shell",
        "B": "of a file",
        "C": "of .env\n${A}",
        "D": "D of the keyring",
    }
    assert found.notes == (
        "C: from .env",
        f"B: from {tmp_path}/more.env",
        "D: from the keyring",
        "A: from this shell",
    )
    with pytest.raises(UsageError, match="--env E: it is set nowhere") as missing:
        variables.read(("E",), ())
    assert missing.value.why == "looked in: this shell, .env, the keyring"


def test_a_keyring_is_asked_for_the_launchers_service(monkeypatch: pytest.MonkeyPatch) -> None:
    import keyring
    from keyring.errors import KeyringLocked

    def kept(service: str, username: str) -> str | None:
        if username == "LOCKED":
            raise KeyringLocked("hf_s3cr3t")
        return "hf_s3cr3t" if (service, username) == ("finetune-launch", "HF_TOKEN") else None

    monkeypatch.setattr(variables, "_keyring", REAL_KEYRING)
    monkeypatch.setattr(keyring, "get_password", kept)
    assert variables.read(("HF_TOKEN",), ()).secrets == {"HF_TOKEN": "hf_s3cr3t"}
    with pytest.raises(UsageError) as missing:
        variables.read(("LOCKED",), ())
    assert "the keyring (KeyringLocked)" in missing.value.why
    assert "s3cr3t" not in missing.value.why


def test_no_message_repeats_what_may_be_a_value() -> None:
    with pytest.raises(UsageError) as raised:
        variables.read(("HF-TOKEN=hf_s3cr3t",), ())
    assert "s3cr3t" not in f"{raised.value}{raised.value.why}{raised.value.hint}"


@pytest.mark.parametrize("content", [b"A=1\nB\n", b"A=1\n1B=2\n", b"A B=1\n", b"=x\n", b"\xff=1\n"])
def test_env_files_that_are_none(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "env"
    file.write_bytes(content)
    with pytest.raises(UsageError, match="--env-file"):
        variables._read_env_file(file)


names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True)
line_text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n\r"), max_size=12)


@given(expected=st.dictionaries(names, line_text, max_size=4), comments=st.lists(line_text, max_size=2))
def test_every_env_file_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, expected: dict[str, str], comments: list[str]
) -> None:
    file = tmp_path_factory.getbasetemp() / "good.env"
    lines = [f"# {text}" for text in comments] + [f"{name}={value}" for name, value in expected.items()]
    file.write_bytes("\n".join(lines).encode())
    assert variables._read_env_file(file) == expected


@given(content=st.binary(max_size=30) | st.text(max_size=30).map(lambda text: text.encode(errors="replace")))
def test_any_env_file_gives_no_other_exception(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    file = tmp_path_factory.getbasetemp() / "any.env"
    file.write_bytes(content)
    try:
        found = dict(variables._read_env_file(file))
    except UsageError:
        found = {}
    assert all(re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) for name in found)


@pytest.mark.parametrize(
    ("given_", "expected"),
    [
        ("--data a b --json", "--data a --data b --json"),
        ("--data a --data b", "--data a --data b"),
        ("--data a b c --nproc 2 --data d", "--data a --data b --data c --nproc 2 --data d"),
        ("--nproc 2", "--nproc 2"),
        ("--max-steps -1 --data a", "--max-steps -1 --data a"),
        ("--data", "--data"),
        ("", ""),
    ],
)
def test_data_takes_several_paths(given_: str, expected: str) -> None:
    assert list(run.repeated("--data", given_.split())) == expected.split()


# --------------------------------------------------------------------------------------------- dry runs
@pytest.mark.parametrize("target", ["cpu", "cuda", "cuda-vllm", "xpu"])
def test_dry_run_as_json(bench: Any, launch: Launch, target: str) -> None:
    result = launch(
        *(
            "run",
            "recipes/bge-m3-unified.sh",
            "--target",
            target,
            "--engine",
            "docker",
            "--dry-run",
            "--json",
        ),
        *("--learning-rate", "2e-5", "--env", "HF_TOKEN=s3cr3t", "--env", "A=1", "--data", str(bench.data())),
        *(str(bench.data("more.jsonl")), "--", "--seed", "7", "--data", "x"),
    )
    found = json.loads(result.stdout)
    assert found["schema"] == 1
    assert found["notes"][0] == "HF_TOKEN: from the command line"
    assert "; docker run --name launch-RUN_ID " in found["command"]
    assert "LEARNING_RATE=2e-05" in found["command"]
    assert found["command"].endswith("bge-m3-unified.sh --seed 7 --data x)")
    assert "s3cr3t" not in result.output
    plan = plans.from_json(json.dumps(found["plan"]))
    assert (plan.target, plan.secrets, len(plan.inputs)) == (target, ("HF_TOKEN",), 2)
    assert plan.arguments == ("--seed", "7", "--data", "x")
    assert ("A", "1") in plan.env
    assert not (bench.folder / "runs").exists()


def test_dry_run_as_text(bench: Any, launch: Launch) -> None:
    result = launch("run", "bge-m3-unified", "--target", "cpu", "--engine", "venv", "--dry-run")
    head, folders, line, empty, title, *rest = result.stdout.split("\n")
    assert (head, empty, title) == ("# the request; RUN_ID stands for the run's own name", "", "# the plan")
    assert folders.startswith("mkdir -p ")
    assert line.startswith("cd ")
    assert plans.from_json("\n".join(rest)).engine == "venv"
    assert "no --data given" in result.stderr


def test_dry_run_says_what_its_line_does_with_secrets(bench: Any, launch: Launch) -> None:
    bench.patch.setenv("HF_TOKEN", "hf_s3cr3t")
    given = ("--target", "cpu", "--engine", "venv", "--env", "HF_TOKEN", "--dry-run")
    result = launch("run", "bge-m3-unified", *given)
    said, line = result.stdout.splitlines()[1], result.stdout.splitlines()[3]
    assert said.startswith("# HF_TOKEN: of this shell; the line makes a file of them")
    assert line.startswith(f"(umask 077 && mkdir -p {bench.folder}/finetune-launch && printf ")
    assert "HF_TOKEN: from this shell" in result.stderr
    assert "s3cr3t" not in result.output


def test_raw_arguments_of_one_run_are_not_the_nexts(bench: Any, launch: Launch) -> None:
    for raw in (["--", "--x"], []):
        result = launch(
            "run", "bge-m3-unified", "--target", "cpu", "--engine", "docker", "--dry-run", "--json", *raw
        )
        assert json.loads(result.stdout)["plan"]["arguments"] == raw[1:]


def test_run_without_anything_shows_the_recipes(launch: Launch) -> None:
    result = launch("run")
    assert result.exit_code == 0
    assert "bge-m3-unified" in result.output


def there(engine: FakeEngine) -> place.Place:
    """A place with an engine of the tests and a made-up lock."""
    return place.Place(engine=engine, image=None, lock=fake_lock())


# ------------------------------------------------------------------------------------------------- runs
@pytest.mark.parametrize("code", [0, 3])
def test_a_run_ends_with_the_recipes_code(bench: Any, launch: Launch, code: int) -> None:
    engine = FakeEngine(end=Exit(code=code), events=trained(), output=["[bold]last words"])
    bench.patch.setattr(place, "choose", lambda *_, **__: there(engine))
    result = launch(
        *("run", "bge-m3-unified", "--target", "cpu", "--json"),
        *("--data", str(bench.data()), "--model", str(bench.model())),
    )
    assert result.exit_code == code
    found = json.loads(result.stdout)
    assert (found["exit_code"], found["recipe"]) == (code, "bge-m3-unified")
    assert ("[bold]last words" in result.stderr) == bool(code)
    assert ("log.txt" in result.stderr) == bool(code)


def test_an_error_of_the_launcher_is_said_and_its_code_returned(bench: Any, launch: Launch) -> None:
    bench.patch.setattr(place, "choose", lambda *_, **__: there(FakeEngine(events=[])))
    result = launch(
        *(
            "run",
            "bge-m3-unified",
            "--target",
            "cpu",
            "--data",
            str(bench.data()),
            "--model",
            str(bench.model()),
        )
    )
    assert result.exit_code == errors.WorldSizeError.exit_code
    assert "world size error: the trainer never began" in result.stderr


def test_detach_starts_a_launcher_that_alone_is_handed_the_secrets(bench: Any, launch: Launch) -> None:
    started: dict[str, Any] = {}

    def detach(argv: list[str], log: Path, env: dict[str, str], keep: tuple[int, int]) -> None:
        started.update(argv=argv, log=log, env=env, lock=keep[0], secrets=os.dup(keep[1]))
        assert (env[watching._LOCK], env[watching._SECRETS]) == tuple(map(str, keep))

    bench.patch.setenv("HF_TOKEN", "old")
    bench.patch.setenv("DOCKER_HOST", "unix:///own")
    bench.patch.setattr(place, "choose", lambda *_, **__: there(FakeEngine()))
    bench.patch.setattr(process, "detach", detach)
    secret = bench.folder / "secret.env"
    secret.write_text("DOCKER_HOST=tcp://elsewhere\n")
    result = launch(
        *("run", "bge-m3-unified", "--target", "cpu", "--detach", "--env", "HF_TOKEN=s3cr3t"),
        *("--env-file", str(secret)),
        *("--data", str(bench.data()), "--model", str(bench.model())),
    )
    folder = Path(result.stdout.strip())
    assert started["argv"][1:7] == ["-P", "-m", "launcher", "run", "--begun", str(folder)]
    assert started["argv"][7:] == ["--attempt", "1", "--checkpoint", "", "--max-restarts", "0"]
    assert (started["env"]["HF_TOKEN"], started["env"]["DOCKER_HOST"]) == ("old", "unix:///own")
    assert (os.environ["HF_TOKEN"], os.environ["DOCKER_HOST"]) == ("old", "unix:///own")
    assert runs.followed(folder)
    assert started["log"] == folder / "launcher.log"
    assert (folder / "plan.json").is_file()
    assert not (folder / "result.json").exists()

    bench.patch.setattr(place, "_environment", lambda *_, **__: bench.folder / "env")
    bench.patch.setenv(watching._SECRETS, str(started["secrets"]))
    continued = planning.reread(folder, watching._handed_over())
    assert continued.secrets == {"HF_TOKEN": "s3cr3t", "DOCKER_HOST": "tcp://elsewhere"}
    assert watching._SECRETS not in os.environ
    lock = runs.Lock(started["lock"])
    begun = execute.take_over(continued, folder, Start(run=folder.name), lock)
    assert begun.place.run == folder
    lock.release()
    assert not runs.followed(folder)


def test_numbers_that_json_does_not_know_are_null(capsys: pytest.CaptureFixture[str]) -> None:
    ui.print_json({"loss": float("nan"), "all": [(float("inf"), 1.5, True, "x")], "file": Path("/a")})
    found = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert found == {"loss": None, "all": [[None, 1.5, True, "x"]], "file": "/a"}


@pytest.mark.parametrize(
    ("words", "owner", "name"),
    [
        (("run", "--plan", "plan.json"), "launcher.app.plan", "read"),
        (("runs", "resume", "RUN"), "launcher.app.runs", "resume"),
        (("runs", "replay", "RUN"), "launcher.app.replay", "prepare"),
        (("sweep", "--continue", "SWEEP"), "launcher.cli.sweep", "_go"),
    ],
)
def test_where_there_is_a_plan_it_says_what_is_secret(
    launch: Launch,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    words: tuple[str, ...],
    owner: str,
    name: str,
) -> None:
    (tmp_path / "plan.json").touch()
    monkeypatch.chdir(tmp_path)
    got: list[object] = []

    def take(*given: object, **_: object) -> None:
        got.extend(getattr(each, "secrets", each) for each in given)
        raise UsageError("taken")

    monkeypatch.setattr(f"{owner}.{name}", take)
    for found in ("launcher.runs.find", "launcher.app.replay.load", "launcher.app.sweep.find"):
        monkeypatch.setattr(found, lambda name: Path(name))
    with pytest.raises(UsageError, match="taken"):
        launch(*words, "--env", "DB_URL=x", "--env", "HF_TOKEN=y")
    assert {"DB_URL": "x", "HF_TOKEN": "y"} in got


# ---------------------------------------------------------------------------------------------- recipes
def test_recipe_list_and_show(launch: Launch) -> None:
    assert "bge-m3-unified" in launch("recipe", "list").output
    listed = json.loads(launch("recipe", "list", "--json").stdout)["recipes"]
    assert "bge-m3-unified" in [item["name"] for item in listed]
    found = json.loads(launch("recipe", "show", "bge-m3-unified", "--json", "--lang", "zh").stdout)
    assert found["parameters"][0]["help"].startswith("每步中每个查询的段落数")
    shown = launch("recipe", "show", "bge-m3-unified").output
    assert "--learning-rate" in shown
    assert "BAAI/bge-m3" in shown


def test_recipe_copy_is_a_recipe(launch: Launch, tmp_path: Path) -> None:
    launch("recipe", "copy", "bge-m3-unified", str(tmp_path / "new" / "mine.sh"))
    copied = tmp_path / "new" / "mine.sh"
    assert copied.stat().st_mode & 0o111
    assert recipe.load(copied).name == "mine"
    launch("recipe", "copy", "bge-m3-unified", str(tmp_path))
    assert (tmp_path / "bge-m3-unified.sh").is_file()


def test_recipe_check(launch: Launch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def syntax(argv: list[str], **_: object) -> process.Completed:
        stderr = f"{argv[-1]}: line 9: syntax error\n" if argv[-1].endswith("bad.sh") else ""
        return process.Completed(argv=tuple(argv), returncode=0, stdout="", stderr=stderr)

    monkeypatch.setattr(process, "run", syntax)
    text = recipe.find("bge-m3-unified", Path("recipes").absolute()).read_text(encoding="utf-8")
    good, bad = tmp_path / "good.sh", tmp_path / "bad.sh"
    good.write_text(text)
    assert "good" in launch("recipe", "check", str(good)).stderr
    text = re.sub(r"default = \{ cpu = ([^,]+),", r"default = { tpu = \1, cpu = \1,", text)
    for have, want in (
        ('"cpu", "cuda"', '"cpu", "tpu", "cuda"'),
        ("$LEARNING_RATE", "1e-5"),
        ("set -euo pipefail", "set -u"),
        ("exec torchrun", "torchrun"),
    ):
        text = text.replace(have, want)
    bad.write_text(text)
    with pytest.raises(errors.RecipeError) as caught:
        launch("recipe", "check", str(bad))
    assert [problem.split(":")[0] for problem in caught.value.problems] == [
        "targets",
        "line 9",
        "parameters.learning_rate",
        "no `set -euo pipefail`",
        "no `exec`",
    ]


# ------------------------------------------------------------------------------------------------- view
def test_batch_sizes_are_shown_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    table = [
        {"source": at % 2, "passage_max_len": 64 * (at // 2), "batch_size": 32 - at // 2} for at in range(30)
    ]
    with live.LiveView("x", output=False) as view:
        view.event({"event": "buckets", "rank": 0, "buckets": table[:4]})
        view.event({"event": "buckets", "rank": 0, "buckets": table})
        view.event({"event": "buckets", "rank": 0})
    first, second = capsys.readouterr().err.splitlines()
    assert first == "batch size by passage length: 0: 32, 64: 31"
    assert second.endswith("704: 21, …")


def test_progress_of_work_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with ui.TerminalProgress() as progress:
        progress.start("fetch [1]", total=10, unit="bytes")
        progress.advance("fetch [1]", 10)
        progress.say("note [2]")
        progress.finish("fetch [1]")
    assert capsys.readouterr().err.splitlines() == ["fetch [1] …", "note [2]", "fetch [1]: done"]
