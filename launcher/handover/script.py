"""A shell script that does what a dry run prints: makes the folders, and starts the container or process."""

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence

from launcher.engines.container import ContainerRequest
from launcher.engines.venv import ProcessRequest
from launcher.errors import OutputError
from launcher.handover import marks
from launcher.handover.marks import Variable
from launcher.plan import RunPlan
from launcher.secretfile import SecretFile

NAME = "run.sh"

#: What cannot stand as it is between double quotes.
_SPECIAL = re.compile(r'[\\"$`]')


def files(
    request: ContainerRequest | ProcessRequest, plan: RunPlan, variables: Sequence[Variable]
) -> Mapping[str, str]:
    """The script.

    Args:
        request: with marks.
        variables: what the marks are.
    """
    return {NAME: "\n".join(_lines(request, plan, variables)) + "\n"}


def _lines(
    request: ContainerRequest | ProcessRequest, plan: RunPlan, variables: Sequence[Variable]
) -> Iterator[str]:
    yield "#!/usr/bin/env bash"
    yield f"# {plan.recipe} on {plan.target}; README.md says what it needs and how to use it."
    yield "set -euo pipefail"
    yield ""
    yield "# What may differ elsewhere: change it here, or set it when calling."
    recipe = re.sub(r"[^A-Za-z0-9_.-]+", "-", plan.recipe)
    yield f': "${{RUN_ID:=$(date -u +%Y%m%d-%H%M%S)-{recipe}-$$}}" # name of the run'
    yield ': "${RESTARTS:=0}" # 1, 2, …: go on with RUN_ID from its last complete checkpoint'
    for each in variables:
        yield f"{_set(each)} # {each.about}"
    if isinstance(request, ContainerRequest):
        yield ': "${RUN_AS:=$(id -u):$(id -g)}" # user and group of the run, and of its result'
    yield ""
    first = "$RESTARTS == 0" if plan.nodes == 1 else "$RESTARTS == 0 && $NODE_RANK == 0"
    yield f'if [[ {first} && -n "$(ls -A "$OUTPUT" 2>/dev/null)" ]]; then'
    yield '    echo "$OUTPUT holds something: set OUTPUT or RUN_ID, or RESTARTS=1 to go on with it" >&2'
    yield f"    exit {OutputError.exit_code}"
    yield "fi"
    folders = '"$RUNS/$RUN_ID" "$RUNS/$RUN_ID/scratch" "$OUTPUT" "$RUN_HOME"'
    yield f"mkdir -p {folders}"
    if isinstance(request, ContainerRequest):
        yield f'[[ $(id -u) != 0 ]] || chown "$RUN_AS" {folders}'
    yield ""
    if request.secrets is not None:
        yield from _secrets(request.secrets, contained=isinstance(request, ContainerRequest))
    if isinstance(request, ProcessRequest):
        yield from _process(request)
    else:
        yield from _container(request)


def _set(variable: Variable) -> str:
    """The line that gives a variable its default."""
    if not variable.value:
        return f': "${{{variable.name}:?{variable.about}}}"'
    # An assignment of its own, not ${NAME:=…}: braces and quotes of a path would end that early.
    return f"[[ -n ${{{variable.name}:-}} ]] || {variable.name}={quoted(variable.value)}"


def _secrets(file: SecretFile, *, contained: bool) -> Iterator[str]:
    """A file in memory, for this user alone; a process removes it when it has read it."""
    values = " ".join(f'"{name}=${{{name}:?a secret of this run}}"' for name in file.names)
    yield "# Secrets: of the caller's variables, by a file in memory that only this user may read."
    yield 'SECRETS="$(mktemp "${XDG_RUNTIME_DIR:-/dev/shm}/launch.XXXXXXXX")"'
    yield "trap 'rm -f -- \"$SECRETS\"' EXIT"
    yield f"printf '%s\\0' {values} >\"$SECRETS\""
    if contained:
        yield '[[ $(id -u) != 0 ]] || chown "$RUN_AS" "$SECRETS"'
    yield ""


def _process(request: ProcessRequest) -> Iterator[str]:
    """One variable a line."""
    yield 'cd "$OUTPUT"'
    yield "exec env \\"
    for name, value in request.environment:
        yield f"    {quoted(f'{name}={value}')} \\"
    yield f"    {' '.join(map(quoted, request.argv()))}"


def _container(request: ContainerRequest) -> Iterator[str]:
    """One option a line; the shell stays only to remove a file at the end."""
    started = (request.image, *request.argv())
    program, verb, *options = request.words(("--rm",))[: -len(started)]
    line = f"{'' if request.secrets else 'exec '}{program} {verb}"
    for word in options:
        if word.startswith("--"):
            yield f"{line} \\"
            line = f"    {quoted(word)}"
        else:
            line += f" {quoted(word)}"
    yield f"{line} \\"
    yield f"    {' '.join(map(quoted, started))}"


def quoted(text: str) -> str:
    """A word of the shell, in which marks are variables."""
    if "\0" not in text:
        return shlex.quote(text)
    inside = marks.filled(text, lambda part: _SPECIAL.sub(r"\\\g<0>", part), lambda name: f"${{{name}}}")
    # Not there on one machine, or not at all: an address need not be given.
    return f'"{inside}"'.replace("${NODE_ADDRESS}", "${NODE_ADDRESS:-}")
