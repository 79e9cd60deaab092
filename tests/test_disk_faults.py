"""Disks that fail while a run works: whatever call fails, nothing that was paid for is lost or bought again."""

import errno
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import Start
from torture import disks, power, tracer
from torture.books import read
from torture.campaign import Result
from torture.checker import Checker
from torture.disks import Fault
from torture.tracer import Point
from torture.world import World as Tortured
from world import World, eventually, many

from batchgen import disk

LATER = {"concurrency": 2, "budget": 10}
traced = pytest.mark.skipif(bool(tracer.missing()), reason="needs strace: apt-get install strace")
mounted = pytest.mark.skipif(bool(os.geteuid()) or sys.platform != "linux", reason="only root on Linux may mount")


def finished(world: World, tasks: int) -> None:
    """The next run makes the rest, and only what is listed as of unknown fate was bought twice."""
    said = world.command("run", "otters.yaml")
    assert said.returncode == 0, said.stderr
    assert (world.states(), len(world.files())) == ({"done": tasks}, tasks)
    world.check_books()
    assert len(world.charges()) == tasks + world.attempts().count("unknown")
    assert list((world.run_folder / "spool").iterdir()) == []


# one call that fails

ONCE = {  # once an answer is there; the tracer may come one call late
    "D2 the ledger's log": ("work/pwrite64/1", "ENOSPC", r"ledger\.db-wal"),
    "D4 an image's fsync": ("work/fsync/4", "EIO", r"/images[/>]"),
    "D5 the ledger's fdatasync": ("work/fdatasync/1", "EIO", r"ledger\.db-wal"),
}


@traced
@pytest.mark.parametrize("case", ONCE)
def test_a_call_that_fails_stops_the_run_and_loses_nothing(tmp_path: Path, case: str) -> None:
    point, error, where = ONCE[case]
    with Tortured(tmp_path / "world", disks.THREE) as world:
        checker = Checker.of(world)
        code, hit = disks.meet(world, checker, Fault(Point.parse(point), error, on=False))
        assert any(re.search(where, line) for line in hit), hit
        said = world.output.read_text()
        assert (code, "Nothing that was paid for is lost" in said) == (5, True), said
        disks.ended_well(world, checker, Result("disks", 0))
    assert checker.violations == []


FSYNC_FAILS = """
import sys
from pathlib import Path
from batchgen import disk
folder = Path(sys.argv[1])
for _ in range(2):
    try:
        disk.write_whole(folder / "a", b"new", folder / ".part")
    except OSError as error:
        print(error.errno, (folder / "a").exists())
"""


@traced
def test_d4_an_fsync_that_fails_is_never_tried_again_on_the_same_file(tmp_path: Path) -> None:
    """The kernel forgets what it could not write, and says so once: a second fsync would succeed, and mean nothing."""
    log = tmp_path / "calls.txt"
    command = ["strace", "-y", "-qq", "-o", str(log), "-e", "trace=fsync,unlink,openat,rename"]
    command += ["-e", "inject=fsync:error=EIO:when=1", sys.executable, "-c", FSYNC_FAILS, str(tmp_path)]
    said = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    assert said.split() == [str(errno.EIO), "False"]
    part = [line for line in log.read_text().splitlines() if ".part" in line]
    assert " ".join(line.partition("(")[0] for line in part) == "openat fsync openat unlink openat fsync rename"
    assert (tmp_path / "a").read_bytes() == b"new"


@traced
def test_d9_a_spool_that_cannot_be_tidied_costs_no_answer(tmp_path: Path) -> None:
    with Tortured(tmp_path / "world", disks.THREE) as world:
        checker = Checker.of(world)
        code, hit = disks.meet(world, checker, Fault(Point.parse("work/unlink/1"), "EIO", on=True))
        assert any("/spool/" in line for line in hit), hit
        disks.ended_well(world, checker, Result("disks", 0))
        unknown = read(world.run, world.bill).count("unknown")
    assert (code in (0, 5), unknown, checker.violations) == (True, 0, [])


def test_a_message_that_finds_no_room_does_not_change_the_exit_code(world: World) -> None:
    """As where the output goes to the disk that is full."""
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "batchgen", "report", "nowhere"]
        assert subprocess.run(command, cwd=world.folder, stderr=full, timeout=60, check=False).returncode == 2


# short writes


def test_d6_what_is_written_in_pieces_is_written_whole() -> None:
    """A signal ends a write to a pipe that is full, with as much as went in."""
    data, read_end = os.urandom(1 << 20), os.pipe()
    interrupted: list[int] = []
    got = bytearray()

    def read() -> None:
        while chunk := os.read(read_end[0], 50_000):
            got.extend(chunk)
            time.sleep(0.01)  # longer than the writer is left alone

    reader = threading.Thread(target=read)
    before = signal.signal(signal.SIGALRM, lambda number, _: interrupted.append(number))
    signal.setitimer(signal.ITIMER_REAL, 0.002, 0.002)
    reader.start()
    try:
        disk.write_all(read_end[1], data)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        os.close(read_end[1])
        reader.join()
        os.close(read_end[0])
    assert interrupted
    assert bytes(got) == data


