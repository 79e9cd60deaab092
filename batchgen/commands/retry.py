"""batchgen retry: put tasks that ended without an image back into the queue, then run."""

from pathlib import Path

import click

from batchgen.commands import options
from batchgen.commands.run import execute, order
from batchgen.errors import UsageError
from batchgen.folder import find
from batchgen.task import TaskState


@click.command(name="retry", short_help="Try again what failed, was refused, or is held; then run.")
@click.argument("run")
@options.runs
@click.option("--held", is_flag=True, help="Perhaps paid, no answer came: this may buy them a second time.")
@click.option("--failed", is_flag=True, help="Gave up, or can never work as they are.")
@click.option("--refused", is_flag=True, help="The provider's safety system said no.")
@click.option("--trust-host", "hosts", multiple=True, help="A host of the manifest that may be given your key.")
def command(run: str, runs: Path | None, held: bool, failed: bool, refused: bool, hosts: tuple[str, ...]) -> int:
    """Try again what failed, was refused, or is held; then run.

    \b
      batchgen retry jobs/animals.yaml --held
    """
    chosen = {TaskState.HELD: held, TaskState.FAILED: failed, TaskState.REFUSED: refused}
    states = [state for state, wanted in chosen.items() if wanted]
    if not states:
        raise UsageError("say what to try again: --held, --failed or --refused")
    find(run, runs)  # there must be a run to retry
    return execute(order(run, runs, None, frozenset(hosts), states))
