"""batchgen verify: hold the ledger, the files and their checksums against each other."""

from pathlib import Path

import click

from batchgen import books, report, verify
from batchgen.commands import options
from batchgen.folder import find
from batchgen.text import clean


@click.command(name="verify", short_help="Hold the ledger, the files and their checksums against each other.")
@click.argument("run")
@options.runs
@options.as_json
def command(run: str, runs: Path | None, as_json: bool) -> int:
    """Hold the ledger, the files and their checksums against each other; ends with 3 where anything is wrong.

    \b
      batchgen verify jobs/animals.yaml
    """
    folder = find(run, runs)
    found = list(verify.findings(folder))
    with books.reading(folder.ledger) as db:
        saved = sum(1 for _ in books.saved_images(db))
    if as_json:
        rows = [{"what": one.what, "where": one.where, "says": one.says} for one in found]
        click.echo(report.dumps({"schema_version": report.SCHEMA_VERSION, "images": saved, "findings": rows}))
    else:
        for one in found:
            click.echo(clean(f"{one.what}: {one.where}: {one.says}"))
        click.echo(f"{saved:,} images, " + (f"{len(found):,} findings" if found else "all as the ledger says"))
    return 3 if found else 0
