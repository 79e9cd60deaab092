"""verify --adopt: paid images without rows are taken into the books, so that they are not bought again."""

import json
import os
import shutil
import signal
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import anyio
import pytest
from conftest import Start
from PIL import Image
from test_verify import found, harm
from world import World, eventually, many

from batchgen import adopt, costs
from batchgen.adopt import Adopted
from batchgen.folder import Folder
from batchgen.task import Variant

NANO = 1_000_000_000
ADOPT = ("verify", "otters.yaml", "--adopt")


def folder(world: World) -> Folder:
    return Folder(world.run_folder)


def backup(world: World) -> Path:
    """The ledger of this moment, whole, in one file."""
    copy = world.folder / "backup.db"
    with closing(sqlite3.connect(world.run_folder / "ledger.db")) as db, closing(sqlite3.connect(copy)) as other:
        db.backup(other)
    return copy


def restore(world: World, copy: Path) -> None:
    """Put a backup in the ledger's place, as a person would: what was written since is gone, the log too."""
    for suffix in ("", "-wal", "-shm"):
        (world.run_folder / f"ledger.db{suffix}").unlink(missing_ok=True)
    shutil.copy(copy, world.run_folder / "ledger.db")
    (world.run_folder / "ledger.db").chmod(0o600)


def set_back(world: World, count: int = 4, n: int = 1, **changes: object) -> None:
    """All is bought; the ledger is that of the moment when the first task was."""
    changes = {"request": {"size": "1024x1024", "quality": "low", "n": n}, **changes}
    world.run(prompts=many(count), limits={"concurrency": 1, "images": n, "budget": 10}, **changes)
    copy = backup(world)
    assert world.run(prompts=many(count), **changes).exit_code == 0
    restore(world, copy)
    assert world.states() == {"done": 1, "todo": count - 1}


def contents(world: World) -> dict[Path, tuple[bytes, int]]:
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in world.files()}


def test_a_ledger_from_an_older_backup_is_brought_up_to_its_images_and_nothing_is_bought_again(world: World) -> None:
    set_back(world)
    before = contents(world)
    said = world.command("verify", "otters.yaml")
    assert (said.returncode, said.stdout.count("batchgen verify RUN --adopt takes it in")) == (3, 3)
    taken = world.command(*ADOPT)
    assert (taken.returncode, taken.stdout.count("taken in: ")) == (0, 3), taken.stdout
    assert taken.stdout.splitlines()[-1] == "4 images, all as the ledger says"
    assert (found(world), world.states(), world.attempts()) == ({}, {"done": 4}, ["paid"] * 4)
    again = world.command("run", "otters.yaml")
    assert (again.returncode, len(world.charges()), contents(world)) == (0, 4, before)


def test_what_is_taken_in_is_in_the_books_between_the_least_and_the_most_of_its_price(world: World) -> None:
    set_back(world)
    ((low, high),) = world.rows("SELECT sum(cost_low), sum(cost_high) FROM attempts")
    taken = next(line for line in world.command(*ADOPT).stdout.splitlines() if "adds" in line)
    ((low_now, high_now),) = world.rows("SELECT sum(cost_low), sum(cost_high) FROM attempts")
    assert low_now <= world.billed() <= high_now
    assert taken.startswith("3 images taken in, which adds $")
    adds = [float(word[1:]) for word in taken.split() if word.startswith("$")]
    assert adds == [pytest.approx(each / NANO, rel=0.01) for each in (low_now - low, high_now - high)]
    assert world.rows(
        "SELECT DISTINCT estimated, code, low > 0 FROM (SELECT *, cost_low AS low FROM attempts) WHERE seq > 1"
    ) == [(1, "adopted", 0)], "nobody knows by which price they were bought"


def test_they_were_bought_when_their_files_were_written(world: World) -> None:
    """What a month cost is summed by that."""
    set_back(world, count=2)
    (name,) = found(world)
    os.utime(world.run_folder / "images" / name, (1_700_000_000, 1_700_000_000))
    world.command(*ADOPT)
    assert world.rows("SELECT sent_at, ended_at FROM attempts WHERE seq = 2") == [("2023-11-14T22:13:20.000Z",) * 2]


