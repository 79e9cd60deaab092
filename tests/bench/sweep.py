"""How speed and memory change with the number of requests that are open at once; what the plot shows."""

from dataclasses import replace

from .plot import Panel, Point
from .race import FIGURES, OURS, PROPER, RIVALS, RSS, Course, Setting, rounds
from .section import Section

WORKERS = (1, 4, 16, 32, 64, 128, 256)
RUNNERS = (OURS, *RIVALS)
ROUNDS_MOST = 3
COURSE = Course("sweep", tasks=1000, workers=1)


def sweep(setting: Setting) -> Section:
    """Every runner with every number of workers; enough tasks for each of them to be busy for a while."""
    setting = replace(setting, rounds=min(ROUNDS_MOST, setting.rounds))
    rows: dict[str, dict[str, list[float]]] = {}
    for workers in WORKERS:
        tasks = min(40 * workers, max(COURSE.tasks, 6 * workers))
        found = rounds(replace(COURSE, workers=workers, tasks=tasks), setting)
        for what in (PROPER, RSS):
            values = {runner: [FIGURES[what](each[runner]) for each in found] for runner in RUNNERS}
            rows[_label(what, workers)] = values
    about = f"100 kB images, 50 ms latency; {setting.times}"
    return Section("sweep", about, dict(sorted(rows.items(), key=lambda row: row[0].startswith(RSS))))


def panels(section: Section) -> list[Panel]:
    """A panel for speed and one for memory, a line for each runner."""
    titles = {PROPER: "Images a second", RSS: "Peak memory, MB"}
    return [
        Panel(
            title,
            "requests open at once",
            {runner: [Point(each, section.rows[_label(what, each)][runner]) for each in WORKERS] for runner in RUNNERS},
        )
        for what, title in titles.items()
    ]


def _label(what: str, workers: int) -> str:
    return f"{what} at {workers}"
