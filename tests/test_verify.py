"""verify, and damaged ledgers: what is missing, changed or nobody's is told, and nothing ends in a traceback."""

import fcntl
import hashlib
import json
import os
import pty
import re
import shutil
import signal
import sqlite3
import struct
import subprocess
import sys
import termios
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from conftest import Start
from PIL import Image
from world import KEY, KEY_ENV, World, eventually, many

from batchgen import cli, troubles, verify
from batchgen.folder import Folder

PAGE = 4096
GONE = "saved once, now: No such file or directory: put a copy there"
READERS = ("report", "status", "verify")


def found(world: World) -> dict[str, str]:
    """What verify finds: where → what."""
    return {finding.where: finding.what for finding in verify.findings(Folder(world.run_folder))}


def name(world: World, path: Path) -> str:
    return str(path.relative_to(world.run_folder / "images"))


def test_a_finished_run_is_as_the_ledger_says(world: World) -> None:
    world.run(prompts=many(3))
    said = world.command("verify", "otters.yaml")
    assert (said.returncode, said.stdout) == (0, "3 images, all as the ledger says\n")


def test_every_kind_of_harm_to_the_images_is_told(world: World) -> None:
    world.run(prompts=many(5))
    gone, changed, cut, emptied, whole = world.files()
    gone.unlink()
    data = bytearray(changed.read_bytes())
    data[-20] ^= 1
    changed.write_bytes(data)
    cut.write_bytes(cut.read_bytes()[:-5])
    emptied.write_bytes(b"")
    stray, part = whole.with_name("stray.png"), whole.with_name(".0123456789abcdef.0.part")
    stray.write_bytes(whole.read_bytes())
    part.write_bytes(b"half")
    wanted = {
        gone: "missing",
        changed: "changed",
        cut: "changed",
        emptied: "changed",
        stray: "unknown",
        part: "leftover",
    }
    assert found(world) == {name(world, path): what for path, what in wanted.items()}
    said = world.command("verify", "otters.yaml")
    assert (said.returncode, said.stdout.splitlines()[-1]) == (3, "5 images, 6 findings")


def test_a_folder_a_pipe_or_a_link_in_an_images_place_is_told_and_not_read(world: World) -> None:
    world.run(prompts=many(4))
    folder, pipe, dead, elsewhere = world.files()
    shutil.copy(elsewhere, world.folder / "same.png")
    for path in (folder, pipe, dead, elsewhere):
        path.unlink()
    folder.mkdir()
    os.mkfifo(pipe)  # whoever opens it to read waits for ever
    dead.symlink_to("/nowhere")
    elsewhere.symlink_to(world.folder / "same.png")
    wanted = {folder: "missing", pipe: "missing", dead: "link", elsewhere: "link"}
    assert found(world) == {name(world, path): what for path, what in wanted.items()}


def test_a_link_on_the_way_to_an_image_is_told(world: World) -> None:
    world.run(prompts=many(2))
    linked, _ = world.files()
    moved = linked.parent.rename(world.folder / "elsewhere")
    linked.parent.symlink_to(moved)
    assert found(world) == {name(world, linked): "link", name(world, linked.parent): "unknown"}


@pytest.mark.parametrize("path", ["../ledger.db", "/etc/hostname", "otter/../../ledger.db"])
def test_a_row_that_leads_out_of_the_folder_is_not_followed(world: World, path: str) -> None:
    world.run()
    (there,) = world.files()
    harm(world, f"UPDATE images SET path = '{path}'")
    assert found(world) == {path: "missing", name(world, there): "unknown"}


@pytest.mark.parametrize("change", ["format = 'webp'", "width = 7", "height = 7"])
def test_an_image_that_is_not_what_its_row_says_is_told(world: World, change: str) -> None:
    world.run()
    harm(world, f"UPDATE images SET {change}")
    assert found(world) == {name(world, world.files()[0]): "ledger"}


def test_an_image_that_was_saved_broken_is_told(world: World) -> None:
    world.run()
    (path,) = world.files()
    data = path.read_bytes()[:-5]
    path.write_bytes(data)
    harm(world, f"UPDATE images SET bytes = {len(data)}, sha256 = '{hashlib.sha256(data).hexdigest()}'")
    assert found(world) == {name(world, path): "broken"}


def test_every_image_is_looked_at_and_counted_however_many_there_are(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verify, "BLOCK", 2)
    world.run(prompts=many(5))
    for path in world.files():
        path.write_bytes(b"changed")
    ticks: list[int] = []
    told = list(verify.findings(Folder(world.run_folder), lambda: ticks.append(1)))
    assert ([each.what for each in told], len(ticks)) == (["changed"] * 5, 5)