# power


@pytest.mark.skipif(bool(power.missing()), reason=power.missing())
def test_d7_a_power_cut_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    result = power.cut(tmp_path, 1, most=2)
    assert (result.violations, result.kills, result.in_bounds) == ([], 2, True)


# disks that turn to something else


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """From now on nobody may write here; who was at it ends that first."""
    subprocess.run(["mount", "--bind", str(folder), str(folder)], check=True)
    remount = ["mount", "-o", "remount,bind,ro", str(folder)]
    try:
        eventually(lambda: subprocess.run(remount, capture_output=True, check=False).returncode == 0)
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@mounted
def test_d9_an_images_folder_that_turns_read_only_stops_the_run_and_loses_no_answer(bad: Start) -> None:
    world = bad("--latency", "0.1", "--latency-jitter", "0.2")
    world.write(prompts=many(12), limits=LATER, retry={"on_unknown": "hold"})
    process = world.begin("run", "otters.yaml")
    eventually(world.files)
    with read_only(world.run_folder / "images"):
        _, said = process.communicate(timeout=60)
        assert (process.returncode, "Read-only file system" in said, "Traceback" in said) == (5, True, False), said
        assert len(world.charges()) < 12, "it stopped claiming"
    finished(world, 12)
    world.check_equal_to_the_bill()


# what people do


def test_d11_an_image_that_was_deleted_or_changed_is_not_bought_again_by_itself(world: World) -> None:
    world.run(prompts=many(3))
    deleted, changed, _ = world.files()
    deleted.unlink()
    changed.write_bytes(b"mine")
    assert world.run(prompts=many(4)).exit_code == 0
    assert (len(world.charges()), changed.read_bytes(), deleted.exists()) == (4, b"mine", False)
    assert world.command("verify", "otters.yaml").returncode == 3


def test_d16_temporary_files_lie_beside_their_targets_wherever_others_have_theirs(world: World) -> None:
    shm = Path("/dev/shm")
    if not shm.is_dir() or shm.stat().st_dev == world.folder.stat().st_dev:
        pytest.skip("needs another file system for TMPDIR")
    world.write(prompts=many(2))
    with tempfile.TemporaryDirectory(dir=shm) as elsewhere:
        said = world.command("run", "otters.yaml", TMPDIR=elsewhere)
        assert (said.returncode, list(Path(elsewhere).iterdir())) == (0, []), said.stderr
    assert len(world.files()) == 2


ODD = ["Fox", "fox", "FOX ", "con", "NUL.txt", "a:b?c*d", "x" * 300, "..", "fox.", "strasse", "straße"]
NAMES = [*ODD, *(unicodedata.normalize(form, "Café") for form in ("NFC", "NFD"))]
RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)


def test_d17_names_make_as_many_files_as_tasks_on_a_disk_that_knows_neither_case_nor_accents_apart(
    world: World,
) -> None:
    source = {"prompt": "A picture of {{ name }}", "vars": {"name": NAMES}}
    assert world.run(prompts=[source], output={"path": "{{ name }}/{{ name }}"}).exit_code == 0
    names = [str(path.relative_to(world.run_folder / "images")) for path in world.files()]
    assert len(names) == len({unicodedata.normalize("NFKC", name).casefold() for name in names}) == len(NAMES)
    for part in (part for name in names for part in name.split("/")):
        assert len(part.encode()) <= 255
        assert not RESERVED.fullmatch(part)
        assert not set(part) & set('<>:"|?*\\')
        assert part == part.rstrip(". ")


@traced
def test_d20_the_loop_never_waits_for_the_disk(tmp_path: Path) -> None:
    """Whoever waits for a slow disk is another thread: each fsync of an answer, an image and the ledger's log."""
    log, synced = tmp_path / "calls.txt", re.compile(r"/spool[/>]|/images/|/ledger\.db-wal>")
    with Tortured(tmp_path / "world", disks.THREE) as world:
        assert tracer.traced(world, "work", "-y", "-o", str(log), "-e", "trace=fsync,fdatasync") == 0
        (main,) = (str(run["pid"]) for run in read(world.run, world.bill).runs)
    threads = {line.split()[0] for line in log.read_text().splitlines() if synced.search(line)}
    assert threads
    assert main not in threads


def test_d22_what_a_crash_left_of_settled_attempts_is_removed_at_the_next_start(world: World) -> None:
    world.run(prompts=many(2))
    (attempt, *_) = (row[0] for row in world.rows("SELECT id FROM attempts"))
    for name in (f"{attempt}.1", f"{attempt}.2.part"):
        (world.run_folder / "spool" / name).write_bytes(b"half an answer")
    assert world.run(prompts=many(3)).exit_code == 0
    assert list((world.run_folder / "spool").iterdir()) == []
    assert len(world.charges()) == 3
