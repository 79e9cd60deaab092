"""batchgen status: how far a run is."""

import json
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from batchgen import books, control, report
from batchgen.commands import options
from batchgen.folder import Folder, find
from batchgen.report import SCHEMA_VERSION
from batchgen.text import clean, count
from batchgen.verify import working


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
    now = _standing(last, folder)
    if as_json:
        names = ("job", "started_at", "ended_at", "tasks", "images", "attempts", "cost")
        shown = {name: told[name] for name in names}
        at_work = {"waits": waits(last, folder), "throttle": throttle(last, folder), **_told(now)}
        click.echo(report.dumps({"schema_version": SCHEMA_VERSION, **shown, **at_work}))
        return
    paused = "paused, " if now.paused else ""
    click.echo(clean(f"{told['job']}, begun {report.moment(told['started_at'])}, {paused}{state(last, folder)}"))
    for line in report.summary(told):
        click.echo(clean(line))
    if now.paused:
        click.echo(f"Paused        {_open(told)}")
    if now.changes:
        click.echo(clean(f"Set           {'; '.join(now.changes)}"))
    for wait in waits(last, folder):
        click.echo(clean(f"Waits         {wait['lane']}: {_said(wait)}"))
    for each in throttle(last, folder):
        for line in paced(each):
            click.echo(clean(line))


def throttle(last: books.Row | None, folder: Folder) -> list[dict[str, Any]]:
    """How wide and how fast each lane of the run goes that is at work, and the last changes of that."""
    return json.loads(str(last["throttle"])) if last and not last["ended_at"] and working(last, folder) else []


def paced(each: dict[str, Any]) -> Iterator[str]:
    """The same in words."""
    from batchgen.pace import Learned  # as in `_said`
    from batchgen.progress import Throttle

    limits = tuple(Learned(**limit) for limit in each["pace"])
    yield f"Pace          {each['lane']}: {Throttle(each['lane'], each['window'], each['width'], limits, ())}"
    yield from (f"              {at[11:19]} UTC {what}" for at, what in each["changes"])


def waits(last: books.Row | None, folder: Folder) -> list[dict[str, Any]]:
    """What the run waits for that is at work."""
    return json.loads(str(last["waits"])) if last and not last["ended_at"] and working(last, folder) else []


def _said(wait: Mapping[str, Any]) -> str:
    from batchgen.progress import Wait  # loads all that a run needs, for 0.2 s that most looks can do without

    return str(Wait(**wait))


def _standing(last: books.Row | None, folder: Folder) -> control.Standing:
    """What was changed of the run that is at work."""
    at_work = last is not None and not last["ended_at"] and working(last, folder)
    return control.standing(folder, control.name(last)) if last and at_work else control.Standing("")


def _open(told: report.Object) -> str:
    attempts = told["attempts"]
    assert isinstance(attempts, dict)
    return f"{count(attempts['sending'], 'request')} still open; batchgen set RUN paused=false goes on"


def _told(now: control.Standing) -> dict[str, object]:
    return {"paused": now.paused, "set": list(now.changes)}


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
