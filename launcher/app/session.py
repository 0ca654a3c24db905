"""A session: what a run sees, without a recipe. People start something in it themselves: a shell, a notebook.

Its plan is that of a run whose recipe is replaced by a command: the engines render it to the same mounts,
user, devices and limits. There is no record: the session's own folder goes when it ends, and what is to stay
lies in the output.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePath

import launcher
from launcher import host, paths, recipe, runs
from launcher import plan as plans
from launcher.app import accelerators, adapters, leftovers, models, overrides, place
from launcher.app import plan as planning
from launcher.app.plan import Planned, Request
from launcher.app.wishes import Asked
from launcher.engines.container import ContainerRequest
from launcher.engines.docker import DockerEngine
from launcher.engines.venv import ProcessRequest
from launcher.errors import OutputError, UsageError
from launcher.manifest import Target
from launcher.plan import Folders, Places, Start
from launcher.progress import Progress
from launcher.recipe import Input, Recipe, Text
from launcher.recipe.refusals import refuse
from launcher.settings import Settings

#: An engine's request, whose command and variables are replaced in the same way.
Submission = ContainerRequest | ProcessRequest

#: Of the sessions' folders. Sockets lie below it, whose paths may have 107 bytes: TMPDIR may be too long.
PARENT = Path("/tmp")  # noqa: S108 - mkdtemp makes them there

_NOTHING = Text(en="nothing", zh="无")


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A session that can begin.

    Attributes:
        planned: the plan, and where it takes place.
        target: of the manifest.
        id: its name, and the container's.
        launcher: who holds it, as launcher.app.leftovers has it; empty: it will not begin.
    """

    planned: Planned
    target: Target
    id: str
    launcher: str

    @property
    def container(self) -> bool:
        """Whether it takes place in a container."""
        return isinstance(self.planned.engine, DockerEngine)

    def places(self, folders: Folders) -> Places:
        """Where things are, as the session's programs see them."""
        plan = self.planned.plan
        return plans.in_container(plan) if self.container else plans.on_host(plan, folders)

    def request(self, folders: Folders, command: Sequence[str], more: Mapping[str, str]) -> Submission:
        """The engine's request for a run of this plan.

        Args:
            folders: of the session.
            command: in place of the recipe's.
            more: variables beside the plan's.
        """
        rendered: Submission = self.planned.engine.render(self.planned.plan, folders, Start(run=self.id))
        variables = tuple(sorted({**dict(rendered.environment), **more}.items()))
        if isinstance(rendered, ContainerRequest):  # its labels say that it is no run
            kind, target = self.planned.plan.recipe, self.target.name
            held = ((leftovers.LABEL, self.launcher),) if self.launcher else ()
            labels = (("launch.role", kind), ("launch.session", self.id), ("launch.target", target), *held)
            rendered = replace(rendered, labels=labels)
        if rendered.secrets is not None:  # who types reads himself what is said, and nothing of it is kept
            rendered = replace(rendered, secrets=replace(rendered.secrets, masked=False))
        return replace(rendered, command=tuple(command), environment=variables)


