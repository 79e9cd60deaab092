"""`python -m tests.bench.fill MANIFEST`: a ledger as a finished run would have left it, without having bought anything.

batchgen enqueues the manifest's tasks, then attempts and images are written beside them in SQL. Prints the ledger's
bytes before and after that.
"""

import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import anyio

from batchgen import hold, ledger, offer
from batchgen.enqueue import blocks
from batchgen.expand import tasks
from batchgen.manifest import Setup

FILL = """
BEGIN;
INSERT INTO attempts (id, task, run, purchase, lane, engine, state, images, cost_low, cost_high, sent_at, ended_at,
  status, request_id, input_text_tokens, input_image_tokens, cached_text_tokens, cached_image_tokens,
  output_image_tokens, output_text_tokens, total_tokens)
SELECT lower(hex(randomblob(16))), seq, 1, lower(hex(randomblob(16))), pool, 'local', 'paid', 1, 5955000, 5955000,
  '2026-11-20T22:00:00.000Z', '2026-11-20T22:00:20.000Z', 200, 'req_' || lower(hex(randomblob(16))), 15, 0, 0, 0,
  196, 0, 211 FROM tasks;
INSERT INTO images (task, attempt, idx, state, path, sha256, bytes, format, width, height, note, revised_prompt)
SELECT t.seq, a.seq, 0, 'saved', t.path || '.png', lower(hex(randomblob(32))), 1500000, 'png', 1024, 1024, '', ''
  FROM tasks t JOIN attempts a ON a.task = t.seq;
UPDATE tasks SET state = 'done';
COMMIT;
PRAGMA wal_checkpoint(TRUNCATE);
"""


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


def main(file: str) -> None:
    books = anyio.run(enqueue, Path(file))
    print(books.stat().st_size)
    with closing(sqlite3.connect(books)) as db:
        db.executescript(FILL)
    print(books.stat().st_size)


if __name__ == "__main__":
    main(*sys.argv[1:])
