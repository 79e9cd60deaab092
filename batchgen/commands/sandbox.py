"""batchgen sandbox: serve a pretend provider on this machine."""

import os
import sys

import click


@click.command(
    name="sandbox",
    short_help="Serve a pretend provider on this machine.",
    context_settings={"ignore_unknown_options": True, "help_option_names": []},
)
@click.argument("options", nargs=-1, type=click.UNPROCESSED)
def command(options: tuple[str, ...]) -> None:
    """Serve a pretend provider on this machine; `batchgen sandbox --help` lists what it can be told."""
    # In this very process, so that whoever ends it ends the server; not imported, so that it shares nothing with us.
    os.execv(sys.executable, [sys.executable, "-m", "batchgen.sandbox", *options])
