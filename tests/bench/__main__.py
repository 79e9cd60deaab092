"""`python -m tests.bench`: images a second, memory and CPU of batchgen beside a bare httpx and a bare aiohttp loop.

Imports little: on Linux a child's peak memory is at least its parent's.
"""

import argparse
import os
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from resource import struct_rusage

ROOT = Path(__file__).parents[2]
RUNNERS = ("batchgen", "httpx", "aiohttp")
MANIFEST = """\
name: bench
provider: {{name: pretend, dialect: openai, base_url: "{url}", api_key_env: BENCH_API_KEY}}
model: gpt-image-2
prompts: [{{prompt: "Otter number {{{{ number }}}}", vars: {{number: [{numbers}]}}}}]
request: {{size: 1024x1024, quality: low}}
limits: {{concurrency: {workers}, budget: 1000000}}
"""


@dataclass(frozen=True, slots=True)
class Measured:
    """One runner in one round: seconds of the run proper and of the whole process, peak memory, CPU."""

    proper: float
    whole: float
    rss_mb: float
    cpu_ms: float


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m tests.bench", description=__doc__, allow_abbrev=False)
    parser.add_argument("--rounds", type=int, default=3, help="each runner once a round, one after the other")
    parser.add_argument("--tasks", type=int, default=2000)
    parser.add_argument("--workers", type=int, default=32)
    parser.add_argument("--bytes", type=int, default=100_000, help="length of an image, about")
    parser.add_argument("--latency", type=float, default=0.05, metavar="SECONDS", help="what an image takes")
    parser.add_argument("--folder", default="/var/tmp", help="where runs and images go: a real disk, no tmpfs")
    parser.add_argument("--patience", type=float, default=180.0, metavar="SECONDS", help="then a runner is ended")
    return parser.parse_args()


@contextmanager
def sandbox(bytes_: int, latency: float) -> Iterator[str]:
    """The provider that all share; yields its URL."""
    flags = ["--paint", "cached", "--paint-bytes", str(bytes_), "--latency", str(latency)]
    command = [sys.executable, "-m", "batchgen.sandbox", "--until-stdin-closes", *flags]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout
        try:
            yield process.stdout.readline().removeprefix("sandbox listening on ").strip()
        finally:
            process.kill()


def once(runner: str, url: str, chosen: argparse.Namespace, tasks: int) -> Measured:
    """A runner's whole life in a fresh folder, which is gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="batchgen-bench-", dir=chosen.folder))
    try:
        command = prepare(runner, url, folder, tasks, chosen.workers)
        whole, used, said = lived(command, chosen.patience)
        count_images(runner, folder, tasks)
        proper = span(folder / "runs" / "bench" / "ledger.db") if runner == "batchgen" else float(said)
    finally:
        shutil.rmtree(folder)
    cpu_ms = (used.ru_utime + used.ru_stime) / tasks * 1000
    return Measured(proper, whole, used.ru_maxrss * maxrss_unit() / 1e6, cpu_ms)


def prepare(runner: str, url: str, folder: Path, tasks: int, workers: int) -> list[str]:
    """The command that does the work."""
    if runner != "batchgen":
        return [sys.executable, "-m", "tests.bench.rivals", runner, url, str(folder), str(tasks), str(workers)]
    manifest = folder / "bench.yaml"
    numbers = ", ".join(map(str, range(tasks)))
    manifest.write_text(MANIFEST.format(url=url, numbers=numbers, workers=workers))
    return [sys.executable, "-m", "batchgen", "run", str(manifest)]


def lived(command: Sequence[str], patience: float) -> tuple[float, struct_rusage, str]:
    """Start it, wait for it, for so long at most; its seconds, what it used, and its standard output."""
    environ = {**os.environ, "BENCH_API_KEY": "sk-bench"}
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        begun = time.monotonic()
        process = subprocess.Popen(command, cwd=ROOT, env=environ, stdin=subprocess.DEVNULL, stdout=out, stderr=err)
        alarm = threading.Timer(patience, process.kill)
        alarm.start()
        _, status, used = os.wait4(process.pid, 0)
        whole = time.monotonic() - begun
        alarm.cancel()
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        err.seek(0)
        if process.returncode:
            sys.exit(f"{' '.join(command)} ended with {process.returncode}:\n{err.read()[-2000:]}")
        return whole, used, out.read()


def maxrss_unit() -> int:
    """Bytes: Linux counts in KiB, macOS in bytes."""
    return 1 if sys.platform == "darwin" else 1024


def span(ledger: Path) -> float:
    """Seconds from a run's start to its end, as batchgen wrote them down itself."""
    seconds = "SELECT (julianday(ended_at) - julianday(started_at)) * 86400 FROM runs"
    with closing(sqlite3.connect(f"{ledger.as_uri()}?mode=ro", uri=True)) as db:
        return float(db.execute(seconds).fetchone()[0])


def count_images(runner: str, folder: Path, tasks: int) -> None:
    """A runner that did less than the others has not run."""
    found = len(list(folder.rglob("*.png")))
    if found != tasks:
        sys.exit(f"{runner} made {found} images of {tasks}")


def show(rounds: Sequence[dict[str, Measured]], tasks: int) -> None:
    """A line for each runner and round, then how batchgen compares."""
    print(f"{'round':6}{'runner':10}{'images/s':>10}{'whole process':>15}{'peak RSS MB':>13}{'CPU ms/image':>14}")
    for number, measured in enumerate(rounds, 1):
        for name, it in measured.items():
            speeds = f"{tasks / it.proper:10.0f}{tasks / it.whole:15.0f}"
            print(f"{number:<6}{name:10}{speeds}{it.rss_mb:13.0f}{it.cpu_ms:14.2f}")
    print()
    for rival in RUNNERS[1:]:
        for what in ("proper", "whole"):
            ratios = [getattr(each[rival], what) / getattr(each["batchgen"], what) for each in rounds]
            least, middle, most = min(ratios), statistics.median(ratios), max(ratios)
            each = " ".join(f"{ratio:.2f}" for ratio in ratios)
            label = f"batchgen / {rival}, {'run proper' if what == 'proper' else 'whole process'}"
            print(f"{label:36} {each}   min {least:.2f}  median {middle:.2f}  max {most:.2f}")


def main() -> None:
    chosen = options()
    with sandbox(chosen.bytes, chosen.latency) as url:
        once("httpx", url, chosen, 2 * chosen.workers)  # the sandbox paints its images, the disk wakes up
        rounds = [{runner: once(runner, url, chosen, chosen.tasks) for runner in RUNNERS} for _ in range(chosen.rounds)]
    each = f"{chosen.bytes / 1000:g} kB an image, {chosen.latency * 1000:g} ms latency, {chosen.workers} workers"
    load = os.getloadavg()[0]
    print(f"{chosen.tasks:,} images of {each}; {os.cpu_count()} cores, load {load:.1f}; in {chosen.folder}\n")
    show(rounds, chosen.tasks)
    print("\nTarget: 0.8 of the httpx loop at least, under 100 MB.")


if __name__ == "__main__":
    main()