def test_taking_in_twice_changes_nothing_the_second_time(world: World) -> None:
    set_back(world)
    world.command(*ADOPT)
    before = world.rows("SELECT * FROM attempts"), world.rows("SELECT * FROM images"), world.rows("SELECT * FROM runs")
    assert world.command(*ADOPT).stdout.splitlines()[0] == "0 images taken in"
    assert (
        world.rows("SELECT * FROM attempts"),
        world.rows("SELECT * FROM images"),
        world.rows("SELECT * FROM runs"),
    ) == before


def test_what_was_cut_off_half_way_is_taken_up_again(world: World) -> None:
    set_back(world)
    asked: list[Variant] = []

    def cut(variant: Variant) -> costs.Quote | None:
        asked.append(variant)
        if len(asked) == 2:
            raise KeyError("cut off")
        return None

    with pytest.raises(KeyError):
        anyio.run(adopt.take_in, folder(world), adopt.adoptable(folder(world)), cut)
    assert (world.states(), len(world.attempts())) == ({"done": 2, "todo": 2}, 2)
    assert sorted(found(world).values()) == ["unknown"] * 2
    assert world.command(*ADOPT).returncode == 0
    assert (world.states(), found(world)) == ({"done": 4}, {})


@pytest.mark.parametrize("after", range(3))
def test_a_kill_at_any_time_leaves_whole_tasks_and_another_call_takes_in_the_rest(world: World, after: int) -> None:
    set_back(world, count=8)
    process = world.begin(*ADOPT)
    eventually(lambda: process.poll() is not None or world.states()["done"] > after)
    process.kill()
    process.wait()
    done = world.states()["done"]
    assert world.rows("SELECT count(*) FROM images") == world.rows("SELECT count(*) FROM attempts") == [(done,)]
    assert world.command(*ADOPT).returncode == 0
    assert (world.states(), len(world.attempts()), len(world.charges())) == ({"done": 8}, 8, 8)


def test_a_request_of_unknown_fate_turns_out_to_be_paid_for(bad: Start) -> None:
    world = bad("--script", "cut")
    world.run(retry={"on_unknown": "hold"})
    assert (world.states(), world.attempts()) == ({"held": 1}, ["unknown"])
    before = world.rows("SELECT id, purchase, sent_at, ended_at, cost_high FROM attempts")
    plant(world)
    said = world.command(*ADOPT)
    assert (said.returncode, world.states(), world.attempts()) == (0, {"done": 1}, ["paid"]), said.stdout
    assert world.rows("SELECT id, purchase, sent_at, ended_at, cost_high FROM attempts") == before
    assert " and $0.00 to the most " in said.stdout  # its highest price was counted all the time
    world.check_books()
    assert world.rows("SELECT error LIKE '%before: _%' FROM attempts") == [(1,)]


def test_of_several_requests_of_unknown_fate_the_last_one_was_paid_for(bad: Start) -> None:
    world = bad("--script", "cut cut 400")
    world.run(retry={"duplicate_allowance": 5, "attempts": 3})
    assert world.attempts() == ["unknown", "unknown", "rejected"]
    plant(world)
    assert world.command(*ADOPT).returncode == 0
    assert world.attempts() == ["unknown", "paid", "rejected"]
    world.check_books()


def test_a_request_that_was_cut_off_and_whose_image_is_there_is_paid_for(bad: Start) -> None:
    world = bad("--script", "hang")
    process = world.begin("run", str(world.write()))
    eventually(lambda: world.sandbox.stats()["open"] == 1)
    assert world.command(*ADOPT).returncode == 6
    process.send_signal(signal.SIGKILL)
    process.wait()
    plant(world)
    assert (world.command(*ADOPT).returncode, world.attempts(), world.states()) == (0, ["paid"], {"done": 1})
    assert world.command("run", "otters.yaml").returncode == 0
    assert len(world.attempts()) == 1


