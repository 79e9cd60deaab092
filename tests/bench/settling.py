"""How long a finished answer is at risk: from the moment the provider hands it over until it is settled on the disk."""

import json
import statistics
import sys
from collections.abc import Sequence
from dataclasses import replace

from .life import lived, sandbox, scratch
from .race import Course, Setting, written
from .section import Section, Target

COURSES = (Course("32 workers", tasks=640, workers=32), Course("128 workers", tasks=640, workers=128))
READ, HANDED = "last byte read", "handed over"
PARTS = {"p50": 50, "p99": 99, "most": 100}
TARGETS = tuple(Target(f"{READ}, p99 ms", course.name, most=100) for course in COURSES)
NOTE = "Until the commit that settles it returned, since batchgen read its last byte, or the provider last wrote to it."


def settling(setting: Setting) -> Section:
    """All clocks are the machine's monotonic one; a short run warms up."""
    rows: dict[str, dict[str, list[float]]] = {f"{since}, {part} ms": {} for since in (READ, HANDED) for part in PARTS}
    for course in COURSES:
        once(replace(course, tasks=8), setting)
        rounds = [once(course, setting) for _ in range(setting.rounds)]
        for since in (READ, HANDED):
            for label, part in PARTS.items():
                rows[f"{since}, {label} ms"][course.name] = [percentile(each[since], part) for each in rounds]
    about = f"100 kB images, 50 ms latency; {setting.times}"
    return Section("settling", about, rows, TARGETS, NOTE)


def once(course: Course, setting: Setting) -> dict[str, list[float]]:
    """Milliseconds of every attempt of a run, since either moment."""
    with scratch(setting.folder) as folder:
        handed, watched = folder / "handed", folder / "watched"
        with sandbox(*course.flags, str(handed), module="tests.bench.provider") as url:
            file = written(url, folder, course)
            command = [sys.executable, "-m", "tests.bench.stopwatch", str(watched), "run", str(file)]
            lived(command, setting.patience)
        seen = json.loads(watched.read_text())
        left = dict(line.split() for line in handed.read_text().splitlines())
    since = {READ: seen["read"], HANDED: left}
    return {
        name: [(end - float(begun[each])) * 1000 for each, end in seen["settled"].items()]
        for name, begun in since.items()
    }


def percentile(found: Sequence[float], part: int) -> float:
    """What so many in a hundred do not pass."""
    if part == 100:
        return max(found)
    return statistics.quantiles(found, n=100, method="inclusive")[part - 1]
