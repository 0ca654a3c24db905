"""The sbatch script of a plan: pure text.

It runs on the job's first node. It finds the nodes' addresses, asks every node for what the run needs there,
starts one shell on each node, and writes down how the run ended: Slurm forgets a job some minutes after its
end (MinJobAge), and may have no accounting.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from launcher.engines.nodes import Launched
from launcher.engines.shell import Raw, line, quoted, text_of
from launcher.engines.slurm import node
from launcher.plan import Folders, RunPlan, Start

#: The job's exit code when a node lacks something; what, is beside the record.
LACKING = 78

#: Ports of the rendezvous, two for each job, below the ones that Linux gives to programs (32768 and up).
_PORTS, _JOBS = 20000, 6000

#: A step takes all nodes of the job, one task on each; what its variables are is the script's to say.
_STEP = Raw('"${step[@]}"')


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
    def failed(self) -> Path:
        """The exit code of the node that failed first."""
        return self._file("failed")

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
    started = line((_STEP, "--cpu-bind=none", *how.step, "bash", "-c", Raw('"$node"')))
    cleaning, cleaned = node.clean(start, how), f'{_STEP} bash -c "$clean"'
    parts = [
        f"# {plan.recipe} on {_count(plan.nodes, 'node')}, each with {_count(plan.nproc, 'process')}.",
        "set -u\nexport " + " ".join(f"{name}={quoted(value)}" for name, value in shell),
        f"end={quoted(str(left.end))} problems={quoted(str(left.problems))}",
        f"failed={quoted(str(left.failed))}",
        f"secrets={quoted(str(how.secrets.path) if how.secrets else '')}",
        # Its launcher may have been told that Slurm does not answer, when it had the job already.
        f"[[ ! -e {quoted(str(folders.run / 'result.json'))} ]] || exit 0",
        'mkdir -p "${end%/*}"',
        _BEGIN,
        *_beside(left, how),
        *([text_of("clean", cleaning, mark="CLEAN")] if cleaning else []),
        text_of("check", node.check(plan, folders, start, how), mark="CHECK"),
        f'found="$({_STEP} bash -c "$check" | grep "^{node.PROBLEM}\t" | sort -u)"',
        _JUDGE.format(clean=f"  {cleaned}\n" if cleaning else "", code=LACKING),
        text_of("node", node.run(plan, folders, start, how), mark="NODE"),
        f"{started} &\nawait $!",
        # srun gives the highest code: that of those who were killed because one had failed.
        '[[ ! -s $failed ]] || code="$(<"$failed")"',
    ]
    parts.append(_LATER)
    if cleaning:
        parts.append(f"((terminated)) || {cleaned}")
    return "\n".join([*parts, 'conclude "$code"\nexit "$code"']) + "\n"


def _beside(left: Traces, how: Launched) -> Iterator[str]:
    """What a runtime reads from files: the first node writes them, for they go with the script."""
    folder = quoted(str(left.bundle))
    for name, text in how.files:
        yield text_of("text", text, mark="TEXT")
        yield f'mkdir -p {folder} && printf %s "$text" >{folder}/{name}'


def _count(number: int, what: str) -> str:
    plural = what + ("es" if what.endswith("s") else "s")
    return f"{number} {what if number == 1 else plural}"


_BEGIN = (
    node.AWAIT
    + r"""
conclude() {
  printf '{"job": "%s", "restarts": %d, "code": %d, "terminated": %d, "ended": "%s"}\n' "$SLURM_JOB_ID" \
    "${SLURM_RESTART_COUNT:-0}" "$1" "$terminated" "$(date -u +%Y-%m-%dT%H:%M:%S.%3N+00:00)" >"$end.new" &&
    sync "$end.new" && mv "$end.new" "$end"
  # Whoever was terminated may be started again, and needs them then.
  ((terminated)) || [[ -z $secrets ]] || rm -f "$secrets"
}
rm -f "$end" "$problems" "$failed"  # of an earlier start of this job

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
step=(srun --ntasks-per-node=1 --kill-on-bad-exit=1 --export=ALL --input=none --nodes="$SLURM_JOB_NUM_NODES"
  --ntasks="$SLURM_JOB_NUM_NODES" ${SLURM_CPUS_PER_TASK:+--cpus-per-task=$SLURM_CPUS_PER_TASK})
# A container gets half of the time that Slurm leaves it to end.
export launch_addresses launch_grace=$((wait_s > 3 ? wait_s / 2 : 1))
"""
    + f"export launch_port=$(({_PORTS} + SLURM_JOB_ID % {_JOBS} * 2))"
)

#: When a node was lost, the step may end before the signal that says why; the next start needs the secrets.
_LATER = "((code == 0 || terminated)) || { sleep 3 & wait $!; }"

#: A node that lacks nothing may have its secrets already.
_JUDGE = """\
if [[ -n $found ]] && ((!terminated)); then
  printf '%s\\n' "$found" | tee "$problems.new" && mv "$problems.new" "$problems"
{clean}  conclude {code}
  exit {code}
fi"""
