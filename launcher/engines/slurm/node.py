"""What each node's shell does: say what is missing there, start the recipe, clean up. Pure text."""

from launcher import plan as plans
from launcher.engines import nodes
from launcher.engines.nodes import COPY, Launched
from launcher.engines.shell import array, line, quoted
from launcher.engines.slurm.options import job_name
from launcher.engines.slurm.runtimes import memory
from launcher.plan import DRI, Folders, RunPlan, Start
from launcher.secretfile import NODE

#: What a check of a node says, one line each: the mark, what kind of thing, which node, what.
PROBLEM = "launch-problem"

#: A signal of Slurm's ends the wait, not what is waited for: that has got it as well.
AWAIT = """\
terminated=0 signalled=0 code=0
trap 'terminated=1 signalled=1' TERM
await() {
  local again
  wait "$1"; code=$?
  while ((signalled)); do
    signalled=0
    wait "$1"; again=$?
    ((again == 127)) || code=$again
  done
}"""


def check(plan: RunPlan, folders: Folders, start: Start, how: Launched) -> str:
    """What a node says of itself before anything starts there; nothing when all is well."""
    outside = [folders.run, folders.output, plan.recipe_path, plan.recipes, *plan.inputs]
    outside += [each.path for each in (plan.model, *(model for _, model in plan.models)) if each is not None]
    outside += [file.path for _, file in plan.files]
    said = [
        f'problem() {{ printf \'{PROBLEM}\\t%s\\t%s\\t%s\\n\' "$1" "$SLURMD_NODENAME" "$2"; }}',
        array("needed", map(str, dict.fromkeys(outside))),
        'for each in "${needed[@]}"; do [[ -e $each ]] || problem path "$each"; done',
        _of_runtime(plan, how),
    ]
    if how.inside and how.secrets is not None:
        said.append(_memory(start, how, shared=True))
    return "\n".join(filter(None, said)) + "\n"


def _of_runtime(plan: RunPlan, how: Launched) -> str:
    """What the runtime needs of a node."""
    runtime, image = plan.slurm.runtime if plan.slurm else "none", quoted(plan.image or "")
    if how.engine:
        return nodes.of_engine(plan, how.program)
    if runtime == "none":
        variables = dict(word.partition("=")[::2] for word in how.command if "=" in word)
        return f"python={quoted(variables['VIRTUAL_ENV'])}/bin/python\n" + (
            '[[ -x $python ]] || problem environment "$python"'
        )
    said = [f"command -v {how.program} >/dev/null || problem program {how.program}"] if how.program else []
    local = (plan.image or "").startswith("/")
    folder = f"{plan.image}/rootfs" if runtime == "oci" else plan.image or ""
    said += [f"[[ -e {quoted(folder)} ]] || problem image {image}"] if local else []
    return "\n".join(said)


def run(plan: RunPlan, folders: Folders, start: Start, how: Launched) -> str:
    """What each node runs: its own variables, then the recipe."""
    rank = '"$SLURM_NODEID"'
    said = ["set -u", AWAIT, 'variables=("LAUNCH_RESTARTS=${SLURM_RESTART_COUNT:-0}") options=()']
    if plan.nodes > 1:
        said.append(_MEETING)
    if plan.access.nvidia and not how.engine:
        said.append(
            '[[ -z ${CUDA_VISIBLE_DEVICES:-} ]] || variables+=("CUDA_VISIBLE_DEVICES=$CUDA_VISIBLE_DEVICES")'
        )
    if DRI in plan.access.devices:
        said.append(f'[[ -z ${{{plans.MASK}:-}} ]] || variables+=("{plans.MASK}=${plans.MASK}")')
    if how.secrets is not None and not how.inside:
        said.append(_memory(start, how, shared=False))
    if how.engine:
        said.append(f"container={quoted('launch-' + start.run)}-{start.attempt}-{rank}")
        said.append(_of_engine(plan, how))
    elif how.program == "apptainer":
        said.append(_APPTAINER.replace("FOLDER", _scratch(start)))
    elif not how.inside:
        said.append(f"cd {quoted(str(folders.output))} || exit")
        said.append('[[ -z ${TMPDIR:-} ]] || variables+=("TMPDIR=$TMPDIR")')
    child = '"${child:-$!}"' if how.engine else "$!"  # a signal's own work may be the last one begun
    said.append(f"((terminated)) && exit 143\n{line(how.command)} &\nchild={child}")
    if how.secrets is not None and not how.inside:
        said.append(_READ)
    said.append('await "$child"')
    if how.engine:
        said.append(f'{how.program} rm --force "$container" &>/dev/null')
    attempts = "/launch/run/attempts" if how.inside else str(folders.run / "attempts")
    failed = quoted(f"{attempts}/{start.attempt}.failed")
    said.append(f'((code == 0 || terminated)) || (set -C; echo "$code" >{failed}) 2>/dev/null')
    return "\n".join([*said, 'exit "$code"']) + "\n"


