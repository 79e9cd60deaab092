"""batchgen status: how far a run is."""

from pathlib import Path

import click

from batchgen import books, report
from batchgen.commands import options
from batchgen.folder import find
from batchgen.report import SCHEMA_VERSION
from batchgen.text import clean


@click.command(name="status", short_help="How far a run is.")
@click.argument("run")
@options.runs
@options.as_json
def command(run: str, runs: Path | None, as_json: bool) -> None:
    """How far a run is; safe while it works.

    \b
      batchgen status jobs/animals.yaml
      batchgen status animals --runs runs --json
    """
    folder = find(run, runs)
    told = report.build(folder.ledger)
    if as_json:
        names = ("job", "started_at", "ended_at", "tasks", "images", "attempts", "cost")
        click.echo(report.dumps({"schema_version": SCHEMA_VERSION, **{name: told[name] for name in names}}))
        return
    with books.reading(folder.ledger) as db:
        started, ended, reason = books.span(db)
    now = f"ended {ended}: {reason}" if ended else "running, or cut off"
    click.echo(clean(f"{told['job']}, begun {started}, {now}"))
    for line in report.summary(told):
        click.echo(clean(line))
