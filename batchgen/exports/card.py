"""The dataset card, README.md: how the dataset is loaded, what its columns mean, and where it comes from."""

import json
from collections.abc import Iterator, Mapping, Sequence

from batchgen.dataset import Dataset, Rule
from batchgen.exports.base import C2PA, Config, Feature
from batchgen.text import clean, count

SIZES = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"), (10**9, "1M<n<10M"))
PROVENANCE = """\
The files are the providers' own, byte for byte: where they bear a signed account of how they were made (C2PA, column
`has_c2pa`), it stays valid. It does not survive being decoded and encoded again, as by `Dataset.map` on the image
column or by any conversion.
"""


def build(data: Dataset, configs: Sequence[Config], rule: Rule) -> bytes:
    facts = data.facts
    parts = [
        f"---\n{''.join(_yaml(_head(data, configs)))}---\n",
        f"# {facts.job}\n",
        "".join(f"{line}\n" for line in _story(data, rule)),
        "## Loading\n",
        "```python\nfrom datasets import load_dataset\n\n" + "".join(_loading(configs)) + "```\n",
        "## Columns\n",
        "| column | type | |\n| --- | --- | --- |\n" + "".join(_columns(data)),
        f"## Provenance\n\n{PROVENANCE}",
        "## Licence\n\nNone is stated. The terms of the providers above say what may be done with the images.\n",
    ]
    return "\n".join(parts).encode()


def _head(data: Dataset, configs: Sequence[Config]) -> dict[str, object]:
    kinds = {operation for *_, operation in data.facts.models}
    tasks = (["text-to-image"] if "generate" in kinds else []) + (["image-to-image"] if kinds - {"generate"} else [])
    return {
        "pretty_name": data.facts.job,
        "task_categories": tasks,
        "size_categories": [next((name for most, name in SIZES if data.images < most), "n>1T")],
        "tags": ["synthetic"],
        "configs": [
            {"config_name": each.name, "data_files": [{"split": split, "path": path} for split, path in each.files]}
            for each in configs
        ],
        "dataset_info": [
            {"config_name": each.name, "features": [_feature(one) for one in each.features]} for each in configs
        ],
    }


def _feature(feature: Feature) -> dict[str, object]:
    if feature.inner:
        return {"name": feature.name, "struct": [_feature(each) for each in feature.inner]}
    return {"name": feature.name, "list" if feature.many else "dtype": feature.kind}


def _yaml(value: object, indent: str = "") -> Iterator[str]:
    """Blocks of lists and mappings; what is text stands as in JSON, which YAML reads."""
    if isinstance(value, Mapping):
        for name, each in value.items():
            yield from _entry(f"{indent}{name}:", each, indent)
    elif isinstance(value, Sequence):
        for each in value:
            first, *rest = "".join(_yaml(each, f"{indent}  ")).splitlines(True) if _deep(each) else _scalar(each)
            yield f"{indent}- {first.lstrip()}"
            yield from rest


def _entry(name: str, value: object, indent: str) -> Iterator[str]:
    if _deep(value):
        yield f"{name}\n"
        yield from _yaml(value, indent if isinstance(value, list) else f"{indent}  ")
    else:
        yield from (f"{name} {line}" for line in _scalar(value))


def _deep(value: object) -> bool:
    return isinstance(value, Mapping | list)


def _scalar(value: object) -> list[str]:
    return [json.dumps(value, ensure_ascii=False) + "\n"]


def _story(data: Dataset, rule: Rule) -> Iterator[str]:
    facts = data.facts
    yield f"{count(data.images, 'image')} ({data.bytes:,} bytes) of {count(facts.prompts, 'prompt')}, made by models"
    yield f"between {facts.first} and {facts.last}, exported by batchgen from the ledger of the job {facts.job}.\n"
    for provider, model, operation in facts.models:
        yield f"- {_plain(model)} at {_plain(provider)}: {operation}"
    if len(facts.models):
        yield ""
    if rule.split:
        yield f"Splits: {rule.split}. By a hash of it, a prompt stands on one side with all that was made of it.\n"
    if rule.where:
        yield f"Only the images of which this holds:\n\n    {clean(rule.where)}\n"
    if facts.duplicates:
        yield f"{count(facts.duplicates, 'image')} of the same bytes as an earlier one: see `duplicate_of`.\n"
    yield f"Manifest: sha256 {facts.manifest}\n"


def _plain(name: str) -> str:
    return f"`{clean(name).replace('`', '')}`"


def _loading(configs: Sequence[Config]) -> Iterator[str]:
    for each in configs:
        name = f", {each.name!r}" if len(configs) > 1 else ""
        yield f'dataset = load_dataset("path/of/this/folder"{name})\n'
        place = f'"path/of/this/folder/{each.files[0][1]}"'
        if place.endswith('.parquet"'):
            yield f"# or pandas.concat(map(pandas.read_parquet, glob.glob({place}))): image holds bytes and path\n"
        elif place.endswith('.tar"'):
            yield f"# or webdataset.WebDataset(sorted(glob.glob({place})), shardshuffle=False)\n"


def _columns(data: Dataset) -> Iterator[str]:
    for each in (*data.columns, C2PA):
        about = clean(each.about).replace("|", "\\|")
        yield f"| `{clean(each.name).replace('|', ' ')}` | {each.type} | {about} |\n"
