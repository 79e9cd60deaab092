"""Whatever becomes of the process, its terminal or its memory: what is paid for is kept, and the run can go on."""

import os
import pty
import resource
import select
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from conftest import Start
from world import World, environment, eventually, many

SLOW = ("--latency", "1")
BEGIN = "from batchgen.cli import main\nmain()\n"


def planted(world: World, code: str, *arguments: str, **env: str) -> "subprocess.Popen[str]":
    """The command `batchgen` in a process where this was run first: a bug, a limit, a signal."""
    process = subprocess.Popen(
        [sys.executable, "-c", f"{code}\n{BEGIN}", *arguments],
        cwd=world.folder,
        env=environment(**env),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    world.started.append(process)
    return process


def ended(process: "subprocess.Popen[str]") -> tuple[int, str]:
    """Its exit code, and what it said on stderr."""
    _, said = process.communicate(timeout=60)
    return process.returncode, said


def manifest(world: World, count: int = 4, width: int = 2, **more: object) -> str:
    return str(world.write(prompts=many(count), limits={"concurrency": width, "budget": 5}, **more))


def finished(world: World, count: int = 4) -> None:
    """The next run brings it to its end, and the books equal the bill."""
    assert world.command("run", "otters.yaml").returncode == 0
    assert world.states() == {"done": count}
    world.check_books()


def on_its_way(world: World, requests: int = 2) -> None:
    eventually(lambda: world.sandbox.stats()["open"] >= requests)


# signals

DRAINING = [signal.SIGTERM, signal.SIGHUP]
HEARD = "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)"
"""A shell starts a job in the background deaf to Ctrl-C, and a test may be one."""


@pytest.mark.parametrize("number", DRAINING, ids=lambda number: number.name)
def test_p4_p5_p6_the_first_signal_finishes_what_is_paid_for_and_sends_nothing_new(
    bad: Start, number: signal.Signals
) -> None:
    world = bad(*SLOW)
    process = planted(world, HEARD, "run", manifest(world))
    on_its_way(world)
    process.send_signal(number)
    code, said = ended(process)
    assert (code, "2 on the way, finishing" in said) == (7, True)
    assert (world.states(), len(world.charges())) == ({"done": 2, "todo": 2}, 2)
    world.check_equal_to_the_bill()
    finished(world)


def test_p5_the_second_ctrl_c_leaves_at_once_and_everything_it_left_is_listed(bad: Start) -> None:
    """The answers would have taken longer than this test may."""
    world = bad("--latency", "3600")
    process = planted(world, HEARD, "run", manifest(world))
    on_its_way(world)
    assert process.stderr
    process.send_signal(signal.SIGINT)
    while "leaves now" not in process.stderr.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    code, said = ended(process)
    assert (code, "2 requests of unknown fate" in said) == (7, True)
    assert (world.attempts(), world.rows("SELECT exit_code FROM runs")) == (["unknown"] * 2, [(7,)])


def test_p6_a_terminal_that_is_closed_drains_the_run(bad: Start) -> None:
    """The kernel sends the signal itself, and every word from then on fails."""
    world = bad(*SLOW)
    screen, end = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "batchgen", "run", manifest(world)],
        cwd=world.folder,
        env=environment(TERM="xterm"),
        stdin=end,
        stdout=end,
        stderr=end,
        text=True,
        preexec_fn=_own_terminal,
    )
    world.started.append(process)
    os.close(end)
    eventually(lambda: bool(_drained(screen)) or world.sandbox.stats()["open"] >= 2)
    on_its_way(world)
    os.close(screen)
    assert process.wait(30) == 7
    assert (world.states(), len(world.charges())) == ({"done": 2, "todo": 2}, 2)
    world.check_equal_to_the_bill()
    finished(world)


def _own_terminal() -> None:
    """A session of its own whose terminal is standard input."""
    import fcntl
    import termios

    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def _drained(screen: int) -> bytes:
    """What stands on the screen, so that nobody waits until it is read."""
    said = b""
    while select.select([screen], [], [], 0)[0]:
        said += os.read(screen, 65536)
    return said


