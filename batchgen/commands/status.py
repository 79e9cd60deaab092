"""batchgen status: how far a run is."""

import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import click

from batchgen import report
from batchgen.commands import options
from batchgen.errors import UsageError
from batchgen.folder import Folder, find
from batchgen.report import SCHEMA_VERSION
from batchgen.text import clean, count
from batchgen.worker import Worker

EVERY = 2.0  # seconds between two looks
NOTES_MOST = 5
TOLD = (
    *("id", "handle", "lane", "model", "operation", "state", "status", "tasks", "completed", "failed"),
    *("drafted_at", "created_at", "expires_at", "looked_at", "note"),
)
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
            if not look.worker.at_work:
                return
            time.sleep(max(EVERY, (time.monotonic() - begun) / PART))


@dataclass(frozen=True, slots=True)
class Look:
    """What there is to see of a run: its totals, and the process that worked on it last."""

    told: report.Object
    worker: Worker

    @classmethod
    def at(cls, folder: Folder) -> "Look":
        return cls(report.totals(folder.ledger), Worker.of(folder))

    def object(self) -> report.Object:
        """For programs."""
        names = ("job", "started_at", "ended_at", "tasks", "images", "attempts", "cost")
        shown = {name: self.told[name] for name in names}
        worker = self.worker
        changed = {"paused": worker.standing.paused, "set": list(worker.standing.changes)}
        batches = [{name: each[name] for name in TOLD} for each in worker.batches]
        at_work = {"waits": worker.waits, "throttle": worker.throttle, "batches": batches, **changed}
        return {"schema_version": SCHEMA_VERSION, **shown, **at_work}

    def lines(self) -> Iterator[str]:
        """For people."""
        standing = self.worker.standing
        paused = "paused, " if standing.paused else ""
        yield clean(f"{self.told['job']}, begun {report.moment(self.told['started_at'])}, {paused}{self.worker.state}")
        yield from map(clean, report.summary(self.told))
        if standing.paused:
            yield f"Paused        {self._open()}"
        yield from map(clean, handed_over(self.worker))
        if standing.changes:
            yield clean(f"Set           {'; '.join(standing.changes)}")
        if self.worker.at_work:
            yield from map(clean, noted(self.worker))

    def line(self) -> str:
        """For people without a terminal that can draw: the totals alone."""
        worker = self.worker
        state = ("paused" if worker.standing.paused else "running") if worker.at_work else worker.state
        totals = (" ".join(line.split()) for line in report.summary(self.told))
        return clean(" · ".join([f"{self.told['job']}, {state}", *totals]))

    def _open(self) -> str:
        attempts = self.told["attempts"]
        assert isinstance(attempts, dict)
        return f"{count(attempts['sending'], 'request')} still open; batchgen set RUN paused=false goes on"


def handed_over(worker: Worker) -> Iterator[str]:
    """The batches that are open, and what was odd about others."""
    for nth, each in enumerate(worker.handed_over):
        yield f"{'' if nth else 'Batches':14}{each}"
    odd = [each for each in worker.batches if each["note"]]
    yield from (f"Note          {each['handle'] or 'a batch'}: {each['note']}" for each in odd[-NOTES_MOST:])


def noted(worker: Worker) -> Iterator[str]:
    """What it waits for, how wide and how fast each lane goes, and the last changes of that."""
    from batchgen.progress import Throttle, Wait  # loads all that a run needs, for 0.2 s that most looks do without

    yield from (f"Waits         {each['lane']}: {Wait(**each)}" for each in worker.waits)
    for each in map(Throttle.read, worker.throttle):
        yield f"Pace          {each.lane}: {each}"
        yield from (f"              {at[11:19]} UTC {what}" for at, what in each.changes)
