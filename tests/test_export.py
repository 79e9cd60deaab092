"""export: which images, in which order, under which names; the same command again, after a change, after a kill."""

import json
import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from sandbox.child import Child
from world import World, many

from batchgen import exports, target
from batchgen.dataset import Rule
from batchgen.errors import LockedError, StorageError, UsageError
from batchgen.exports import FORMATS, Exported, Order, shards
from batchgen.folder import Folder

PROMPTS = [
    'She said "no", it\'s 5 > 4 & `x` </script>',
    "ünïcödé, 漢字, 🦦, مرحبا",
    "two\nlines\u2028or\u0085four",
    "{{ no }} {template} $5 %s \\ /",
    "x" * 5000,
]
MIXED = {"output_format": ["png", "jpeg", "webp"], "quality": ["low", "high"]}


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory, polite: Child) -> World:
    """A run of all formats, two images a request, prompts as nobody likes them. It is read only."""
    return made(World(tmp_path_factory.mktemp("mixed"), polite))


def made(world: World) -> World:
    lines = [json.dumps({"prompt": prompt, "sku": f"00{number}"}) for number, prompt in enumerate(PROMPTS)]
    (world.folder / "prompts.jsonl").write_text("\n".join(lines))
    source = {"file": "prompts.jsonl", "id": "{{ sku }}", "prompt": "{{ prompt }}"}
    ended = world.run(prompts=[source], matrix=MIXED, request={"size": "1024x1024", "n": 2}, limits={"budget": 99})
    assert ended.exit_code == 0
    return world


def copied(world: World, folder: Path) -> World:
    """The run in a place of its own, to be harmed."""
    shutil.copytree(world.folder, folder, dirs_exist_ok=True)
    return World(folder, world.sandbox)


def export(world: World, to: Path, format: str = "imagefolder", **options: Any) -> Exported:
    rule = Rule(*(options.pop(name, default) for name, default in (("where", ""), ("split", ""), ("with_cost", False))))
    order = Order(format, rule, inputs=options.pop("inputs", True), link=options.pop("link", False))
    return exports.export(Folder(world.run_folder), order, to, options.pop("begin", lambda images: lambda done: None))


