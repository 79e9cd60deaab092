"""batchgen run: make what a manifest wants and the ledger lacks."""

import os
import signal
from collections.abc import Sequence
from pathlib import Path

import anyio
import click

from batchgen import books, catalog, manifest, plan
from batchgen.commands import options
from batchgen.commands.progress import Watch
from batchgen.errors import UsageError, alone
from batchgen.folder import Folder, beside, find, is_manifest
from batchgen.job import Job, Order
from batchgen.manifest import Manifest
from batchgen.task import TaskState


@click.command(name="run", short_help="Run a manifest, or go on with a run.")
@click.argument("run")
@options.runs
@click.option("--budget", type=float, help="USD that the whole job may cost, ever; goes before limits.budget.")
@click.option("--trust-host", "hosts", multiple=True, help="A host of the manifest that may be given your key.")
def command(run: str, runs: Path | None, budget: float | None, hosts: tuple[str, ...]) -> int:
    """Run a manifest, or go on with a run.

    \b
      batchgen run jobs/demo.yaml
      batchgen run jobs/animals.yaml --budget 25

    The same command goes on after any interruption, and only buys what is missing. Ctrl-C once finishes what is paid
    for; twice leaves at once.
    """
    return execute(order(run, runs, budget, frozenset(hosts)))


def order(
    run: str, runs: Path | None, budget: float | None, hosts: frozenset[str], reopen: Sequence[TaskState] = ()
) -> Order:
    """What RUN names: a manifest and its folder, or a folder and the manifest kept there, whose queue is finished."""
    overrides: dict[str, object] = {} if budget is None else {"limits.budget": budget}
    if is_manifest(run):
        wanted = manifest.load(Path(run), overrides=overrides, trust_hosts=hosts)
        plan.check(wanted)
        return Order(wanted, Folder((runs or beside(wanted.file)) / wanted.name), enqueue=True, reopen=reopen)
    folder = find(run, runs)
    if not folder.manifest.exists():
        raise UsageError(f"{folder.path} holds no manifest.yaml: give the manifest itself")
    kept = manifest.load(folder.manifest, overrides=overrides, trust_hosts=hosts)
    return Order(kept, folder, enqueue=False, reopen=reopen)


def execute(what: Order) -> int:
    """Run it to its end, watched; returns the exit code."""
    for warning in what.manifest.warnings:
        options.tell(f"warning: {warning}")
    for model in assumed(what.manifest):
        options.tell(f"warning: {model} is reckoned at OpenAI's prices; give the provider a price: if it has its own")
    known = "resumed" if what.folder.ledger.exists() else "new"
    options.tell(f"{what.folder.path.absolute()} ({known})")
    return anyio.run(_run, what)


def assumed(wanted: Manifest) -> list[str]:
    """Models whose prices are another provider's."""
    models = dict.fromkeys(variant.model for variant in plan.variants(wanted))
    tariffs = {model: catalog.tariff(wanted.provider, model) for model in models}
    return [model for model, tariff in tariffs.items() if tariff and tariff.assumed]


async def _run(what: Order) -> int:
    job = Job(what)
    watch = Watch(job)
    with alone():
        async with anyio.create_task_group() as tasks:
            with anyio.CancelScope() as work:
                tasks.start_soon(_obey, job, watch, work)
                tasks.start_soon(watch.show)
                try:
                    await job.run()
                finally:
                    tasks.cancel_scope.cancel()
    watch.close()
    if job.ended is None:  # the second signal
        return _leave(what)
    watch.summary(job.ended, what)
    return job.ended.exit_code


async def _obey(job: Job, watch: Watch, work: anyio.CancelScope) -> None:
    """The first signal drains, the second leaves. A terminal that closes may send more than one SIGHUP: they drain."""
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:
        async for number in signals:
            if not job.progress.draining:
                job.drain()
                watch.draining()
            elif number != signal.SIGHUP:
                work.cancel()
                return


def _leave(what: Order) -> int:
    """Everything is on the disk; a thread that resolves a name could hold a normal exit for long."""
    with books.reading(what.folder.ledger) as db:
        unknown = books.attempt_states(db)["unknown"]
    options.tell(
        f"left at once; {unknown} requests of unknown fate: batchgen report {what.manifest.file} --attempts unknown"
    )
    options.tell(f"Next: batchgen run {what.manifest.file}")
    os._exit(7)
