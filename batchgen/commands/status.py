"""batchgen status: how far a run is."""

import json
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from batchgen import books, control, report
from batchgen.commands import options
from batchgen.errors import UsageError
from batchgen.folder import Folder, find
from batchgen.report import SCHEMA_VERSION
from batchgen.text import clean, count
from batchgen.verify import working

EVERY = 2.0  # seconds between two looks
PART = 0.1  # of its time that watching takes at most: to sum up millions of tasks is work


@click.command(name="status", short_help="How far a run is.")
@click.argument("run")
@options.runs
@options.as_json
@click.option("--watch", is_flag=True, help="Look again every 2 s until the run ends, or Ctrl-C.")
def command(run: str, runs: Path | None, as_json: bool, watch: bool) -> None:
    """How far a run is; safe while it works.

    \b
      batchgen status jobs/animals.yaml
      batchgen status jobs/animals.yaml --watch
      batchgen status animals --runs runs --json
    """
    folder = find(run, runs)
    if watch and as_json:
        raise UsageError("--watch is for people: --json tells a program how far it is now")
    if watch:
        follow(folder)
        return
    look = Look.at(folder)
    if as_json:
        click.echo(report.dumps(look.object()))
        return
    for line in look.lines():
        click.echo(line)


def follow(folder: Folder) -> None:
    """Show it again and again, until nothing changes any more or somebody has seen enough."""
    from batchgen.commands import tables  # loads rich, which a single look does without

    lively = tables.lively()
    with suppress(KeyboardInterrupt), tables.redrawn() if lively else tables.repeated() as draw:
        while True:
            begun = time.monotonic()
            look = Look.at(folder)
            draw("\n".join(look.lines()) if lively else look.line())
            if not look.at_work:
                return
            time.sleep(max(EVERY, (time.monotonic() - begun) / PART))


@dataclass(frozen=True, slots=True)
class Look:
    """What there is to see of a run: its totals, the process that worked on it last, what was changed of that."""

    told: report.Object
    last: books.Row | None
    at_work: bool
    standing: control.Standing

    @classmethod
    def at(cls, folder: Folder) -> "Look":
        told = report.totals(folder.ledger)
        with books.reading(folder.ledger) as db:
            last = books.last_run(db)
        if last and not last["ended_at"] and working(last, folder):
            return cls(told, last, True, control.standing(folder, control.name(last)))
        return cls(told, last, False, control.Standing(""))

    def object(self) -> report.Object:
        """For programs."""
        names = ("job", "started_at", "ended_at", "tasks", "images", "attempts", "cost")
        shown = {name: self.told[name] for name in names}
        changed = {"paused": self.standing.paused, "set": list(self.standing.changes)}
        at_work = {"waits": self._noted("waits"), "throttle": self._noted("throttle"), **changed}
        return {"schema_version": SCHEMA_VERSION, **shown, **at_work}

    def lines(self) -> Iterator[str]:
        """For people."""
        paused = "paused, " if self.standing.paused else ""
        yield clean(f"{self.told['job']}, begun {report.moment(self.told['started_at'])}, {paused}{self._state()}")
        yield from map(clean, report.summary(self.told))
        if self.standing.paused:
            yield f"Paused        {self._open()}"
        if self.standing.changes:
            yield clean(f"Set           {'; '.join(self.standing.changes)}")
        for wait in self._noted("waits"):
            yield clean(f"Waits         {wait['lane']}: {_said(wait)}")
        for each in self._noted("throttle"):
            yield from map(clean, paced(each))

    def line(self) -> str:
        """For people without a terminal that can draw: the totals alone."""
        state = ("paused" if self.standing.paused else "running") if self.at_work else self._state()
        totals = (" ".join(line.split()) for line in report.summary(self.told))
        return clean(" · ".join([f"{self.told['job']}, {state}", *totals]))

    def _noted(self, what: str) -> list[dict[str, Any]]:
        """What the run at work waits for, or how wide and how fast each of its lanes goes."""
        return json.loads(str(self.last[what])) if self.last and self.at_work else []

    def _open(self) -> str:
        attempts = self.told["attempts"]
        assert isinstance(attempts, dict)
        return f"{count(attempts['sending'], 'request')} still open; batchgen set RUN paused=false goes on"

    def _state(self) -> str:
        """Whether it runs, and how it ended."""
        last = self.last
        if last is None:
            return "never run"
        if last["ended_at"]:
            return f"ended {report.moment(last['ended_at'])} with {last['exit_code']}: {last['reason']}"
        where = f"process {last['pid']} on {last['host']}, since {report.moment(last['started_at'])}"
        if last["host"] != socket.gethostname():
            return f"running or cut off ({where})"
        return f"running ({where})" if self.at_work else f"cut off ({where}): batchgen run goes on with it"


def paced(each: dict[str, Any]) -> Iterator[str]:
    """How wide and how fast a lane goes, and the last changes of that."""
    from batchgen.pace import Learned  # as in `_said`
    from batchgen.progress import Throttle

    limits = tuple(Learned(**limit) for limit in each["pace"])
    yield f"Pace          {each['lane']}: {Throttle(each['lane'], each['window'], each['width'], limits, ())}"
    yield from (f"              {at[11:19]} UTC {what}" for at, what in each["changes"])


def _said(wait: Mapping[str, Any]) -> str:
    from batchgen.progress import Wait  # loads all that a run needs, for 0.2 s that most looks can do without

    return str(Wait(**wait))
