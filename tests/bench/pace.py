"""`python -m tests.bench.pace [a|b|c]`: how a run keeps to limits that it knows, learns, or sees change.

a: 400 images against a bucket of 20 a second; b: one answer in ten a 429 that means nothing; c: a limit that halves in
mid-run and comes back, as a table of requests a second (`--csv`) or a picture (`--plot`).
"""

import argparse
import os
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from .plot import Panel, Point, svg

ROOT = Path(__file__).parents[2]
PATIENCE, WINDOW = 300.0, 2  # seconds for one run, and over which requests are counted for the plot
BUCKET = "--ipm 1200 --burst 20 --retry-after-header --latency 0.5 --paint-bytes 2000"
MANIFEST = """\
name: pace
provider: {{name: pretend, dialect: openai, base_url: "{url}", api_key_env: BENCH_API_KEY, price: {{image: 0.01}}}}
model: gpt-image-2
prompts: [{{prompt: "Otter number {{{{ number }}}}", vars: {{number: [{numbers}]}}}}]
samples: {samples}
limits: {{budget: 1000000, {limits}}}
"""
TOLD = {"told in headers": "headers", "told in 429s": "words", "never told": "nothing"}
AUTO = "concurrency: auto"
KNOWN = f"{AUTO}, images_per_minute: 1200"


@dataclass(frozen=True, slots=True)
class Ran:
    """One run: its seconds, when each request was sent (from the first one on) and whether it was a 429."""

    seconds: float
    sent: list[tuple[float, bool]]
    done: int

    @property
    def refused(self) -> int:
        return sum(refused for _, refused in self.sent)


@contextmanager
def sandbox(flags: str) -> Iterator[str]:
    command = [sys.executable, "-m", "batchgen.sandbox", "--until-stdin-closes", "--paint", "cached", *flags.split()]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout
        try:
            yield process.stdout.readline().removeprefix("sandbox listening on ").strip()
        finally:
            process.kill()


