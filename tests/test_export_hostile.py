"""export as a command: kills, full and read-only disks, strange paths, files to edit that are gone, and its words."""

import hashlib
import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from sandbox.child import Child
from test_disk_faults import mounted, read_only
from test_export import copied, export, harm, made, told, tree
from test_export_parts import picture, signed
from test_inputs import mask, photo
from world import OTTER, World, environment, many

from batchgen import exports
from batchgen.errors import UsageError

STRANGE = "a b%20#'\"\\ü🦦"
KILLED = """
import os, signal, sys
from collections.abc import Callable
from pathlib import Path
from batchgen import exports
from batchgen.dataset import Rule
from batchgen.exports import Order, shards
from batchgen.folder import Folder

shards.IMAGES = 8
run, to, format = sys.argv[1:]
def export(images):
    def begin(total):
        done = 0
        def tick(more):
            nonlocal done
            done += more
            if done >= images: os.kill(os.getpid(), signal.SIGKILL)
        return tick
    exports.export(Folder(Path(run)), Order(format, Rule(split="train=0.5,val=0.5"), True, False), Path(to), begin)
for images in (1, 2, 17, 16, 31, 48, 59, 60, 1000):
    pid = os.fork()
    if not pid:
        export(images)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), *sorted(os.listdir(to)))
"""


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory, polite: Child) -> World:
    return made(World(tmp_path_factory.mktemp("mixed"), polite))


@pytest.mark.parametrize("format", ["imagefolder", "webdataset"])
def test_whatever_kills_it_the_same_command_completes_it(mixed: World, tmp_path: Path, format: str) -> None:
    to = tmp_path / STRANGE / "out"
    to.mkdir(parents=True)
    command = [sys.executable, "-c", KILLED, str(mixed.run_folder), str(to), format]
    out = subprocess.run(command, env=environment(), capture_output=True, text=True, check=True).stdout.splitlines()
    assert [line.split() for line in out[:-1]] == [["-9", ".part"]] * 8
    assert out[-1].split()[0] == "0"
    assert "README.md" in out[-1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("batchgen.exports.shards.IMAGES", 8)
        export(mixed, tmp_path / "whole", format, split="train=0.5,val=0.5")
    assert tree(to) == tree(tmp_path / "whole")


@mounted
@pytest.mark.parametrize("format", ["imagefolder", "parquet"])
def test_a_disk_that_is_full_ends_it_and_room_lets_it_go_on(mixed: World, tmp_path: Path, format: str) -> None:
    (point := tmp_path / "small").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=120k", "tmpfs", str(point)], check=True)
    try:
        said = mixed.command("export", "otters.yaml", "--format", format, "--to", str(point / "out"))
        assert (said.returncode, "No space left" in said.stderr, "Traceback" in said.stderr) == (5, True, False)
        assert os.listdir(point / "out") == [".part"]
        subprocess.run(["mount", "-o", "remount,size=8m", str(point)], check=True)
        export(mixed, point / "out", format)
        export(mixed, tmp_path / "whole", format)
        assert tree(point / "out") == tree(tmp_path / "whole")
    finally:
        subprocess.run(["umount", "--lazy", str(point)], check=True)


@mounted
def test_a_target_that_is_read_only_is_told(mixed: World, tmp_path: Path) -> None:
    (tmp_path / "fixed").mkdir()
    with read_only(tmp_path / "fixed"):
        said = mixed.command("export", "otters.yaml", "--format", "webdataset", "--to", str(tmp_path / "fixed"))
    assert (said.returncode, "Read-only file system" in said.stderr, "Traceback" in said.stderr) == (5, True, False)


@mounted
def test_links_to_another_file_system_are_refused(mixed: World, tmp_path: Path) -> None:
    (point := tmp_path / "other").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(point)], check=True)
    try:
        with pytest.raises(UsageError, match=r"cannot get a second name.*leave --link out"):
            export(mixed, point / "out", link=True)
    finally:
        subprocess.run(["umount", "--lazy", str(point)], check=True)


