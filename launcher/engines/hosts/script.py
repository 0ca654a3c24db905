"""The two scripts of a run on hosts: one starts DeepSpeed's launcher here, which starts the other there."""

from dataclasses import dataclass
from pathlib import Path

from launcher import secretfile
from launcher.engines import nodes
from launcher.engines.nodes import COPY, Launched
from launcher.engines.shell import array, line, quoted
from launcher.plan import DRI, Folders, RunPlan, Start
from launcher.secretfile import NODE

#: What a check of a host says, one line each; see :func:`launcher.engines.nodes.lacking`.
PROBLEM = "launch-problem"

#: Here: DeepSpeed's launcher in a session of its own, so that the signal that ends a run does not reach it.
#: It would end every other run of this user on the hosts as well, and not wait for this one (``pkill -f``).
DRIVER = """\
set -u
word=$1; shift
printf 'goes\\n' >"$word" || exit
signalled=0
# Written in place: network file systems may know a file of another name only after a while.
trap 'signalled=1; printf "stop\\n" 1<>"$word"' TERM
setsid "$@" &
wait $!; code=$?
while ((signalled)); do
  signalled=0
  wait $!; again=$?
  ((again == 127)) || code=$again
done
exit "$code"
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Traces:
    """What a start has beside its record, for the hosts."""

    folder: Path
    attempt: int

    def _file(self, ending: str) -> Path:
        return self.folder / f"{self.attempt}.{ending}"

    @property
    def hostfile(self) -> Path:
        """The hosts, with as many slots as the plan has processes."""
        return self._file("hostfile")

    @property
    def script(self) -> Path:
        """What each host runs."""
        return self._file("node.sh")

    @property
    def word(self) -> Path:
        """What the hosts are told: it goes on, it is to stop, or one of them has failed."""
        return self._file("word")

    @property
    def going(self) -> Path:
        """There is one such file for each host whose recipe has not ended; its rank follows."""
        return self._file("going")

    @property
    def own(self) -> Path:
        """There when a recipe itself ended with the code that ssh has for a connection that ended, 255."""
        return self._file("own")


def traces(folders: Folders, start: Start) -> Traces:
    """Of one start."""
    return Traces(folder=folders.run / "attempts", attempt=start.attempt)


def launched(plan: RunPlan, folders: Folders, start: Start, environment: Path | None, path: str) -> Launched:
    """What starts a plan on each host.

    Args:
        plan: of the run.
        folders: the run's own.
        start: which one.
        environment: the embedded one, for a run without a container.
        path: where the hosts' shells look for programs.
    """
    runtime = plan.hosts.runtime if plan.hosts else "venv"
    if runtime == "venv":
        return nodes.bare(plan, folders, start, environment or Path(), path)
    seen = str(secretfile.NODE / COPY)
    secrets = secretfile.on_nodes(plan, start, folders.run.parent, seen=seen)
    return nodes.container(plan, folders, start, secrets, runtime)


def _exported(shell: tuple[tuple[str, str], ...]) -> str:
    return "export " + " ".join(f"{name}={quoted(value)}" for name, value in shell)


def check(
    plan: RunPlan, records: Path, how: Launched, python: str, shell: tuple[tuple[str, str], ...]
) -> str:
    """What a host says of itself before anything starts there; nothing when all is well.

    Args:
        plan: of the run.
        records: where the run's record will lie.
        how: what starts the recipe.
        python: of DeepSpeed's launcher.
        shell: variables of the host's shell.
    """
    outside = [records, plan.recipe_path, plan.recipes, *plan.inputs]
    outside += [each.path for each in (plan.model, *(model for _, model in plan.models)) if each is not None]
    outside += [file.path for _, file in plan.files]
    said = [
        _exported(shell),
        # pdsh puts the host's name in the place of %h.
        f'problem() {{ printf \'{PROBLEM}\\t%s\\t%s\\t%s\\n\' "$1" %h "$2"; }}',
        array("needed", map(str, dict.fromkeys(outside))),
        'for each in "${needed[@]}"; do [[ -e $each ]] || problem path "$each"; done',
        f"python={quoted(python)}",
        'command -v "$python" >/dev/null || problem launcher "$python"',
    ]
    if how.engine:
        said.append(nodes.of_engine(plan, how.program))
    else:
        variables = dict(word.partition("=")[::2] for word in how.command if "=" in word)
        own = quoted(f"{variables['VIRTUAL_ENV']}/bin/python")
        said.append(f"[[ -x {own} ]] || problem environment {own}")
    return "\n".join(said) + "\n"


def script(
    plan: RunPlan, folders: Folders, start: Start, how: Launched, shell: tuple[tuple[str, str], ...]
) -> str:
    """What each host runs; see :func:`check` for the shell's variables."""
    left = traces(folders, start)
    name = f"launch-{start.run}-{start.attempt}"
    said = [
        f"#!/bin/bash\n# {plan.recipe} on each of {plan.nodes} hosts, by DeepSpeed's launcher.\nset -u",
        _exported(shell),
        f'word={quoted(str(left.word))} going={quoted(str(left.going))}."$RANK" own={quoted(str(left.own))}',
        _BEGIN,
    ]
    if how.secrets is not None:
        said.append(_SECRETS.format(memory=quoted(f"{_SHM}/{name}"), file=quoted(str(how.secrets.path))))
    if how.engine:
        said.append(f'container={quoted(name)}-"$RANK"')
        said.append(_ENGINE.format(program=how.program))
        if how.secrets is not None:
            said.append(f'options+=(--mount "type=bind,source=$memory,target={NODE}")')
        if plan.access.nvidia:
            said.append(f"options+=({_GPUS[how.program]})")
        if DRI in plan.access.devices:
            said.append(nodes.RENDER)
    else:
        said.append(f"cd {quoted(str(folders.output))} || exit")
        said.append(_PROCESSES.format(run=quoted(f"LAUNCH_RUN_ID={start.run}")))
    said.append(f"setsid {line(how.command)} </dev/null >&3 2>&1 3>&- &\n{_FOLLOW}")
    return "\n".join(said)


