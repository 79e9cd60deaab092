"""What a report tells one by one: the tasks of a state, the attempts of a state or of a task."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

import click

from batchgen import books, listing, report
from batchgen.commands import tables
from batchgen.errors import UsageError
from batchgen.problems import cut
from batchgen.task import AttemptState, TaskState
from batchgen.text import clean, count

STATES = [str(state) for state in AttemptState]
LISTED = ("task", "prompt", "axes", "attempts", "code", "error")
LISTED_SPARE = ("error", "attempts", "axes")  # what a narrow terminal does without
LISTED_MOST = 50  # tasks that a person is shown
SHOWN = ("id", "task", "state", "sent_at", "seconds", "usd_low", "usd_high", "code", "error")
ATTEMPT_COLUMNS = (
    *("seq", "id", "task", "state", "purchase", "lane", "engine", "run", "sent_at", "ended_at", "seconds"),
    *("usd_low", "usd_high", "estimated", "status", "code", "error", "request_id", "handle", "said"),
    *("input_text_tokens", "input_image_tokens", "output_image_tokens", "output_text_tokens", "total_tokens"),
)
SHOWN_SPARE = ("usd_low", "seconds", "error", "code", "usd_high", "task")
LOOK_UP = "ids are the X-Client-Request-Id that the provider was sent, times are UTC; its support can look them up."


def show_tasks(ledger: Path, state: TaskState, as_json: bool, as_csv: bool) -> None:
    """The wanted tasks of a state; on a terminal the first of them."""
    found = listing.listed(ledger, state)
    if as_json:
        told = {"schema_version": report.SCHEMA_VERSION, "state": state, "tasks": [asdict(each) for each in found]}
        click.echo(report.dumps(told))
        return
    if as_csv:
        names = listing.columns(ledger, state)
        tables.write_csv(names, (each.cells(names) for each in found), exact="prompt")
        return
    shown = tuple(
        (each.task, cut(clean(each.prompt)), each.labels, each.attempts, each.code, cut(clean(each.error)))
        for each in islice(found, LISTED_MOST)
    )
    tables.show(report.Table(LISTED, shown), f"{state} tasks", spare=LISTED_SPARE)
    if next(found, None):
        click.echo(f" These are the first {LISTED_MOST}; --csv and --json have all of them, and all of each.")


def show_attempts(ledger: Path, state: str, task: str, as_json: bool, as_csv: bool) -> None:
    """The attempts of a state or of a task, as JSON, CSV or a table."""
    if state not in ("all", *STATES):
        raise UsageError(f"--attempts {state}: give one of all, {', '.join(STATES)}")
    with books.reading(ledger) as db:
        found = list(books.attempts(db, "" if state == "all" else state, task))
        about = books.task(db, task) if task else None
    if task and about is None:
        raise UsageError(f"--task {task}: no task has this key; keys stand at the end of each image's name")
    if as_json:
        click.echo(report.dumps({"schema_version": report.SCHEMA_VERSION, "task": about, "attempts": found}))
        return
    if as_csv:
        tables.write_csv(ATTEMPT_COLUMNS, ([row[name] for name in ATTEMPT_COLUMNS] for row in found))
        return
    if about:
        for line in lines(about, found):
            click.echo(clean(line))
        return
    rows = tuple(tuple(row[name] for name in SHOWN) for row in found)
    tables.show(report.Table(SHOWN, rows), count(len(found), "attempt"), spare=SHOWN_SPARE)
    if found:
        click.echo(f" {LOOK_UP}")


def lines(about: Mapping[str, Any], found: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """A task, and each of its attempts in a line that is wide enough for its id, with what came of it below."""
    yield from (f"{name:10} {value}" for name, value in about.items() if value not in (None, "", "{}"))
    yield ""
    yield f"{count(len(found), 'attempt')}: {LOOK_UP}" if found else "It was never sent."
    for number, row in enumerate(found, 1):
        low, high = row["usd_low"], row["usd_high"]
        money = "no known price" if high is None else f"${high:,.4f}" if low == high else f"${low:,.4f} to ${high:,.4f}"
        sent = str(row["sent_at"])[:19].replace("T", " ")
        took = "" if row["seconds"] is None else f" for {row['seconds']:,.1f} s"
        yield f"{number:3}  {row['id']}  sent {sent}{took}, {row['state']}, {money}"
        if said := ": ".join(str(row[name]) for name in ("code", "error") if row[name]):
            yield f"     {said}"
