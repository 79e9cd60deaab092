"""batchgen costs: what was spent, over runs."""

import os
import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import chain, islice
from pathlib import Path

import click

from batchgen import billing, costs, offer, reconcile, report, spending, statement
from batchgen.commands import options, tables
from batchgen.errors import BatchgenError, UsageError
from batchgen.folder import Folder, find
from batchgen.manifest import Manifest, Setup
from batchgen.reconcile import AGREES, Comparison, Span
from batchgen.statement import Statement
from batchgen.task import Variant
from batchgen.text import clean

Billed = tuple[Statement, Comparison]
MONTH = re.compile(r"[0-9]{4}-(0[1-9]|1[0-2])")
INCOMPLETE = 3


@click.command(name="costs", short_help="What was spent, over runs.")
@click.argument("run", nargs=-1)
@options.runs
@click.option("--month", metavar="YYYY-MM", help="Only what was sent in this month, in UTC.")
@click.option("--by", default="job", help=f"What to sum by, with commas: {', '.join(spending.BY)}.")
@click.option("--bill", type=click.Path(path_type=Path), metavar="FILE", help="Compare with what a provider exported.")
@options.as_json
@click.option("--csv", "as_csv", is_flag=True, help="The rows as CSV on stdout.")
def command(
    run: tuple[str, ...], runs: Path | None, month: str | None, by: str, bill: Path | None, as_json: bool, as_csv: bool
) -> int:
    """What was spent, over all runs below ./runs or those given; safe while they work.

    \b
      batchgen costs
      batchgen costs --month 2026-11 --by project,model
      batchgen costs animals jobs/zoo.yaml --csv
      batchgen costs --runs /data/runs --json
      batchgen costs --bill cost_2026-11.csv           hold the books against the provider's own

    A request counts in the month in which it was sent. Pretend money is told apart. Exits with 3 where a ledger cannot
    be read: the sums lack it.

    A bill is a CSV, JSON or JSON-lines file that tells amounts in USD, images or requests, by day or by request: the
    cost export of OpenAI's dashboard, an answer of its /v1/organization/costs or /usage/images, LiteLLM's spend logs,
    the sandbox's bill. Exits with 3 where it and the books do not agree.
    """
    check(month, as_json, as_csv, bill)
    found = ledgers(run or rehearsal(bill), runs)
    spent = spending.over(found, columns(by), month or "")
    for error in spent.unreadable.values():
        options.tell(f"warning: {error}. These sums lack it.")
    billed = against(bill, [ledger for ledger in found if ledger not in spent.unreadable], month) if bill else None
    show(spent, as_json, as_csv, billed)
    return INCOMPLETE if spent.unreadable or (billed and billed[1].verdict != AGREES) else 0


def rehearsal(bill: Path | None) -> tuple[str, ...]:
    """The run that a sandbox's bill lies with: each rehearsal has its own."""
    return (
        (str(bill.parent),) if bill and bill.name == Folder(bill.parent).bill.name and holds_ledger(bill.parent) else ()
    )


def against(bill: Path, ledgers: Sequence[Path], month: str | None) -> Billed:
    """The bill, and what comes of it beside the books; a rehearsal's is for rehearsals alone."""
    read = statement.read(bill)
    sent = billing.attempts([(ledger, Lowest(ledger)) for ledger in ledgers], read.pretend)
    first = list(islice(sent, 1))
    if read.pretend and not first:
        raise UsageError(f"{bill}: is the sandbox's, and none of these runs is a rehearsal")
    return read, reconcile.compare(read, chain(first, sent), window(month))


def window(month: str | None) -> Span | None:
    if month is None:
        return None
    begin = datetime.strptime(month, "%Y-%m").replace(tzinfo=UTC)
    return begin, (begin + timedelta(days=31)).replace(day=1)


class Lowest:
    """What a variant of a run costs at least, if it is billed at all; 0 where its manifest cannot be read any more."""

    def __init__(self, ledger: Path) -> None:
        self._folder = Folder(ledger.parent)
        self._manifest: Manifest | None = None

    def __call__(self, variant: Variant) -> int:
        try:
            self._manifest = self._manifest or offer.used(self._folder, Setup(trust_hosts=None))
            return costs.least(variant, self._manifest.providers.get(variant.provider))
        except (BatchgenError, OSError):
            return 0


def check(month: str | None, as_json: bool, as_csv: bool, bill: Path | None) -> None:
    if month is not None and not MONTH.fullmatch(month):
        raise UsageError(f"--month {month}: give a year and a month, like 2026-11")
    if as_json and as_csv:
        raise UsageError("--json and --csv: give one of them")
    if bill and as_csv:
        raise UsageError("--bill and --csv: a comparison is told in words, or with --json")


def columns(by: str) -> list[str]:
    names = [name.strip() for name in by.split(",")]
    if strange := [name for name in names if name not in spending.BY]:
        raise UsageError(f"--by {strange[0] or repr('')}: runs can be summed by {', '.join(spending.BY)}")
    if len(set(names)) < len(names):
        raise UsageError(f"--by {by}: give each name once")
    return names


def ledgers(run: Sequence[str], runs: Path | None) -> list[Path]:
    """The ledgers of the runs that were named, or of all that are found; each once, however it is spelled."""
    found: dict[str, Path] = {}
    for folder in [find(each, runs) for each in run] if run else every(runs):
        found.setdefault(os.path.realpath(folder.ledger), folder.ledger)
    return list(found.values())


def every(runs: Path | None) -> list[Folder]:
    """All runs below `runs`, or where they lie as a rule; UsageError where there are none."""
    usual = [Path("runs"), *([Path("../runs")] if Path.cwd().name == "jobs" else [])]
    for place in [runs] if runs else usual:
        if found := list(below(place)):
            return found
    raise UsageError(f"there are no runs in {runs or usual[0]}. Give runs, or the folder that holds them: --runs DIR.")


def below(place: Path) -> Iterator[Folder]:
    try:
        found = sorted(place.iterdir())
    except FileNotFoundError:
        return
    except OSError as error:
        raise UsageError(f"{place}: {error.strerror}") from None
    yield from (Folder(path) for path in found if holds_ledger(path))


def holds_ledger(path: Path) -> bool:
    """A ledger that nobody may look at is one too: to pass it over would make the sums look whole."""
    try:
        Folder(path).ledger.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def show(spent: spending.Spending, as_json: bool, as_csv: bool, billed: Billed | None) -> None:
    if as_json:
        click.echo(report.dumps(spending.told(spent) | ({"bill": billing.told(*billed)} if billed else {})))
        return
    if as_csv:
        rows = spending.every_figure(spent)
        tables.write_csv(rows.columns, rows.rows)
        return
    when = f", {spent.month} (UTC)" if spent.month else ""
    if spent.runs:
        runs = "1 run" if spent.runs == 1 else f"{spent.runs:,} runs"
        tables.show(report.narrow(spending.table(spent)), f"{runs}{when}")
    else:
        click.echo(f"No real money was spent{when}.")
    for line in spending.summary(spent):
        click.echo(clean(line))
    if billed:
        click.echo()
        for line in billing.summary(*billed):
            click.echo(clean(line))
