"""batchgen set: change the limits of a run while it works, or pause it."""

import time
import uuid
from collections.abc import Sequence
from pathlib import Path

import click

from batchgen import books, control
from batchgen.commands import options
from batchgen.control import Answer, Asked
from batchgen.errors import UsageError
from batchgen.folder import Folder, find
from batchgen.text import clean
from batchgen.verify import working
from batchgen.worker import Worker

ENDS = "cancelled"
PATIENCE, GLANCE = 5.0, 0.1  # seconds
HOW = f"write KEY=VALUE, with {', '.join(control.KEYS[:-1])} or {control.KEYS[-1]}"


@click.command(name="set", short_help="Change the limits of a run while it works, or pause it.")
@click.argument("run")
@click.argument("settings", nargs=-1, metavar="KEY=VALUE...")
@options.runs
def command(run: str, settings: Sequence[str], runs: Path | None) -> int:
    """Change a run while it works: its concurrency, pace, budget, images, until, or pause it; for this run alone.

    \b
      batchgen set jobs/animals.yaml concurrency=32 budget=40
      batchgen set jobs/animals.yaml paused=true        finishes what is on its way, and waits; paused=false goes on
      batchgen set jobs/animals.yaml until=07:00 images_per_minute=20
      batchgen set jobs/animals.yaml cancelled=true     ends its batches at the provider, and collects what they made

    Values are written as under limits: in the manifest. A budget below what is spent ends the run. Exit code 7: the run
    has not taken it up yet, and will as soon as it can.
    """
    texts = dict(_pair(each) for each in settings)
    if not texts:
        raise UsageError(f"nothing to set: {HOW}")
    control.settings(texts)
    folder = find(run, runs)
    if ENDS in texts and not Worker.of(folder).at_work:
        return _recalled(folder)
    asked = Asked(_at_work(folder, texts), (uuid.uuid4().hex,), texts)
    control.leave(folder, asked)
    answer = _awaited(folder, asked)
    if answer is None:
        options.tell(
            f"the run has not taken it up within {PATIENCE:.0f} s, and will as soon as it can: batchgen status"
        )
        return 7
    if not answer.taken:
        raise UsageError(answer.says)
    click.echo(clean(answer.says))
    return 0


def _recalled(folder: Folder) -> int:
    """End the batches that an earlier run left with its providers."""
    from batchgen import offer  # load all that a run needs, which to change one at work does not
    from batchgen.commands.run import recall
    from batchgen.manifest import Setup

    if not Worker.of(folder).open[0]:
        raise UsageError(f"no run is at work in {folder.path}, and no batch is open: nothing was changed")
    code = recall(offer.wish(str(folder.path), None, Setup()))
    return code if Worker.of(folder).open[0] else 0


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key.strip() or not value.strip():
        raise UsageError(f"{text}: {HOW}")
    return key.strip(), value


def _at_work(folder: Folder, texts: dict[str, str]) -> str:
    """The name of the run that works there; UsageError where none does."""
    with books.reading(folder.ledger) as db:
        last = books.last_run(db)
    if last is None or last["ended_at"] or not working(last, folder):
        kept = " ".join(f"--set limits.{key}={value}" for key, value in texts.items() if key in control.LIMITS)
        instead = f". Give it to the next one: batchgen run … {kept}" if kept else ""
        raise UsageError(f"no run is at work in {folder.path}: nothing was changed{instead}")
    return control.name(last)


def _awaited(folder: Folder, asked: Asked) -> Answer | None:
    """What the run says to it, within the time that a person waits for it; UsageError where it ended instead."""
    (mine,), last = asked.ids, time.monotonic() + PATIENCE
    while time.monotonic() < last:
        if answer := control.standing(folder, asked.run).answers.get(mine):
            return answer
        time.sleep(GLANCE)
    with books.reading(folder.ledger) as db:
        row = books.last_run(db)
    if row and (control.name(row) != asked.run or row["ended_at"]):
        control.withdraw(folder, mine)
        raise UsageError("the run ended before it took that up: nothing was changed")
    return None