def run(folder: Path, url: str, tasks: int, limits: str = AUTO, samples: int = 1) -> Ran:
    """A run of the folder's job; the first ever, or one for more samples."""
    path, numbers = folder / "pace.yaml", ", ".join(map(str, range(tasks)))
    path.write_text(MANIFEST.format(url=url, numbers=numbers, limits=limits, samples=samples))
    command = [sys.executable, "-m", "batchgen", "run", str(path), "--yes"]
    environ = {**os.environ, "BENCH_API_KEY": "sk-bench"}
    ended = subprocess.run(
        command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    if ended.returncode:
        sys.exit(f"ended with {ended.returncode}:\n{ended.stderr[-2000:]}")
    return read(folder / "runs" / "pace" / "ledger.db")


def read(ledger: Path) -> Ran:
    """The last run, as it wrote itself down."""
    day = "julianday({}) * 86400"
    with closing(sqlite3.connect(f"{ledger.as_uri()}?mode=ro", uri=True)) as db:
        run, seconds = db.execute(
            f"SELECT id, {day.format('ended_at')} - {day.format('started_at')} FROM runs ORDER BY id DESC LIMIT 1"
        ).fetchone()
        sql = f"SELECT {day.format('sent_at')}, status = 429 FROM attempts WHERE run = ? ORDER BY seq"
        rows = db.execute(sql, (run,)).fetchall()
        (done,) = db.execute("SELECT count(*) FROM tasks WHERE state = 'done'").fetchone()
    return Ran(seconds, [(at - rows[0][0], bool(refused)) for at, refused in rows], done)


def show(name: str, ran: Ran, wanted: str) -> None:
    last = ran.sent[-1][0]
    print(
        f"{name:44} {ran.seconds:6.2f} s  {ran.refused:4} 429s  {ran.done:5} done  last sent {last:6.2f} s   {wanted}"
    )


def known_or_learned() -> None:
    """a: 400 tasks of 0.5 s at 20 a second; the ideal is 19.5 s."""
    for name, tells in TOLD.items():
        with sandbox(f"{BUCKET} --tell-limits {tells}") as url, tempfile.TemporaryDirectory() as folder:
            show(f"a  unknown limit, {name}", run(Path(folder), url, 400), "(21 s, 10 429s)")
            show("a  second run, as learned", run(Path(folder), url, 400, samples=2), "(2 429s)")
    with sandbox(BUCKET) as url, tempfile.TemporaryDirectory() as folder:
        show("a  limit in the manifest", run(Path(folder), url, 400, KNOWN), "(20.5 s, no 429)")


def noise() -> None:
    """b: one answer in ten is a 429 with Retry-After: 1."""
    for seed in (1, 2, 3):
        flags = f"--faults 429-header=0.1 --seed {seed} --latency 0.05 --paint-bytes 2000"
        with sandbox(flags) as url, tempfile.TemporaryDirectory() as folder:
            show(f"b  noise, seed {seed}", run(Path(folder), url, 500), "(5 s, 500 done)")


def change(csv: bool, plot: Path | None) -> None:
    """c: 20 a second, 10 a second from 20 s to 50 s on, then 20 again."""
    found = {}
    for name, tells in TOLD.items():
        flags = f"{BUCKET} --tell-limits {tells} --ipm-later 20=600,50=1200"
        with sandbox(flags) as url, tempfile.TemporaryDirectory() as folder:
            found[name] = run(Path(folder), url, 2000)
        show(f"c  halves and comes back, {name}", found[name], "(2000 done)")
        table(found[name], csv)
    if plot:
        about = "2,000 images of 0.5 s; 20 a second, from 20 s to 50 s only 10; requests a second, over 2 s each"
        panels = [panel(f"A limit that is {name}: {ran.refused} refused", ran) for name, ran in found.items()]
        plot.write_text(svg("A limit halves in mid-run and comes back", about, panels))


def panel(title: str, ran: Ran) -> Panel:
    """What was accepted, offered and refused over time."""
    ends = range(WINDOW, int(ran.sent[-1][0]) + 1)
    lines: dict[str, list[Point]] = {"accepted": [], "offered": [], "refused": []}
    for end in ends:
        here = [refused for at, refused in ran.sent if end - WINDOW <= at < end]
        offered, refused = len(here) / WINDOW, sum(here) / WINDOW
        for name, value in zip(lines, (offered - refused, offered, refused), strict=True):
            lines[name].append(Point(end - WINDOW / 2, [value]))
    return Panel(title, "seconds", lines, ticks=range(0, 1000, 20))


def table(ran: Ran, csv: bool) -> None:
    """What was offered, accepted and refused each second; for eyes over five."""
    step = 1 if csv else 5
    print(
        "second,offered,accepted,refused"
        if csv
        else f"{'second':>8}{'offered/s':>11}{'accepted/s':>12}{'refused/s':>11}"
    )
    for begin in range(0, int(ran.sent[-1][0]) + 1, step):
        here = [refused for at, refused in ran.sent if begin <= at < begin + step]
        offered, refused = len(here) / step, sum(here) / step
        if csv:
            print(f"{begin},{offered:g},{offered - refused:g},{refused:g}")
        else:
            print(f"{begin:8}{offered:11.1f}{offered - refused:12.1f}{refused:11.1f}")


def main() -> None:
    parser = argparse.ArgumentParser("python -m tests.bench.pace", description=__doc__, allow_abbrev=False)
    parser.add_argument("which", nargs="?", choices=("a", "b", "c", "all"), default="all")
    parser.add_argument("--csv", action="store_true", help="of c: a line a second")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw what c finds there, as SVG")
    chosen = parser.parse_args()
    if chosen.which in ("a", "all"):
        known_or_learned()
    if chosen.which in ("b", "all"):
        noise()
    if chosen.which in ("c", "all"):
        change(chosen.csv, chosen.plot)


if __name__ == "__main__":
    main()
