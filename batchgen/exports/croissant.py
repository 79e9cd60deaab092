"""croissant.json: the dataset described in Croissant 1.0, JSON-LD that search engines and mlcroissant read.

A split's rows are a record set: read from metadata.jsonl, from the tables, or from the texts in the archives.
"""

import json

from batchgen.dataset import Dataset
from batchgen.exports.base import C2PA
from batchgen.target import Entries

Node = dict[str, object]
TYPES = {"string": "sc:Text", "int64": "sc:Integer", "float64": "sc:Float", "bool": "sc:Boolean"}
MIME = {"jsonl": "application/jsonlines", "tar": "application/x-tar", "parquet": "application/x-parquet"}
TERMS = """
citeAs column conformsTo equivalentProperty extract field fileProperty fileObject fileSet format includes isLiveDataset
jsonPath key md5 parentField path recordSet references regex repeated replace samplingRate separator source subField
transform
"""
CONTEXT: Node = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    **{term: f"cr:{term}" for term in TERMS.split()},
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "sc": "https://schema.org/",
}


def build(data: Dataset, entries: Entries) -> bytes:
    """`entries`: the files of the dataset; those that hold rows are told of."""
    groups: dict[str, list[str]] = {}
    for name in sorted(entries):
        if _ending(name) in MIME:
            groups.setdefault(_group(name), []).append(name)
    files = [_file(name, entries[name].sha256) for names in groups.values() for name in names]
    told = {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": data.facts.job,
        "description": f"{data.images} generated images with their prompts",
        "datePublished": data.facts.last,
        "distribution": [*files, *(_rows(group, names) for group, names in groups.items())],
        "recordSet": [_records(data, group, _ending(names[0])) for group, names in groups.items()],
    }
    return (json.dumps(told, indent=1, ensure_ascii=False) + "\n").encode()


def _ending(name: str) -> str:
    return name.rpartition(".")[2]


def _group(name: str) -> str:
    """Files of one split and kind: png/train/00001.tar, data/train-00000.parquet, train/metadata.jsonl."""
    folder, _, file = name.rpartition("/")
    return (f"{folder}/{file.rpartition('-')[0]}" if "-" in file else folder).removeprefix("data/").replace("/", "-")


def _file(name: str, sha256: str) -> Node:
    told = {"@type": "cr:FileObject", "@id": name, "name": name, "contentUrl": name}
    return {**told, "encodingFormat": MIME[_ending(name)], "sha256": sha256}


def _rows(group: str, names: list[str]) -> Node:
    """The files that a split's rows are read from: its own, or those in its archives."""
    node: Node = {"@type": "cr:FileSet", "@id": f"{group}-rows", "name": f"{group}-rows"}
    if _ending(names[0]) == "tar":
        inside = [{"@id": name} for name in names]
        return node | {"containedIn": inside, "encodingFormat": "text/plain", "includes": "*.txt"}
    return node | {"encodingFormat": MIME[_ending(names[0])], "includes": names}


def _records(data: Dataset, group: str, ending: str) -> Node:
    fields = [_field(group, each.name, TYPES[each.type], {"column": each.name}) for each in (*data.columns, C2PA)]
    if ending == "tar":  # what mlcroissant reads of files in archives is their text alone
        name = _field(group, "id", TYPES["string"], {"fileProperty": "filename"}, {"regex": r"^(.*)\.txt$"})
        fields = [name, _field(group, "prompt", TYPES["string"], {"fileProperty": "content"})]
    elif ending == "jsonl":
        fields.insert(0, _field(group, "file_name", TYPES["string"], {"column": "file_name"}))
    else:
        fields.insert(0, _field(group, "image", "sc:ImageObject", {"column": "image"}, {"jsonPath": "bytes"}))
    return {"@type": "cr:RecordSet", "@id": group, "name": group, "field": fields}


def _field(group: str, name: str, type: str, extract: Node, transform: Node | None = None) -> Node:
    source = {"fileSet": {"@id": f"{group}-rows"}, "extract": extract} | ({"transform": transform} if transform else {})
    return {"@type": "cr:Field", "@id": f"{group}/{name}", "name": name, "dataType": type, "source": source}