#: DeepSpeed's launcher starts one process on each host (--num_gpus 1): its rank is the node's. The terminal
#: is there to be hung up: the recipe and the log see a pipe. A host whose recipe never began says so, because
#: the others would wait for it.
_BEGIN = """\
stty -onlcr 2>/dev/null
host=$MASTER_ADDR
[[ $host != *:* ]] || host="[$host]"
variables=("LAUNCH_NODE_RANK=$RANK" "LAUNCH_RENDEZVOUS=$host:$MASTER_PORT") options=()
asked='' told=0 waited=0 child='' memory=''
trap 'rm -rf "$memory"; [[ -n $child$asked ]] || printf "fail\\n" 1<>"$word"' EXIT
trap 'asked=hangup' HUP
trap 'asked=${asked:-stop}' TERM INT
exec 3> >(exec cat)
pipe=$!"""

#: A host's memory; what is made there is made anew, and this user's alone.
_SHM = "/dev/shm"  # noqa: S108

_SECRETS = """\
memory={memory}-"$RANK"
rm -rf "$memory"; mkdir -m 700 "$memory" || exit
(umask 077 && cat {file} >"$memory/values") || exit"""

_ENGINE = """\
for each in "${{variables[@]}}"; do options+=(--env "$each"); done
tell() {{ {program} kill --signal "$1" "$container"; }} >/dev/null 2>&1
{program} rm --force "$container" >/dev/null 2>&1"""

#: torchrun's workers are in sessions of their own, and known by their variables. Those of another host may be
#: on the same machine, and so may DeepSpeed's launcher with this run's id, which has no rank.
_PROCESSES = """\
left() {{
  grep -lszxF {run} /proc/[0-9]*/environ | xargs -r grep -lszxF "LAUNCH_NODE_RANK=$RANK" | cut -d/ -f3
}}
tell() {{
  if [[ $1 != KILL ]]; then kill -s "$1" -- "-$child"; return; fi
  kill -s KILL -- "-$child"
  local tries workers
  for ((tries = 0; tries < 20; tries++)); do
    workers=$(left)
    [[ -n $workers ]] || break
    kill -s KILL $workers
    sleep 0.1
  done
}} 2>/dev/null"""

_GPUS = {"docker": "--gpus all", "podman": "--device nvidia.com/gpu=all"}

#: Whoever was asked to end ends; a host whose recipe fails asks the others, and theirs is not the exit code.
_FOLLOW = """\
child=$!
: >"$going"
while kill -0 "$child" 2>/dev/null; do
  if [[ -z $asked ]] && read -r said <"$word" && [[ $said != goes ]]; then asked=$said; fi
  if [[ -n $asked ]]; then
    ((told)) || { tell TERM && told=1; }
    case $asked in hangup) most=10 ;; fail) most=30 ;; *) most=0 ;; esac
    ((++waited <= most || most == 0)) || tell KILL
  fi
  sleep 1 </dev/null >/dev/null 2>&1 3>&- &
  wait -n "$child" $!
done
wait "$child"; code=$?
tell KILL
exec 3>&-
for ((each = 0; each < 20; each++)); do
  kill -0 "$pipe" 2>/dev/null || break
  sleep 0.1
done
if [[ $asked == fail ]]; then code=0; fi
if ((code)) && [[ -z $asked ]]; then printf 'fail\\n' 1<>"$word"; fi
if ((code == 255)) && [[ $asked != hangup ]]; then : >"$own"; fi
rm -f "$going"
exit "$code"
"""