def tree(folder: Path) -> dict[str, bytes]:
    """All that lies below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def told(folder: Path, split: str = "train") -> list[dict[str, Any]]:
    """What an image folder tells of its images."""
    return [json.loads(line) for line in (folder / split / "metadata.jsonl").read_bytes().split(b"\n") if line]


def harm(world: World, sql: str) -> None:
    with closing(sqlite3.connect(world.run_folder / "ledger.db")) as db, db:
        db.execute(sql)


@pytest.mark.parametrize("format", FORMATS)
def test_the_same_ledger_makes_the_same_bytes(mixed: World, tmp_path: Path, format: str) -> None:
    for name in ("one", "two"):
        assert export(mixed, tmp_path / name, format, split="train=0.5,val=0.5").changed
    assert tree(tmp_path / "one") == tree(tmp_path / "two")


@pytest.mark.parametrize("format", FORMATS)
def test_the_same_command_twice_writes_nothing(mixed: World, tmp_path: Path, format: str) -> None:
    export(mixed, tmp_path, format)
    before = {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in tmp_path.rglob("*")}
    assert not export(mixed, tmp_path, format).changed
    assert {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in tmp_path.rglob("*")} == before


def test_every_saved_image_is_there_byte_for_byte(mixed: World, tmp_path: Path) -> None:
    done = export(mixed, tmp_path)
    rows = told(tmp_path)
    saved = dict(mixed.rows("SELECT sha256, path FROM images WHERE state = 'saved'"))
    assert done.images == len(rows) == mixed.rows("SELECT count(*) FROM images WHERE state = 'saved'")[0][0] == 60
    for row in rows:
        original = mixed.run_folder / "images" / saved[row["sha256"]]
        assert (tmp_path / "train" / row["file_name"]).read_bytes() == original.read_bytes()
    images = [path for path in (tmp_path / "train").rglob("*") if path.suffix in (".png", ".jpg", ".webp")]
    assert sorted(str(path.relative_to(tmp_path / "train")) for path in images) == sorted(r["file_name"] for r in rows)


def test_rows_tell_what_the_ledger_knows(mixed: World, tmp_path: Path) -> None:
    export(mixed, tmp_path)
    rows = told(tmp_path)
    assert {row["prompt"] for row in rows} == set(PROMPTS)
    assert {(row["ids"], row["prompt"]) for row in rows} == {(f"00{n}", prompt) for n, prompt in enumerate(PROMPTS)}
    assert {row["quality"] for row in rows} == {"low", "high"}
    assert all(row["id"].endswith(f"-{row['n_index']}") and "." not in row["id"] for row in rows)
    assert len({row["id"] for row in rows}) == len(rows)
    assert {type(value) for row in rows for value in row.values()} == {str, int, bool}
    assert not {"cost_usd_low", "request_id", "attempt", "run_path"} & rows[0].keys()


def test_tokens_and_cost_of_a_request_are_shared_out_among_its_images(mixed: World, tmp_path: Path) -> None:
    export(mixed, tmp_path, with_cost=True)
    rows = told(tmp_path)
    tokens = "sum(input_text_tokens + input_image_tokens), sum(output_image_tokens + output_text_tokens)"
    ((inputs, outputs, nano),) = mixed.rows(f"SELECT {tokens}, sum(cost_high) FROM attempts")
    assert sum(row["input_tokens"] for row in rows) == inputs
    assert sum(row["output_tokens"] for row in rows) == outputs
    assert sum(round(row["cost_usd_high"] * 1e9) for row in rows) == nano
    assert {row["cost_kind"] for row in rows} == {"paid"}
    assert {row["run_path"] for row in rows} == {path for (path,) in mixed.rows("SELECT path FROM images")}
    assert {row["attempt"] for row in rows} == {id_ for (id_,) in mixed.rows("SELECT id FROM attempts")}


def test_an_unknown_price_is_never_nothing(mixed: World, tmp_path: Path) -> None:
    world = copied(mixed, tmp_path / "run")
    harm(world, "UPDATE attempts SET cost_low = NULL, cost_high = NULL WHERE seq = 1")
    export(world, tmp_path / "out", with_cost=True)
    unknown = [row for row in told(tmp_path / "out") if row["cost_kind"] == "unknown"]
    assert [(row["cost_usd_low"], row["cost_usd_high"]) for row in unknown] == [(0, None)] * 2


def test_what_is_wanted_no_more_leaves_the_export_and_comes_back(mixed: World, tmp_path: Path) -> None:
    world = copied(mixed, tmp_path / "run")
    out, before = tmp_path / "out", export(world, tmp_path / "out")
    whole = tree(out)
    (mine := out / "notes.txt").write_text("mine")
    harm(world, "UPDATE tasks SET wanted = 'dropped' WHERE seq % 2")
    assert export(world, out).images == before.images / 2
    assert mine.read_text() == "mine"
    kept = {row["file_name"] for row in told(out)}
    assert {name.removeprefix("train/") for name in tree(out) if name.count("/") == 2} == kept
    harm(world, "UPDATE tasks SET wanted = 'yes'")
    mine.unlink()
    assert export(world, out).changed
    assert tree(out) == whole


@pytest.mark.parametrize("format", FORMATS)
def test_an_export_that_was_brought_up_to_date_is_as_a_new_one(
    mixed: World, tmp_path: Path, format: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "IMAGES", 4)
    world = copied(mixed, tmp_path / "run")
    harm(world, "UPDATE tasks SET wanted = 'dropped' WHERE seq IN (3, 20, 21, 30)")
    export(world, tmp_path / "out", format)
    harm(world, "UPDATE tasks SET wanted = CASE WHEN seq IN (5, 22) THEN 'dropped' ELSE 'yes' END")
    export(world, tmp_path / "out", format)
    export(world, tmp_path / "new", format)
    assert tree(tmp_path / "out") == tree(tmp_path / "new")


def test_shards_before_the_change_are_not_made_again(
    mixed: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "IMAGES", 4)
    world = copied(mixed, tmp_path / "run")
    export(world, tmp_path / "out", "webdataset")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "png").rglob("*.tar")}
    last = world.rows("SELECT task FROM images WHERE format = 'png' ORDER BY id DESC LIMIT 1")[0][0]
    harm(world, f"UPDATE tasks SET wanted = 'dropped' WHERE seq = {last}")
    export(world, tmp_path / "out", "webdataset")
    after = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "png").rglob("*.tar")}
    assert len([path for path in before if before[path] == after.get(path)]) == len(before) - 1


def test_duplicates_are_flagged_and_can_be_left_out(world: World, tmp_path: Path) -> None:
    world.run(prompts=many(3))
    first, second, third = world.rows("SELECT id, path, sha256 FROM images ORDER BY id")
    shutil.copy(world.run_folder / "images" / first[1], world.run_folder / "images" / third[1])
    harm(world, f"UPDATE images SET sha256 = '{first[2]}', bytes = (SELECT bytes FROM images WHERE id = {first[0]})")
    shutil.copy(world.run_folder / "images" / first[1], world.run_folder / "images" / second[1])
    done = export(world, tmp_path / "out")
    rows = told(tmp_path / "out")
    assert done.duplicates == 2
    assert [row["duplicate_of"] for row in rows] == ["", rows[0]["id"], rows[0]["id"]]
    assert export(world, tmp_path / "once", where="duplicate_of = ''").images == 1


@pytest.mark.parametrize(
    ("where", "images"),
    [
        ("quality = 'high'", 30),
        ('output_format = "png" AND n_index = 0 -- each once', 10),
        ("prompt LIKE 'ünï%' OR length(prompt) > 4000", 24),
        ("ids IN ('000', '001') AND NOT quality = 'low'", 12),
        ("width = 1024 AND format = 'jpeg'", 20),
    ],
)
def test_where_is_an_expression_over_the_columns(mixed: World, tmp_path: Path, where: str, images: int) -> None:
    assert export(mixed, tmp_path, where=where).images == images


@pytest.mark.parametrize(
    ("where", "says"),
    [
        ("qualty = 'high'", "no such column: qualty. The columns are id, prompt, "),
        ("quality = ", "syntax error"),
        ("1) UNION SELECT 1 --", "syntax error"),
        ("0) UNION SELECT i.id % 2, i.id, i.format, 'x' FROM images i WHERE (1", "syntax error"),
        ("random() > 0", "not authorized to use function: random"),
        ("created < date('now')", "not authorized to use function: date"),
        ("load_extension('x')", "not authorized to use function: load_extension"),
        ("1); DELETE FROM tasks; --", "syntax error|one statement"),
        ("1 IN (WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i FROM n) SELECT i FROM n)", "not authorized"),
        ("id = '\0'", "--where"),
    ],
)
def test_where_can_only_look(mixed: World, tmp_path: Path, where: str, says: str) -> None:
    with pytest.raises(UsageError, match=says.replace("(", r"\(")):
        export(mixed, tmp_path / "out", where=where)
    assert not (tmp_path / "out").exists()


def test_nothing_is_no_dataset(mixed: World, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nothing to export"):
        export(mixed, tmp_path / "out", where="quality = 'medium'")
    assert not (tmp_path / "out").exists()


def test_a_prompt_stands_on_one_side_however_many_there_are(world: World, tmp_path: Path) -> None:
    def sides(out: Path) -> dict[str, str]:
        rule = "train=0.5,val=0.3,test=0.2"
        export(world, out, split=rule)
        return {row["prompt"]: name for name in ("train", "val", "test") for row in told(out, name)}

    matrix = {"quality": ["low", "high"]}
    world.run(prompts=many(20), matrix=matrix, request={"size": "1024x1024"})
    few = sides(tmp_path / "few")
    world.run(prompts=many(40), matrix=matrix, request={"size": "1024x1024"})
    more = sides(tmp_path / "more")
    assert (len(few), len(more)) == (20, 40)
    assert few.items() <= more.items()
    assert set(more.values()) == {"train", "val", "test"}


@pytest.mark.parametrize(
    ("split", "says"),
    [
        ("train=0.9,val=0.2", "add up to 1.1"),
        ("train=0.9", "add up to 0.9"),
        ("train=1,train=0", "number above 0"),
        ("train=0.5,train=0.5", "each name once"),
        ("../x=1", "give names with shares"),
        ("all=1", "give names with shares"),
        ("train=nan,val=1", "number above 0"),
    ],
)
def test_shares_must_make_one(mixed: World, tmp_path: Path, split: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        export(mixed, tmp_path / "out", split=split)


def test_a_folder_that_holds_something_else_is_refused_and_left_as_it_is(mixed: World, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("ten years")
    with pytest.raises(UsageError, match="something else lies there"):
        export(mixed, tmp_path)
    assert tree(tmp_path) == {"thesis.tex": b"ten years"}
    with pytest.raises(UsageError, match="is no folder"):
        export(mixed, tmp_path / "thesis.tex")
    with pytest.raises(UsageError, match="the run's own folder"):
        export(mixed, mixed.run_folder / "images" / "new")


def test_another_export_does_not_go_into_the_same_folder(mixed: World, tmp_path: Path) -> None:
    export(mixed, tmp_path)
    whole = tree(tmp_path)
    for options in ({"format": "webdataset"}, {"where": "n_index = 0"}, {"with_cost": True}):
        with pytest.raises(UsageError, match="holds another export"):
            export(mixed, tmp_path, **options)
    assert tree(tmp_path) == whole


def test_a_card_that_was_edited_is_not_written_over(mixed: World, tmp_path: Path) -> None:
    world = copied(mixed, tmp_path / "run")
    export(world, tmp_path / "out")
    (card := tmp_path / "out" / "README.md").write_text("my own words")
    harm(world, "UPDATE tasks SET wanted = 'dropped' WHERE seq = 1")
    with pytest.raises(UsageError, match=r"README.md was changed since it was written"):
        export(world, tmp_path / "out")
    assert card.read_text() == "my own words"
    card.rename(tmp_path / "mine.md")
    assert export(world, tmp_path / "out").changed


@pytest.mark.parametrize("format", FORMATS)
def test_an_image_that_is_not_what_was_saved_ends_the_export(mixed: World, tmp_path: Path, format: str) -> None:
    world = copied(mixed, tmp_path / "run")
    gone, changed, *_ = world.files()
    whole = changed.read_bytes()
    changed.write_bytes(whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:])
    with pytest.raises(StorageError, match=f"{changed.name} is not what was saved.*batchgen verify"):
        export(world, tmp_path / "out", format)
    changed.write_bytes(whole)
    assert os.listdir(tmp_path / "out") == [".part"]
    spare = gone.rename(tmp_path / "spare")
    with pytest.raises(StorageError, match=f"{gone.name} cannot be read: No such file.*batchgen verify"):
        export(world, tmp_path / "other", format)
    spare.rename(gone)
    export(world, tmp_path / "out", format)
    export(mixed, tmp_path / "new", format)
    assert tree(tmp_path / "out") == tree(tmp_path / "new")


def test_a_link_in_an_images_place_is_not_followed(mixed: World, tmp_path: Path) -> None:
    world = copied(mixed, tmp_path / "run")
    image, *_ = world.files()
    image.symlink_to(image.rename(tmp_path / "elsewhere"))
    with pytest.raises(StorageError, match="symbolic links"):
        export(world, tmp_path / "out")


def test_links_are_second_names_and_a_later_copy_leaves_the_run_as_it_is(mixed: World, tmp_path: Path) -> None:
    world = copied(mixed, tmp_path / "run")
    before = tree(world.run_folder / "images")
    export(world, tmp_path / "copies")
    export(world, tmp_path / "links", link=True)
    assert tree(tmp_path / "links") == tree(tmp_path / "copies")
    inodes = {path.stat().st_ino for path in world.files()}
    assert {path.stat().st_ino for path in (tmp_path / "links" / "train").glob("*/*")} == inodes
    parts = list((tmp_path / "links").iterdir())
    (part := tmp_path / "links" / ".part").mkdir()  # as an export leaves it that was cut off
    for each in parts:
        each.rename(part / each.name)
    (part / "export.json").write_text(json.dumps({**json.loads((part / "export.json").read_text()), "moving": False}))
    harm(world, "UPDATE images SET sha256 = upper(sha256) WHERE id = 1")  # what was staged is no more what is wanted
    with pytest.raises(StorageError):
        export(world, tmp_path / "links")
    assert tree(world.run_folder / "images") == before
    with pytest.raises(UsageError, match="only imagefolder can have links"):
        export(world, tmp_path / "tars", "webdataset", link=True)


def test_an_export_that_is_at_work_is_not_disturbed(mixed: World, tmp_path: Path) -> None:
    def begin(images: int) -> Callable[[int], object]:
        with pytest.raises(LockedError, match="another export writes to"):
            export(mixed, tmp_path / "out")
        return lambda done: None

    export(mixed, tmp_path / "out", begin=begin)


@pytest.mark.parametrize("format", FORMATS)
def test_whoever_is_cut_off_anywhere_goes_on_and_nothing_half_looks_whole(
    mixed: World, tmp_path: Path, format: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Cut(Exception):
        pass

    monkeypatch.setattr(shards, "IMAGES", 7)
    export(mixed, tmp_path / "whole", format)
    whole, out = tree(tmp_path / "whole"), tmp_path / "out"
    for images in (0, 1, 9, 33, 59):

        def begin(_: int, images: int = images) -> Callable[[int], object]:
            done = 0

            def tick(more: int) -> None:
                nonlocal done
                done += more
                if done > images:
                    raise Cut

            return tick

        with pytest.raises(Cut):
            export(mixed, out, format, begin=begin)
        assert os.listdir(out) == [".part"]
    assert export(mixed, out, format).changed
    assert tree(out) == whole


@pytest.mark.parametrize("format", FORMATS)
def test_what_was_staged_and_is_wanted_no_more_never_comes_into_place(
    mixed: World, tmp_path: Path, format: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Cut(Exception):
        pass

    monkeypatch.setattr(shards, "IMAGES", 3)
    world, ticks = copied(mixed, tmp_path / "run"), 0

    def tick(more: int) -> None:
        nonlocal ticks
        ticks += more
        if ticks > 50:
            raise Cut

    with pytest.raises(Cut):
        export(world, tmp_path / "out", format, begin=lambda images: tick)
    harm(world, "UPDATE tasks SET wanted = 'dropped' WHERE seq > 9")
    export(world, tmp_path / "out", format)
    export(world, tmp_path / "new", format)
    assert tree(tmp_path / "out") == tree(tmp_path / "new")


def test_a_move_into_place_that_is_cut_off_anywhere_is_completed_and_shows_no_mixture(
    mixed: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Cut(Exception):
        pass

    def shown(folder: Path) -> dict[str, bytes]:
        return {name: data for name, data in tree(folder).items() if name[0] != "." and name != target.LIST}

    world, rename, renames = copied(mixed, tmp_path / "run"), os.rename, 0
    export(world, tmp_path / "new", "webdataset")
    harm(world, "UPDATE tasks SET wanted = 'dropped' WHERE seq < 4")
    export(world, tmp_path / "old", "webdataset")
    harm(world, "UPDATE tasks SET wanted = 'yes'")
    for most in range(40):
        out, renames = tmp_path / f"out-{most}", 0
        shutil.copytree(tmp_path / "old", out)

        def cut(old: str, new: str, most: int = most) -> None:
            nonlocal renames
            renames += 1
            if renames > most:
                raise Cut
            rename(old, new)

        with monkeypatch.context() as patch, suppress(Cut):
            patch.setattr(os, "rename", cut)
            export(world, out, "webdataset")
        if "README.md" in (seen := shown(out)):
            assert seen in (shown(tmp_path / "old"), shown(tmp_path / "new"))
        changed = export(world, out, "webdataset").changed
        assert tree(out) == tree(tmp_path / "new")
        if not changed:
            break
    assert not changed
