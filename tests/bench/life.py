"""One process from start to end: its seconds, its CPU, its peak memory, what it said.

Imports little: on Linux a child's peak memory is at least its parent's.
"""

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
KEY = {"BENCH_API_KEY": "sk-bench"}
KEEPALIVE = 75  # seconds: a bare loop that decodes for longer than that finds its connections cut, and ends
RSS_UNIT = 1 if sys.platform == "darwin" else 1024  # bytes


@dataclass(frozen=True, slots=True)
class Life:
    """Seconds of the whole process and of its CPU, its peak memory, its standard output."""

    whole: float
    user: float
    system: float
    rss_mb: float
    said: str


def _unwatched(process: subprocess.Popen[str]) -> None:
    pass


def lived(
    command: Sequence[str],
    patience: float,
    environ: Mapping[str, str] = KEY,
    watch: Callable[[subprocess.Popen[str]], None] = _unwatched,
    ends: int = 0,
) -> Life:
    """Start it and wait for it, for `patience` seconds at most; one that ends with another code ends the benchmark."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        begun = time.monotonic()
        whole = {**os.environ, **environ}
        process = subprocess.Popen(
            command, cwd=ROOT, env=whole, stdin=subprocess.DEVNULL, stdout=out, stderr=err, text=True
        )
        alarm = threading.Timer(patience, process.kill)
        alarm.daemon = True
        alarm.start()
        watch(process)
        _, status, used = os.wait4(process.pid, 0)
        seconds = time.monotonic() - begun
        alarm.cancel()
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        err.seek(0)
        if process.returncode != ends:
            sys.exit(f"{' '.join(command)} ended with {process.returncode}:\n{err.read()[-2000:]}")
        return Life(seconds, used.ru_utime, used.ru_stime, used.ru_maxrss * RSS_UNIT / 1e6, out.read())


@contextmanager
def sandbox(*flags: str, module: str = "batchgen.sandbox") -> Iterator[str]:
    """The provider that all share; yields its URL."""
    fixed = ("--until-stdin-closes", "--paint", "cached", "--keepalive", str(KEEPALIVE))
    command = [sys.executable, "-m", module, *fixed, *flags]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout
        try:
            yield process.stdout.readline().removeprefix("sandbox listening on ").strip()
        finally:
            process.kill()


@contextmanager
def scratch(folder: Path) -> Iterator[Path]:
    """A fresh folder on the disk that is measured, gone afterwards; nobody's leftovers are still to be written."""
    os.sync()
    with tempfile.TemporaryDirectory(prefix="batchgen-bench-", dir=folder) as path:
        yield Path(path)
