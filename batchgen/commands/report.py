"""batchgen report: what a run made and what it cost."""

from collections.abc import Sequence
from pathlib import Path

import click

from batchgen import report
from batchgen.commands import details, options, paper, tables
from batchgen.errors import UsageError
from batchgen.folder import find
from batchgen.task import TaskState
from batchgen.text import clean

SPARE = ("input_tokens", "output_tokens", "tasks")  # what a narrow terminal does without


@click.command(name="report", short_help="What a run made and what it cost.")
@click.argument("run")
@options.runs
@options.as_json
@click.option("--csv", "as_csv", is_flag=True, help="The table as CSV on stdout.")
@click.option("--by", help="Columns to sum by, with commas: axes, provider, model, operation.")
@click.option("--attempts", is_flag=False, flag_value="all", metavar="STATE", help="The attempts, all or of one state.")
@click.option("--task", metavar="KEY", help="Every attempt of one task.")
@click.option("--state", type=click.Choice([str(each) for each in TaskState]), help="The tasks of one state.")
@click.option("--html", metavar="FILE", type=click.Path(path_type=Path), help="A page with all pictures, as one file.")
def command(
    run: str,
    runs: Path | None,
    as_json: bool,
    as_csv: bool,
    by: str | None,
    attempts: str | None,
    task: str | None,
    state: str | None,
    html: Path | None,
) -> None:
    """What a run made and what it cost, from all attempts of all its runs.

    \b
      batchgen report jobs/animals.yaml
      batchgen report jobs/animals.yaml --by quality --csv
      batchgen report jobs/animals.yaml --attempts unknown     ids to take to the provider
      batchgen report jobs/animals.yaml --task 6bz4xq7cl5mdwyta
      batchgen report jobs/animals.yaml --state refused --csv  their prompts, to be changed
      batchgen report jobs/animals.yaml --html report.html     to look at: pictures, filters, plots
    """
    folder = find(run, runs)
    if (html and (as_json or as_csv)) or sum(map(bool, (html, state, attempts or task))) > 1:
        raise UsageError("give one of --html, --state, and --attempts or --task; --html without --json and --csv")
    if html:
        paper.write(folder, html)
    elif state:
        details.show_tasks(folder.ledger, TaskState(state), as_json, as_csv)
    elif attempts or task:
        details.show_attempts(folder.ledger, attempts or "all", task or "", as_json, as_csv)
    else:
        show(folder.ledger, by, as_json, as_csv)


def show(ledger: Path, by: str | None, as_json: bool, as_csv: bool) -> None:
    """The whole, summed by columns, as JSON, CSV, or a table and the sums."""
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
    tables.show(report.narrow(table), title, report.shares(table), SPARE)
    if (lanes := report.lanes(told)).rows:
        tables.show(lanes, "by lane", [], ())
    for line in report.summary(told):
        click.echo(clean(line))


def columns(by: str | None, known: Sequence[str]) -> list[str]:
    names = [name.strip() for name in (by or "").split(",") if name.strip()]
    if strange := [name for name in names if name not in known]:
        raise UsageError(f"--by {strange[0]}: this run can be summed by {', '.join(known)}")
    return names
