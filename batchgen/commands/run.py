"""batchgen run: make what a manifest wants and the ledger lacks."""

import gc
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import replace

import anyio
import click

from batchgen import books, offer, outline
from batchgen.commands import options, wishes
from batchgen.commands.progress import Watch
from batchgen.engines import ray
from batchgen.errors import UsageError, alone
from batchgen.offer import Offer, Wish

GARBAGE = 5_000  # objects that are made before cycles are looked for


@click.command(name="run", short_help="Run a manifest, or go on with a run.")
@wishes.wish
@wishes.yes
@click.option("--resume", is_flag=True, help="Only go on with a run that is there; never begin a new one.")
def command(wish: Wish, yes: bool, resume: bool) -> int:
    """Run a manifest, or go on with a run.

    \b
      batchgen run jobs/demo.yaml
      batchgen run jobs/animals.yaml --sample 12          look at a few before you buy them all
      batchgen run jobs/animals.yaml --budget 25

    The same command goes on after any interruption, and only buys what is missing. Ctrl-C once finishes what is paid
    for; twice leaves at once.
    """
    if resume and not wish.folder.ledger.exists():
        raise UsageError(f"--resume: there is no run in {wish.folder.path.absolute()}; without it, one would begin")
    return execute(wish, yes)


def execute(wish: Wish, yes: bool, agreed: Callable[[], None] = lambda: None) -> int:
    """Show the plan, ask, run it to its end, watched; returns the exit code. `agreed` comes before the run."""
    with offer.offered(wish) as offered:
        for line in outline.lines(offered.plan):
            options.tell(line)
        question = offered.question(options.terminal(), yes)
        if question and not click.confirm(question, err=True):
            options.tell("Nothing was sent.")
            return 7
        agreed()
        gc.freeze()  # what is there stays; a run makes few cycles, and looking for them often costs a twentieth of it
        gc.set_threshold(GARBAGE)
        return _ended(anyio.run(_run, offered))


def recall(wish: Wish) -> int:
    """Let the providers end the batches that are open, and collect what they made; returns the exit code."""
    with offer.offered(replace(wish, recall=True)) as offered:
        return anyio.run(_run, offered)


def _ended(code: int) -> int:
    """The exit code; where a cluster cannot be left, at once."""
    if ray.stuck.is_set():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code


async def _run(offered: Offer) -> int:
    job = offered.job
    watch = Watch(job)
    with alone():
        async with anyio.create_task_group() as tasks:
            with anyio.CancelScope() as work:
                tasks.start_soon(_obey, offered, watch, work)
                tasks.start_soon(watch.show)
                try:
                    await offered.accept()
                finally:
                    tasks.cancel_scope.cancel()
    watch.close()
    if job.ended is None:  # the second signal
        return _leave(offered.wish)
    watch.summary(job.ended, offered)
    return job.ended.exit_code


async def _obey(offered: Offer, watch: Watch, work: anyio.CancelScope) -> None:
    """The first signal drains, the second leaves. A terminal that closes may send more than one SIGHUP: they drain."""
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:
        async for number in signals:
            if not offered.job.progress.draining:
                offered.job.drain()
                watch.draining()
            elif number != signal.SIGHUP:
                work.cancel()
                return


def _leave(wish: Wish) -> int:
    """Everything is on the disk; a thread that resolves a name could hold a normal exit for long."""
    with books.reading(wish.folder.ledger) as db:
        unknown = books.attempt_states(db)["unknown"]
    run = wish.folder.path
    options.tell(f"left at once; {unknown} requests of unknown fate: batchgen report {run} --attempts unknown")
    options.tell(f"Next: {wish.again}")
    os._exit(7)
