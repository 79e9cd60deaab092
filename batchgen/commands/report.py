"""batchgen report: what a run made and what it cost."""

from collections.abc import Sequence
from pathlib import Path

import click

from batchgen import books, report
from batchgen.commands import options, tables
from batchgen.errors import UsageError
from batchgen.folder import find
from batchgen.task import AttemptState
from batchgen.text import clean

STATES = [str(state) for state in AttemptState]


@click.command(name="report", short_help="What a run made and what it cost.")
@click.argument("run")
@options.runs
@options.as_json
@click.option("--csv", "as_csv", is_flag=True, help="The table as CSV on stdout.")
@click.option("--by", help="Columns to sum by, with commas: axes, provider, model, operation.")
@click.option("--attempts", is_flag=False, flag_value="all", metavar="STATE", help="The attempts, all or of one state.")
@click.option("--task", metavar="KEY", help="Every attempt of one task.")
def command(
    run: str, runs: Path | None, as_json: bool, as_csv: bool, by: str | None, attempts: str | None, task: str | None
) -> None:
    """What a run made and what it cost, from all attempts of all its runs.

    \b
      batchgen report jobs/animals.yaml
      batchgen report jobs/animals.yaml --by quality --csv
      batchgen report jobs/animals.yaml --attempts unknown     ids to take to the provider
      batchgen report jobs/animals.yaml --task 6bz4xq7cl5mdwyta
    """
    ledger = find(run, runs).ledger
    if attempts or task:
        show_attempts(ledger, attempts or "all", task or "", as_json, as_csv)
        return
    told = report.build(ledger)
    if as_json:
        click.echo(report.dumps(told))
        return
    groups = told["groups"]
    assert isinstance(groups, list)
    table = report.table(groups, columns(by, report.known_columns(groups)))
    if as_csv:
        tables.write_csv(table.columns, table.rows)
        return
    title = f"{told['job']}, {report.moment(told['started_at'])} to {report.moment(told['ended_at'])}"
    tables.show(report.narrow(table), title)
    for line in report.summary(told):
        click.echo(clean(line))


def columns(by: str | None, known: Sequence[str]) -> list[str]:
    names = [name.strip() for name in (by or "").split(",") if name.strip()]
    if strange := [name for name in names if name not in known]:
        raise UsageError(f"--by {strange[0]}: this run can be summed by {', '.join(known)}")
    return names


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
        for name, value in about.items():
            click.echo(f"{name:10} {clean(value)}")
    rows = tuple(tuple(row[name] for name in SHOWN) for row in found)
    tables.show(report.Table(SHOWN, rows), f"{len(found)} attempts")
    if found:
        click.echo(
            " id is the X-Client-Request-Id that the provider was sent, sent_at is UTC: its support can look it up."
        )


SHOWN = ("id", "task", "state", "sent_at", "seconds", "usd_low", "usd_high", "code", "error")
ATTEMPT_COLUMNS = (
    *("seq", "id", "task", "state", "purchase", "lane", "engine", "run", "sent_at", "ended_at", "seconds"),
    *("usd_low", "usd_high", "estimated", "status", "code", "error", "request_id", "handle", "said"),
    *("input_text_tokens", "input_image_tokens", "output_image_tokens", "output_text_tokens", "total_tokens"),
)
