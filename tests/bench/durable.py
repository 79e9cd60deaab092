"""What durability costs: the same run, once as it is, once with a disk that only says that it has written."""

import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

from .life import KEY, lived, sandbox, scratch
from .race import CPU, OURS, PROPER, Course, Setting, prepare, span
from .section import Section
from .settling import percentile

COURSE = Course("durable", tasks=640, workers=32)
AS_IT_IS, PRETENDED = "fsync", "no fsync"
ROWS = (PROPER, "p50 ms an image", "p99 ms an image", CPU)
NOTE = "An image's time is its attempt's, sent_at to ended_at: with the commit that begins it and its own fsyncs."


def durable(setting: Setting) -> Section:
    """Both in every round, in turns; the C library that pretends is compiled on the spot."""
    compiler = shutil.which("cc")
    if not compiler or sys.platform != "linux":
        return Section("durable", "left out: it needs Linux and a C compiler called cc", {})
    with scratch(setting.folder) as folder, sandbox(*COURSE.flags) as url:
        library = folder / "nosync.so"
        source = Path(__file__).with_name("nosync.c")
        subprocess.run([compiler, "-shared", "-fPIC", "-O2", "-o", library, source], check=True)
        environs = {AS_IT_IS: KEY, PRETENDED: {**KEY, "LD_PRELOAD": str(library)}}
        once(url, setting, KEY)
        rounds = []
        for n in range(setting.rounds):
            order = list(environs)[:: -1 if n % 2 else 1]
            rounds.append({name: once(url, setting, environs[name]) for name in order})
    rows = {label: {name: [each[name][i] for each in rounds] for name in environs} for i, label in enumerate(ROWS)}
    for found in rows.values():
        found["ratio"] = [a / b for a, b in zip(found[AS_IT_IS], found[PRETENDED], strict=True)]
    return Section("durable", f"{COURSE}; {setting.times}", rows, note=NOTE)


def once(url: str, setting: Setting, environ: dict[str, str]) -> tuple[float, ...]:
    """The figures of one run, in the order of the rows."""
    with scratch(setting.folder) as folder:
        life = lived(prepare(OURS, url, folder, COURSE), setting.patience, environ)
        ledger = folder / "runs" / "bench" / "ledger.db"
        times = taken(ledger)
        cpu = (life.user + life.system) / COURSE.tasks * 1000
        return COURSE.tasks / span(ledger), percentile(times, 50), percentile(times, 99), cpu


def taken(ledger: Path) -> list[float]:
    """Milliseconds of every attempt."""
    sql = "SELECT (julianday(ended_at) - julianday(sent_at)) * 86400000 FROM attempts"
    with closing(sqlite3.connect(f"{ledger.as_uri()}?mode=ro", uri=True)) as db:
        return [float(each) for (each,) in db.execute(sql)]
