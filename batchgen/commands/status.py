"""batchgen status: how far a run is."""

import json
import socket
from pathlib import Path
from typing import Any

import click

from batchgen import books, report, verify
from batchgen.commands import options
from batchgen.folder import Folder, find
from batchgen.progress import Wait
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
    told = report.totals(folder.ledger)
    with books.reading(folder.ledger) as db:
        last = books.last_run(db)
    if as_json:
        names = ("job", "started_at", "ended_at", "tasks", "images", "attempts", "cost")
        shown = {name: told[name] for name in names}
        click.echo(report.dumps({"schema_version": SCHEMA_VERSION, **shown, "waits": waits(last, folder)}))
        return
    click.echo(clean(f"{told['job']}, begun {report.moment(told['started_at'])}, {state(last, folder)}"))
    for line in report.summary(told):
        click.echo(clean(line))
    for wait in waits(last, folder):
        click.echo(clean(f"Waits         {wait['lane']}: {Wait(**wait)}"))


def waits(last: books.Row | None, folder: Folder) -> list[dict[str, Any]]:
    """What the run waits for that is at work."""
    return json.loads(str(last["waits"])) if last and not last["ended_at"] and working(last, folder) else []


def state(last: books.Row | None, folder: Folder) -> str:
    """Whether it runs, and how it ended."""
    if last is None:
        return "never run"
    if last["ended_at"]:
        return f"ended {report.moment(last['ended_at'])} with {last['exit_code']}: {last['reason']}"
    where = f"process {last['pid']} on {last['host']}, since {report.moment(last['started_at'])}"
    if last["host"] != socket.gethostname():
        return f"running or cut off ({where})"
    return f"running ({where})" if working(last, folder) else f"cut off ({where}): batchgen run goes on with it"


def working(last: books.Row, folder: Folder) -> bool:
    """Whether its process is there, as far as this machine can tell: it holds the folder as long as it lives."""
    return last["host"] != socket.gethostname() or verify.at_work(folder)
