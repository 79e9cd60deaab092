"""batchgen drop: give up tasks that ended without an image."""

from pathlib import Path

import anyio
import click

from batchgen import decide, hold
from batchgen.commands import options
from batchgen.errors import UsageError
from batchgen.folder import find
from batchgen.text import count


@click.command(name="drop", short_help="Give up tasks that are held, failed or refused.")
@click.argument("run")
@options.runs
@options.ended
def command(run: str, runs: Path | None, held: bool, failed: bool, refused: bool) -> None:
    """Give up tasks that ended without an image: they are kept and counted in the costs, and missed no more.

    \b
      batchgen drop jobs/animals.yaml --held

    A manifest that goes on asking for them does not bring them back; `batchgen retry RUN --held` does.
    """
    states = options.states(held, failed, refused)
    if not states:
        raise UsageError("say what to give up: --held, --failed or --refused")
    folder = find(run, runs)
    with hold.locked(folder):
        given_up = anyio.run(decide.waive, folder.ledger, states)
    click.echo(f"{count(given_up, 'task')} given up")