def test_the_command_says_what_there_is_and_nothing_else_on_stdout(mixed: World, tmp_path: Path) -> None:
    to = tmp_path / STRANGE
    arguments = ("export", "otters.yaml", "--format", "imagefolder", "--to", str(to), "--split", "train=0.5,val=0.5")
    said = mixed.command(*arguments)
    images = {split: len(told(to, split)) for split in ("train", "val")}
    size = sum(row["bytes"] for split in images for row in told(to, split))
    doubles = sum(row["duplicate_of"] != "" for split in images for row in told(to, split))
    shares = ", ".join(f"{split} {number}" for split, number in images.items())
    told_ = f"{to}: 60 images ({shares}), {size:,} bytes; {doubles} duplicates, see duplicate_of\n"
    assert (said.returncode, said.stdout) == (0, told_)
    assert said.stderr == "README.md there tells how it is loaded and what its columns are\n"
    assert mixed.command(*arguments).stderr == "all of it was there already\n"


def test_what_cannot_be_done_is_one_sentence(mixed: World, tmp_path: Path) -> None:
    base = ("export", "otters.yaml", "--to", str(tmp_path / "out"), "--format")
    (tmp_path / "none" / "pyarrow").mkdir(parents=True)
    (tmp_path / "none" / "pyarrow" / "__init__.py").write_text("raise ImportError")
    lacking = mixed.command(*base, "parquet", PYTHONPATH=str(tmp_path / "none"))
    assert (lacking.returncode, lacking.stderr) == (
        2,
        "--format parquet needs pyarrow: pip install pyarrow\n",
    )
    wrong = mixed.command(*base, "parquet", "--where", "qualty = 'high'")
    assert wrong.returncode == 2
    assert "no such column: qualty. The columns are id, prompt, revised_prompt, ids, provider, model" in wrong.stderr
    assert not (tmp_path / "out").exists()


def test_what_is_wanted_must_be_known_as_a_whole(world: World, tmp_path: Path) -> None:
    world.run()
    harm(world, "UPDATE job SET enqueued = 'unfinished'")
    with pytest.raises(UsageError, match="wait a moment, or batchgen run it"):
        export(world, tmp_path / "out")


def test_what_rows_are_called_is_told_as_it_was_when_the_export_began(mixed: World, tmp_path: Path) -> None:
    world = copied(mixed, tmp_path / "run")

    def begin(images: int) -> Callable[[int], object]:
        harm(world, "DELETE FROM names")  # as a run does that begins
        return lambda done: None

    export(world, tmp_path / "out", begin=begin)
    assert {row["ids"] for row in told(tmp_path / "out")} == {f"00{number}" for number in range(5)}


@pytest.mark.parametrize("format", exports.FORMATS)
def test_signed_provenance_is_told_and_stays(world: World, tmp_path: Path, format: str) -> None:
    world.run(prompts=many(2))
    path, _ = world.files()
    path.write_bytes(data := signed("PNG"))
    sha256 = hashlib.sha256(data).hexdigest()
    name = path.relative_to(world.run_folder / "images")
    harm(world, f"UPDATE images SET sha256 = '{sha256}', bytes = {len(data)} WHERE path = '{name}'")
    export(world, tmp_path / "out", format)
    assert any(data in content for content in tree(tmp_path / "out").values())
    assert picture("PNG") != data
    if format == "imagefolder":
        assert sorted((row["has_c2pa"], row["sha256"] == sha256) for row in told(tmp_path / "out")) == [
            (False, False),
            (True, True),
        ]


def edited(world: World) -> None:
    for name, shade in (("a.png", 1), ("b.png", 2)):
        (world.folder / name).write_bytes(photo(shade=shade))
    (world.folder / "hole.png").write_bytes(mask())
    both = {"prompt": OTTER, "operation": "edit", "images": ["a.png", "b.png"]}
    masked = {"prompt": OTTER, "operation": "edit", "images": ["a.png"], "mask": "hole.png"}
    assert world.run(prompts=[both, masked]).exit_code == 0


