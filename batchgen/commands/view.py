"""batchgen view: look at a run in the browser."""

from pathlib import Path

import click

from batchgen import view
from batchgen.commands import options
from batchgen.errors import UsageError
from batchgen.folder import find


@click.command(name="view", short_help="Look at a run in the browser, also while it works.")
@click.argument("run")
@options.runs
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Of this machine. Left out: any free one.")
def command(run: str, runs: Path | None, port: int) -> None:
    """Look at a run in the browser, also while it works: its pictures, pace, waits and money. It changes nothing.

    \b
      batchgen view jobs/animals.yaml
      batchgen view animals --runs runs --port 8800      then, from elsewhere: ssh -L 8800:127.0.0.1:8800 HOST

    The address is printed; nobody else can guess it, and only this machine is listened to. Ctrl-C ends it.
    """
    folder = find(run, runs)
    try:
        view.serve(folder, port, click.echo)
    except OSError as error:
        raise UsageError(f"--port {port}: {error.strerror}") from None
