"""The sbatch script of a plan: pure text.

It runs on the job's first node. It finds the nodes' addresses, asks every node for what the run needs there,
starts one shell on each node, and writes down how the run ended: Slurm forgets a job some minutes after its
end (MinJobAge), and may have no accounting.
"""

from dataclasses import dataclass
from pathlib import Path

from launcher import plan as plans
from launcher.engines import node
from launcher.engines.node import COPY, Launched
from launcher.engines.shell import Raw, array, line, quoted, text_of
from launcher.engines.slurm.runtimes import memory
from launcher.plan import DRI, Folders, RunPlan, Start
from launcher.secretfile import NODE

#: What a check of a node says, one line each: the mark, what kind of thing, which node, what.
PROBLEM = "launch-problem"

#: The job's exit code when a node lacks something; what, is beside the record.
LACKING = 78

#: Ports of the rendezvous, two for each job, below the ones that Linux gives to programs (32768 and up).
_PORTS, _JOBS = 20000, 6000

#: Every step takes all nodes of the job, one task on each; what its variables are is the script's to say.
_STEP = (
    "srun",
    "--ntasks-per-node=1",
    "--kill-on-bad-exit=1",
    "--export=ALL",
    "--input=none",
    Raw('--nodes="$SLURM_JOB_NUM_NODES"'),
    Raw('--ntasks="$SLURM_JOB_NUM_NODES"'),
    Raw("${SLURM_CPUS_PER_TASK:+--cpus-per-task=$SLURM_CPUS_PER_TASK}"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Traces:
    """What a job leaves beside the record of its start."""

    folder: Path
    attempt: int

    def _file(self, ending: str) -> Path:
        return self.folder / f"{self.attempt}.{ending}"

    @property
    def script(self) -> Path:
        """What was submitted."""
        return self._file("sbatch")

    @property
    def job(self) -> Path:
        """The job's number."""
        return self._file("job")

    @property
    def end(self) -> Path:
        """How the recipe ended: JSON, written whole."""
        return self._file("end")

    @property
    def problems(self) -> Path:
        """What the nodes lack."""
        return self._file("problems")

    @property
    def asked(self) -> Path:
        """Somebody has asked for its end."""
        return self._file("cancelled")

    @property
    def bundle(self) -> Path:
        """What an OCI runtime starts."""
        return self._file("bundle")


def traces(folders: Folders, start: Start) -> Traces:
    """Of one start."""
    return Traces(folder=folders.run / "attempts", attempt=start.attempt)


def body(
    plan: RunPlan, folders: Folders, start: Start, how: Launched, shell: tuple[tuple[str, str], ...]
) -> str:
    """The script behind its ``#SBATCH`` lines.

    Args:
        plan: of the run.
        folders: the run's own.
        start: which one.
        how: what starts the recipe on a node.
        shell: variables of its shells.
    """
    left = traces(folders, start)
    asked = line((*_STEP, "bash", "-c", Raw('"$check"')))
    started = line((*_STEP, "--cpu-bind=none", *how.step, "bash", "-c", Raw('"$node"')))
    parts = [
        f"# {plan.recipe} on {_count(plan.nodes, 'node')}, each with {_count(plan.nproc, 'process')}.",
        "set -u\nexport " + " ".join(f"{name}={quoted(value)}" for name, value in shell),
        f"end={quoted(str(left.end))} problems={quoted(str(left.problems))}",
        f"secrets={quoted(str(how.secrets.path) if how.secrets else '')}",
        # Its launcher may have been told that Slurm does not answer, when it had the job already.
        f"[[ ! -e {quoted(str(folders.run / 'result.json'))} ]] || exit 0",
        _BEGIN,
        text_of("check", _check(plan, folders, start, how), mark="CHECK"),
        f'found="$({asked} | grep "^{PROBLEM}\t" | sort -u)"',
        _JUDGE.replace("LACKING", str(LACKING)),
        text_of("node", _node(plan, folders, start, how), mark="NODE"),
        f"{started} &\nawait $!",
    ]
    if plan.nodes > 1:
        parts.append(_ALIVE.replace("ASKED", line((*_STEP, "true"))))
    if (cleaning := _clean(start, how)) is not None:
        cleaned = line((*_STEP, "bash", "-c", Raw('"$clean"')))
        parts += [text_of("clean", cleaning, mark="CLEAN"), f"((terminated)) || {cleaned}"]
    return "\n".join([*parts, 'conclude "$code"\nexit "$code"']) + "\n"


def _count(number: int, what: str) -> str:
    plural = what + ("es" if what.endswith("s") else "s")
    return f"{number} {what if number == 1 else plural}"


#: A signal of Slurm's ends the wait, not what is waited for: that has got it as well.
_AWAIT = """\
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

_BEGIN = (
    _AWAIT
    + r"""
conclude() {
  printf '{"job": "%s", "restarts": %d, "code": %d, "terminated": %d, "ended": "%s"}\n' "$SLURM_JOB_ID" \
    "${SLURM_RESTART_COUNT:-0}" "$1" "$terminated" "$(date -u +%Y-%m-%dT%H:%M:%S.%3N+00:00)" >"$end.new" &&
    sync "$end.new" && mv "$end.new" "$end"
  # Whoever was terminated may be started again, and needs them then.
  ((terminated)) || [[ -z $secrets ]] || rm -f "$secrets"
}
rm -f "$end" "$problems"  # of an earlier start of this job

# Nodes may be in no DNS: Slurm has their addresses.
declare -A address=()
while read -r entry; do
  [[ $entry =~ NodeName=([^ ]+) ]] && name="${BASH_REMATCH[1]}"
  [[ $entry =~ NodeAddr=([^ ]+) ]] && address["$name"]="${BASH_REMATCH[1]}"
done < <(scontrol -o show node "$SLURM_JOB_NODELIST")
launch_addresses=""
while read -r name; do
  launch_addresses+="${address[$name]:-$name} "
done < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
wait_s="$(scontrol show config | sed -n 's/^KillWait *= *\([0-9]*\).*/\1/p')"
wait_s="${wait_s:-30}"
# A container gets half of the time that Slurm leaves it to end.
export launch_addresses launch_grace=$((wait_s > 3 ? wait_s / 2 : 1))
"""
    + f"export launch_port=$(({_PORTS} + SLURM_JOB_ID % {_JOBS} * 2))"
)

_JUDGE = """\
if [[ -n $found ]] && ((!terminated)); then
  printf '%s\\n' "$found" | tee "$problems.new" && mv "$problems.new" "$problems"
  conclude LACKING
  exit LACKING
fi"""


#: Slurm takes minutes to believe that a node is lost (SlurmdTimeout); the other nodes' processes fail at once.
_ALIVE = """\
if ((code && !terminated)); then
  timeout 30 ASKED >/dev/null 2>&1 &
  failed=$code; await $!; lost=$code; code=$failed
  if ((lost && !terminated)); then
    echo "launch: a node does not answer any more; Slurm is asked to start the run again"
    if scontrol requeue "$SLURM_JOB_ID"; then
      terminated=1
      sleep 60 & await $!
    fi
  fi
fi"""


def _check(plan: RunPlan, folders: Folders, start: Start, how: Launched) -> str:
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
        return node.of_engine(plan, how.program)
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


def _node(plan: RunPlan, folders: Folders, start: Start, how: Launched) -> str:
    """What each node runs: its own variables, then the recipe."""
    rank = '"$SLURM_NODEID"'
    said = ["set -u", _AWAIT, 'variables=("LAUNCH_RESTARTS=${SLURM_RESTART_COUNT:-0}") options=()']
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
        said.append(_APPTAINER)
    elif not how.inside:
        said.append(f"cd {quoted(str(folders.output))} || exit")
        said.append('[[ -z ${TMPDIR:-} ]] || variables+=("TMPDIR=$TMPDIR")')
    said.append(f"{line(how.command)} &\nawait $!")
    if how.engine:
        said.append(f'{how.program} rm --force "$container" >/dev/null 2>&1')
    return "\n".join([*said, 'exit "$code"']) + "\n"


_MEETING = r"""read -r -a addresses <<<"$launch_addresses"
host="${addresses[0]}"
[[ $host != *:* ]] || host="[$host]"
variables+=(
  "LAUNCH_NODE_RANK=$SLURM_NODEID"
  "LAUNCH_NODE_ADDRESS=${addresses[SLURM_NODEID]}"
  "LAUNCH_RENDEZVOUS=$host:$launch_port"
)"""

#: Scratch of the container: what apptainer itself gives is 64 MB of memory.
_APPTAINER = """\
scratch="$(mktemp -d)" || exit
trap 'rm -rf "$scratch" "${memory:-}"' EXIT
[[ -z ${memory:-} ]] || options+=(--bind "$memory:/launch/secrets")"""


def _memory(start: Start, how: Launched, *, shared: bool) -> str:
    """A node's own copy of the secrets; the recipe takes the file away when it has read it."""
    folder = quoted(str(memory(start)))
    said = [f"memory={folder}" if shared else f'memory={folder}-"$SLURM_NODEID"']
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
        said.append(_RENDER)
    said.append(f'{program} rm --force "$container" >/dev/null 2>&1  # a node that was lost may have left it')
    said.append(
        f'trap \'terminated=1 signalled=1; {program} stop --time "$launch_grace" "$container" >/dev/null 2>&1\' TERM'
    )
    said.append(f"trap 'terminated=1 signalled=1; {program} kill \"$container\" >/dev/null 2>&1' USR1")
    return "\n".join(said)


_GPUS = {
    "docker": 'options+=(--gpus "\\"device=$gpus\\"")',
    "podman": 'for each in ${gpus//,/ }; do options+=(--device "nvidia.com/gpu=$each"); done',
}

#: The groups that open render nodes have other numbers on other nodes.
_RENDER = """\
for each in /dev/dri/renderD*; do options+=(--group-add "$(stat -c %g "$each")"); done
[[ ! -e /dev/dri/by-path ]] || options+=(--mount type=bind,source=/dev/dri/by-path,target=/dev/dri/by-path,readonly)"""


def _clean(start: Start, how: Launched) -> str | None:
    """What each node does when the run is over; None: nothing can be left there."""
    if how.engine:
        name = f'{quoted("launch-" + start.run)}-{start.attempt}-"$SLURM_NODEID"'
        return f"{how.program} rm --force {name} >/dev/null 2>&1 || true\n"
    if how.inside and how.secrets is not None:
        return f"rm -rf {quoted(str(memory(start)))}\n"
    return None
