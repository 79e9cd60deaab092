"""Where one machine ends: a run by one process beside one by the nodes of a Ray cluster, and what many would take.

On few cores nodes and driver are in each other's way: what counts is the driver's own CPU for each image, since that is
what it still has to do where a hundred nodes do the rest.
"""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from .life import KEY, ROOT, Life, lived, sandbox, scratch
from .race import Course, Setting, span, written
from .section import Section, figure

sys.path.insert(0, str(ROOT / "tests"))  # as under pytest
from cluster import Cluster

COURSES = (
    Course("large", tasks=400, workers=64, size=1_500_000),
    Course("small", tasks=2000, workers=128, size=3_000),
)
LOCAL, NODES = "1 process", "2 nodes"
FLEET = 10, 100, 1000
OPEN = 64  # requests of a node at a time, of SECONDS each: what most providers take for an image
SECONDS = 30.0
LINE = 1250.0  # MB/s: what 10 Gbit/s carry to the store
SPEED, CPU, RSS = "images/s", "CPU ms an image", "peak RSS MB"


@dataclass(frozen=True, slots=True)
class Done:
    """A run: its images, seconds of the run proper, and the life of the process that drove it."""

    images: int
    proper: float
    life: Life

    @property
    def speed(self) -> float:
        return self.images / self.proper

    @property
    def cpu(self) -> float:
        return (self.life.user + self.life.system) / self.images * 1000


def nodes(setting: Setting) -> Section:
    """Both ways in every round; a short run of each warms up."""
    rows: dict[str, dict[str, list[float]]] = {}
    with Cluster() as cluster:
        for node in [cluster.join(KEY) for _ in range(2)]:
            node.wait()
        for course in COURSES:
            with sandbox(*course.flags) as url:
                for environ in ({}, cluster.environ):
                    once(url, replace(course, tasks=8), setting, environ)
                for _ in range(setting.rounds):
                    for column, environ in ((LOCAL, {}), (NODES, cluster.environ)):
                        for label, value in figures(once(url, course, setting, environ)).items():
                            rows.setdefault(f"{course.name}: {label}", {}).setdefault(column, []).append(value)
    about = "; ".join(f"{course.name}: {course}" for course in COURSES)
    section = Section("nodes", f"{about}; {setting.times}", rows)
    return replace(section, note="\n  ".join(reckoned(section)))


def figures(done: Done) -> Mapping[str, float]:
    return {SPEED: done.speed, CPU: done.cpu, RSS: done.life.rss_mb}


def once(url: str, course: Course, setting: Setting, cluster: Mapping[str, str]) -> Done:
    """One run, into a store that both ways need; with a cluster's environment by its nodes."""
    with scratch(setting.folder) as folder, stored(folder, url, course) as file:
        engine = ("--engine", "ray") if cluster else ()
        command = [sys.executable, "-m", "batchgen", "run", str(file), *engine]
        life = lived(command, setting.patience, {**KEY, **cluster})
        made = len([*(folder / "store").rglob("*.png")])
        if made != course.tasks:
            sys.exit(f"{made} images of {course.tasks}")
        return Done(made, span(folder / "runs" / "bench" / "ledger.db"), life)


@contextmanager
def stored(folder: Path, url: str, course: Course) -> Iterator[Path]:
    """The course as a manifest whose images go to a folder that all reach."""
    store = folder / "store"
    store.mkdir()
    file = written(url, folder, course)
    file.write_text(f"{file.read_text()}output: {{store: '{store.as_uri()}'}}\n")
    yield file


def reckoned(section: Section) -> Iterator[str]:
    """What so many nodes would do, and what of it gives out first."""
    busy, cpu = section.median(f"large: {SPEED}", LOCAL), section.median(f"small: {CPU}", NODES)
    size = COURSES[0].size
    yield "CPU and memory are the driver's alone. Reckoned, not run, for images of 1.5 MB:"
    for says, each in (("as fast as one process here", busy), (f"{OPEN} open, {SECONDS:g} s each", OPEN / SECONDS)):
        yield f"a node makes {figure(each)} images/s ({says}); one core drives {figure(1000 / cpu)}/s:"
        yield from table(each, cpu, size)


def table(each: float, cpu: float, size: int) -> Iterator[str]:
    """Of each image there are three writes to the ledger (claimed, begun, settled) and two to the store."""
    lines = [("nodes", "images/s", "driver cores", "ledger writes/s", "store MB/s", "gives out first")]
    for count in FLEET:
        speed = count * each
        cores, carried = speed * cpu / 1000, speed * size / 1e6
        first = "the driver's core" if cores > 1 else "the line to the store" if carried > LINE else "nothing"
        lines.append((f"{count:,}", f"{speed:,.0f}", f"{cores:.1f}", f"{3 * speed:,.0f}", f"{carried:,.0f}", first))
    widths = [max(len(line[n]) for line in lines) + 3 for n in range(len(lines[0]))]
    yield from ("".join(f"{cell:{width}}" for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines)
