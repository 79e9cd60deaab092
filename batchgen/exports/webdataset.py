"""WebDataset: tar files of which each image is a sample of three members, .json, .txt and the image itself.

Loaders take the members' names from the first samples and find nothing under others, silently. So each format of
images has a folder, and a configuration, of its own.
"""

import tarfile
from collections.abc import Iterator
from typing import BinaryIO

from batchgen.dataset import Dataset
from batchgen.exports import shards
from batchgen.exports.base import Config, Feature, Picture, Work, extension, features, line, nothing_needed, row

check = nothing_needed


def write(work: Work) -> None:
    def fill(file: BinaryIO, pictures: Iterator[Picture]) -> None:
        for each in pictures:
            file.write(_members(work.data, each))
        file.write(bytes(2 * tarfile.BLOCKSIZE))

    for part in work.data.parts:
        shards.write(work, part.split, part.format, _name(part.split, part.format), fill)


def configs(data: Dataset, inputs: bool) -> tuple[Config, ...]:
    """One for each format of images; `default` where there is but one."""
    formats = list(dict.fromkeys(part.format for part in data.parts))
    return tuple(
        Config(
            name=extension(format) if len(formats) > 1 else "default",
            files=tuple(
                (part.split, f"{_folder(part.split, format)}/*.tar") for part in data.parts if part.format == format
            ),
            features=(
                Feature("json", "struct", features(data)),
                Feature("txt", "string"),
                Feature(extension(format), "image"),
                Feature("__key__", "string"),
                Feature("__url__", "string"),
            ),
        )
        for format in formats
    )


def _folder(split: str, format: str) -> str:
    return f"{extension(format)}/{split}"


def _name(split: str, format: str) -> str:
    return f"{_folder(split, format)}/{{}}.tar"


def _members(data: Dataset, found: Picture) -> bytes:
    """A sample's files as they stand in a tar, the same whenever and by whomever it is written."""
    sample = found.sample
    members = {
        "json": line(row(data, sample, found.has_c2pa)),
        "txt": sample.prompt.encode(),
        extension(sample.format): found.data,
    }
    blocks = []
    for ending, content in sorted(members.items()):
        info = tarfile.TarInfo(f"{sample.id}.{ending}")
        info.size = len(content)
        blocks += [info.tobuf(tarfile.USTAR_FORMAT), content, bytes(-len(content) % tarfile.BLOCKSIZE)]
    return b"".join(blocks)
