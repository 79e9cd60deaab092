"""Images in a bucket: what is bought lies there, whole and once, whatever is killed or cut on the way."""

import hashlib
import json
import re
import signal
import sqlite3
import stat
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import buckets
import obstore
import pytest
from buckets import BUCKET, Bucket
from obstore.store import S3Store
from world import World, eventually, many

from batchgen.disk import Unsynced
from batchgen.folder import Folder
from batchgen.place import furnished
from batchgen.store import opened


def place(world: World) -> str:
    """A prefix for each test."""
    return f"s3://{BUCKET}/{world.folder.name}"


def objects(world: World) -> dict[str, bytes]:
    """What lies in the bucket, below the run's own prefix."""
    store = S3Store(BUCKET, client_options={"allow_http": True})
    prefix = f"{world.folder.name}/otters/"
    names = [each["path"] for page in obstore.list(store, prefix) for each in page]
    return {name.removeprefix(prefix): bytes(obstore.get(store, name).bytes()) for name in names}


def check_images(world: World) -> None:
    """Each that the ledger knows lies there with its very bytes, and nothing else does; none lies on the disk."""
    found = objects(world)
    found.pop("run.json")
    rows = world.rows("SELECT path, sha256 FROM images WHERE state = 'saved'")
    assert {name: hashlib.sha256(data).hexdigest() for name, data in found.items()} == {
        f"images/{path}": sha256 for path, sha256 in rows
    }
    assert world.files() == []


def test_a_runs_images_go_to_the_bucket_and_its_books_stay_here(world: World, bucket: Bucket) -> None:
    path = world.write(prompts=many(6), output={"store": place(world)})
    done = world.command("run", str(path))
    assert (done.returncode, done.stderr.count("Traceback")) == (0, 0)
    check_images(world)
    world.check_equal_to_the_bill()
    assert world.command("run", str(path)).returncode == 0
    assert len(world.charges()) == 6
    assert "all as the ledger says" in world.command("verify", str(path)).stdout


@pytest.mark.parametrize("after", [1, 5, 9])
def test_a_run_that_is_killed_goes_on_and_puts_what_was_bought(world: World, bucket: Bucket, after: int) -> None:
    bucket.tell("slow 0.05")
    path = world.write(prompts=many(12), output={"store": place(world)}, retry={"duplicate_allowance": "100%"})
    process = world.begin("run", str(path))
    eventually(lambda: len(world.charges()) >= after)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert world.command("run", str(path)).returncode == 0
    check_images(world)
    world.check_books()
    assert world.states() == {"done": 12}


def test_an_outage_ends_the_run_in_words_and_the_next_one_finishes(world: World, bucket: Bucket) -> None:
    asked = {"prompts": many(12), "output": {"store": place(world)}}
    path = world.write(**asked, limits={"concurrency": 2, "budget": 10, "timeout": "3s"})
    process = world.begin("run", str(path))
    eventually(lambda: len(world.charges()) >= 3)
    bucket.tell("down")
    _, said = process.communicate(timeout=60)
    bucket.tell("up")
    assert process.returncode == 5
    assert f"{place(world)}/otters/images: the store cannot be reached" in said
    assert "run the same command again" in said
    bought = len(world.charges())
    assert 3 <= bought < 12
    assert world.command("run", str(path)).returncode == 0
    assert len(world.charges()) == 12
    check_images(world)
    world.check_equal_to_the_bill()


def test_a_short_outage_is_waited_for(world: World, bucket: Bucket) -> None:
    process = world.begin("run", str(world.write(prompts=many(12), output={"store": place(world)})))
    eventually(lambda: len(world.charges()) >= 3)
    bucket.tell("down")
    eventually(lambda: "trying again" in (world.run_folder / "run.log").read_text())
    bucket.tell("up")
    _, said = process.communicate(timeout=60)
    assert (process.returncode, said.count("Traceback")) == (0, 0)
    check_images(world)