def test_what_a_run_will_take_in_at_its_exact_price_is_left_to_it(world: World) -> None:
    """The answer is in the spool, the image in its place, the row not written: as a kill between them leaves it."""
    world.run()
    ((attempt,),) = world.rows("SELECT id FROM attempts")
    harm(world, "DELETE FROM images; UPDATE tasks SET state = 'doing'")
    harm(world, "UPDATE attempts SET state = 'sending', ended_at = NULL, cost_low = 0")
    (world.run_folder / "spool" / f"{attempt}.1").touch(0o600)
    said = world.command(*ADOPT)
    assert (said.returncode, said.stdout.splitlines()[0], world.attempts()) == (3, "0 images taken in", ["sending"])
    assert found(world) == {"ledger.db": "open"}


def test_of_several_images_those_that_are_lost_are_noted_as_missing(world: World) -> None:
    set_back(world, count=2, n=3)
    lost = sorted(name for name in found(world) if name.endswith("-1.png"))
    (world.run_folder / "images" / lost[0]).unlink()
    assert world.command(*ADOPT).returncode == 0
    sql = "SELECT idx, state FROM images WHERE task = 2 ORDER BY idx"
    assert world.rows(sql) == [(0, "saved"), (1, "broken"), (2, "saved")]
    assert world.rows("SELECT images FROM attempts WHERE task = 2") == [(3,)]


def test_an_image_that_comes_to_light_later_joins_its_request_at_no_cost(world: World) -> None:
    set_back(world, count=2, n=2)
    (late,) = [world.run_folder / "images" / name for name in found(world) if name.endswith("-1.png")]
    late.rename(world.folder / "late.png")
    world.command(*ADOPT)
    money = world.rows("SELECT count(*), sum(cost_low), sum(cost_high) FROM attempts")
    (world.folder / "late.png").rename(late)
    assert world.command(*ADOPT).returncode == 0
    assert world.rows("SELECT count(*), sum(cost_low), sum(cost_high) FROM attempts") == money
    assert world.rows("SELECT count(*) FROM images WHERE task = 2 AND state = 'saved'") == [(2,)]


def test_a_name_of_the_users_own_is_known_wherever_the_key_stands_in_it(world: World) -> None:
    set_back(world, output={"path": "by-key/{{ key }}/{{ size }}-{{ sample }}"})
    assert (world.command(*ADOPT).returncode, found(world), world.states()) == (0, {}, {"done": 4})


def a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


LEFT: dict[str, Callable[[Path], object]] = {
    "damaged": lambda path: path.write_bytes(path.read_bytes()[:-5]),
    "empty": lambda path: path.write_bytes(b""),
    "under another name": lambda path: path.rename(path.with_name(f"my-{path.name}")),
    "as another kind": lambda path: path.rename(path.with_suffix(".jpg")),
    "of a number beyond": lambda path: path.rename(path.with_name(f"{path.stem}-200.png")),
    "of an unknown task": lambda path: path.rename(path.with_name(f"{'a' * 16}.png")),
    "behind a link": lambda path: path.symlink_to(path.rename(path.parents[4] / "elsewhere.png")),
    "a pipe": a_pipe,
}


@pytest.mark.parametrize("how", LEFT)
def test_what_is_not_surely_a_tasks_image_is_left_and_named(world: World, how: str) -> None:
    set_back(world, count=2)
    (name,) = found(world)
    LEFT[how](world.run_folder / "images" / name)
    before, told = sorted((world.run_folder / "images").rglob("*")), found(world)
    assert list(told.values()) == ["unknown"]
    said = world.command(*ADOPT)
    assert (said.returncode, said.stdout.splitlines()[0]) == (3, "0 images taken in")
    assert (found(world), sorted((world.run_folder / "images").rglob("*"))) == (told, before)
    assert world.states() == {"done": 1, "todo": 1}


def test_of_two_files_for_one_image_one_is_taken_in_and_the_other_named(world: World) -> None:
    set_back(world, count=2)
    (name,) = found(world)
    there = world.run_folder / "images" / name
    other = there.with_suffix(".webp")
    Image.open(there).save(other)
    said = world.command(*ADOPT)
    assert (said.returncode, said.stdout.count("taken in: "), world.states()) == (3, 1, {"done": 2})
    assert list(found(world)) == [str(other.relative_to(world.run_folder / "images"))]
    assert there.exists()
    assert other.exists()


