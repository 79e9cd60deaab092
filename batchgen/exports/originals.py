"""The files that edits were made from, beside what became of them: called by their content, each there once."""

import hashlib
from pathlib import Path

from batchgen.dataset import Sample
from batchgen.errors import UsageError
from batchgen.exports.base import Work, extension
from batchgen.task import Input, Kind

INPUTS, MASK = "inputs_file_names", "mask_file_name"
"""What `datasets` makes the columns `inputs`, a list of images, and `mask` of."""


def files(sample: Sample) -> dict[str, int]:
    """Names and lengths, from the split on; a link or an id at the provider's is no file of ours."""
    return {_name(each): each.bytes for each in sample.inputs if each.kind is Kind.FILE}


def place(work: Work, split: str, sample: Sample) -> dict[str, object]:
    """See that an image's files are there or staged, and say of them what the metadata tells."""
    kept = [each for each in sample.inputs if each.kind is Kind.FILE]
    for each in kept:
        if not work.target.holds(f"{split}/{_name(each)}", each.bytes):
            work.target.place(f"{split}/{_name(each)}", _read(work.originals, each))
    told: dict[str, object] = {INPUTS: [_name(each) for each in kept if not each.area]}
    masks = [_name(each) for each in kept if each.area]
    return told | ({MASK: masks[0] if masks else None} if work.data.masks else {})


def _name(found: Input) -> str:
    return f"inputs/{found.sha256}.{extension(found.format)}"


def _read(folder: Path, found: Input) -> bytes:
    try:
        data = (folder / found.ref).read_bytes()
    except OSError as error:
        raise _lost(folder / found.ref, error.strerror or str(error)) from None
    if hashlib.sha256(data).hexdigest() != found.sha256:
        raise _lost(folder / found.ref, "it has changed since")
    return data


def _lost(path: Path, why: str) -> UsageError:
    return UsageError(f"{path}, of which an image was made: {why}. Put it back as it was, or export with --no-inputs")
