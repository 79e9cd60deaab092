"""A world to be tortured: a folder with a manifest, a billing server that outlives every kill, batchgen as a child."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from sandbox import child

ROOT = Path(__file__).parents[2]
PATIENCE = 60.0  # seconds after which a run that does not end by itself hangs
Process = subprocess.Popen[bytes]


@dataclass(frozen=True, slots=True)
class Setup:
    """What is to be bought, how, and from how bad a server; `flags` are the sandbox's.

    The tasks and the requests that are open at once are shared out among `lanes` providers, all of them that server.
    """

    tasks: int = 60
    workers: int = 8
    lanes: int = 1
    images: int = 1
    latency: float = 0.03
    hold: bool = False
    flags: tuple[str, ...] = ()


class World:
    """A context: the server and every child that is still there end with it, each by its own id."""

    def __init__(self, folder: Path, setup: Setup) -> None:
        self.setup = setup
        self.folder = folder
        self.manifest = folder / "job.yaml"
        self.run = folder / "runs" / "tortured"
        self.bill = folder / "bill.jsonl"
        self._children: list[Process] = []

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True)
        paint = ("--paint", "cached", "--paint-bytes", "20000")
        books = ("--bill", str(self.bill), "--latency", str(self.setup.latency))
        self.server = child.start(*paint, *books, *self.setup.flags)  # a flag given twice counts as given last
        self.manifest.write_text(json.dumps(wanted(self.setup, self.server.url), indent=1))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for each in self._children:
            if each.poll() is None:
                each.kill()
                each.wait()
        self.server.end()

    def start(self, *launcher: str) -> Process:
        """Batchgen on its way, as a child; `launcher` goes before its own arguments."""
        command = [sys.executable, "-m", *(launcher or ("batchgen",)), "run", str(self.manifest)]
        environ = {**os.environ, "SANDBOX_KEY": child.KEY, "PYTHONFAULTHANDLER": "1"}
        with (self.folder / "output.txt").open("ab") as output:
            process = subprocess.Popen(
                command, cwd=ROOT, env=environ, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        self._children.append(process)
        return process

    def finish(self, process: Process | None = None) -> int:
        """Let a run end by itself; its exit code, or that of an abort (its stacks are in output.txt) where it hangs."""
        process = process or self.start()
        try:
            return process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGABRT)
            return process.wait()

    def charges(self) -> int:
        return self.bill.read_bytes().count(b"\n")

    def quiet(self) -> None:
        """Wait until the server has nothing open: it bills also those who have left."""
        until(lambda: self.server.stats()["open"] == 0)


def wanted(setup: Setup, url: str) -> dict[str, object]:
    """The manifest: JSON is YAML."""
    same = {"dialect": "openai", "base_url": url, "api_key_env": "SANDBOX_KEY", "links": ["127.0.0.1"]}
    return {
        "name": "tortured",
        "model": "gpt-image-2",
        "prompts": [f"Fox number {i}" for i in range(setup.tasks // setup.lanes)],
        "matrix": {"provider": [{"name": f"local-{n}", **same} for n in range(setup.lanes)]},
        "request": {"quality": "low", "size": "1024x1024", "n": setup.images},
        "limits": {"concurrency": setup.workers // setup.lanes, "budget": 1000, "timeout": "20s"},
        # More than is ever needed: what ends for want of an allowance has not converged
        "retry": {"attempts": 50, "on_unknown": "hold" if setup.hold else "retry", "duplicate_allowance": 100},
    }


def until(true: Callable[[], object], seconds: float = PATIENCE) -> bool:
    """Wait for it; False where it did not come true in time."""
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            return False
        time.sleep(0.001)
    return True
