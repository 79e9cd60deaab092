"""What is offered before anything is spent: a plan, and the job that would carry it out."""

import os
import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from batchgen import books, compare, consent, forecast, hold, notify, shelf
from batchgen.compare import Survey
from batchgen.ending import Ended
from batchgen.errors import UsageError
from batchgen.folder import Folder, beside, find, is_manifest
from batchgen.forecast import Plan
from batchgen.job import Job, Order
from batchgen.manifest import Manifest, Setup, load, loads
from batchgen.task import Operation, TaskState


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be run: a manifest in a folder, whole or a sample of it, or only what is queued there.

    `redo` are the keys of tasks to be made again, where nothing else is to be bought, `flags` the options of the
    command that would wish for it again. With `recall` open batches are to be ended, and nothing is to be bought.
    """

    manifest: Manifest
    folder: Folder
    whole: bool = True
    sample: int | None = None
    reopen: Sequence[TaskState] = ()
    redo: Collection[str] = ()
    flags: tuple[str, ...] = ()
    recall: bool = False
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)

    @property
    def again(self) -> str:
        """The command that goes on with it, and with nothing else."""
        if self.redo:
            return shlex.join(["batchgen", "run", os.path.relpath(self.folder.path)])
        return f"{self.rest} --sample {self.sample}" if self.sample else self.rest

    @property
    def rest(self) -> str:
        """The command that makes all of it, not only a sample."""
        run = str(self.manifest.file) if self.whole else os.path.relpath(self.folder.path)
        return shlex.join(["batchgen", "run", run, *self.flags])


def wish(
    run: str, runs: Path | None, setup: Setup, sample: int | None = None, reopen: Sequence[TaskState] = ()
) -> Wish:
    """What RUN names: a manifest and its folder, or a folder and the manifest that was used there last."""
    if is_manifest(run):
        manifest = load(Path(run), setup)
        folder = Folder((runs or beside(manifest.file)) / manifest.name)
        return Wish(manifest, folder, sample=sample, reopen=reopen, flags=flags(runs, setup), environ=setup.environ)
    folder = find(run, runs)
    if sample or setup.rehearse:
        raise UsageError(f"{run} is a run: --sample and --sandbox need the manifest itself")
    for key in setup.overrides:
        if key.partition(".")[0] not in ("limits", "retry", "engine"):
            raise UsageError(f"{run} is a run, and only finishes what is queued: --set {key} needs the manifest itself")
    return Wish(used(folder, setup), folder, whole=False, reopen=reopen, environ=setup.environ)


def flags(runs: Path | None, setup: Setup) -> tuple[str, ...]:
    """The options that say the same."""
    settings = (("--set", f"{key}={value}") for key, value in setup.overrides.items())
    hosts = (("--trust-host", host) for host in sorted(setup.trust_hosts or ()))
    found = [*settings, *hosts]
    found += [("--runs", str(runs))] if runs else []
    return (*(word for pair in found for word in pair), *(("--sandbox",) if setup.rehearse else ()))


@dataclass(frozen=True, slots=True)
class Last:
    """What a folder was run with last: a manifest, as it was and where it lay, and what was set beside it."""

    file: Path
    text: str
    overrides: Mapping[str, object]
    rehearsed: bool

    def over(self, setup: Setup) -> Setup:
        """What is set now goes before what was set then."""
        return replace(setup, overrides={**self.overrides, **setup.overrides}, rehearse=self.rehearsed)


def last(folder: Folder) -> Last:
    """UsageError where it was never run."""
    with shelf.opened(folder.ledger) as there:
        found = there.used()
    if found is None:
        raise UsageError(f"{folder.path} was never run: give the manifest itself")
    file = Path(os.path.normpath(folder.path / books.job(folder.ledger).manifest))  # files to edit are named from there
    return Last(file, *found)


def used(folder: Folder, setup: Setup) -> Manifest:
    """The manifest that a folder was run with last, as it was."""
    before = last(folder)
    return loads(before.text, before.file, replace(before.over(setup), fixes=False))


@dataclass(frozen=True, slots=True)
class Offer:
    """A plan, and the job that carries it out. `held`: the folder is held since before the plan was drawn."""

    wish: Wish
    plan: Plan
    job: Job
    held: bool

    def question(self, terminal: bool, yes: bool = False) -> str:
        """What must be answered with yes before it is accepted, or nothing; UsageError where it cannot be accepted."""
        self.job.authorizations()
        return consent.question(self.plan, self.wish.manifest.limits, terminal, yes)

    async def accept(self) -> Ended:
        """Run the job."""
        return await (self.job.work() if self.held else self.job.run())


@contextmanager
def offered(wanted: Wish) -> Iterator[Offer]:
    """Survey and price; where a run has begun already, nobody else can change it until the block is left."""
    folder, manifest = wanted.folder, wanted.manifest
    ledger = folder.ledger if folder.ledger.exists() else None
    with ExitStack() as stack:
        if ledger:
            stack.enter_context(hold.held(folder))
        drawn = drawn_up(wanted)
        # of what has no price, only limits.images is agreed to
        most = None if drawn.unpriced else drawn.spent + consent.at_most(drawn, manifest.limits)
        job = Job(Order(manifest, folder, drawn, wanted.reopen, most, wanted.recall, wanted.environ))
        yield Offer(wanted, drawn, job, held=ledger is not None)


def drawn_up(wanted: Wish) -> Plan:
    """The plan alone; nothing is held and nothing written."""
    folder, manifest = wanted.folder, wanted.manifest
    ledger = folder.ledger if folder.ledger.exists() else None
    if ledger:
        hold.check_maker(folder, manifest)
    if wanted.whole:
        found = compare.survey(manifest, ledger, wanted.sample, wanted.reopen, wanted.redo)
    elif ledger:
        found = _known(compare.queued(ledger, wanted.reopen), manifest)
    else:
        raise UsageError(f"there is no run in {folder.path}")
    _check_engine(manifest, found)
    if ledger:
        _check_batches(manifest, ledger)
    drawn = forecast.draw(manifest, found, folder.path, ledger, wanted.environ)
    return replace(drawn, warnings=(*drawn.warnings, *notify.lacks(manifest, wanted.environ)))


def _check_engine(manifest: Manifest, found: Survey) -> None:
    """UsageError where something is to do that no batch can hold, or whose images nobody elsewhere could store."""
    if manifest.engine.ray and not manifest.store:
        says = (
            "engine: ray needs a place that every node reaches: output.store: s3://bucket/prefix, or file:///shared/…"
        )
        raise UsageError(f"{says}. Nothing was sent.")
    for part in found.parts if manifest.engine.batch else ():
        name, operation = part.variant.provider, part.variant.operation
        provider = manifest.providers.get(name)
        if part.todo and provider and provider.batch is None:
            says = f"{name} has no Batch API that is known: leave out engine: batch, or take another provider"
            raise UsageError(f"{says}; a host of your own that has one says so with batch: {{}}. Nothing was sent.")
        if part.todo and operation is Operation.VARY:
            raise UsageError(f"{name} takes no variations by its Batch API: leave out engine: batch. Nothing was sent.")


def _check_batches(manifest: Manifest, ledger: Path) -> None:
    """UsageError where a provider has batches of ours, and is said to take none."""
    with shelf.opened(ledger) as there:
        pools = there.batch_pools()
    for name in sorted(pools & manifest.providers.keys()):
        if manifest.providers[name].batch is None:
            says = f"{name} has batches that are open, and the manifest does not say any more that it takes any"
            raise UsageError(f"{says}: put batch: {{}} back into its provider. Nothing was sent.")


def _known(found: Survey, manifest: Manifest) -> Survey:
    """UsageError where something is queued for a provider that the manifest does not have."""
    for part in found.parts:
        if part.todo and part.variant.provider not in manifest.providers:
            raise UsageError(
                f"{part.todo:,} tasks are queued for {part.variant.provider}, which the manifest that was used last "
                f"does not have: run the manifest itself, not the folder. Nothing was sent."
            )
    return found