def test_what_was_edited_stands_beside_what_became_of_it(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    edited(world)
    export(world, tmp_path / "out")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    datasets = importlib.import_module("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf")
    datasets.disable_progress_bars()
    rows = datasets.load_dataset(str(tmp_path / "out"), split="train")
    assert rows.features["inputs"] == datasets.List(datasets.Image())
    assert rows.features["mask"] == datasets.Image()
    undecoded = rows.cast_column("inputs", datasets.List(datasets.Image(decode=False)))
    undecoded = undecoded.cast_column("mask", datasets.Image(decode=False))
    read = {path.name: path.read_bytes() for path in world.folder.glob("*.png")}
    found = []
    for row in undecoded:
        inputs = [Path(each["path"]).read_bytes() for each in row["inputs"]]
        found.append((inputs, Path(row["mask"]["path"]).read_bytes() if row["mask"] else None))
        hashes = [hashlib.sha256(each).hexdigest() for each in (*inputs, found[-1][1]) if each]
        assert row["input_sha256"].split() == hashes
    wanted = [([read["a.png"], read["b.png"]], None), ([read["a.png"]], read["hole.png"])]
    assert sorted(found, key=str) == sorted(wanted, key=str)
    assert len(list((tmp_path / "out" / "train" / "inputs").iterdir())) == 3
    assert not export(world, tmp_path / "out").changed


def test_a_file_that_was_edited_and_is_gone_is_asked_for_or_left_out(world: World, tmp_path: Path) -> None:
    edited(world)
    (world.folder / "b.png").write_bytes(photo(shade=3))
    with pytest.raises(UsageError, match=r"b.png, of which an image was made: it has changed since.*--no-inputs"):
        export(world, tmp_path / "out")
    (world.folder / "b.png").unlink()
    with pytest.raises(UsageError, match=r"No such file.*--no-inputs"):
        export(world, tmp_path / "out")
    export(world, tmp_path / "bare", inputs=False)
    assert not {"inputs_file_names", "mask_file_name"} & told(tmp_path / "bare")[0].keys()
    assert [len(row["input_sha256"].split()) for row in told(tmp_path / "bare")] == [2, 2]
    for format in ("webdataset", "parquet"):
        assert export(world, tmp_path / format, format).images == 2


def test_the_list_tells_every_file(mixed: World, tmp_path: Path) -> None:
    export(mixed, tmp_path, "webdataset", split="train=0.5,val=0.5")
    listed = json.loads((tmp_path / "export.json").read_text())
    there = {name: data for name, data in tree(tmp_path).items() if name != "export.json"}
    assert {name: entry["bytes"] for name, entry in listed["files"].items()} == {n: len(d) for n, d in there.items()}
    assert sum(entry["images"] for entry in listed["files"].values()) == 60


def test_images_without_originals_stand_beside_others_in_one_split_alone(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (world.folder / "a.png").write_bytes(photo())
    edit = {"prompt": OTTER, "operation": "edit", "images": ["a.png"]}
    world.run(prompts=[*many(4), edit])
    with pytest.raises(UsageError, match=r"made from what others have as inputs_file_names.*--no-inputs"):
        export(world, tmp_path / "out", split="train=0.5,val=0.5")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = importlib.import_module("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf")
    export(world, tmp_path / "one")
    rows = datasets.load_dataset(str(tmp_path / "one"), split="train")
    assert sorted(len(row["inputs"]) for row in rows) == [0, 0, 0, 0, 1]
    export(world, tmp_path / "none", where="operation = 'generate'")
    assert "inputs_file_names" not in told(tmp_path / "none")[0]
    assert datasets.load_dataset(str(tmp_path / "none"), split="train").num_rows == 4