def test_d19_what_holds_prompts_and_is_open_to_others_is_told(world: World) -> None:
    world.run(prompts=many(2))
    (world.run_folder / "ledger.db").chmod(0o640)
    (world.run_folder / "spool").chmod(0o701)
    assert found(world) == {"ledger.db": "mode", "spool": "mode"}


def test_answers_in_the_spool_that_nobody_needs_are_told_and_those_of_unusable_attempts_are_not(bad: Start) -> None:
    world = bad("--script", "ok html")
    world.run(prompts=many(2), limits={"concurrency": 1, "budget": 10}, retry={"attempts": 1})
    assert (sorted(world.attempts()), found(world)) == (["paid", "unusable"], {})
    ((paid,),) = world.rows("SELECT id FROM attempts WHERE state = 'paid'")
    for attempt in (paid, "0" * 32):
        (world.run_folder / "spool" / f"{attempt}.1").touch(0o600)
    assert found(world) == {f"spool/{paid}.1": "leftover", f"spool/{'0' * 32}.1": "unknown"}


def test_images_without_their_folder_are_all_missing(world: World) -> None:
    world.run(prompts=many(2))
    images = world.run_folder / "images"
    images.rename(images.with_name("elsewhere"))
    said = world.command("verify", "otters.yaml")
    assert (said.returncode, said.stdout.count("missing: "), "Traceback" in said.stderr) == (3, 2, False)


def test_images_that_were_dropped_are_held_against_the_ledger_too(world: World) -> None:
    world.run(prompts=many(2))
    world.run(prompts=many(1))
    assert found(world) == {}
    for path in world.files():
        path.unlink()
    assert sorted(found(world).values()) == ["missing", "missing"]


def test_findings_can_be_read_by_scripts(world: World) -> None:
    world.run()
    (image,) = world.files()
    image.unlink()
    said = json.loads(world.command("verify", "otters.yaml", "--json").stdout)
    assert (said["schema_version"], said["images"]) == (1, 1)
    assert said["findings"] == [{"what": "missing", "where": name(world, image), "says": GONE}]


def test_what_verify_finds_it_leaves_as_it_is(world: World) -> None:
    world.run(prompts=many(2))
    world.files()[0].write_bytes(b"changed")
    before = {path: path.read_bytes() for path in world.files()}
    found(world)
    assert {path: path.read_bytes() for path in world.files()} == before
    assert (world.run(prompts=many(2)).exit_code, len(world.charges())) == (0, 2)


def harm(world: World, sql: str) -> None:
    """Change the ledger behind everybody's back."""
    with closing(sqlite3.connect(world.run_folder / "ledger.db")) as db:
        db.executescript(sql)


COLUMNS = "id, task, run, purchase, lane, engine, state, images, cost_low, cost_high, sent_at, ended_at"


def another(attempt: str, state: str, purchase: str = "purchase", task: str = "1", end: str = "ended_at") -> str:
    """SQL that adds an attempt which costs nothing."""
    made = f"'{attempt}', {task}, run, {purchase}, lane, engine, '{state}', images, 0, 0, sent_at, {end}"
    return f"INSERT INTO attempts ({COLUMNS}) SELECT {made} FROM attempts WHERE seq = 1;"


