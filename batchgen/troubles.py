"""The ledger as an auditor sees it: what contradicts itself in it, in sentences, and the files it answers for."""

import hashlib
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from batchgen import records, sizes
from batchgen.task import AttemptState, Identity, ImageState, Operation, TaskState, Variant, canonical, prompt_digest


@dataclass(frozen=True, slots=True)
class Kept:
    """A file that the ledger says is there, below images/."""

    id: int
    path: str
    sha256: str
    bytes: int
    format: str
    width: int
    height: int


def count(db: sqlite3.Connection) -> int:
    """How many files the ledger answers for."""
    (found,) = db.execute("SELECT count(*) FROM images WHERE path <> ''").fetchone()
    return int(found)


def kept(db: sqlite3.Connection, after: int, most: int) -> list[Kept]:
    """The next of those files, in the order in which they were written down."""
    sql = (
        "SELECT id, path, sha256, bytes, format, width, height FROM images"
        " WHERE path <> '' AND id > ? ORDER BY id LIMIT ?"
    )
    return [Kept(*row) for row in db.execute(sql, (after, most)).fetchall()]


def damage(db: sqlite3.Connection) -> list[str]:
    """What SQLite's own checks find: pages, indexes, constraints, references."""
    found = [f"SQLite: {row[0]}" for row in db.execute("PRAGMA integrity_check").fetchall() if row[0] != "ok"]
    return found + [
        f"SQLite: a row of {row[0]} refers to nothing" for row in db.execute("PRAGMA foreign_key_check").fetchall()
    ]


def troubles(db: sqlite3.Connection) -> list[str]:
    """What contradicts itself inside the ledger, in sentences; SQLite's own checks first."""
    return [*damage(db), *_told(db, TROUBLES)]


def every(db: sqlite3.Connection) -> Iterator[str]:
    """All that can be wrong in a ledger by itself, whether or not a run works on it."""
    yield from troubles(db)
    yield from _told(db, ORDER)
    yield from _told(db, MONEY)
    yield from _changed(db)
    yield from _misnamed(db)


def unfinished(db: sqlite3.Connection) -> Iterator[str]:
    """What only a run that is at work may leave open."""
    for sentence, sql in UNFINISHED.items():
        (number,) = db.execute(sql).fetchone()
        if number:
            yield sentence.format(f"{number:,}")


def _told(db: sqlite3.Connection, rules: dict[str, str]) -> Iterator[str]:
    for sentence, sql in rules.items():
        for row in db.execute(sql).fetchall():
            yield sentence.format(row[0])


def _changed(db: sqlite3.Connection) -> Iterator[str]:
    """Texts that are not what they were when they were written down."""
    for digest, text, overrides in db.execute("SELECT sha256, text, overrides FROM manifests"):
        if hashlib.sha256(f"{text}\0{overrides}".encode()).hexdigest() != digest:
            yield f"the manifest {digest[:12]} is not what its sha256 says"
    for number, digest, text in db.execute("SELECT id, digest, text FROM prompts"):
        if prompt_digest(text) != digest:
            yield f"prompt {number} is not what its digest says"


def _misnamed(db: sqlite3.Connection) -> Iterator[str]:
    """Tasks whose key is not the hash of what they ask for."""
    rows = db.execute("SELECT id, provider, model, operation, params, axes FROM variants").fetchall()
    variants: dict[int, Variant] = {}
    for number, *columns in rows:
        try:
            variants[number] = records.variant(columns)
        except (ValueError, TypeError, AttributeError):  # not the JSON that it was
            yield f"variant {number} cannot be read"
    identities = {number: _identities(variant) for number, variant in variants.items()}
    tasks = db.execute(
        "SELECT t.seq, t.key, t.variant, p.text, t.sample, t.take FROM tasks t JOIN prompts p ON p.id = t.prompt"
    )
    for seq, key, number, text, sample, take in tasks:
        if number not in variants:
            continue  # told already
        edits = variants[number].operation is not Operation.GENERATE
        inputs = tuple(each.identity for each in records.inputs(db, seq)) if edits else ()
        asked = canonical(text), sample, take, inputs
        if not any(identity.key(*asked) == key for identity in identities[number]):
            yield f"task {key} is not what its key says: its prompt, parameters or files were changed"


def _identities(variant: Variant) -> list[Identity]:
    """A variant is kept with the size that it is sent with; what was asked for may have been `match`."""
    asked = dict(variant.params)
    if variant.operation is Operation.GENERATE or "size" not in asked:
        return [Identity(variant)]
    matched = tuple(sorted({**asked, "size": sizes.MATCH}.items()))
    return [Identity(variant), Identity(replace(variant, params=matched))]


TROUBLES = {
    "task {} is done and has no saved image": (
        "SELECT key FROM tasks t WHERE state = 'done'"
        " AND NOT EXISTS (SELECT 1 FROM images i WHERE i.task = t.seq AND i.state = 'saved')"
    ),
    "task {} is done and has no paid attempt": (
        "SELECT key FROM tasks t WHERE state = 'done'"
        " AND NOT EXISTS (SELECT 1 FROM attempts a WHERE a.task = t.seq AND a.state = 'paid')"
    ),
    "task {} has images and is not done": (
        "SELECT key FROM tasks t WHERE state <> 'done'"
        " AND EXISTS (SELECT 1 FROM images i WHERE i.task = t.seq AND i.state = 'saved')"
    ),
    "task {} was paid for twice": (
        "SELECT t.key FROM attempts a JOIN tasks t ON t.seq = a.task WHERE a.state = 'paid'"
        " GROUP BY a.task HAVING count(*) > 1"
    ),
}


