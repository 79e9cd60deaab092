"""ImageFolder: the files themselves, in folders by the first letter of their names, and metadata.jsonl to each split.

A file that stands already is taken as it is where the metadata beside it tells its hash; else it is read and compared.
"""

import errno
import hashlib
import json
import os
from collections.abc import Set
from contextlib import suppress
from functools import partial
from pathlib import Path

from batchgen import provenance
from batchgen.dataset import Dataset, Sample
from batchgen.errors import UsageError
from batchgen.exports import originals, shards
from batchgen.exports.base import (
    Config,
    Feature,
    Rows,
    Work,
    ahead,
    extension,
    features,
    line,
    nothing_needed,
    picture,
    row,
)
from batchgen.exports.originals import INPUTS, MASK
from batchgen.target import Entry, inside

METADATA = "metadata.jsonl"
FILE = "file_name"  # what `datasets` makes the column `image` of; others that end so become images, too
Known = dict[str, str]
"""Files of this export's, by their names from their split on, with the sha256 that is told of them."""

check = nothing_needed


def write(work: Work) -> None:
    listed = {name.removesuffix(f"/{METADATA}") for name in work.target.before if name.endswith(METADATA)}
    for split in {*listed, *work.data.splits}:
        known = _known(work, split)
        work.target.owned |= {f"{split}/{name}" for name in known}
        if split not in work.data.splits:
            work.target.gone |= {f"{split}/{name}" for name in known}
        elif not _stands(work, split):
            _write(work, split, known)


def configs(data: Dataset, inputs: bool) -> tuple[Config, ...]:
    files = tuple((split, f"{split}/**") for split in data.splits)
    more = (Feature("inputs", "image", many=True), *([Feature("mask", "image")] if data.masks else []))
    found = (Feature("image", "image"), *features(data), *(more if data.edits and inputs else ()))
    return (Config("default", files, found),)


def _known(work: Work, split: str) -> Known:
    """What the metadata tells that is there, and what was to be removed when the last export was cut off."""
    prefix = f"{split}/"
    known = {name.removeprefix(prefix): "" for name in work.target.gone if name.startswith(prefix)}
    with suppress(FileNotFoundError), work.target.opened(f"{split}/{METADATA}") as file:
        for told in map(json.loads, file):
            known[told[FILE]] = told["sha256"]
            known |= {name: Path(name).stem for name in _names(told)}
    if not all(map(inside, known)):
        raise UsageError(f"{work.target.path / split / METADATA} names files elsewhere: give another folder")
    return known


def _names(told: dict[str, object]) -> list[str]:
    """The files that an image was made from."""
    images, mask = told.get(INPUTS), told.get(MASK)
    return [*(images if isinstance(images, list) else []), *([mask] if isinstance(mask, str) else [])]


def _name(sample: Sample) -> str:
    return f"{sample.id[0]}/{sample.id}.{extension(sample.format)}"


def _stands(work: Work, split: str) -> bool:
    """Whether the metadata tells what is to be told, and all its files are there."""
    name, rows = f"{split}/{METADATA}", Rows()
    if name not in work.target.before and name not in work.target.staged:
        return False
    for sample in work.data.samples(split):
        rows.add(sample)
        files = {_name(sample): sample.bytes} | (originals.files(sample) if work.inputs else {})
        if not all(work.target.holds(f"{split}/{each}", size) for each, size in files.items()):
            return False
        work.target.left -= {f"{split}/{each}" for each in files}
    entry = work.target.stands(name, rows.digest)
    if entry:
        work.tick(entry.images)
    return entry is not None


def _write(work: Work, split: str, known: Known) -> None:
    name, rows, images, more = f"{split}/{METADATA}", Rows(), 0, dict[str, object]()
    found = set[str]()
    work.target.gone -= {f"{split}/{each}" for each in known}
    wide = max(work.images.wide, work.target.wide)
    with shards.made(work, name) as file:
        for sample, has_c2pa in ahead(partial(_placed, work, split, known), work.data.samples(split), wide):
            files = {FILE: _name(sample)}
            more = originals.place(work, split, sample) if work.data.edits and work.inputs else {}
            file.buffer.write(line(files | row(work.data, sample, has_c2pa) | more))
            for each in (_name(sample), *_names(more)):
                known.pop(each, None)
                work.target.left.discard(f"{split}/{each}")
            found |= {each for each, value in more.items() if value}
            rows.add(sample)
            images += 1
            work.tick(1)
    _check_alike(work, split, more.keys() - found)
    work.target.gone |= {f"{split}/{each}" for each in known}
    work.target.note(name, Entry(file.size, file.sha256, images, rows.digest))


def _check_alike(work: Work, split: str, lacking: Set[str]) -> None:
    """UsageError where `datasets` would see other features in one split than in another, and load neither."""
    if lacking and len(work.data.splits) > 1:
        raise UsageError(
            f"--split: no image in {split} was made from what others have as {' and '.join(sorted(lacking))}, which"
            " datasets could not load: give --no-inputs, or --where \"operation = 'edit'\", or other shares"
        )


def _placed(work: Work, split: str, known: Known, sample: Sample) -> tuple[Sample, bool]:
    """An image is there or staged; with whether it bears a C2PA manifest."""
    name = f"{split}/{_name(sample)}"
    if not work.target.far and (there := work.target.holds(name, sample.bytes)):
        with open(there, "rb") as file:
            told = "" if there.startswith(f"{work.target.part}/") else known.get(_name(sample))
            if told == sample.sha256 or hashlib.file_digest(file, "sha256").hexdigest() == sample.sha256:
                return sample, provenance.has_c2pa(file)
    found = picture(work.images, sample)
    if work.link:
        _link(work.images.where(sample.path), work.target.stage(name))
    else:
        work.target.place(name, found.data)
    return sample, found.has_c2pa


def _link(path: str, staged: str) -> None:
    try:
        os.link(path, staged, follow_symlinks=False)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS):
            raise
        raise UsageError(f"--link: {path} cannot get a second name ({error.strerror}): leave --link out") from None
