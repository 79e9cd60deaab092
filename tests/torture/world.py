"""A world to be tortured: a folder with a manifest, a billing server that outlives every kill, batchgen as a child."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from sandbox import child

from .setup import KEY_ENV, Setup, lay_out, manifest

ROOT = Path(__file__).parents[2]
Process = subprocess.Popen[bytes]
PATIENCE = 60.0  # seconds


class World:
    """A context: the server and every child that is still there end with it, each by its own id."""

    def __init__(self, folder: Path, setup: Setup) -> None:
        self.setup = setup
        self.folder = folder
        self.manifest = folder / "job.yaml"
        self.run = folder / "runs" / "tortured"
        self.images = self.run / "images"
        self.bill = folder / "bill.jsonl"
        self.output = folder / "output.txt"
        self.environ: dict[str, str] = {}  # what the children see beside what all do
        self.gone = 0.0  # when the last child was gone that ended by itself, in seconds since 1970
        self.worked = 0.0  # seconds of a processor that it took
        self._children: list[Process] = []
        self._ports: list[str] = []

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True)
        self.output.touch()
        lay_out(self.folder)
        self.serve()
        self.manifest.write_text(json.dumps(manifest(self.setup, self.server.root), indent=1))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for each in self._children:
            if each.poll() is None:
                each.kill()
                each.wait()
        self.server.end()

    def serve(self) -> None:
        """Start the server; again where it was before, and with the same books."""
        self.server = child.start("--bill", str(self.bill), *self.setup.serving, *self._ports)
        pipe = self.server.process.stdout
        files = pipe.readline() if pipe else ""
        ports = [url.strip().rpartition(":")[2] for url in (self.server.root, files)]
        self._ports = ["--port", ports[0], "--files-port", ports[1]]

    def start(self, *launcher: str) -> Process:
        """Batchgen on its way, as a child; `launcher` goes before its own arguments."""
        return self._start(*(launcher or ("batchgen",)), "run", str(self.manifest))

    def _start(self, *command: str) -> Process:
        environ = {**os.environ, KEY_ENV: child.KEY, "PYTHONFAULTHANDLER": "1", **self.environ}
        with self.output.open("ab") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", *command],
                cwd=ROOT,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                umask=0,
            )
        self._children.append(process)
        return process

    def finish(self, process: Process | None = None) -> int:
        """Let a run end by itself; its exit code, or that of an abort (its stacks are in output.txt) where it hangs."""
        process = process or self.start()
        if process.returncode is not None:
            return process.returncode
        if not until(lambda: ended(process), self.setup.patience):
            os.kill(process.pid, signal.SIGABRT)
        _, status, used = os.wait4(process.pid, 0)
        self.gone, self.worked = time.time(), used.ru_utime + used.ru_stime
        process.returncode = os.waitstatus_to_exitcode(status)
        return process.returncode

    def ask(self, *command: str) -> tuple[int, str]:
        """The exit code of another verb, and what it printed."""
        before = self.output.stat().st_size
        code = self.finish(self._start("batchgen", *command))
        return code, self.output.read_bytes()[before:].decode()

    def charges(self) -> int:
        return self.bill.read_bytes().count(b"\n")

    def runs(self) -> int:
        """How many runs the ledger knows."""
        return self.rows("runs")

    def rows(self, which: str) -> int:
        """How many of a table the ledger has."""
        with suppress(sqlite3.Error), closing(sqlite3.connect(f"file:{self.run}/ledger.db?mode=ro", uri=True)) as db:
            return int(db.execute(f"SELECT count(*) FROM {which}").fetchone()[0])
        return 0

    def quiet(self) -> None:
        """Wait until the server has nothing open: it bills also those who have left."""
        until(lambda: self.server.stats()["open"] == 0)


def ended(process: Process) -> bool:
    """Whether it has; its exit code is left to those who wait for it."""
    if process.returncode is not None:
        return True
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def until(true: Callable[[], object], seconds: float = PATIENCE, pause: float = 0.001) -> bool:
    """Wait for it; False where it did not come true in time."""
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            return False
        time.sleep(pause)
    return True