UNKNOWN = "UPDATE attempts SET state = 'unknown', cost_low = 0 WHERE seq = 1;"
UNCHECKED = "PRAGMA ignore_check_constraints = ON"
HARMS = {
    "task {} is done and has no saved image": "DELETE FROM images WHERE task = 1",
    "task {} is done and has no paid attempt": UNKNOWN,
    "task {} has images and is not done": "UPDATE tasks SET state = 'todo' WHERE seq = 1",
    "task {} was paid for twice": another("b", "paid"),
    "task {} is paid for and is not done": "UPDATE tasks SET state = 'held'; DELETE FROM images",
    "task {} is done and lacks images that it asked for": "UPDATE attempts SET images = 2 WHERE seq = 1",
    "task {} was sent again after it was paid for": another("b", "rejected"),
    "task {} was sent again as another purchase, though nobody knew whether the first was billed": UNKNOWN
    + "UPDATE attempts SET status = 0;"
    + another("b", "rejected", purchase="'new'"),
    "task {} is on its way and not called so": another("b", "sending", end="NULL"),
    "task {} is on its way twice": another("b", "sending", end="NULL") + another("c", "accepted", end="NULL"),
    "attempt {} is open and has an end": another("b", "accepted"),
    "attempt {} has ended at no time": "UPDATE attempts SET ended_at = NULL WHERE seq = 1",
    "image {} is another task's than its attempt": "UPDATE images SET task = 3 - task, idx = 1 WHERE id = 1",
    "image {} comes of an attempt that was not paid for": UNKNOWN,
    "image {} is owned twice": "UPDATE images SET path = (SELECT path FROM images WHERE id = 1)",
    "task {} is wanted as nobody can read": "UPDATE tasks SET wanted = 'perhaps' WHERE seq = 1",
    "attempt {} costs less at most than at least": "UPDATE attempts SET cost_low = cost_high + 1 WHERE seq = 1",
    "attempt {} has one bound of its cost without the other": "UPDATE attempts SET cost_high = NULL WHERE seq = 1",
    "attempt {} costs less than nothing": "UPDATE attempts SET cost_low = -1 WHERE seq = 1",
    "attempt {} was not billed and has a cost": "UPDATE attempts SET state = 'rejected' WHERE seq = 1",
    "attempt {} is paid, not estimated, and its cost is not one figure": "UPDATE attempts SET cost_low = 0",
    "attempt {} is of unknown fate and counted as billed": "UPDATE attempts SET state = 'unknown' WHERE seq = 1",
    "requests that were cut off: {}; batchgen run settles them": another("b", "sending", end="NULL"),
    "tasks that were taken up and not sent: {}; batchgen run puts them back": "UPDATE tasks SET state = 'doing'",
    "the manifest {} is not what its sha256 says": "UPDATE manifests SET overrides = '{\"limits.budget\": 9}'",
    "prompt {} is not what its digest says": "UPDATE prompts SET text = 'An otter' WHERE id = 1",
    "task {} is not what its key says": "UPDATE tasks SET sample = 2 WHERE seq = 1",
    "variant {} cannot be read": "UPDATE variants SET params = '[]'",
    "task {} is in no state that there is": f"{UNCHECKED}; UPDATE tasks SET state = 'gone'",
    "attempt {} is in no state that there is": f"{UNCHECKED}; UPDATE attempts SET state = 'gone'",
    "image {} is in no state that there is": f"{UNCHECKED}; UPDATE images SET state = 'gone'",
    "SQLite: a row of {} refers to nothing": "PRAGMA foreign_keys = OFF; DELETE FROM runs",
}
"""What verify says → what makes it true, in a ledger of two finished tasks."""


@pytest.mark.parametrize("says", HARMS)
def test_a_ledger_that_contradicts_itself_is_told(world: World, says: str) -> None:
    world.run(prompts=many(2))
    assert found(world) == {}
    harm(world, HARMS[says])
    told = [each.says for each in verify.findings(Folder(world.run_folder)) if each.where == "ledger.db"]
    assert any(re.match(re.escape(says).replace(r"\{\}", r"\S+"), each) for each in told), told


def test_every_rule_of_the_ledger_is_tried_here() -> None:
    assert {*troubles.TROUBLES, *troubles.ORDER, *troubles.MONEY, *troubles.UNFINISHED} <= HARMS.keys()


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE variants SET params = json_set(params, '$.quality', 'high')",
        "UPDATE variants SET model = 'gpt-image-1'",
        "UPDATE tasks SET take = 2",
        "UPDATE inputs SET sha256 = 'other'",
        "UPDATE inputs SET area = 'white'",
        "DELETE FROM task_inputs WHERE position = 1",
        "UPDATE task_inputs SET position = 9 - position",
    ],
)
def test_a_task_whose_row_is_not_what_its_key_was_made_of_is_told(world: World, change: str) -> None:
    """The sizes that `match` came to are no part of it, nor what is only transport."""
    for picture in ("otter.png", "reef.png"):
        Image.new("RGB", (1536, 1024), "navy" if picture == "otter.png" else "teal").save(world.folder / picture)
    edit = {"prompt": "Add a boat", "operation": "edit", "images": ["otter.png", "reef.png"]}
    asked = {"size": "match", "quality": "low", "user": "u1"}
    assert world.run(prompts=[edit], request=asked).exit_code == 0
    world.run(prompts=[edit], request={**asked, "user": "u2"})
    assert (len(world.charges()), found(world)) == (1, {})
    harm(world, change)
    assert [each.says.partition(":")[0].partition(" ")[0] for each in verify.findings(Folder(world.run_folder))] == [
        "task"
    ]


