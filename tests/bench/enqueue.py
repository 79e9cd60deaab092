"""A million tasks from the yes on: when the first request leaves, how fast they are written down, what waits for it."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from .life import KEY, lived, sandbox, scratch
from .race import Course, Setting
from .resume import big
from .section import Section, Target
from .settling import percentile

PROMPTS, SAMPLES = 100_000, 10
TASKS = PROMPTS * SAMPLES
COURSE = Course("enqueue", TASKS, workers=32, latency=1.0)
COLUMN = "1,000,000 tasks"
FIRST = "s to first request"
TARGETS = (Target(FIRST, COLUMN, most=2.0),)
EVERY = 0.1  # seconds between two looks
STARTED = "SELECT (julianday(started_at) - 2440587.5) * 86400 FROM runs"
SENT = "SELECT (julianday(min(sent_at)) - 2440587.5) * 86400 FROM attempts"
DONE = "SELECT max(seq) FROM attempts"
INTERRUPTED = 7  # how a run ends that was told to stop
NOTE = (
    "Counted from the run's start (runs.started_at), which follows the yes; the survey before it is a row of its own."
)


@dataclass(slots=True)
class Watch:
    """Looks at a run's ledger from outside until all is written down, then tells the run to stop."""

    ledger: Path
    begun: float = 0.0  # by the wall clock, as the ledger's own times are
    started: float = 0.0
    sent: float = 0.0
    whole: float = 0.0  # when all was written down, by the wall clock
    until: float = 0.0  # the same by the monotonic clock
    attempts: int = 0  # by then
    size: int = 0  # bytes of the ledger by then

    def __call__(self, process: subprocess.Popen[str]) -> None:
        self.begun = time.time()
        while process_lives(process.pid) and not self._looked():
            time.sleep(EVERY)
        os.kill(process.pid, signal.SIGINT)  # Popen's own way would take its end away from who waits for it

    def _looked(self) -> bool:
        """Whether all is written down and a request has left."""
        if not self.ledger.exists():
            return False
        with closing(sqlite3.connect(f"{self.ledger.as_uri()}?mode=ro", uri=True, timeout=10)) as db:
            (state,) = db.execute("SELECT enqueued FROM job").fetchone()
            if not self.whole and state not in ("", "unfinished"):
                self.whole, self.until = time.time(), time.monotonic()
                self.attempts = db.execute(DONE).fetchone()[0] or 0
                self.size = self.ledger.stat().st_size
            self.started = (db.execute(STARTED).fetchone() or (0.0,))[0]
            self.sent = db.execute(SENT).fetchone()[0] or 0.0
        return bool(self.whole and self.sent)


def process_lives(pid: int) -> bool:
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None


def enqueue(setting: Setting) -> Section:
    """One round: it takes as long as all of another scenario."""
    with scratch(setting.folder) as folder, sandbox(*COURSE.flags) as url:
        file, log = big(folder, url, f"samples: {SAMPLES}", PROMPTS), folder / "watched"
        watch = Watch(folder / "runs" / "big" / "ledger.db")
        command = [sys.executable, "-m", "tests.bench.stopwatch", str(log), "run", str(file)]
        life = lived(command, setting.patience, KEY, watch, ends=INTERRUPTED)
        waits = [seconds * 1000 for begun, seconds in json.loads(log.read_text())["waits"] if begun < watch.until]
    seconds = watch.whole - watch.started
    figures = {
        "s of the survey": watch.started - watch.begun,
        FIRST: watch.sent - watch.started,
        "s to write all down": seconds,
        "tasks/s written down": TASKS / seconds,
        "images/s meanwhile": watch.attempts / seconds,
        "ledger wait, p50 ms": percentile(waits, 50),
        "ledger wait, p99 ms": percentile(waits, 99),
        "ledger wait, most ms": max(waits),
        "peak RSS MB": life.rss_mb,
        "bytes a task": watch.size / TASKS,
    }
    rows = {label: {COLUMN: [found]} for label, found in figures.items()}
    return Section("enqueue", f"{PROMPTS:,} prompts × {SAMPLES}, 32 workers; once", rows, TARGETS, NOTE)
