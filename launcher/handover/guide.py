"""README.md of a handed over request: what must be there, and how to start, see, stop and resume it."""

import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from launcher.handover import compose, script
from launcher.handover.marks import Variable
from launcher.plan import Folders, RunPlan

NAME = "README.md"


@dataclass(frozen=True, slots=True, kw_only=True)
class Guide:
    """What people do with the files of one kind; texts in Markdown.

    Attributes:
        submit, logs, stop, resume: how.
        secrets: how the run gets them; for runs that have some.
        variables: where they are set; empty: paths are fixed.
    """

    submit: str
    logs: str
    stop: str
    resume: str
    secrets: str
    variables: str = ""


def _block(*lines: str) -> str:
    return "\n".join(["```sh", *lines, "```"])


def _script(plan: RunPlan, names: Sequence[str], place: Folders) -> Guide:
    del names, place
    start = f"./{script.NAME}"
    both = f"NODE_RANK=0 RENDEZVOUS=node0:29500 {start}"
    container = f'{plan.engine} stop -t 30 "launch-$RUN_ID"'
    by_hand = (
        "On every machine, with the same RUN_ID and folders, within a minute:\n\n"
        + _block(
            f"RUN_ID=first {both}",
            f"RUN_ID=first {both.replace('=0', '=1', 1)}   # and so on, to {plan.nodes - 1}",
        )
        + "\n\nNODE_ADDRESS names this machine for the others, where they know it by another address."
    )
    stop = _block(container) if plan.container else "Ctrl-C, or SIGTERM to the script's process."
    return Guide(
        submit=by_hand if plan.nodes > 1 else _block(start),
        logs="The output is the script's own; metrics come as they are made:\n\n"
        + _block(f"{start} 2>&1 | tee log.txt", "tail -f RUNS/RUN_ID/metrics.jsonl"),
        stop=stop,
        resume=_block(f"RUN_ID=the-same RESTARTS=1 {both if plan.nodes > 1 else start}"),
        secrets="The script takes them from its caller's variables, and hands them on in memory:\n\n"
        + _block(f"{' '.join(f'{name}=…' for name in plan.secrets)} {start}"),
        variables=f"at the top of `{script.NAME}`, or in the shell that calls it",
    )


def _compose(plan: RunPlan, names: Sequence[str], place: Folders) -> Guide:
    del names, place
    values = " ".join(f'"{name}=${{{name}?}}"' for name in plan.secrets)
    return Guide(
        submit="Make the folders first, as the user that the run has; Compose does not:\n\n"
        + _block("mkdir -p RUNS/RUN_ID/scratch OUTPUT RUN_HOME", "docker compose up --exit-code-from run"),
        logs=_block("docker compose logs --follow run", "tail -f RUNS/RUN_ID/metrics.jsonl"),
        stop=_block("docker compose stop --timeout 30 run", "docker compose down   # removes the container"),
        resume=_block("docker compose down", "RESTARTS=1 docker compose up --exit-code-from run"),
        secrets=f"From the file `{compose.SECRETS}` beside `{compose.NAME}`, which the run's user alone may "
        "read; `.gitignore` keeps it out of git. Remove it when the run is over.\n\n"
        + _block(f"(umask 077 && printf '%s\\0' {values} >{compose.SECRETS})"),
        variables=f"in `{compose.NAME}` (`${{NAME:-value}}`), in `.env` beside it, or in the shell",
    )


def _made(place: Folders) -> str:
    """The line that makes the folders of a run whose paths are fixed."""
    wanted = (place.run / "scratch", place.run / "attempts", place.output, place.home)
    return shlex.join(["mkdir", "-p", *map(str, wanted)])


def _metrics(place: Folders) -> str:
    return shlex.quote(str(place.run / "metrics.jsonl"))


#: Of a site's engine: name and folder of the run stand in its files.
_NAMED = "Once: the files name the run and its folder. For another run export them anew.\n\n"


def _slurm(plan: RunPlan, names: Sequence[str], place: Folders) -> Guide:
    values = " ".join(f'"{name}=${{{name}?}}"' for name in plan.secrets)
    batch = shlex.join([name for name in names if name.endswith((".sbatch", ".sh"))][:1])
    return Guide(
        submit=_NAMED + _block(_made(place), f"sbatch --test-only {batch}", f"sbatch {batch}"),
        logs="The script's `#SBATCH --output` names the file of its output.\n\n"
        + _block("squeue --me", f"tail -F {_metrics(place)}"),
        stop=_block("scancel JOBID"),
        resume="After a preemption Slurm starts it again, from the last complete checkpoint; by hand:\n\n"
        + _block("scontrol requeue JOBID"),
        secrets="The script's line `secrets=` names their FILE, in a folder that all nodes see:\n\n"
        + _block("umask 077", "mkdir -p FOLDER_OF_THE_FILE", f"printf '%s\\0' {values} >FILE"),
    )


