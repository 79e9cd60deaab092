"""batchgen retry: put tasks that ended without an image back into the queue, then run."""

from pathlib import Path

import click

from batchgen import books, offer
from batchgen.commands import options, wishes
from batchgen.commands.run import execute
from batchgen.errors import UsageError
from batchgen.folder import find


@click.command(name="retry", short_help="Try again what failed, was refused, or is held; then run.")
@click.argument("run")
@options.runs
@options.ended
@wishes.settings
@wishes.yes
def command(
    run: str,
    runs: Path | None,
    held: bool,
    failed: bool,
    refused: bool,
    sets: tuple[str, ...],
    budget: float | None,
    hosts: tuple[str, ...],
    yes: bool,
) -> int:
    """Try again what failed, was refused, or is held; then run.

    \b
      batchgen retry jobs/animals.yaml --held        this may buy a second time what was paid for and never came
    """
    states = options.states(held, failed, refused)
    if not states:
        raise UsageError("say what to try again: --held, --failed or --refused")
    with books.reading(find(run, runs).ledger) as db:
        ended = books.ended(db)
    if not any(ended[str(state)] for state in states):
        options.tell(f"nothing is {' or '.join(states)}: batchgen run {run} makes what is missing")
        return 0
    return execute(offer.wish(run, runs, wishes.setup(sets, budget, hosts), reopen=states), yes)