_MEETING = r"""read -r -a addresses <<<"$launch_addresses"
host="${addresses[0]}"
[[ $host != *:* ]] || host="[$host]"
variables+=(
  "LAUNCH_NODE_RANK=$SLURM_NODEID"
  "LAUNCH_NODE_ADDRESS=${addresses[SLURM_NODEID]}"
  "LAUNCH_RENDEZVOUS=$host:$launch_port"
)"""

#: Scratch of the container: what apptainer itself gives is 64 MB of memory. Who cleans up knows its name.
_APPTAINER = """\
scratch=FOLDER
rm -rf "$scratch"; mkdir -m 700 "$scratch" || exit
trap 'rm -rf "$scratch" "${memory:-}"' EXIT
[[ -z ${memory:-} ]] || options+=(--bind "$memory:/launch/secrets")"""


def _folder(start: Start, *, shared: bool) -> str:
    """A node's folder in memory, for its shell; nodes of a test are one machine."""
    folder = quoted(str(memory(start)))
    return folder if shared else f'{folder}-"$SLURM_NODEID"'


def _scratch(start: Start) -> str:
    return f'"${{TMPDIR:-/tmp}}"/{quoted(job_name(start))}-"$SLURM_NODEID"'


def _memory(start: Start, how: Launched, *, shared: bool) -> str:
    """A node's own copy of the secrets; the recipe takes the file away when it has read it."""
    said = [f"memory={_folder(start, shared=shared)}"]
    said.append('rm -rf "$memory"; mkdir -m 700 "$memory" || exit')
    if not shared:
        said.append("trap 'rm -rf \"$memory\"' EXIT")
    file = quoted(str(how.secrets.path if how.secrets else ""))
    return "\n".join([*said, f'(umask 077 && cat {file} >"$memory/{COPY}") || exit'])


def _of_engine(plan: RunPlan, how: Launched) -> str:
    """Options that only a node knows, and how its container is ended."""
    program = how.program
    said = ['for each in "${variables[@]}"; do options+=(--env "$each"); done']
    said.append('options+=(--label "launch.job=$SLURM_JOB_ID")')
    if how.secrets is not None:
        said.append(f'options+=(--mount "type=bind,source=$memory,target={NODE}")')
    if plan.access.nvidia:
        # The engine is outside of the job, where devices have the numbers that the whole node knows them by.
        said.append('gpus="${SLURM_STEP_GPUS:-${SLURM_JOB_GPUS:-${CUDA_VISIBLE_DEVICES:-}}}"')
        said.append(_GPUS[program])
    if DRI in plan.access.devices:
        said.append(nodes.RENDER)
    return "\n".join([*said, _ENDING.replace("ENGINE", program)])


#: The folder goes as soon as the recipe has taken its file away: what is killed clears nothing up.
_READ = f"""\
while [[ -e $memory/{COPY} ]] && kill -0 "$child"; do sleep 0.1; done &>/dev/null
rm -rf "$memory\""""


#: A container that is being made when the signal comes is not there yet: it is stopped as soon as it is.
_ENDING = """\
ENGINE rm --force "$container" &>/dev/null  # a node that was lost may have left it
child=''
stop() {  # in the background, so that a second signal is heard while the engine waits
  terminated=1 signalled=1 child="${child:-${!:-}}"
  [[ -z $child ]] || (until ENGINE "$@" "$container" || ! kill -0 "$child"; do sleep 0.2; done) &>/dev/null &
}
trap 'stop stop --time "$launch_grace"' TERM
trap 'stop kill' USR1"""

_GPUS = {
    "docker": 'options+=(--gpus "\\"device=$gpus\\"")',
    "podman": 'for each in ${gpus//,/ }; do options+=(--device "nvidia.com/gpu=$each"); done',
}


def clean(start: Start, how: Launched) -> str | None:
    """What each node does when nothing runs there any more; None: nothing can be left there.

    A node's own shell does the same at its end, unless Slurm has killed it because another node's had failed.
    """
    said = []
    if how.engine:
        name = f'{quoted("launch-" + start.run)}-{start.attempt}-"$SLURM_NODEID"'
        said.append(f"{how.program} rm --force {name} >/dev/null 2>&1")
    if how.secrets is not None:
        said.append(f"rm -rf {_folder(start, shared=how.inside)}")
    if how.program == "apptainer":
        said.append(f"rm -rf {_scratch(start)}")
    return "\n".join([*said, "true"]) + "\n" if said else None