def test_who_leaves_at_once_in_an_outage_loses_nothing(world: World, bucket: Bucket) -> None:
    path = world.write(prompts=many(12), output={"store": place(world)})
    process = world.begin("run", str(path))
    eventually(lambda: len(world.charges()) >= 3)
    bucket.tell("down")
    eventually(lambda: "trying again" in (world.run_folder / "run.log").read_text())
    process.send_signal(signal.SIGINT)
    assert process.stderr
    assert next(line for line in process.stderr if "Ctrl-C again leaves now" in line)
    spool = world.run_folder / "spool"
    open_ = "SELECT id FROM attempts WHERE state = 'sending'"
    eventually(lambda: all((spool / f"{id_}.1").exists() for (id_,) in world.rows(open_)))  # all answers came
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    bucket.tell("up")
    assert process.returncode == 7
    assert world.command("run", str(path)).returncode == 0
    assert len(world.charges()) == 12
    check_images(world)


@pytest.mark.parametrize(
    ("habit", "store", "says"),
    [
        ("refuse", BUCKET, "access is refused, or no credentials are there (AccessDenied)"),
        ("careless", BUCKET, "this store puts new bytes over what is there"),
        ("honest", "no-such-bucket", "there is no such bucket"),
    ],
)
def test_a_store_that_is_of_no_use_is_told_before_anything_is_bought(
    world: World, bucket: Bucket, habit: str, store: str, says: str
) -> None:
    bucket.tell(habit)
    path = world.write(output={"store": f"s3://{store}/{world.folder.name}-{habit}"})
    done = world.command("run", str(path))
    assert (done.returncode, says in done.stderr, "Traceback" in done.stderr) == (5, True, False), done.stderr
    assert world.charges() == []
    bucket.tell("honest")
    assert world.command("run", str(world.write(output={"store": place(world)}))).returncode == 0, "nothing lies there"


def test_another_runs_place_is_not_taken(world: World, bucket: Bucket, tmp_path: Path) -> None:
    path = world.write(output={"store": place(world)})
    assert world.command("run", str(path)).returncode == 0
    done = world.command("run", str(path), "--runs", str(tmp_path / "elsewhere"))
    assert (done.returncode, "another run has it" in done.stderr) == (5, True)
    assert len(world.charges()) == 1


@pytest.mark.parametrize(("before", "after"), [("", "a"), ("a", ""), ("a", "b")])
def test_images_stay_in_one_place(world: World, bucket: Bucket, before: str, after: str) -> None:
    def output(name: str) -> dict[str, str]:
        return {"store": f"{place(world)}-{name}"} if name else {}

    assert world.command("run", str(world.write(output=output(before)))).returncode == 0
    done = world.command("run", str(world.write(output=output(after))))
    assert done.returncode == 2
    assert "a run's images stay in one place" in done.stderr
    assert len(world.charges()) == 1


def test_a_file_url_is_a_folder_elsewhere(world: World, tmp_path: Path) -> None:
    far = tmp_path / "far away"
    path = world.write(prompts=many(3), output={"store": far.as_uri()})
    done = world.command("run", str(path))
    assert (done.returncode, "No such file" in done.stderr) == (5, True), "a disk that is not mounted is not made"
    far.mkdir()
    assert world.command("run", str(path)).returncode == 0
    assert len([*(far / "otters" / "images").rglob("*.png")]) == 3
    inside = str(far / "otters" / "images" / "set")
    assert world.command("export", str(path), "--format", "imagefolder", "--to", inside).returncode == 2
    assert world.command("report", str(path), "--html", f"{inside}.html").returncode == 2
    assert world.files() == []
    assert "all as the ledger says" in world.command("verify", str(path)).stdout


def test_the_plan_names_the_place_and_needs_no_room_for_images_here(world: World, bucket: Bucket) -> None:
    path = world.write(prompts=many(6), output={"store": place(world)})
    said = world.command("plan", str(path)).stdout
    assert f"to {place(world)}/otters/images" in said
    told = json.loads(world.command("plan", str(path), "--json").stdout)
    assert told["store"]["url"] == f"{place(world)}/otters"
    assert told["store"]["expected_bytes"] > 100 * told["disk"]["expected_bytes"]


