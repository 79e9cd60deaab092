"""batchgen export: the images and what is known of them, as a dataset that training libraries load."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from tqdm import tqdm

from batchgen import exports, store, values
from batchgen.commands import options
from batchgen.dataset import Rule
from batchgen.errors import UsageError
from batchgen.exports import FORMATS, Order
from batchgen.folder import find
from batchgen.objects import Objects
from batchgen.text import clean, count

PATIENCE = 120.0  # seconds, for a bucket that is not reached


@click.command(name="export", short_help="The images and what is known of them, as a dataset.")
@click.argument("run")
@options.runs
@click.option("--format", "form", type=click.Choice(list(FORMATS)), required=True, help="What kind of dataset.")
@click.option(
    "--to", required=True, metavar="DIR", help="A folder, new or empty; or s3://bucket/prefix, gs://…, az://…"
)
@click.option(
    "--where", default="", metavar="SQL", help="Only images for which this holds, over the dataset's columns."
)
@click.option("--split", default="", metavar="SHARES", help="train=0.9,val=0.1: by prompt, each on one side for good.")
@click.option("--with-cost", is_flag=True, help="Also cost, request ids and paths in the run.")
@click.option("--link", is_flag=True, help="imagefolder: second names (hard links) instead of copies.")
@click.option("--no-inputs", is_flag=True, help="imagefolder: without the files that edits were made from.")
def command(
    run: str,
    runs: Path | None,
    form: str,
    to: str,
    where: str,
    split: str,
    with_cost: bool,
    link: bool,
    no_inputs: bool,
) -> None:
    """Write the saved images that are wanted, with their prompts and all that is known of them, to a folder.

    \b
      batchgen export animals --format imagefolder --to datasets/animals
      batchgen export animals --format parquet --to datasets/best --where "quality = 'high'"
      batchgen export animals --format webdataset --to datasets/shards --split train=0.9,val=0.1
      batchgen export animals --format parquet --to s3://bucket/datasets/animals
      hf upload NAME/animals datasets/animals . --repo-type dataset

    The same ledger makes the same bytes. The same command goes on with an export that was cut off, and brings one up to
    date whose run has gone on. A folder that holds anything else is refused. A run may be at work meanwhile.
    """
    order = Order(form, Rule(where, split, with_cost), inputs=not no_inputs, link=link)
    with _bar() as begin:
        done = exports.export(find(run, runs), order, _place(to), begin)
    sides = ", ".join(f"{name} {images:,}" for name, images in done.splits.items())
    same = f"; {count(done.duplicates, 'duplicate')}, see duplicate_of" if done.duplicates else ""
    click.echo(clean(f"{to}: {count(done.images, 'image')} ({sides}), {done.bytes:,} bytes{same}"))
    options.tell(
        "all of it was there already"
        if not done.changed
        else "README.md there tells how it is loaded and what its columns are"
    )


def _place(to: str) -> Path | Objects:
    if "://" not in to:
        return Path(to)
    try:
        found = store.opened(values.store(to), PATIENCE)
    except ValueError as error:
        raise UsageError(f"--to: {error}") from None
    return found if isinstance(found, Objects) else Path(found.url)


@contextmanager
def _bar() -> Iterator[Callable[[int], Callable[[int], object]]]:
    """On a terminal only."""
    with tqdm(unit=" images", leave=False, dynamic_ncols=True, file=sys.stderr, disable=not sys.stderr.isatty()) as bar:

        def begin(images: int) -> Callable[[int], object]:
            bar.reset(images)
            return bar.update

        yield begin
