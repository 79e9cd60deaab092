"""Hold the ledger and the files against each other: what is missing, changed, or belongs to nobody."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from batchgen import books, images
from batchgen.folder import Folder


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as the ledger says; `what` is a word for scripts."""

    what: str
    where: str
    says: str


def findings(folder: Folder) -> Iterator[Finding]:
    """Everything that is wrong, as it is found; reads every image file once."""
    with books.reading(folder.ledger) as db:
        for sentence in books.troubles(db):
            yield Finding("ledger", folder.ledger.name, sentence)
        known = set()
        for row in books.saved_images(db):
            known.add(str(row["path"]))
            yield from _image(folder.images / str(row["path"]), row)
    yield from _strangers(folder.images, known)


def _image(path: Path, row: books.Row) -> Iterator[Finding]:
    name = str(row["path"])
    try:
        data = path.read_bytes()
    except OSError as error:
        yield Finding("missing", name, f"saved once, now: {error.strerror}")
        return
    if hashlib.sha256(data).hexdigest() != row["sha256"]:
        yield Finding("changed", name, f"{len(data)} bytes with another sha256 than the {row['bytes']} that were saved")
        return
    try:
        images.inspect(data)
    except images.Broken as error:
        yield Finding("broken", name, str(error))


def _strangers(folder: Path, known: set[str]) -> Iterator[Finding]:
    for path in sorted(folder.rglob("*")):
        if not path.is_dir() and str(path.relative_to(folder)) not in known:
            yield Finding("unknown", str(path.relative_to(folder)), "no row of the ledger owns this file")
