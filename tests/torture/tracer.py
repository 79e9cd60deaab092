"""Kills at an exact system call: strace takes over a stopped child, and kills it when a thread makes its k-th call."""

import os
import shutil
import signal
import subprocess
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from .world import PATIENCE, Process, World, until

PHASES = ("start", "ledger", "work")
FILES = (
    "openat",
    "write",
    "pwrite64",
    "fsync",
    "fdatasync",
    "ftruncate",
    "rename",
    "unlink",
    "unlinkat",
    "mkdir",
    "rmdir",
)
CALLS = (*FILES, "connect", "sendto", "recvfrom")


@dataclass(frozen=True, slots=True)
class Point:
    """The k-th `call` that a thread makes after `phase` began."""

    phase: str
    call: str
    k: int

    @classmethod
    def parse(cls, text: str) -> Self:
        phase, call, k = text.split("/")
        return cls(phase, call, int(k))

    def __str__(self) -> str:
        return f"{self.phase}/{self.call}/{self.k}"


def missing() -> str:
    return "" if shutil.which("strace") else "strace: apt-get install strace"


def kill_at(world: World, point: Point) -> int:
    """Run until the point is reached, which kills the run, or to the end; the exit code."""
    inject = f"inject={point.call}:signal=SIGKILL:when={point.k}"
    return traced(world, point.phase, "-o", os.devnull, "-e", f"trace={point.call}", "-e", inject)


def count(world: World, phase: str) -> dict[str, int]:
    """How many of each call the busiest thread of a whole run makes."""
    log = world.folder / "calls.txt"
    traced(world, phase, "-o", str(log), "-e", f"trace={','.join(CALLS)}")
    return busiest(log) if log.exists() else {}


def busiest(log: Path) -> dict[str, int]:
    """The most that one thread made of each call; a line of the log begins with thread and call."""
    calls = (line.split(maxsplit=1) for line in log.read_text().splitlines())
    per_thread = Counter((thread, text.partition("(")[0]) for thread, text in calls)
    most: dict[str, int] = {}
    for (_, call), n in per_thread.items():
        if call in CALLS:  # not `<... write resumed>`
            most[call] = max(n, most.get(call, 0))
    return most


def traced(world: World, phase: str, *options: str) -> int:
    process = world.start("tests.torture.launch", phase)
    if not stops(process):
        return world.finish(process)  # it ended before the phase began
    with subprocess.Popen(["strace", "-f", "-qq", *options, "-p", str(process.pid)]) as strace:
        try:
            taken_over = until(lambda: _traced(process.pid) or strace.poll() is not None, 10)
            process.send_signal(signal.SIGCONT)
            if not taken_over or strace.poll() not in (None, 0):
                raise RuntimeError("strace could not take over: does this machine allow it?")
            return world.finish(process)
        finally:
            strace.terminate() if process.returncode is None else strace.wait(PATIENCE)


def stops(process: Process) -> bool:
    """True once the child has stopped itself, False where it ended instead."""
    seen = os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
    return seen is not None and seen.si_code == os.CLD_STOPPED


def _traced(pid: int) -> bool:
    """Whether each of its threads is."""
    threads = Path(f"/proc/{pid}/task").iterdir()
    return all("TracerPid:\t0\n" not in (thread / "status").read_text() for thread in threads)