def test_a_night_of_every_ending_has_no_findings(bad: Start) -> None:
    world = bad("--script", "ok cut 400 html nousage")
    changes = {"prompts": [*many(6), "A carp [moderated]"], "limits": {"concurrency": 1, "budget": 10}}
    ended = world.run(**changes, retry={"attempts": 1})
    assert (ended.exit_code, found(world)) == (3, {})
    assert set(world.states()) >= {"done", "refused", "held", "failed"}
    for command in (["drop", "--held"], ["resolve", "--billed"]):
        assert world.command(command[0], "otters.yaml", command[1]).returncode == 0
        assert found(world) == {}
    world.run(prompts=many(1))
    assert (world.command("retry", "otters.yaml", "--failed", "--yes").returncode, found(world)) == (0, {})


def test_an_accepted_attempt_that_is_given_up_has_an_end(world: World) -> None:
    world.run()
    ((attempt,),) = world.rows("SELECT id FROM attempts")
    harm(world, "DELETE FROM images; UPDATE tasks SET state = 'doing'")
    harm(world, "UPDATE attempts SET state = 'accepted', ended_at = NULL, cost_low = 0")
    for path in world.files():
        path.unlink()
    assert world.command("resolve", "otters.yaml", "--billed", attempt).returncode == 0
    assert found(world) == {}


# beside a run


def test_what_a_run_at_work_is_writing_is_no_stranger_and_what_it_left_when_killed_is(bad: Start) -> None:
    world = bad("--latency", "30")
    process = world.begin("run", str(world.write(prompts=many(3), limits={"concurrency": 2, "budget": 10})))
    eventually(lambda: world.sandbox.stats()["open"] == 2)
    (first, path), (second, _) = world.rows("SELECT a.id, t.path FROM attempts a JOIN tasks t ON t.seq = a.task")
    half = world.run_folder / "images" / f".{first}.0.part"
    partial = world.run_folder / "images" / f"{path}.{first[:8]}.partial-0.png"
    stray = world.run_folder / "images" / "stray.png"
    partial.parent.mkdir(parents=True)
    for file in (half, partial, stray, world.run_folder / "spool" / f"{second}.1.part"):
        file.touch(0o600)
    assert found(world) == {"stray.png": "unknown"}
    assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    told = {each.where: each.says for each in verify.findings(Folder(world.run_folder))}
    assert told.pop("ledger.db") in {
        "requests that were cut off: 2; batchgen run settles them",
        "tasks that were taken up and not sent: 1; batchgen run puts them back",
    }
    assert set(told) == {"stray.png", name(world, partial)}


def test_a_run_beside_verify_goes_on_and_both_are_right(bad: Start) -> None:
    world = bad("--latency", "0.05")
    process = world.begin("run", str(world.write(prompts=many(60))))
    eventually(lambda: (world.run_folder / "ledger.db").exists() and world.files())
    looks = 0
    while process.poll() is None:
        beside = found(world)
        assert process.poll() is not None or beside == {}
        looks += 1
    assert (process.returncode, looks > 0, found(world)) == (0, True, {})


def test_what_a_killed_run_left_open_is_told_and_gone_after_the_next(bad: Start) -> None:
    world = bad("--script", "hang hang hang hang")
    process = world.begin("run", str(world.write(prompts=many(4), retry={"duplicate_allowance": 1})))
    eventually(lambda: world.sandbox.stats()["open"] == 4)
    beside = world.command("verify", "otters.yaml")
    assert (beside.returncode, beside.stdout, process.poll()) == (0, "0 images, all as the ledger says\n", None)
    process.kill()
    process.wait()
    said = world.command("verify", "otters.yaml")
    assert (said.returncode, "requests that were cut off: 4; batchgen run settles them" in said.stdout) == (3, True)
    assert world.command("run", "otters.yaml").returncode == 0
    assert found(world) == {}


