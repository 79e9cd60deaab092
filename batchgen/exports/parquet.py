"""Parquet: tables that hold the images themselves, in a column that `datasets` knows for images. pyarrow's door."""

import json
from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import Any, BinaryIO

from batchgen.dataset import Dataset
from batchgen.errors import UsageError
from batchgen.exports import shards
from batchgen.exports.base import Config, Feature, Picture, Work, extension, features, row

GROUP = 32_000_000  # bytes: held in memory until they are written, and read as one by who shows a row; up to 300 MB go
IMAGE = "image"
BYTES = "image.bytes"
MISSING = "--format parquet needs pyarrow: pip install pyarrow"


def check() -> None:
    _arrow()


def write(work: Work) -> None:
    pa, pq = _arrow()
    schema = _schema(pa, work.data)
    leaves = ["image.path", *schema.names[1:]]

    def fill(file: BinaryIO, pictures: Iterator[Picture]) -> None:
        writing = pq.ParquetWriter(
            file,
            schema,
            compression={BYTES: "NONE", **dict.fromkeys(leaves, "ZSTD")},  # images do not get smaller
            use_dictionary=leaves,
            write_statistics=leaves,
            write_page_index=True,
            use_content_defined_chunking=True,
        )
        with writing as writer:
            for group in _groups(pictures):
                writer.write_table(_table(pa, schema, work.data, group))

    for split in work.data.splits:
        shards.write(work, split, "", f"data/{split}-{{}}.parquet", fill)


def configs(data: Dataset, inputs: bool) -> tuple[Config, ...]:
    files = tuple((split, f"data/{split}-*.parquet") for split in data.splits)
    return (Config("default", files, (Feature(IMAGE, "image"), *features(data))),)


def _arrow() -> tuple[ModuleType, ModuleType]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise UsageError(MISSING) from None
    return pyarrow, pyarrow.parquet


def _schema(pa: ModuleType, data: Dataset) -> Any:
    """With a note for `datasets` and the Hub: else they would take the images for tables of bytes."""
    types = {"string": pa.string(), "int64": pa.int64(), "float64": pa.float64(), "bool": pa.bool_()}
    told = features(data)
    known = {IMAGE: {"_type": "Image"}} | {each.name: {"dtype": each.kind, "_type": "Value"} for each in told}
    image = (IMAGE, pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
    note = json.dumps({"info": {"features": known}})
    return pa.schema([image, *((each.name, types[each.kind]) for each in told)], metadata={"huggingface": note})


def _groups(pictures: Iterator[Picture]) -> Iterator[list[Picture]]:
    """As many as are held in memory, and at least one."""
    held, size = list[Picture](), 0
    for each in pictures:
        if held and size + len(each.data) > GROUP:
            yield held
            held, size = [], 0
        held.append(each)
        size += len(each.data)
    if held:
        yield held


def _table(pa: ModuleType, schema: Any, data: Dataset, group: Sequence[Picture]) -> Any:
    names = [f"{each.sample.id}.{extension(each.sample.format)}" for each in group]
    images = pa.StructArray.from_arrays(
        [pa.array([each.data for each in group], pa.binary()), pa.array(names)], names=["bytes", "path"]
    )
    rows = [row(data, each.sample, each.has_c2pa) for each in group]
    cells = [pa.array([each[field.name] for each in rows], field.type) for field in list(schema)[1:]]
    return pa.Table.from_arrays([images, *cells], schema=schema)
