"""A command that is forked sees, says and ends as one that is executed."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from . import nursery
from .nursery import Forked

WITNESS = """
import asyncio, atexit, json, os, random, signal, sys, threading, time, warnings
def late():
    time.sleep(0.1)
    print("a thread has ended")
dispositions = [str(signal.getsignal(number)) for number in sorted(signal.valid_signals())]
seen = [sys.argv[1:], os.getcwd(), sys.path, dict(os.environ), [str(d).partition(" at ")[0] for d in dispositions]]
seen += [sorted(os.listdir("/proc/self/fd"), key=int), os.getsid(0), os.getpgrp(), threading.active_count()]
seen += [sys.stdin.isatty(), sys.stdin.read(), sys.stdout.encoding, sys.stdout.errors, sys.stderr.errors]
seen += [[str(each) for each in warnings.filters], sys.flags.dev_mode, time.tzname, __name__]
print(json.dumps(seen), flush=True)
threading.Thread(target=late).start()
atexit.register(print, "all is over")
print("a word on stderr", file=sys.stderr)
sys.stdout.write("a last word")
exec(sys.argv[1])
"""
KINDS: "tuple[type[subprocess.Popen[str]], ...]" = (subprocess.Popen, Forked)
ENDS = ("pass", "sys.exit(3)", "sys.exit()", "sys.exit('why')", "os._exit(7)", "os.kill(os.getpid(), 9)", "os.abort()")


def told(kind: type["subprocess.Popen[str]"], folder: Path, end: str) -> tuple[int, str, str]:
    pipe, env = subprocess.PIPE, {**nursery.ENVIRON, "TZ": "Pacific/Kiritimati", "ONLY": "here"}
    command = [sys.executable, "-m", "witness", end, "--flag", "späß"]
    process = kind(command, cwd=folder, env=env, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
    out, err = process.communicate("what it is told", timeout=20)
    return process.returncode, out, err


@pytest.mark.parametrize("end", ENDS)
def test_it_sees_says_and_ends_as_one_that_is_executed(tmp_path: Path, end: str) -> None:
    (tmp_path / "witness.py").write_text(WITNESS)
    executed, forked = (told(kind, tmp_path, end) for kind in KINDS)
    assert forked == executed


@pytest.mark.parametrize("end", ["1 / 0", "raise KeyboardInterrupt"])
def test_an_error_that_nobody_catches_ends_it_the_same_way(tmp_path: Path, end: str) -> None:
    """The stack begins elsewhere."""
    (tmp_path / "witness.py").write_text(WITNESS)
    executed, forked = (told(kind, tmp_path, end) for kind in KINDS)
    assert forked[:2] == executed[:2]
    assert forked[2].splitlines()[-3:] == executed[2].splitlines()[-3:]


@pytest.mark.parametrize("kind", KINDS)
def test_a_signal_reaches_it_and_who_waits_knows_it(tmp_path: Path, kind: type["subprocess.Popen[str]"]) -> None:
    (tmp_path / "sleeper.py").write_text("import time\nprint('up')\ntime.sleep(60)\n")
    command = [sys.executable, "-m", "sleeper"]
    process = kind(command, cwd=tmp_path, env=nursery.ENVIRON, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stdout.readline() == "up\n"
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.05)
    assert process.poll() is None
    process.terminate()
    assert process.wait(10) == process.poll() == -signal.SIGTERM
    process.send_signal(signal.SIGTERM)
    process.communicate()


def test_no_two_draw_the_same_lots(tmp_path: Path) -> None:
    (tmp_path / "lots.py").write_text("import random\nprint(random.random())\n")
    command, pipe = [sys.executable, "-m", "lots"], subprocess.PIPE
    lots = {Forked(command, cwd=tmp_path, stdout=pipe, text=True).communicate()[0] for _ in range(2)}
    assert len(lots) == 2


def test_what_only_an_interpreter_reads_gets_an_interpreter() -> None:
    for more, kind in (({}, Forked), ({"ONLY": "here"}, Forked), ({"PYTHONPATH": "/"}, subprocess.Popen)):
        process = nursery.start("batchgen", "--version", env={**nursery.ENVIRON, **more}, stdout=subprocess.DEVNULL)
        assert (type(process), process.wait(20)) == (kind, 0)
