"""What is exported is read back by the libraries that people use, offline: the same bytes, the same words, features."""

import gc
import hashlib
import importlib
import json
import tarfile
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from sandbox.child import Child
from test_export import export, made, told
from world import World

SPLIT = "train=0.6,val=0.4"


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory, polite: Child) -> World:
    return made(World(tmp_path_factory.mktemp("mixed"), polite))


@pytest.fixture
def datasets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Hugging Face's library, which may neither call anybody nor leave anything in the user's home."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    library = importlib.import_module("datasets")
    monkeypatch.setattr(library.config, "HF_DATASETS_CACHE", tmp_path / "hf")
    library.disable_progress_bars()
    return library


def expected(world: World, form: str = "{}-{}") -> dict[str, tuple[str, str]]:
    """id → sha256 and prompt, of every image."""
    rows = world.rows(
        "SELECT t.key, i.idx, i.sha256, p.text FROM images i JOIN tasks t ON t.seq = i.task"
        " JOIN prompts p ON p.id = t.prompt"
    )
    return {form.format(key, index): (sha256, prompt) for key, index, sha256, prompt in rows}


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def held(image: Mapping[str, Any]) -> bytes:
    return image["bytes"] or Path(image["path"]).read_bytes()


def seen(rows: Iterable[Any], image: str = "image", cells: str = "") -> dict[str, tuple[str, str]]:
    """What the rows say is expected; their files' own hashes, not those that are told."""
    found = {}
    for row in rows:
        known = row[cells] if cells else row
        assert isinstance(known["created"], str)
        assert known["created"].endswith("Z")
        found[known["id"]] = digest(held(row[image])), known["prompt"]
    return found


@pytest.mark.parametrize("format", ["imagefolder", "parquet"])
def test_datasets_loads_the_folder(mixed: World, tmp_path: Path, format: str, datasets: ModuleType) -> None:
    export(mixed, tmp_path / "out", format, split=SPLIT, with_cost=True)
    loaded = datasets.load_dataset(str(tmp_path / "out"))
    assert list(loaded) == ["train", "val"]
    found: dict[str, tuple[str, str]] = {}
    for split in loaded.values():
        assert isinstance(split.features["image"], datasets.Image)
        kinds = {name: feature.dtype for name, feature in split.features.items() if name != "image"}
        assert (kinds["prompt"], kinds["bytes"], kinds["has_c2pa"], kinds["cost_usd_high"], kinds["created"]) == (
            "string", "int64", "bool", "float64", "string",
        )  # fmt: skip
        found |= seen(split.cast_column("image", datasets.Image(decode=False)))
        assert split[0]["image"].size == (split[0]["width"], split[0]["height"])
    assert found == expected(mixed)


@pytest.mark.parametrize("format", ["imagefolder", "parquet"])
def test_datasets_streams_the_folder(mixed: World, tmp_path: Path, format: str, datasets: ModuleType) -> None:
    export(mixed, tmp_path / "out", format)
    stream = datasets.load_dataset(str(tmp_path / "out"), split="train", streaming=True)
    assert seen(stream.cast_column("image", datasets.Image(decode=False))) == expected(mixed)


def test_datasets_loads_an_image_folder_that_has_no_card(mixed: World, tmp_path: Path, datasets: ModuleType) -> None:
    export(mixed, tmp_path / "out", split=SPLIT)
    (tmp_path / "out" / "README.md").unlink()
    loaded = datasets.load_dataset("imagefolder", data_dir=str(tmp_path / "out"))
    found = [seen(split.cast_column("image", datasets.Image(decode=False))) for split in loaded.values()]
    assert found[0] | found[1] == expected(mixed)


def test_one_image_is_a_dataset(world: World, tmp_path: Path, datasets: ModuleType) -> None:
    world.run()
    for format, image, cells in (("imagefolder", "image", ""), ("parquet", "image", ""), ("webdataset", "png", "json")):
        export(world, tmp_path / format, format)
        loaded = datasets.load_dataset(str(tmp_path / format), split="train")
        assert seen(loaded.cast_column(image, datasets.Image(decode=False)), image, cells) == expected(world, "{}")


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_both_loaders_read_the_shards_of_every_format(mixed: World, tmp_path: Path, datasets: ModuleType) -> None:
    export(mixed, tmp_path / "out", "webdataset", split=SPLIT)
    found, again = dict[str, tuple[str, str]](), dict[str, tuple[str, str]]()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # webdataset is of an older Python
        webdataset = importlib.import_module("webdataset")
    for kind in ("png", "jpg", "webp"):
        for split in datasets.load_dataset(str(tmp_path / "out"), kind).values():
            assert isinstance(split.features[kind], datasets.Image)
            rows = list(split.cast_column(kind, datasets.Image(decode=False)))
            assert [row["txt"] for row in rows] == [row["json"]["prompt"] for row in rows]
            found |= seen(rows, kind, "json")
        tars = sorted(map(str, (tmp_path / "out" / kind).rglob("*.tar")))
        for row in webdataset.WebDataset(tars, shardshuffle=False, empty_check=False):
            assert digest(row[kind]) == json.loads(row["json"])["sha256"]
            again[row["__key__"]] = digest(row[kind]), row["txt"].decode()
        del row, rows
        gc.collect()  # webdataset leaves files to it
    assert found == again == expected(mixed)