def test_what_needs_obstore_says_so_where_it_is_not_installed(world: World, tmp_path: Path) -> None:
    (tmp_path / "without" / "obstore").mkdir(parents=True)
    (tmp_path / "without" / "obstore" / "__init__.py").write_text("raise ImportError")
    env = {"PYTHONPATH": str(tmp_path / "without")}
    done = world.command("run", str(world.write(output={"store": place(world)})), **env)
    assert (done.returncode, done.stderr.count("needs obstore: pip install obstore")) == (2, 1), done.stderr
    assert world.charges() == []


@pytest.mark.parametrize(
    ("store", "says"),
    [
        ("s3://anybody:hunter2@zoo/x", "credentials never stand here"),
        ("s3://zoo/x?secret=hunter2", "credentials never stand here"),
        ("s3://zoo/../y", "is not like s3://bucket/prefix"),
        ("s3:///y", "is not like s3://bucket/prefix"),
        ("/srv/images", "is not like s3://bucket/prefix"),
        ("file://host/srv", "is not like s3://bucket/prefix"),
        ("file:///srv/%2E%2E/etc", "is not like s3://bucket/prefix"),
        ("file:///srv%00", "is not like s3://bucket/prefix"),
    ],
)
def test_what_is_no_store_is_told_with_its_line(world: World, store: str, says: str) -> None:
    done = world.command("run", str(world.write(output={"store": store})))
    assert done.returncode == 2
    assert re.search(rf"otters.yaml:\d+:\d+: output.store: .*{re.escape(says)}", done.stderr), done.stderr
    assert "hunter2" not in done.stderr


def test_secrets_of_a_store_are_nowhere(world: World, bucket: Bucket) -> None:
    bucket.tell("refuse")
    done = world.command("run", str(world.write(output={"store": place(world)})))
    bucket.tell("honest")
    written = b"".join(path.read_bytes() for path in world.run_folder.rglob("*") if path.is_file())
    assert buckets.SECRET not in done.stderr + done.stdout
    assert buckets.SECRET.encode() not in written


def test_an_image_that_a_lost_ledger_knew_is_not_bought_again(world: World, bucket: Bucket) -> None:
    path = world.write(prompts=many(2), output={"store": place(world)})
    assert world.command("run", str(path)).returncode == 0
    ledger = world.run_folder / "ledger.db"
    with closing(sqlite3.connect(ledger)) as db, db:  # as if put back from a backup that was made before
        db.execute("DELETE FROM images WHERE task = 2")
        db.execute("DELETE FROM attempts WHERE task = 2")
        db.execute("UPDATE tasks SET state = 'todo' WHERE seq = 2")
    done = world.command("run", str(path))
    assert (done.returncode, "verify RUN --adopt takes it in" in done.stderr) == (5, True)
    assert len(world.charges()) == 2
    assert "1 image taken in" in world.command("verify", str(path), "--adopt").stdout
    assert world.command("run", str(path)).returncode == 0
    assert len(world.charges()) == 2
    check_images(world)


def test_other_bytes_under_an_images_name_stay_and_the_answer_is_kept(
    bad: Callable[..., World], bucket: Bucket
) -> None:
    world = bad("--latency", "1.5")
    path = world.write(output={"store": place(world)})
    process = world.begin("run", str(path))
    eventually(lambda: (world.run_folder / "ledger.db").exists() and world.attempts())
    ((stem,),) = world.rows("SELECT path FROM tasks")
    key = f"{world.folder.name}/otters/images/{stem}.png"
    store = S3Store(BUCKET, client_options={"allow_http": True})
    obstore.put(store, key, b"somebody's")
    _, said = process.communicate(timeout=60)
    assert (process.returncode, "another image stands there" in said) == (5, True)
    assert bytes(obstore.get(store, key).bytes()) == b"somebody's"
    obstore.delete(store, key)
    assert world.command("run", str(path)).returncode == 0
    assert len(world.charges()) == 1
    check_images(world)


