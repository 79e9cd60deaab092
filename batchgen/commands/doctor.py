"""batchgen doctor: look at this machine."""

import os
import shutil
import textwrap
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import click

from batchgen import doctor, report
from batchgen.commands import options
from batchgen.doctor import Finding
from batchgen.text import clean

COLOURS = {"ok": "green", "note": "yellow", "bad": "red"}
MARK = 4  # columns
WIDTH_LEAST, WIDTH_MOST = 40, 100  # columns
BLOCKED = 5


@click.command(name="doctor", short_help="Look at this machine: what a night's run rests on.")
@options.runs
@options.as_json
def command(runs: Path | None, as_json: bool) -> int:
    """Look at this machine: what a night's run rests on. Ends with 5 where anything is bad.

    It looks at Python and SQLite, at the disk below ./runs or DIR (small files are written there, and removed), the
    clock, the proxies and the keys. It makes no network connection, and of a key it tells only the length.

    \b
      batchgen doctor
      batchgen doctor --runs /data/runs --json
    """
    found = list(doctor.findings(runs or Path("runs"), os.environ))
    if as_json:
        told = {"schema_version": report.SCHEMA_VERSION, "findings": [asdict(one) for one in found]}
        click.echo(report.dumps(told))
    else:
        width = min(max(shutil.get_terminal_size().columns, WIDTH_LEAST), WIDTH_MOST)
        for line in (*lines(found, width), "", summary(found)):
            click.echo(line, color=False if os.environ.get("NO_COLOR") else None)
    return BLOCKED if any(one.mark == "bad" for one in found) else 0


def lines(found: Sequence[Finding], width: int) -> Iterator[str]:
    """Three columns, each sentence wrapped under its own beginning; a path is never broken."""
    whats = max(len(one.what) for one in found)
    room = width - MARK - whats - 4
    for one in found:
        says = textwrap.wrap(clean(one.says), room, break_long_words=False, break_on_hyphens=False)
        mark = click.style(f"{one.mark:<{MARK}}", fg=COLOURS[one.mark])
        yield f"{mark}  {one.what:<{whats}}  {says[0] if says else ''}"
        yield from (" " * (MARK + whats + 4) + more for more in says[1:])


def summary(found: Sequence[Finding]) -> str:
    count = Counter(one.mark for one in found)
    notes = f"{count['note']} note{'' if count['note'] == 1 else 's'}"
    return f"{count['bad']} bad, {notes}." if count["bad"] else f"Nothing is bad, {notes}."
