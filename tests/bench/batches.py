"""Batches: how fast a large one is collected, in how much memory and disk; and what one costs beside its bill."""

import csv
import json
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .life import Life, lived, sandbox, scratch
from .race import Setting
from .section import Section, Target

MANIFEST = """\
name: batches
engine: {engine}
provider: {{name: pretend, dialect: openai, base_url: "{url}", api_key_env: BENCH_API_KEY, batch: {{poll: 0.1}}}}
model: gpt-image-2
prompts: [{{file: prompts.tsv, prompt: "{{{{ Prompt }}}}"}}]
matrix: {{quality: {qualities}}}
limits: {{budget: 1000000}}
"""
FAST = ("--batch-rate", "1000000")
LINES, SIZE = 1000, 1_500_000  # of one batch: 2 GB of base64
PROMPTS = 1632
LENGTHS = (1, 10, 19, 27, 33, 37, 43, 48, 62, 99, 389)  # characters: the tenths of PartiPrompts, from least to most
COLLECTED, RSS, FOLDER, SPOOL = "MB/s collected", "peak RSS MB", "batches/ at most, MB", "spool/ at most, MB"
OURS, LOCAL = "batchgen", "then engine: local"
BILL, APART, HALF = "bill, USD", "report − bill, nano", "2 × bill − price, nano"
REQUESTS, SECONDS = "requests", "seconds"
QUALITIES = "[low, medium]"
ATTEMPTS = "SELECT count(*) FROM attempts"
TEXT, IMAGE = 5_000, 30_000  # nano-dollars a token, sent one by one


@dataclass(slots=True)
class Gauge:
    """The most bytes that some folders of a run held at a time, as long as its process lives."""

    run: Path
    most: dict[str, float] = field(default_factory=dict)

    def watch(self, process: subprocess.Popen[str]) -> None:
        threading.Thread(target=self._look, args=(process.pid,), daemon=True).start()

    def _look(self, process: int) -> None:
        while Path(f"/proc/{process}").exists():
            for name in ("batches", "spool"):
                self.most[name] = max(self.most.get(name, 0), sum(sizes(self.run / name)))
            time.sleep(0.02)


def sizes(folder: Path) -> Iterator[int]:
    """On the disk, in bytes."""
    for path in folder.glob("*"):
        with suppress(FileNotFoundError):
            yield path.stat().st_blocks * 512


def collecting(setting: Setting) -> Section:
    """A thousand large images in one batch."""
    rows: dict[str, dict[str, list[float]]] = {COLLECTED: {}, RSS: {}, FOLDER: {}, SPOOL: {}}
    for _ in range(setting.rounds):
        for row, found in collect(setting).items():
            rows[row].setdefault(OURS, []).append(found)
    about = f"{LINES:,} images of {SIZE / 1e6:g} MB in one batch; {setting.times}"
    return Section("collecting", about, rows, (Target(RSS, OURS, most=120), Target(FOLDER, OURS, most=100)))


def collect(setting: Setting) -> dict[str, float]:
    with scratch(setting.folder) as folder, sandbox("--paint-bytes", str(SIZE), *FAST) as url:
        write(folder, (f"A fox, number {n}" for n in range(LINES)))
        gauge = Gauge(folder / "runs" / "batches")
        life = run(folder, url, "batch", "[low]", setting, gauge)
        seconds = "(julianday(ended_at) - julianday(looked_at)) * 86400"
        rate, tasks = one(gauge.run, f"SELECT output_at / ({seconds}) / 1e6, tasks FROM batches")
        if tasks != LINES:
            sys.exit(f"the batch had {tasks} lines of {LINES}")
        most = {name: found / 1e6 for name, found in gauge.most.items()}
        return {COLLECTED: rate, RSS: life.rss_mb, FOLDER: most["batches"], SPOOL: most["spool"]}


def priced(setting: Setting) -> Section:
    """All prompts in two qualities by batches: the bill, the report; then what is left to do for single requests."""
    prompts = list(read(setting.prompts) if setting.prompts else made())
    with scratch(setting.folder) as folder:
        write(folder, prompts)
        rows = bought(folder, setting)
    sent = 2.0 * len(prompts)
    targets = (
        Target(REQUESTS, OURS, least=sent),
        Target(REQUESTS, OURS, most=sent),
        Target(REQUESTS, LOCAL, most=0),
        Target(APART, OURS, most=0),
        Target(HALF, OURS, most=0),
    )
    return Section("priced", f"{len(prompts):,} prompts in two qualities, in batches", rows, targets)


def bought(folder: Path, setting: Setting) -> dict[str, dict[str, list[float]]]:
    bill, there = folder / "bill.jsonl", folder / "runs" / "batches"
    with sandbox("--paint-bytes", "20000", "--bill", str(bill), *FAST) as url:
        life = run(folder, url, "batch", QUALITIES, setting)
    charges = [json.loads(line) for line in bill.read_text().splitlines()]
    paid, (sent,) = sum(charge["nano_usd"] for charge in charges), one(there, ATTEMPTS)
    report = [sys.executable, "-m", "batchgen", "report", str(folder / "batches.yaml"), "--json"]
    told = json.loads(lived(report, setting.patience).said)["cost"]["paid"]
    again = run(folder, url, "local", QUALITIES, setting)  # who sent anything would meet nobody
    return {
        SECONDS: {OURS: [life.whole], LOCAL: [again.whole]},
        REQUESTS: {OURS: [sent], LOCAL: [one(there, ATTEMPTS)[0] - sent]},
        BILL: {OURS: [paid / 1e9]},
        APART: {OURS: [abs(round(told * 1e9) - paid)]},
        HALF: {OURS: [abs(2 * paid - sum(map(full, charges)))]},
    }


def run(folder: Path, url: str, engine: str, qualities: str, setting: Setting, gauge: Gauge | None = None) -> Life:
    """Of the manifest over the prompts that lie there."""
    file = folder / "batches.yaml"
    file.write_text(MANIFEST.format(url=url, engine=engine, qualities=qualities))
    command = [sys.executable, "-m", "batchgen", "run", str(file)]
    return lived(command, setting.patience, watch=gauge.watch) if gauge else lived(command, setting.patience)


def read(file: Path) -> Iterator[str]:
    """The prompts of a TSV file with a column of that name."""
    with file.open(newline="") as source:
        yield from (row["Prompt"] for row in csv.DictReader(source, delimiter="\t"))


def made() -> Iterator[str]:
    """As many, and as long."""
    for n in range(PROMPTS):
        tenth, part = divmod(10 * n, PROMPTS)
        shortest, longest = LENGTHS[tenth : tenth + 2]
        yield f"{n} foxes in the snow at dawn, ".ljust(shortest + (longest - shortest) * part // PROMPTS, "x")


def write(folder: Path, prompts: Iterable[str]) -> None:
    with (folder / "prompts.tsv").open("w", newline="") as out:
        csv.writer(out, delimiter="\t").writerows([["Prompt"], *([each] for each in prompts)])


def full(charge: dict[str, Any]) -> int:
    """What it would cost without a batch, in nano-dollars."""
    into, out = charge["usage"]["input_tokens_details"]["text_tokens"], charge["usage"]["output_tokens"]
    return int(into) * TEXT + int(out) * IMAGE


def one(run: Path, sql: str) -> Sequence[Any]:
    """The only row."""
    with closing(sqlite3.connect(f"{(run / 'ledger.db').as_uri()}?mode=ro", uri=True)) as db:
        (found,) = db.execute(sql).fetchall()
    return tuple(found)
