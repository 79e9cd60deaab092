"""`python -m tests.bench.resume [TASKS]`: how long it takes to find out that nothing is left to do.

The ledger is filled as a run would have left it, without having bought a million images: batchgen enqueues its tasks,
then attempts and images are written beside them in SQL.
"""

import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

import anyio

from batchgen import hold, ledger, offer
from batchgen.enqueue import blocks
from batchgen.expand import tasks
from batchgen.manifest import Setup

MANIFEST = """\
name: big
provider: {name: pretend, dialect: openai, base_url: "http://127.0.0.1:9/v1", api_key_env: BENCH_API_KEY}
model: gpt-image-2
prompts: [{file: prompts.csv, prompt: "{{ text }}, {{ style }}"}]
matrix: {size: [1024x1024, 1536x1024], quality: [low, medium]}
limits: {budget: 100000000}
"""
FILL = """
BEGIN;
INSERT INTO attempts (id, task, run, purchase, lane, engine, state, images, cost_low, cost_high, sent_at, ended_at,
  status, request_id, input_text_tokens, input_image_tokens, cached_text_tokens, cached_image_tokens,
  output_image_tokens, output_text_tokens, total_tokens)
SELECT lower(hex(randomblob(16))), seq, 1, lower(hex(randomblob(16))), lane, 'local', 'paid', 1, 5955000, 5955000,
  '2026-11-20T22:00:00.000Z', '2026-11-20T22:00:20.000Z', 200, 'req_' || lower(hex(randomblob(16))), 15, 0, 0, 0,
  196, 0, 211 FROM tasks;
INSERT INTO images (task, attempt, idx, state, path, sha256, bytes, format, width, height, note)
SELECT t.seq, a.seq, 0, 'saved', t.path || '.png', lower(hex(randomblob(32))), 1500000, 'png', 1024, 1024, ''
  FROM tasks t JOIN attempts a ON a.task = t.seq;
UPDATE tasks SET state = 'done';
COMMIT;
PRAGMA wal_checkpoint(TRUNCATE);
"""
COMMANDS = (("run",), ("run",), ("plan",), ("plan", "--set", "samples=2"), ("status",), ("report",))


async def enqueue(file: Path) -> Path:
    """The ledger of a run that has just begun."""
    wish = offer.wish(str(file), None, Setup())
    survey = offer.drawn_up(wish).survey
    with hold.held(wish.folder):
        hold.open_folder(wish.folder, wish.manifest)
        async with ledger.open_for_writing(wish.folder.ledger) as books:
            wanted = books.wanted()
            for block in blocks(tasks(wish.manifest)):
                await wanted.add(block)
            await wanted.end(survey.fingerprint)
            await books.end(0, "all done")
    return wish.folder.ledger


def fill(books: Path) -> None:
    """As if all had been bought."""
    with closing(sqlite3.connect(books)) as db:
        db.executescript(FILL)


def measure(file: Path, verb: str, *options: str) -> None:
    start = time.perf_counter()
    command = ["/usr/bin/time", "-f", "%M", sys.executable, "-m", "batchgen", verb, str(file), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL)
    seconds, memory = time.perf_counter() - start, int(done.stderr.split()[-1]) / 1024
    print(f"{' '.join((verb, *options)):24} {seconds:7.2f} s  {memory:5.0f} MB", flush=True)


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    os.environ["BENCH_API_KEY"] = "none"
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        file = Path(folder) / "big.yaml"
        file.write_text(MANIFEST)
        prompts = (f"A photograph of animal number {n} in the snow at dawn,oil\n" for n in range(count // 4))
        (Path(folder) / "prompts.csv").write_text("text,style\n" + "".join(prompts))
        start = time.perf_counter()
        books = anyio.run(enqueue, file)
        print(f"{count:,} tasks surveyed and enqueued in {time.perf_counter() - start:.1f} s", flush=True)
        fill(books)
        print(f"the ledger has {books.stat().st_size / 1e6:,.0f} MB", flush=True)
        for command in COMMANDS:
            measure(file, *command)


if __name__ == "__main__":
    main()
