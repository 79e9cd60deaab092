"""verify, and damaged ledgers: what is missing, changed or nobody's is told, and nothing ends in a traceback."""

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from conftest import Start
from world import KEY, KEY_ENV, World, eventually, many

from batchgen import cli, verify
from batchgen.folder import Folder

PAGE = 4096
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
        part: "unknown",
    }
    assert found(world) == {name(world, path): what for path, what in wanted.items()}
    said = world.command("verify", "otters.yaml")
    assert (said.returncode, said.stdout.splitlines()[-1]) == (3, "5 images, 6 findings")


def test_a_folder_or_a_dead_link_in_an_images_place_is_missing(world: World) -> None:
    world.run(prompts=many(2))
    one, other = world.files()
    one.unlink()
    one.mkdir()
    other.unlink()
    other.symlink_to("/nowhere")
    assert found(world) == {name(world, one): "missing", name(world, other): "missing"}


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
    assert said["findings"] == [
        {"what": "missing", "where": name(world, image), "says": "saved once, now: No such file or directory"}
    ]


def test_what_verify_finds_it_leaves_as_it_is(world: World) -> None:
    world.run(prompts=many(2))
    world.files()[0].write_bytes(b"changed")
    before = {path: path.read_bytes() for path in world.files()}
    found(world)
    assert {path: path.read_bytes() for path in world.files()} == before
    assert (world.run(prompts=many(2)).exit_code, len(world.charges())) == (0, 2)


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        ("DELETE FROM images", "is done and has no saved image"),
        ("UPDATE attempts SET state = 'unknown'", "is done and has no paid attempt"),
        ("UPDATE tasks SET state = 'todo'", "has images and is not done"),
    ],
)
def test_a_ledger_that_contradicts_itself_is_told(world: World, harm: str, says: str) -> None:
    world.run()
    with closing(sqlite3.connect(world.run_folder / "ledger.db")) as db:
        db.execute(harm)
        db.commit()
    told = [finding for finding in verify.findings(Folder(world.run_folder)) if finding.what == "ledger"]
    assert [says in finding.says for finding in told] == [True]


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
