"""Batchgen beside the bare loops: the same work, the same provider, one after the other in every round."""

import sqlite3
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from .life import KEY, Life, lived, sandbox, scratch
from .section import Section, Target

OURS, RIVALS = "batchgen", ("httpx", "aiohttp", "openai")
MANIFEST = """\
name: bench
provider: {{name: pretend, dialect: openai, base_url: "{url}", api_key_env: BENCH_API_KEY}}
model: gpt-image-2
prompts: [{{prompt: "Otter number {{{{ number }}}}", vars: {{number: [{numbers}]}}}}]
request: {{size: 1024x1024, quality: low, n: {images}}}
limits: {{concurrency: {workers}, budget: 1000000}}
"""


@dataclass(frozen=True, slots=True)
class Setting:
    """Of all scenarios: how often, on which disk, for how many seconds at most a process may run, on what prompts."""

    rounds: int
    folder: Path
    patience: float
    prompts: Path | None = None

    @property
    def times(self) -> str:
        return f"{self.rounds} rounds" if self.rounds > 1 else "1 round"


@dataclass(frozen=True, slots=True)
class Course:
    """`images` of `size` bytes in each answer, which takes `latency` seconds; `targets` are of batchgen's rows."""

    name: str
    tasks: int
    workers: int
    size: int = 100_000
    latency: float = 0.05
    images: int = 1
    targets: Sequence[Target] = ()

    def __str__(self) -> str:
        answer = f"{self.size / 1000:g} kB images" + (f", {self.images} an answer" if self.images > 1 else "")
        return f"{self.tasks:,} tasks, {answer}, {self.latency * 1000:g} ms latency, {self.workers} workers"

    @property
    def flags(self) -> tuple[str, ...]:
        return "--paint-bytes", str(self.size), "--latency", str(self.latency)


@dataclass(frozen=True, slots=True)
class Measured:
    """One runner in one round: its images and how many it had open at once, seconds of the run proper and of a turn."""

    images: int
    open: int
    proper: float
    turn: float
    life: Life


PROPER, STEADY, WHOLE = "images/s proper", "images/s steady", "images/s whole"
CPU, RSS = "CPU ms an image", "peak RSS MB"
FIGURES: Mapping[str, Callable[[Measured], float]] = {
    PROPER: lambda it: it.images / it.proper,
    STEADY: lambda it: it.open / it.turn,
    WHOLE: lambda it: it.images / it.life.whole,
    CPU: lambda it: (it.life.user + it.life.system) / it.images * 1000,
    "… user": lambda it: it.life.user / it.images * 1000,
    "… sys": lambda it: it.life.system / it.images * 1000,
    RSS: lambda it: it.life.rss_mb,
}
COMPARED = (PROPER, STEADY, WHOLE, CPU)


def ratio(row: str) -> str:
    """The row that compares a row of batchgen with a rival's."""
    return f"ratio {row.removeprefix('images/s ').removesuffix(' ms an image')}"


def race(course: Course, setting: Setting) -> Section:
    """Batchgen and all rivals on one course."""
    found = rounds(course, setting)
    return Section(course.name, f"{course}; {setting.times}", compared(found), course.targets)


def rounds(course: Course, setting: Setting) -> list[Mapping[str, Measured]]:
    """All runners in every round, each round begun by another; a short round before them warms up."""
    runners = (OURS, *RIVALS)
    with sandbox(*course.flags) as url:
        for runner in runners:
            once(runner, url, replace(course, tasks=8, workers=4), setting)
        turns = [runners[n % len(runners) :] + runners[: n % len(runners)] for n in range(setting.rounds)]
        return [{runner: once(runner, url, course, setting) for runner in order} for order in turns]


def compared(rounds: Sequence[Mapping[str, Measured]]) -> dict[str, dict[str, list[float]]]:
    """Every figure of every runner, then batchgen's as parts of the rivals' of the same round."""
    rows = {
        label: {runner: [value(each[runner]) for each in rounds] for runner in (OURS, *RIVALS)}
        for label, value in FIGURES.items()
    }
    for label in COMPARED:
        ours = rows[label][OURS]
        rows[ratio(label)] = {rival: [a / b for a, b in zip(ours, rows[label][rival], strict=True)] for rival in RIVALS}
    return rows


def once(runner: str, url: str, course: Course, setting: Setting, environ: Mapping[str, str] = KEY) -> Measured:
    """A runner's whole life in a fresh folder, which is gone afterwards."""
    with scratch(setting.folder) as folder:
        life = lived(prepare(runner, url, folder, course), setting.patience, environ)
        saved = sorted(path.stat().st_mtime for path in folder.rglob("*.png"))
        wanted, open_at_once = course.tasks * course.images, course.workers * course.images
        if len(saved) != wanted:  # it did less than the others
            sys.exit(f"{runner} made {len(saved)} images of {wanted}")
        proper = span(folder / "runs" / "bench" / "ledger.db") if runner == OURS else float(life.said)
        return Measured(wanted, open_at_once, proper, turn(saved, open_at_once), life)


def prepare(runner: str, url: str, folder: Path, course: Course) -> list[str]:
    """The command that does the work."""
    if runner != OURS:
        asked = (course.tasks, course.workers, course.images)
        return [sys.executable, "-m", "tests.bench.rivals", runner, url, str(folder), *map(str, asked)]
    return [sys.executable, "-m", "batchgen", "run", str(written(url, folder, course))]


def written(url: str, folder: Path, course: Course) -> Path:
    """The course as batchgen's manifest."""
    file = folder / "bench.yaml"
    numbers = ", ".join(map(str, range(course.tasks)))
    file.write_text(MANIFEST.format(url=url, numbers=numbers, workers=course.workers, images=course.images))
    return file


def span(ledger: Path) -> float:
    """Seconds from a run's start to its end, as batchgen wrote them down itself."""
    seconds = "SELECT (julianday(ended_at) - julianday(started_at)) * 86400 FROM runs"
    with closing(sqlite3.connect(f"{ledger.as_uri()}?mode=ro", uri=True)) as db:
        return float(db.execute(seconds).fetchone()[0])


def turn(saved: Sequence[float], open_at_once: int) -> float:
    """Seconds from an image to the one that takes its place: whatever the start and the end of a run take."""
    return statistics.median(after - before for before, after in zip(saved, saved[open_at_once:], strict=False))
