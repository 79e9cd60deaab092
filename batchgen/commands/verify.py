"""batchgen verify: hold the ledger, the files and their checksums against each other."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Never

import anyio
import click
from tqdm import tqdm

from batchgen import adopt, books, costs, hold, offer, report, troubles, verify
from batchgen.adopt import Adopted
from batchgen.commands import options
from batchgen.consent import usd
from batchgen.errors import StorageError
from batchgen.folder import Folder, find
from batchgen.manifest import Setup
from batchgen.text import clean, count


@click.command(name="verify", short_help="Hold the ledger, the files and their checksums against each other.")
@click.argument("run")
@options.runs
@click.option("--adopt", "adopting", is_flag=True, help="First take in paid images that bear a task's name.")
@options.as_json
def command(run: str, runs: Path | None, adopting: bool, as_json: bool) -> int:
    """Hold the ledger, the files and their checksums against each other; ends with 3 where anything is wrong.

    \b
      batchgen verify jobs/animals.yaml
      batchgen verify jobs/animals.yaml --adopt      where the ledger was put back from an older backup

    It changes nothing, and a run may be at work meanwhile. With --adopt, images that no row owns and that bear the
    name of a task without one are written down as that task's, at their estimated price, so that they are not bought
    again. No file is ever changed, moved or removed.
    """
    folder = find(run, runs)
    if adopting:
        _tell(_adopted(folder), as_json)
    with books.reading(folder.ledger) as db:
        saved = troubles.count(db)
    with _bar(saved) as bar:
        found = list(verify.findings(folder, bar.update))
    if as_json:
        rows = [{"what": one.what, "where": one.where, "says": one.says} for one in found]
        click.echo(report.dumps({"schema_version": report.SCHEMA_VERSION, "images": saved, "findings": rows}))
    else:
        for one in found:
            click.echo(clean(f"{one.what}: {one.where}: {one.says}"))
        click.echo(f"{saved:,} images, " + (count(len(found), "finding") if found else "all as the ledger says"))
    return 3 if found else 0


def _adopted(folder: Folder) -> Adopted:
    """Take in what can be. A ledger that is damaged is written to no more."""
    with hold.locked(folder):
        with books.reading(folder.ledger) as db:
            damage = troubles.damage(db)
        if damage:
            raise StorageError(f"{folder.ledger} is damaged ({damage[0]}). Put a backup of it in its place.")
        found = adopt.adoptable(folder)
        if not found:
            return Adopted()
        providers = offer.used(folder, Setup(trust_hosts=None)).providers
        return anyio.run(adopt.take_in, folder, found, lambda asked: costs.quoted(asked, providers.get(asked.provider)))


def _tell(taken: Adopted, as_json: bool) -> None:
    say = options.tell if as_json else lambda text: click.echo(clean(text))
    for name in taken.names:
        say(f"taken in: {name}")
    unpriced = f"; the price of {taken.unpriced:,} is not known" if taken.unpriced else ""
    adds = f", which adds {usd(taken.low)} to the least and {usd(taken.high)} to the most that the job has cost"
    adds = f"{adds}{unpriced}" if taken.names else ""
    say(f"{count(len(taken.names), 'image')} taken in{adds}")


@contextmanager
def _bar(images: int) -> Iterator["tqdm[Never]"]:
    """On a terminal only."""
    with tqdm(
        total=images, unit=" images", leave=False, dynamic_ncols=True, file=sys.stderr, disable=not sys.stderr.isatty()
    ) as bar:
        yield bar