def test_a_kill_between_a_put_and_its_row_puts_the_same_again(world: World, bucket: Bucket) -> None:
    path = world.write(output={"store": place(world)})
    world.command("plan", str(path))
    process = world.begin("run", str(path))
    eventually(lambda: objects(world))  # the mark: from now on, images follow
    bucket.tell("late")
    eventually(lambda: len(objects(world)) == 2)
    process.kill()
    process.communicate()
    bucket.tell("honest")
    assert world.attempts() == ["sending"]
    assert world.command("run", str(path)).returncode == 0
    assert len(world.charges()) == 1
    check_images(world)
    world.check_equal_to_the_bill()


def test_of_two_machines_that_put_one_name_at_once_one_is_told_and_neither_image_is_replaced(tmp_path: Path) -> None:
    def put(which: int) -> bool:
        start.wait()
        try:
            store.put("a/name.png", b"%d" % which, f"{which}", Unsynced())
        except FileExistsError:
            return False
        return True

    for number in range(20):
        (tmp_path / f"{number}").mkdir()
        store, start = opened((tmp_path / f"{number}").as_uri()), threading.Barrier(4)
        with ThreadPoolExecutor(4) as pool:
            kept = [which for which, won in enumerate(pool.map(put, range(4))) if won]
        assert (len(kept), store.read("a/name.png")) == (1, b"%d" % kept[0])
        assert list(store.names()) == ["a/name.png"]


def test_a_run_does_not_go_on_at_another_server(world: World, bucket: Bucket) -> None:
    assert world.command("run", str(world.write(prompts=many(2), output={"store": place(world)}))).returncode == 0
    path = world.write(prompts=many(4), output={"store": place(world)})
    elsewhere = buckets.start()
    try:
        done = world.command("run", str(path), **elsewhere.env)
    finally:
        elsewhere.end()
    assert (done.returncode, "run.json is not there, though this run has sent" in done.stderr) == (5, True)
    assert len(world.charges()) == 2
    assert world.command("run", str(path)).returncode == 0
    assert len(world.charges()) == 4
    check_images(world)


def test_an_empty_folder_where_a_disk_was_is_not_taken_for_it(world: World, tmp_path: Path) -> None:
    mount, away = tmp_path / "mount", tmp_path / "away"
    mount.mkdir()
    assert world.command("run", str(world.write(output={"store": mount.as_uri()}))).returncode == 0
    mount.rename(away)
    mount.mkdir()
    path = world.write(prompts=many(2), output={"store": mount.as_uri()})
    done = world.command("run", str(path))
    assert (done.returncode, "see that the disk is mounted" in done.stderr) == (5, True)
    assert [*mount.iterdir()] == []
    mount.rmdir()
    away.rename(mount)
    (mount / "otters" / "run.json").unlink()
    (mark,) = re.findall("it holds ([0-9a-f]{32}),", world.command("run", str(path)).stderr)
    (mount / "otters" / "run.json").write_text(mark)
    assert world.command("run", str(path)).returncode == 0
    assert len(world.charges()) == 3


@pytest.mark.parametrize(("mode", "shut"), [(0o755, 0o700), (0o2775, 0o2770), (0o700, 0o700)])
def test_rooms_for_prompts_are_shut_and_a_groups_stay_its_own(
    world: World, tmp_path: Path, mode: int, shut: int
) -> None:
    (far := tmp_path / "far").mkdir()
    assert world.command("run", str(world.write(output={"store": far.as_uri()}))).returncode == 0
    room = far / "otters" / "receipts"
    room.mkdir()
    room.chmod(mode)
    furnished(Folder(world.run_folder), ["receipts"], 0)
    assert stat.S_IMODE(room.stat().st_mode) == shut