# nobody to talk to

NOWHERE = {
    "closed": "exec {python} -m batchgen run {manifest} >&- 2>&-",
    "stdout closed": "exec {python} -m batchgen run {manifest} >&-",
    "full": "exec {python} -m batchgen run {manifest} >/dev/full 2>/dev/full",
    "head": "{python} -m batchgen run {manifest} 2>&1 | head -1",
}


@pytest.mark.parametrize("where", NOWHERE)
def test_p7_a_run_that_nobody_can_hear_makes_all_the_same_and_writes_its_log(world: World, where: str) -> None:
    command = NOWHERE[where].format(python=sys.executable, manifest=manifest(world))
    process = subprocess.Popen(["sh", "-c", command], cwd=world.folder, env=environment(), stdout=subprocess.DEVNULL)
    world.started.append(process)  # type: ignore[arg-type]  # it is only waited for
    code = process.wait(60)
    assert (world.states(), code) == ({"done": 4}, 0)
    world.check_equal_to_the_bill()
    assert "ended with 0: all done" in (world.run_folder / "run.log").read_text()


@pytest.mark.parametrize("verb", ["report"])
def test_p7_a_reader_that_has_read_enough_is_no_error(world: World, verb: str) -> None:
    """A verb whose pipe is closed before it writes says nothing of it, and is no bug."""
    world.run()
    arguments = [] if verb in ("costs", "providers", "doctor") else ["otters.yaml"]
    here, there = os.pipe()
    os.close(here)
    command = [sys.executable, "-m", "batchgen", verb, *arguments]
    process = subprocess.Popen(
        command, cwd=world.folder, env=environment(), stdout=there, stderr=subprocess.PIPE, text=True
    )
    os.close(there)
    world.started.append(process)
    code, said = ended(process)
    assert ("Traceback" in said, code) == (False, 0), said


# bugs

PLANT = """
import {module} as module
real, calls = module.{name}, []
def bug(*given, **named):
    calls.append(1)
    if len(calls) == 3:
        {harm}
    return real(*given, **named)
module.{name} = bug
"""


def plant(where: str, harm: str) -> str:
    """Code that lets the third call of a module's function do harm instead."""
    module, _, name = where.rpartition(".")
    return PLANT.format(module=module, name=name, harm=harm)


PLACES = {
    "saving without memory": ("batchgen.images.save", "raise MemoryError"),
    "settling": ("batchgen.settle.success", "raise RuntimeError('a bug')"),
}


@pytest.mark.parametrize("place", PLACES)
def test_p9_p10_an_error_in_one_worker_lets_the_others_finish_and_loses_nothing(bad: Start, place: str) -> None:
    """It is a bug, and so the run stops; what the others had on their way is paid for and kept."""
    world, (where, harm) = bad("--latency", "0.3"), PLACES[place]
    code, said = ended(planted(world, plant(where, harm), "run", manifest(world, 12, 4)))
    name = harm.split()[1].partition("(")[0]
    assert (code, name in said) == (1, True)
    assert world.rows("SELECT exit_code FROM runs") == [(1,)]
    open_ = world.attempts().count("sending")
    assert (open_, len(world.charges())) == (1, len(world.attempts())), "its own answer alone waits in the spool"
    finished(world, 12)
    assert len(world.charges()) == 12, "nothing was bought twice"
    world.check_equal_to_the_bill()


def test_p11_an_abort_in_a_codec_is_a_kill(bad: Start) -> None:
    world = bad("--latency", "0.2")
    harm = "import os; os.abort()"
    code, _ = ended(planted(world, plant("batchgen.images.save", harm), "run", manifest(world, 12, 4)))
    assert code == -signal.SIGABRT
    settles(world)
    assert world.attempts().count("unknown") <= 4, "no more than were on their way"


