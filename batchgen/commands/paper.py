"""Write a report page, with a bar while thumbnails are made."""

import sys
from pathlib import Path
from typing import Never

import click
from tqdm import tqdm

from batchgen import books, page, troubles
from batchgen.commands.options import tell
from batchgen.folder import Folder
from batchgen.text import clean, count


def write(folder: Folder, target: Path) -> None:
    """Put the page at `target`, and say what is in it."""
    with books.reading(folder.ledger) as db:
        images = troubles.count(db)
    bar: tqdm[Never] = tqdm(
        total=images, unit=" images", leave=False, dynamic_ncols=True, file=sys.stderr, disable=not sys.stderr.isatty()
    )
    with bar:
        written = page.write(folder, target, bar.update)
    size = target.stat().st_size / 1e6
    click.echo(clean(f"{target}: {count(written.images, 'image')}, {size:.1f} MB"))
    if written.bare:
        tell(f"{count(written.bare, 'image')} without a thumbnail: gone, or no whole picture; see batchgen verify")
    if not written.embedded:
        tell(f"Over {page.EMBEDDED_MOST:,} images: their thumbnails are read from {folder.path / 'thumbs'}")
