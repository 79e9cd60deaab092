"""batchgen sandbox: serve a pretend provider on this machine."""

import subprocess
import sys

import click


@click.command(
    name="sandbox",
    short_help="Serve a pretend provider on this machine.",
    context_settings={"ignore_unknown_options": True, "help_option_names": []},
)
@click.argument("options", nargs=-1, type=click.UNPROCESSED)
def command(options: tuple[str, ...]) -> int:
    """Serve a pretend provider on this machine; `batchgen sandbox --help` lists what it can be told."""
    try:
        return subprocess.call([sys.executable, "-m", "batchgen.sandbox", *options])
    except KeyboardInterrupt:  # it got the same signal, and has ended
        return 0