@pytest.mark.parametrize("where", ["job.drive", "ledger.Ledger.start", "hold.open_folder", "lane.Lane.__aenter__"])
def test_p12_an_error_between_opening_and_closing_ends_the_process(world: World, where: str) -> None:
    """An open connection's thread would keep it alive for ever; the timeout is far beyond what an end takes."""
    opened = "from batchgen import hold, job, lane, ledger"
    bug = f"{opened}\ndef bug(*_): raise RuntimeError('a bug')\n{where} = bug"
    code, said = ended(planted(world, bug, "run", manifest(world)))
    assert (code, "RuntimeError: a bug" in said) == (1, True), said[-2000:]


# memory, files, forks, versions


def test_p9_a_run_that_may_have_no_more_memory_loses_nothing(bad: Start) -> None:
    """A limit is set on its address space while its requests are on their way, so low that nothing more fits."""
    world = bad("--latency", "1")
    process = planted(world, "", "run", manifest(world, 8, 4))
    on_its_way(world, 4)
    used = int(Path(f"/proc/{process.pid}/statm").read_text().split()[0]) * resource.getpagesize()
    resource.prlimit(process.pid, resource.RLIMIT_AS, (used, used))
    process.communicate(timeout=60)
    settles(world)
    assert world.rows("SELECT count(*) FROM tasks") == [(8,)]


def settles(world: World) -> None:
    """The next run ends with every charge known; what may have been paid for is held, or was sent again and listed."""
    assert world.command("run", "otters.yaml").returncode in (0, 3)
    world.check_books()
    twice = {charge["client_request_id"] for charge in world.charges()}
    assert len(twice) == len(world.charges()), "each sending was billed once"
    assert set(world.states()) <= {"done", "held"}


def few_files(bad: Start, most: int) -> tuple[World, int, str]:
    """A run that may open so many files and no more, with 200 requests at a time."""
    world = bad("--latency", "0.2")
    limit = f"import resource\nresource.setrlimit(resource.RLIMIT_NOFILE, ({most}, {most}))"
    return world, *ended(planted(world, limit, "run", manifest(world, 220, 200)))


def test_p17_with_few_files_no_answer_that_came_is_lost(bad: Start) -> None:
    world, code, said = few_files(bad, 64)
    assert (code in (0, 5, 7), "Traceback" in said, "Too many open files" in said) == (True, False, code == 5)
    assert len(world.charges()) > 0
    assert world.attempts().count("paid") == len(world.charges())
    settles(world)


FORKS = """
import os, sys, sqlite3
opened = []
def seen(event, given):
    if event == "sqlite3.connect": opened.append(given[0])
    if event in ("os.fork", "os.forkpty") and opened: sys.stderr.write("FORKED\\n")
sys.addaudithook(seen)
"""


def test_p15_nothing_forks_while_the_ledger_is_open(world: World) -> None:
    """Neither the run nor the sandbox that it starts: that is another program from its first moment on."""
    path = manifest(world, provider="sandbox")
    code, said = ended(planted(world, FORKS, "run", path, BATCHGEN_SANDBOX="--paint cached"))
    assert (code, "FORKED" in said) == (0, False)


READERS = ("report", "retry", "resolve")


@pytest.mark.parametrize("verb", ["run", *READERS])
def test_p16_a_newer_ledger_is_refused_by_every_verb_and_left_as_it_is(world: World, verb: str) -> None:
    world.run()
    ledger = world.run_folder / "ledger.db"
    with closing(sqlite3.connect(ledger)) as db:
        db.execute("PRAGMA user_version = 99")
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    before = ledger.read_bytes()
    flags = {"retry": ["--held", "--yes"], "resolve": ["--billed"]}.get(verb, [])
    path = manifest(world, 9) if verb == "run" else "runs/otters"
    said = world.command(verb, path, *flags)
    assert (said.returncode, "Traceback" in said.stderr) == (3 if verb == "costs" else 5, False), said.stdout
    assert ("another batchgen" in said.stderr, len(world.charges())) == (True, 1)
    assert ledger.read_bytes() == before