def _other_than(states: Iterable[str]) -> str:
    """SQLite's own check of these holds for connections alone that may write."""
    return "state NOT IN (" + ", ".join(f"'{state}'" for state in states) + ")"


_NOW_OPEN = "a.state IN ('sending', 'accepted')"
_OF_TASK = "SELECT DISTINCT t.key FROM attempts a JOIN tasks t ON t.seq = a.task"
ORDER = {
    "task {} is in no state that there is": f"SELECT key FROM tasks WHERE {_other_than(TaskState)}",
    "attempt {} is in no state that there is": f"SELECT id FROM attempts WHERE {_other_than(AttemptState)}",
    "image {} is in no state that there is": f"SELECT path FROM images WHERE {_other_than(ImageState)}",
    "task {} is paid for and is not done": f"{_OF_TASK} WHERE a.state = 'paid' AND t.state <> 'done'",
    "task {} is done and lacks images that it asked for": (
        "SELECT t.key FROM tasks t JOIN attempts a ON a.task = t.seq AND a.state = 'paid' JOIN (SELECT attempt,"
        " count(DISTINCT idx) AS came FROM images WHERE state <> 'partial' GROUP BY attempt) i ON i.attempt = a.seq"
        " WHERE t.state = 'done' AND i.came < a.images"
    ),
    # An adopted or late attempt may be older than others: that it was paid for was found out after them.
    "task {} was sent again after it was paid for": (
        f"{_OF_TASK} JOIN attempts p ON p.task = a.task AND p.state = 'paid' AND p.seq < a.seq"
        " WHERE p.code NOT IN ('adopted', 'late')"
    ),
    "task {} was sent again as another purchase, though nobody knew whether the first was billed": (
        f"{_OF_TASK} JOIN attempts b ON b.seq = (SELECT max(seq) FROM attempts c WHERE c.task = a.task"
        " AND c.seq < a.seq AND c.state IN ('unknown', 'paid', 'unusable'))"
        " WHERE b.state = 'unknown' AND b.purchase <> a.purchase AND b.scope = a.scope"
        " AND (b.status = 0 OR b.status = 408 OR b.status >= 500)"
    ),
    "task {} is on its way and not called so": f"{_OF_TASK} WHERE {_NOW_OPEN} AND t.state <> 'doing'",
    "task {} is on its way twice": f"{_OF_TASK} WHERE {_NOW_OPEN} GROUP BY a.task HAVING count(*) > 1",
    "attempt {} is open and has an end": f"SELECT a.id FROM attempts a WHERE {_NOW_OPEN} AND ended_at IS NOT NULL",
    "attempt {} has ended at no time": f"SELECT a.id FROM attempts a WHERE NOT {_NOW_OPEN} AND ended_at IS NULL",
    "image {} is another task's than its attempt": (
        "SELECT i.path FROM images i JOIN attempts a ON a.seq = i.attempt WHERE a.task <> i.task"
    ),
    "image {} comes of an attempt that was not paid for": (
        "SELECT i.path FROM images i JOIN attempts a ON a.seq = i.attempt WHERE i.state = 'saved' AND a.state <> 'paid'"
    ),
    "image {} is owned twice": "SELECT path FROM images WHERE path <> '' GROUP BY path HAVING count(*) > 1",
    "task {} is wanted as nobody can read": (
        "SELECT key FROM tasks WHERE wanted NOT IN ('yes', 'dropped', 'waived', 'forgone')"
        " AND wanted NOT IN (SELECT key FROM tasks)"
    ),
}

MONEY = {
    "attempt {} costs less at most than at least": "SELECT id FROM attempts WHERE cost_low > cost_high",
    "attempt {} has one bound of its cost without the other": (
        "SELECT id FROM attempts WHERE (cost_low IS NULL) <> (cost_high IS NULL)"
    ),
    "attempt {} costs less than nothing": "SELECT id FROM attempts WHERE cost_low < 0",
    "attempt {} was not billed and has a cost": (
        "SELECT id FROM attempts WHERE state IN ('rejected', 'unsent') AND (cost_high IS NULL OR cost_high <> 0)"
    ),
    "attempt {} is paid, not estimated, and its cost is not one figure": (
        "SELECT id FROM attempts WHERE state = 'paid' AND NOT estimated AND (cost_low IS NULL OR cost_low <> cost_high)"
    ),
    "attempt {} is of unknown fate and counted as billed": (
        "SELECT id FROM attempts WHERE state = 'unknown' AND cost_low <> 0"
    ),
}

UNFINISHED = {
    "requests that were cut off: {}; batchgen run settles them": (
        "SELECT count(*) FROM attempts WHERE state = 'sending'"
    ),
    "tasks that were taken up and not sent: {}; batchgen run puts them back": (
        "SELECT count(*) FROM tasks t WHERE state = 'doing' AND NOT EXISTS"
        f" (SELECT 1 FROM attempts a WHERE a.task = t.seq AND {_NOW_OPEN})"
    ),
}