def test_members_of_a_tar_are_nobodys_and_of_no_time(mixed: World, tmp_path: Path) -> None:
    export(mixed, tmp_path, "webdataset")
    for path in tmp_path.rglob("*.tar"):
        with tarfile.open(path) as tar:
            assert {(m.mtime, m.uid, m.gid, m.uname, m.gname, m.mode) for m in tar} == {(0, 0, 0, "", "", 0o644)}
            assert {m.name.partition(".")[2] for m in tar} == {"json", "txt", path.parts[-3]}


def test_pandas_and_arrow_read_the_tables(mixed: World, tmp_path: Path) -> None:
    pandas, parquet = importlib.import_module("pandas"), importlib.import_module("pyarrow.parquet")
    export(mixed, tmp_path / "out", "parquet")
    (path,) = (tmp_path / "out" / "data").iterdir()
    frame = pandas.read_parquet(path)
    assert seen(frame.to_dict("records")) == expected(mixed)
    assert {held["path"].rpartition(".")[2] for held in frame["image"]} == {"png", "jpg", "webp"}
    export(mixed, tmp_path / "lines")
    lines = pandas.read_json(tmp_path / "lines" / "train" / "metadata.jsonl", lines=True, dtype=False)
    assert list(lines["created"]) == [row["created"] for row in told(tmp_path / "lines")]
    assert list(lines["ids"]) == list(frame["ids"])
    meta = parquet.ParquetFile(path).metadata
    assert all(meta.row_group(0).column(n).has_column_index for n in range(2, meta.num_columns))


def test_row_groups_and_files_stay_small(mixed: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from batchgen.exports import parquet as ours
    from batchgen.exports import shards

    assert ours.GROUP <= 100_000_000
    assert shards.BYTES <= 500_000_000
    monkeypatch.setattr(ours, "GROUP", 20_000)
    monkeypatch.setattr(shards, "BYTES", 200_000)
    parquet = importlib.import_module("pyarrow.parquet")
    export(mixed, tmp_path / "out", "parquet")
    files = [parquet.ParquetFile(path) for path in sorted((tmp_path / "out" / "data").iterdir())]
    assert len(files) > 1
    groups = [file.metadata.row_group(n) for file in files for n in range(file.num_row_groups)]
    assert len(groups) > len(files)
    image = next(n for n in range(groups[0].num_columns) if groups[0].column(n).path_in_schema == "image.bytes")
    assert all(group.column(image).total_compressed_size < 20_000 or group.num_rows == 1 for group in groups)


@pytest.mark.parametrize("format", ["imagefolder", "parquet", "webdataset"])
def test_croissant_is_valid_and_its_records_can_be_read(
    mixed: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format: str
) -> None:
    monkeypatch.setenv("CROISSANT_CACHE", str(tmp_path / "cache"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        croissant = importlib.import_module("mlcroissant")
        extract = importlib.import_module("mlcroissant._src.operation_graph.operations.extract")
        from etils import epath

        monkeypatch.setattr(extract, "EXTRACT_PATH", epath.Path(tmp_path / "cache"))
        export(mixed, tmp_path / "out", format, split=SPLIT)
        dataset = croissant.Dataset(jsonld=tmp_path / "out" / "croissant.json")
        assert not dataset.metadata.issues.errors
        found = [
            (row[f"{each.uuid}/id"].decode(), row[f"{each.uuid}/prompt"].decode())
            for each in dataset.metadata.record_sets
            for row in dataset.records(record_set=each.uuid)
        ]
    export(mixed, tmp_path / "folder")
    assert sorted(found) == sorted((row["id"], row["prompt"]) for row in told(tmp_path / "folder"))
    distribution = json.loads((tmp_path / "out" / "croissant.json").read_bytes())["distribution"]
    for node in distribution:
        if "sha256" in node:
            assert digest((tmp_path / "out" / node["contentUrl"]).read_bytes()) == node["sha256"]
