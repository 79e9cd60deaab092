"""The table of export formats, and what is alike in all: a folder with data, card, croissant.json, and its list."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from batchgen import books, dataset, far, place, target
from batchgen.dataset import Rule
from batchgen.errors import UsageError
from batchgen.exports import card, croissant, imagefolder, parquet, webdataset
from batchgen.exports.base import Format, Work
from batchgen.folder import Folder
from batchgen.objects import Objects
from batchgen.store import Directory

FORMATS: Mapping[str, Format] = {"imagefolder": imagefolder, "webdataset": webdataset, "parquet": parquet}


Begin = Callable[[int], Callable[[int], object]]
"""Is told the number of images, and gives what is called with the number of those that are done."""


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be exported, and how. `inputs`: an image folder also holds the files that edits were made from;
    `link`: its files are second names of the run's."""

    format: str
    rule: Rule
    inputs: bool
    link: bool


@dataclass(frozen=True, slots=True)
class Exported:
    """What lies in the folder now; `changed`: not all of it did before."""

    images: int
    bytes: int
    splits: Mapping[str, int]
    duplicates: int
    changed: bool


def export(
    folder: Folder, order: Order, to: Path | Objects, begin: Callable[[int], Callable[[int], object]]
) -> Exported:
    """Write the dataset of a run's ledger to a folder, or below a URL."""
    format = FORMATS[order.format]
    check(folder, order, to)
    format.check()
    images = place.images(folder)
    if order.link and not isinstance(images, Directory):
        raise UsageError(f"--link: the images lie in {images.url}, not on a disk: leave --link out")
    with dataset.settled(folder.ledger, order.rule) as data:
        identity = _identity(order, data.facts)
        with far.opened(to, identity) if isinstance(to, Objects) else target.opened(to, identity) as made:
            work = Work(
                images, _originals(folder), data, made, begin(data.images), link=order.link, inputs=order.inputs
            )
            format.write(work)
            configs = format.configs(data, order.inputs)
            made.write("croissant.json", croissant.build(data, made.entries))
            made.write(target.CARD, card.build(data, configs, order.rule))
            changed = made.finish()
        sums = {split: sum(part.images for part in data.parts if part.split == split) for split in data.splits}
        return Exported(data.images, data.bytes, sums, data.facts.duplicates, changed)


def check(folder: Folder, order: Order, to: Path | Objects) -> None:
    """UsageError where that makes no sense."""
    if order.link and order.format != "imagefolder":
        raise UsageError(f"--link: a {order.format} file holds the images themselves: only imagefolder can have links")
    if isinstance(to, Objects):
        if order.link:
            raise UsageError("--link: nothing in a bucket can be a second name of a file: leave --link out")
        own = books.job(folder.ledger).store
        if own and f"{to.url}/".startswith(f"{own}/"):
            raise UsageError(f"--to {to.url}: that is the run's own place: give another")
        return
    store = place.of(folder)
    folders = folder.path, Path(store.path) if isinstance(store, Directory) else folder.path
    if any(to.resolve().is_relative_to(each.resolve()) for each in folders):
        raise UsageError(f"--to {to}: that is the run's own folder: give another")


def _identity(order: Order, facts: dataset.Facts) -> dict[str, object]:
    return {
        "schema_version": target.SCHEMA_VERSION,
        "job": facts.job,
        "created_at": facts.created_at,
        "format": order.format,
        "where": order.rule.where,
        "split": order.rule.split,
        "with_cost": order.rule.with_cost,
        "inputs": order.inputs,
    }


def _originals(folder: Folder) -> Path:
    """Where the manifest lies: the files to edit are named from there."""
    return (folder.path / books.job(folder.ledger).manifest).parent