def test_another_image_beside_the_one_that_the_ledger_has_is_no_tasks(world: World) -> None:
    world.run()
    (there,) = world.files()
    Image.open(there).save(there.with_suffix(".webp"))
    assert (world.command(*ADOPT).returncode, len(world.attempts())) == (3, 1)


def test_where_no_price_is_known_none_is_written_down(world: World) -> None:
    set_back(world, count=3)
    taken = anyio.run(adopt.take_in, folder(world), adopt.adoptable(folder(world)), lambda variant: None)
    assert (len(taken.names), taken.low, taken.high, taken.unpriced) == (2, 0, 0, 2)
    assert world.rows("SELECT DISTINCT cost_low, cost_high FROM attempts WHERE seq > 1") == [(None, None)]
    assert found(world) == {}


def test_a_task_that_was_given_up_for_want_of_its_image_is_wanted_again(bad: Start) -> None:
    world = bad("--script", "cut")
    world.run(retry={"on_unknown": "hold"})
    world.command("drop", "otters.yaml", "--held")
    plant(world)
    assert world.command(*ADOPT).returncode == 0
    assert world.states() == {"done": 1}


def test_a_damaged_ledger_takes_nothing_in(world: World) -> None:
    set_back(world)
    harm(world, "PRAGMA foreign_keys = OFF; DELETE FROM runs")
    said = world.command(*ADOPT)
    assert (said.returncode, "is damaged" in said.stderr, len(world.attempts())) == (5, True, 1)


def test_scripts_read_the_same_object_as_ever_and_people_what_was_taken_in(world: World) -> None:
    set_back(world)
    said = world.command(*ADOPT, "--json")
    assert json.loads(said.stdout) == {"schema_version": 1, "images": 4, "findings": []}
    assert "3 images taken in, which adds $" in said.stderr


def test_it_is_a_run_of_its_own_that_is_over(world: World) -> None:
    set_back(world)
    runs = len(world.rows("SELECT * FROM runs"))
    world.command(*ADOPT)
    (*_, last) = world.rows("SELECT ended_at IS NOT NULL, exit_code, reason FROM runs ORDER BY id")
    assert (len(world.rows("SELECT * FROM runs")), last) == (runs + 1, (1, 0, "images without rows were taken in"))
    assert world.rows("SELECT DISTINCT run FROM attempts WHERE code = 'adopted'") == [(runs + 1,)]


def test_what_is_taken_in_adds_up() -> None:
    assert Adopted(("a",), 1, 2, 0) + Adopted(("b",), 10, 20, 1) == Adopted(("a", "b"), 11, 22, 1)


def test_a_ledger_from_an_older_backup_is_not_bought_from_before_its_images_are_taken_in(world: World) -> None:
    set_back(world)
    before = contents(world)
    said = world.command("run", "otters.yaml")
    assert (len(world.charges()), contents(world)) == (4, before)
    assert said.returncode == 5
    assert "--adopt" in said.stderr


def plant(world: World, edge: int = 1024) -> None:
    """The image of the only task, in its place."""
    ((path,),) = world.rows("SELECT path FROM tasks")
    target = world.run_folder / "images" / f"{path}.png"
    target.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (edge, edge)).save(target)


def test_a_picture_of_another_size_than_was_asked_for_is_not_taken_in(bad: Start) -> None:
    world = bad("--script", "cut")
    world.run(retry={"on_unknown": "hold"})
    plant(world, edge=16)
    said = world.command(*ADOPT)
    assert (said.returncode, "not of 1024x1024 pixels" in said.stdout, world.states()) == (3, True, {"held": 1})


def test_a_copy_under_another_number_is_not_taken_in(world: World) -> None:
    world.run()
    (path,) = world.files()
    shutil.copy(path, path.with_stem(f"{path.stem}-1"))
    said = world.command(*ADOPT)
    assert (said.returncode, "asked for no such image" in said.stdout) == (3, True)