def make(
    kind: str,
    request: Request,
    chosen: Settings,
    *,
    dry_run: bool,
    progress: Progress,
    of: Recipe | None = None,
) -> Session:
    """Plan a session.

    Args:
        kind: what people do in it: ``shell``, ``notebook`` or ``ask``.
        request: of the command line; arguments and preflight are a run's, and not looked at; neither are
            parameters without a recipe.
        chosen: the user's settings.
        dry_run: nothing is fetched or made, and nothing that only a start needs is missed.
        progress: told what is going on.
        of: a recipe that somebody talks to; None: people start something themselves.

    Raises:
        LaunchError: whatever a run of that target on this machine would be refused for, too.
    """
    found, machine, notes = of or _without_recipe(kind), host.facts(), list(request.said)
    asked = Asked(
        gpus=request.gpus,
        visible=request.env.get(plans.VISIBLE),
        mask=request.env.get(plans.MASK),
        nproc=None,
    )
    target, why = planning.pick_target(request.target, asked, chosen, of, machine)
    if why:
        notes.append(f"target {target.name}: {why}")
    machine = accelerators.look(machine, target)
    overrides.refuse(request, found)
    values = of.values(target.name, request.parameters) if of else ()
    refuse(found, target.name, dict(values), (), language=request.language)
    absent = [str(path) for path in request.data if not path.exists()]
    if absent:
        raise UsageError(f"--data: {', '.join(absent)}: there is no such file or folder")
    gpus, nproc = accelerators.choose(asked, chosen.gpus, target, machine, dry_run=dry_run, notes=notes)
    accelerators.judge(gpus, target, machine, dry_run=dry_run, notes=notes)
    model = models.first(request.model, found, dry_run=dry_run, notes=notes) if request.model else None
    named = models.named(found, dict(values), dry_run=dry_run, notes=notes)
    named = adapters.with_base(found, model, named, dry_run=dry_run, notes=notes)
    where = place.choose(request.engine, chosen, target, dry_run=dry_run, notes=notes, progress=progress)
    container = isinstance(where.engine, DockerEngine)
    gpus = accelerators.settle(
        gpus,
        target,
        machine,
        container=container,
        without=where.lock.left_out,
        dry_run=dry_run,
        notes=notes,
    )
    uid, gid = planning.caller(where.engine)
    plan = plans.make(
        launcher=launcher.version(),
        recipe=replace(found, name=kind),
        recipes=paths.recipes(),
        runtime_sha256=recipe.runtime_sha256(paths.recipes()),
        target=target,
        engine=where.engine.name,
        image=where.image,
        lock_digest=where.lock.digest,
        without=where.lock.left_out,
        nproc=nproc,
        inputs=tuple(path.absolute() for path in request.data),
        data=(),
        model=model,
        output=request.output.absolute() if request.output else None,
        parameters=values,
        models=named,
        arguments=(),
        env=tuple(item for item in request.env.items() if item[0] not in plans.CHOICES),
        secrets=tuple(request.secrets),
        uid=uid,
        gid=gid,
        access=planning.access(request, chosen, target, machine, gpus, notes),
        preflight=False,
    )
    planned = Planned(
        plan=plan, engine=where.engine, host=machine, secrets=request.secrets, notes=tuple(notes)
    )
    held = "" if dry_run else leftovers.own().text()
    return Session(planned=planned, target=target, id=runs.new_id(kind), launcher=held)


def _without_recipe(kind: str) -> Recipe:
    """In a recipe's place: any data, any model, no parameters.

    Its path is among the recipes: they are mounted anyway, and nothing of it is.
    """
    return Recipe(
        name=kind,
        path=paths.recipes() / kind,
        sha256="",
        summary=_NOTHING,
        targets=(),
        launch="python",
        data=Input(help=_NOTHING),
        model=Input(help=_NOTHING),
        outputs=_NOTHING,
        parameters=(),
        refusals=(),
    )


def environment(request: Submission) -> PurePath:
    """The folder of the environment that a request uses, as its programs see it."""
    return PurePath(dict(request.environment).get("VIRTUAL_ENV", plans.ENVIRONMENT))


def folders(session: Session, parent: Path) -> Folders:
    """The session's folders; nothing is made.

    Args:
        parent: of the session's own ones.
    """
    plan = session.planned.plan
    home = paths.cache() / "home" / plan.target
    return Folders(run=parent / "run", output=plan.output or parent / "run" / "output", home=home)


@contextmanager
def opened(session: Session) -> Iterator[Folders]:
    """Check what can be checked, and make the folders; those of the session itself go with the block.

    Sessions that nobody holds any more are ended before.

    Raises:
        OutputError: a folder cannot be made.
        LaunchError: what the engine lacks.
    """
    plan = session.planned.plan
    session.planned.engine.check(plan)
    leftovers.sweep(session.planned.engine, PARENT)
    parent = Path(tempfile.mkdtemp(prefix="launch-", dir=PARENT))  # of this user alone
    made = [parent]
    try:
        leftovers.note(parent, session.id, session.launcher)
        found = folders(session, parent)
        try:
            for folder in (found.run, found.run / "scratch", found.output, found.home):
                if not folder.is_dir():
                    folder.mkdir(parents=True)
                    made.append(folder)
        except OSError as error:
            raise OutputError(
                f"{error.filename} cannot be made",
                why=error.strerror or "",
                hint="choose another folder, or give LAUNCH_CACHE_DIR one that you may write to",
            ) from None
        hand_over(session, made)
        yield found
    finally:
        shutil.rmtree(parent, ignore_errors=True)


def hand_over(session: Session, made: Sequence[Path]) -> None:
    """Give what was made to the user that the session has; only root can and needs to."""
    plan = session.planned.plan
    if os.getuid() == 0 and plan.uid != 0:
        for path in made:
            os.chown(path, plan.uid, plan.gid)