def test_a_bar_is_drawn_on_a_terminal_alone(world: World) -> None:
    world.run(prompts=many(3))
    assert world.command("verify", "otters.yaml").stderr == ""
    here, there = pty.openpty()
    fcntl.ioctl(there, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    command = [sys.executable, "-m", "batchgen", "verify", "otters.yaml"]
    nowhere = subprocess.DEVNULL
    process = subprocess.Popen(command, cwd=world.folder, stdin=nowhere, stdout=nowhere, stderr=there)
    os.close(there)
    drawn = os.read(here, 65536).decode()
    assert process.wait(60) == 0
    os.close(here)
    assert "0/3" in drawn


def page(number: int, content: bytes) -> Callable[[bytes], bytes]:
    """Puts something else in a page's place."""
    return lambda data: data[: number * PAGE] + content.ljust(PAGE, b"\xa5")[:PAGE] + data[(number + 1) * PAGE :]


def noise(data: bytes) -> bytes:
    """One bit in each page but the first."""
    spoiled = bytearray(data)
    for at in range(PAGE, len(data), PAGE):
        spoiled[at + 7] ^= 0x10
    return bytes(spoiled)


HARM: dict[str, Callable[[bytes], bytes]] = {
    "nothing left": lambda data: b"",
    "another kind of file": lambda data: b"otters, " * 2000,
    "cut in the middle": lambda data: data[: len(data) // 2 + 100],
    "cut in the first page": lambda data: data[:100],
    "a header of another format": page(0, b"SQLite format 4\0"),
    "a schema of noise": lambda data: data[:200] + b"\xa5" * (PAGE - 200) + data[PAGE:],
    "a page of noise": page(3, b""),
    "another page of noise": page(9, b""),
    "pages of zeros": lambda data: data[: 4 * PAGE] + bytes(len(data) - 4 * PAGE),
    "a bit in each page": noise,
    "a schema that is no text": lambda data: data.replace(b"CREATE TABLE tasks (", b"CREATE T\xa0BLE tasks (", 1),
}


def spoil(world: World, harm: Callable[[bytes], bytes]) -> None:
    ledger = world.run_folder / "ledger.db"
    ledger.write_bytes(harm(ledger.read_bytes()))


@pytest.mark.parametrize("harm", HARM)
def test_d13_a_damaged_ledger_ends_in_a_message_and_nothing_is_sent(
    world: World, harm: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    world.run(prompts=many(8))
    spoil(world, HARM[harm])
    monkeypatch.setenv(KEY_ENV, KEY)
    world.write(prompts=many(9))
    for verb in (*READERS, "run"):
        code, told = ends(capsys, verb, str(world.folder / "otters.yaml"))
        assert code in ((5,) if verb == "run" else (0, 3, 5)), told
        assert code != 5 or "ledger.db" in told
    assert len(world.charges()) == 8


@pytest.mark.parametrize("harm", HARM)
def test_d13_a_damaged_ledger_that_nothing_is_asked_of_ends_in_a_message_too(
    world: World, harm: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where nothing is to be sent, not every page is looked at."""
    world.run(prompts=many(8))
    spoil(world, HARM[harm])
    monkeypatch.setenv(KEY_ENV, KEY)
    code, told = ends(capsys, "run", str(world.folder / "otters.yaml"))
    assert code in (0, 5), told
    assert code == 0 or "ledger" in told
    assert len(world.charges()) == 8


def ends(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[object, str]:
    """A command's exit code, and what it says on stderr."""
    with pytest.raises(SystemExit) as end:  # any other exception would have been a traceback
        cli.main(list(arguments))
    return end.value.code, capsys.readouterr().err


def test_d13_damage_that_only_a_whole_check_sees_is_told_by_verify(world: World) -> None:
    """An index that disagrees with its table."""
    world.run(prompts=many(4))
    with closing(sqlite3.connect(world.run_folder / "ledger.db")) as db:
        db.execute("PRAGMA writable_schema = ON")
        db.execute("UPDATE sqlite_schema SET sql = replace(sql, '(task)', '(run)') WHERE name = 'attempts_task'")
        db.commit()
    said = world.command("verify", "otters.yaml")
    assert (said.returncode, "SQLite: " in said.stdout, "Traceback" in said.stderr) == (3, True, False)


def without_its_log(world: World) -> None:
    """A run is killed, and of its ledger only the main file is left."""
    process = world.begin("run", str(world.write(prompts=many(8), retry={"duplicate_allowance": 1})))
    eventually(lambda: len(world.files()) >= 4)
    process.kill()
    process.wait()
    for suffix in ("-wal", "-shm"):
        (world.run_folder / f"ledger.db{suffix}").unlink(missing_ok=True)


def test_d14_a_log_that_is_gone_after_a_kill_crashes_nothing(bad: Start) -> None:
    world = bad("--latency", "0.1")
    without_its_log(world)
    for verb in (*READERS, "run"):
        said = world.command(verb, "otters.yaml")
        assert (said.returncode in (0, 3, 5), "Traceback" in said.stderr) == (True, False), said.stderr


def test_d14_a_ledger_that_lost_its_log_buys_nothing_again_in_silence(bad: Start) -> None:
    world = bad("--latency", "0.1")
    without_its_log(world)
    before = {path: path.stat().st_mtime_ns for path in world.files()}
    eventually(lambda: world.sandbox.stats()["open"] == 0)
    bought = len(world.charges())
    assert world.command("run", "otters.yaml").returncode == 5
    assert ({path: path.stat().st_mtime_ns for path in world.files()}, len(world.charges())) == (before, bought)