def _kubernetes(plan: RunPlan, names: Sequence[str], place: Folders) -> Guide:
    assert plan.kubernetes is not None  # noqa: S101 - of a plan for Kubernetes
    made = " ".join(f"-f {shlex.quote(name)}" for name in names if name.endswith((".yaml", ".yml", ".json")))
    values = " ".join(f'"{name}=${{{name}?}}"' for name in plan.secrets)
    space = plan.kubernetes.namespace
    call = f"kubectl --namespace {shlex.quote(space)}" if space else "kubectl"
    return Guide(
        submit=f"{_NAMED}The folders are named as this machine has them; the nodes have volumes.\n\n"
        + _block(_made(place), f"{call} apply --dry-run=server {made}", f"{call} apply {made}"),
        logs=_block(f"{call} get pods", f"{call} logs --follow POD", f"tail -F {_metrics(place)}"),
        stop=_block(f"{call} delete {made}"),
        resume="Where a queue (Kueue) takes the pods away and gives them back, the run goes on from its last "
        "complete checkpoint. By hand, which does the same:\n\n"
        + _block(
            f"{call} delete {made}",
            f"rm -f {shlex.quote(str(place.run / 'scratch'))}/kubernetes-*.ended",
            f"{call} apply {made}",
        ),
        secrets="By reference to a Secret of the namespace, whose name is in the manifest:\n\n"
        + _block(f"printf '%s\\n' {values} | {call} create secret generic NAME --from-env-file=/dev/stdin"),
    )


#: Kind -> what its README says.
GUIDES: Mapping[str, Callable[[RunPlan, Sequence[str], Folders], Guide]] = {
    "script": _script,
    "compose": _compose,
    "slurm": _slurm,
    "kubernetes": _kubernetes,
}


def readme(
    kind: str,
    plan: RunPlan,
    names: Sequence[str],
    variables: Sequence[Variable],
    place: Folders,
    *,
    digest: str | None,
) -> str:
    """The page.

    Args:
        names: of the kind's own files.
        variables: of their places; empty: paths are fixed.
        place: the run's own folders.
        digest: of the image; None: unknown, or there is none.
    """
    return "\n".join(_lines(GUIDES[kind](plan, names, place), plan, variables, digest)) + "\n"


def _lines(guide: Guide, plan: RunPlan, variables: Sequence[Variable], digest: str | None) -> Iterator[str]:
    processes = f"{plan.nproc} process{'es' if plan.nproc > 1 else ''}"
    many = f"{plan.nodes} machines with {processes} each" if plan.nodes > 1 else processes
    again = ", for `launch run --plan plan.json`" if plan.nodes == 1 or plan.elsewhere else ""
    yield f"# {plan.recipe} on {plan.target}\n"
    yield (
        f"A run of the recipe `{plan.recipe}` ({many}), as finetune-launch {plan.launcher} planned it for "
        f"`launch export`. It starts without the launcher. `plan.json` is the whole plan{again}; "
        "no file holds the value of a secret.\n"
    )
    yield "## What must be there\n"
    yield from _needed(plan, digest)
    if guide.variables:
        yield f"\nPaths are variables, set {guide.variables}:\n"
        yield "| variable | here | what |\n|---|---|---|"
        yield from (f"| `{each.name}` | {_cell(each.value)} | {each.about} |" for each in variables)
    if plan.secrets:
        yield f"\n## Secrets\n\n{', '.join(f'`{name}`' for name in plan.secrets)}. {guide.secrets}"
    yield f"\n## Start\n\n{guide.submit}"
    yield f"\n## Look\n\n{guide.logs}"
    yield f"\n## Stop\n\n{guide.stop}"
    yield f"\n## Resume\n\n{guide.resume}"
    yield "\n## The result\n\nThe exit code is the recipe's. `launch run` would judge more; here nobody does."
    if plan.world_size:
        yield (
            "In `metrics.jsonl` of the record, `begin` says how many processes trained together: it must be "
            f"{plan.world_size}. `end` says that the training came to its end."
        )


def _needed(plan: RunPlan, digest: str | None) -> Iterator[str]:
    """Image or environment, what is read, what is written."""
    if plan.container:
        known = f", `{digest}`" if digest else ""
        yield f"* the image `{plan.image}`{known}: `launch image build {plan.target}`, or brought there"
    else:
        yield f"* the environment of the target `{plan.target}`: `launch env` makes it"
    yield f"* packages of the lock `{plan.lock_digest}`"
    recipe = f"`{plan.recipe_path}`, sha256 `{plan.recipe_sha256}`"
    yield f"* the recipe {recipe}"
    yield f"* its runtime in `{plan.recipes}`, of finetune-launch {plan.launcher}"
    for file in plan.data:
        yield f"* data `{file.path}`: {file.rows} rows, sha256 `{file.sha256}`"
    models = [model for model in (plan.model, *(each for _, each in plan.models)) if model is not None]
    for model in models:
        revision = f", revision `{model.revision}`" if model.revision else ""
        where = "" if model.name == str(model.root) else f" in `{model.root}`"
        yield f"* the model `{model.name}`{revision}{where}"
    for name, one in plan.files:
        yield f"* the file `{one.path}` of `--{name.replace('_', '-')}`, sha256 `{one.sha256}`"
    if plan.access.nvidia:
        yield f"* NVIDIA GPUs: {plan.access.nvidia}; their driver"
    for device in plan.access.devices:
        yield f"* the device `{device}`"
    if plan.nodes > 1:
        yield "* the same folders on all machines, by a shared file system, under the same names"


def _cell(value: str) -> str:
    """A default as a table's cell; marks by their names."""
    from launcher.handover import marks

    text = marks.filled(value, lambda part: part, lambda name: f"${name}")
    return f"`{text.replace('|', chr(92) + '|')}`" if text else "to be said"
