"""The ledger as its readers see it: read-only, one short look at a time. All SQL that reads for people is here."""

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from batchgen.errors import StorageError
from batchgen.task import AttemptState, TaskState

SCHEMA_VERSION = 3  # of the ledger's tables
Row = Mapping[str, object]
Connection = sqlite3.Connection

# What each attempt's cost_high counts as. Where low and high meet, the provider's own count is behind it.
PAID = "a.state IN ('paid', 'unusable') AND a.cost_low = a.cost_high AND NOT a.estimated"
MONEY = f"""
  coalesce(sum(a.cost_low), 0) AS low, coalesce(sum(a.cost_high), 0) AS high,
  coalesce(sum(a.cost_high) FILTER (WHERE {PAID}), 0) AS paid,
  coalesce(sum(a.cost_high) FILTER (WHERE a.estimated), 0) AS estimated,
  count(*) FILTER (WHERE a.cost_high IS NULL) AS unpriced
"""
ATTEMPTS = "attempts a JOIN tasks t ON t.seq = a.task"
BATCHES_MOST = 20  # that are shown
KEYS = 10_000  # that are looked for at once: each time all tasks are looked at
START = "substr(sha256, 1, 12)"
ALIKE = f"SELECT max({START}) FROM images WHERE state = 'saved' GROUP BY {START} HAVING count(*) > 1"
"""The beginnings of hashes that several images share, mostly none: with max() SQLite reads them in the index alone."""
EQUAL = (
    "images i JOIN tasks t ON t.seq = i.task"
    " WHERE i.state = 'saved' AND t.wanted = 'yes' AND substr(i.sha256, 1, 12) IN"
)
"""What counts as equal to another: saved images of wanted tasks. The beginnings of their hashes follow."""
THREADS = 2  # that sum at a time: SQLite lets go of Python's lock while it works


@dataclass(frozen=True, slots=True)
class JobRow:
    name: str
    project: str
    manifest: str
    created_at: str
    store: str
    mark: str

    @property
    def output_store(self) -> str:
        """What the manifest says of it: the run's own name there is left out."""
        return self.store.rpartition("/")[0]


def sqlite_version() -> str:
    """The version of the SQLite library, not of Python's module."""
    return sqlite3.sqlite_version


@contextmanager
def reading(ledger: Path) -> Iterator[Connection]:
    """A connection that cannot write; StorageError where there is no readable ledger."""
    with opened(ledger) as db:
        db.execute("BEGIN")  # one moment for all figures, whatever a run writes meanwhile
        yield db


@contextmanager
def reading_together(ledger: Path, threads: int = THREADS) -> Iterator[list[Connection]]:
    """As `reading`, a connection for each of several threads: all see the same moment."""
    with ExitStack() as stack:
        watch, *dbs = [stack.enter_context(opened(ledger)) for _ in range(1 + threads)]
        while not begin_together(watch, dbs):
            for db in dbs:
                db.rollback()
        yield dbs


def begin_together(watch: Connection, dbs: Iterable[Connection]) -> bool:
    """Whether nothing was written while they began, as another connection saw it; each sees what its first look saw."""
    before = _data_version(watch)
    for db in dbs:
        db.execute("BEGIN")
        job_row(db)
    return _data_version(watch) == before


def _data_version(db: Connection) -> int:
    (version,) = db.execute("PRAGMA data_version").fetchone()  # another one whenever somebody else has written
    return int(version)


@contextmanager
def opened(ledger: Path) -> Iterator[Connection]:
    """Without a moment of its own yet; any thread may use it, one at a time."""
    uri = f"{ledger.absolute().as_uri()}?mode=ro"
    try:
        with closing(sqlite3.connect(uri, uri=True, timeout=30, check_same_thread=False)) as db:
            db.row_factory = sqlite3.Row
            check_version(db, ledger)
            yield db
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
        raise StorageError(f"{ledger} cannot be read: {error}") from error


def check_version(db: Connection, ledger: Path) -> None:
    """StorageError where another batchgen wrote it, in tables that this one does not know."""
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version != SCHEMA_VERSION:
        says = f"schema {version}, this one reads {SCHEMA_VERSION}"
        raise StorageError(f"{ledger} was written by another batchgen ({says})")


def job(ledger: Path) -> JobRow:
    with reading(ledger) as db:
        return job_row(db)


def job_row(db: Connection) -> JobRow:
    return JobRow(*db.execute("SELECT name, project, manifest, created_at, store, mark FROM job").fetchone())


def untouched(ledger: Path) -> bool:
    """Whether nothing was ever sent."""
    with reading(ledger) as db:
        return db.execute("SELECT 1 FROM attempts LIMIT 1").fetchone() is None


def holder(ledger: Path) -> str:
    """Who works on the folder now, for a message: process, machine, since when; nothing while it is only looked at."""
    try:
        with reading(ledger) as db:
            row = last_run(db)
    except StorageError:
        row = None
    if row is None or row["ended_at"]:
        return ""
    return f" (process {row['pid']} on {row['host']}, since {row['started_at']})"


def avoided(db: Connection) -> int:
    """What it would take, at most, to send again what is held and may have been paid for; nano-dollars."""
    (found,) = db.execute(
        "SELECT coalesce(sum((SELECT max(a.cost_high) FROM attempts a WHERE a.task = t.seq)), 0) FROM tasks t"
        " WHERE t.state = 'held' AND t.wanted = 'yes'"
    ).fetchone()
    return int(found)


def last_run(db: Connection) -> Row | None:
    """The process that works on the folder, or was the last to."""
    row = db.execute("SELECT * FROM runs ORDER BY id DESC LIMIT 1").fetchone()
    return dict(row) if row else None


def batches(db: Connection) -> Sequence[Row]:
    """Some of the batches that are open, and of those of which a person should know something, the newest last."""
    told = "state <> 'over' OR note <> '' ORDER BY state = 'over', seq DESC"
    rows = db.execute(f"SELECT * FROM batches WHERE {told} LIMIT {BATCHES_MOST}")
    return [dict(row) for row in rows][::-1]


def open_batches(db: Connection) -> tuple[int, int, int]:
    """How many there are, how many tasks they hold, and how many of those are made."""
    sql = "SELECT count(*), coalesce(sum(tasks), 0), coalesce(sum(completed), 0) FROM batches WHERE state <> 'over'"
    found: tuple[int, int, int] = tuple(db.execute(sql).fetchone())
    return found


def span(db: Connection) -> tuple[str, str | None, str]:
    """When the job began and last ended (None while it runs), and how that run ended."""
    first = db.execute("SELECT started_at FROM runs ORDER BY id LIMIT 1").fetchone()
    last = db.execute("SELECT ended_at, reason FROM runs ORDER BY id DESC LIMIT 1").fetchone()
    return (first[0], last[0], last[1]) if first else ("", None, "")


def ended(db: Connection) -> dict[str, int]:
    """How many tasks are in each state that a person may reopen: those that were waived too."""
    sql = "SELECT state, count(*) FROM tasks WHERE wanted IN ('yes', 'waived') GROUP BY state"
    found = dict(tuple(row) for row in db.execute(sql).fetchall())
    return {str(state): found.get(state, 0) for state in TaskState}


def missing(db: Connection) -> int:
    """How many images of wanted tasks came broken with an answer that finished the task, and never whole."""
    (found,) = db.execute(
        "SELECT count(DISTINCT i.task || '/' || i.idx) FROM images i JOIN tasks t ON t.seq = i.task"
        " WHERE i.state = 'broken' AND t.state = 'done' AND t.wanted = 'yes' AND NOT EXISTS"
        " (SELECT 1 FROM images s WHERE s.task = i.task AND s.idx = i.idx AND s.state = 'saved')"
    ).fetchone()
    return int(found)


def attempt_states(db: Connection) -> dict[str, int]:
    rows = db.execute("SELECT state, count(*) FROM attempts GROUP BY state").fetchall()
    found = dict(tuple(row) for row in rows)
    return {str(state): found.get(state, 0) for state in AttemptState}


def lanes(db: Connection) -> Iterator[str]:
    """Who was ever asked, each as soon as it is found."""
    return (row[0] for row in db.execute("SELECT DISTINCT lane FROM attempts"))


def models(db: Connection) -> list[str]:
    return [row[0] for row in db.execute("SELECT DISTINCT model FROM variants").fetchall()]


@dataclass(frozen=True, slots=True)
class VariantRow:
    id: int
    provider: str
    model: str
    operation: str
    axes: Row


def variants(db: Connection) -> list[VariantRow]:
    """In the order in which they were first asked for."""
    rows = db.execute("SELECT id, provider, model, operation, axes FROM variants ORDER BY id")
    return [
        VariantRow(number, provider, model, operation, json.loads(axes))
        for number, provider, model, operation, axes in rows
    ]


def attempts(db: Connection, state: str = "", task: str = "") -> Iterator[Row]:
    """Attempts in the order they were sent, of one state or one task where given."""
    sql = "SELECT * FROM v_attempts WHERE (? = '' OR state = ?) AND (? = '' OR task = ?) ORDER BY seq"
    return (dict(row) for row in db.execute(sql, (state, state, task, task)))


def task(db: Connection, key: str) -> Row | None:
    row = db.execute("SELECT * FROM v_tasks WHERE key = ?", (key,)).fetchone()
    return dict(row) if row else None


def by_key(db: Connection, keys: Sequence[str]) -> Iterator[Row]:
    """The tasks of these keys, with what is asked for."""
    for at in range(0, len(keys), KEYS):
        some = keys[at : at + KEYS]
        sql = (
            "SELECT t.key, t.state, t.wanted, p.text AS prompt, v.params FROM tasks t JOIN prompts p ON p.id = t.prompt"
            f" JOIN variants v ON v.id = t.variant WHERE t.key IN ({', '.join('?' * len(some))})"
        )
        yield from (dict(row) for row in db.execute(sql, some))


def tasks(db: Connection, state: TaskState, after: int, most: int) -> list[dict[str, Any]]:
    """Wanted tasks of a state behind a row, with how often they were sent, and what the last attempt came to."""
    sent = "FROM attempts a WHERE a.task = t.seq"
    last = f"{sent} ORDER BY a.seq DESC LIMIT 1"
    inputs = "SELECT i.ref FROM task_inputs n JOIN inputs i ON i.id = n.input WHERE n.task = t.seq ORDER BY n.position"
    sql = (
        "SELECT t.seq, t.key AS task, p.text AS prompt, t.state, v.provider, v.model, v.operation, v.params, v.axes,"
        " (SELECT json_group_array(n.id) FROM names n WHERE n.task = t.seq) AS ids, t.sample,"
        f" (SELECT json_group_array(ref) FROM ({inputs})) AS inputs, (SELECT count(*) {sent}) AS attempts,"
        f" coalesce((SELECT a.code {last}), '') AS code, coalesce((SELECT a.error {last}), '') AS error"
        " FROM tasks t JOIN variants v ON v.id = t.variant JOIN prompts p ON p.id = t.prompt"
        " WHERE t.seq > ? AND t.state = ? AND t.wanted = 'yes' ORDER BY t.seq LIMIT ?"
    )
    return [dict(row) for row in db.execute(sql, (after, str(state), most))]


def parameters(db: Connection, state: TaskState) -> list[str]:
    """The names of all request parameters that wanted tasks of a state set."""
    sql = (
        "SELECT DISTINCT j.key FROM variants v, json_each(v.params) j WHERE v.id IN"
        " (SELECT variant FROM tasks WHERE state = ? AND wanted = 'yes') ORDER BY j.key"
    )
    return [row[0] for row in db.execute(sql, (str(state),))]


def wanted_images(db: Connection) -> Iterator[Row]:
    """Every saved image of a wanted task, with what it was made from."""
    sql = (
        "SELECT i.path, i.sha256, i.bytes, i.format, i.width, i.height, t.key AS task, p.text AS prompt,"
        " v.provider, v.model, v.axes, (SELECT json_group_array(n.id) FROM names n WHERE n.task = t.seq) AS ids"
        " FROM images i JOIN tasks t ON t.seq = i.task JOIN prompts p ON p.id = t.prompt"
        " JOIN variants v ON v.id = t.variant WHERE i.state = 'saved' AND t.wanted = 'yes' ORDER BY i.id"
    )
    return (dict(row) for row in db.execute(sql))


@dataclass(frozen=True, slots=True)
class Twins:
    """Images of one content, byte for byte: how many, and the paths of the first and the last."""

    sha256: str
    images: int
    first: str
    last: str


def duplicates(db: Connection, most: int) -> tuple[int, int, list[Twins]]:
    """How many saved images of wanted tasks are equal to another one, how many contents they have; a few of these."""
    found = db.execute(
        "SELECT sum(n) OVER (), count(*) OVER (), sha256, n, (SELECT path FROM images WHERE id = least),"
        " (SELECT path FROM images WHERE id = last) FROM"
        f" (SELECT i.sha256, count(*) AS n, min(i.id) AS least, max(i.id) AS last FROM {EQUAL} ({ALIKE})"
        " GROUP BY i.sha256 HAVING n > 1)"
        " ORDER BY n DESC, least LIMIT ?",
        (most,),
    ).fetchall()
    images, contents = found[0][:2] if found else (0, 0)
    return images, contents, [Twins(*row[2:]) for row in found]


@dataclass(frozen=True, slots=True)
class Bought:
    """All attempts of one variant; money in nano-dollars. `target`: the axis of that name, if there is one."""

    provider: str
    model: str
    target: str
    attempts: int
    images: int
    low: int
    high: int
    paid: int
    estimated: int
    unpriced: int


def bought(db: Connection, month: str = "") -> list[Bought]:
    """One row a variant, of what was sent in a month (2026-11, UTC) or ever; its images, wanted or not."""
    sent, months = "(? = '' OR substr(a.sent_at, 1, 7) = ?)", (month, month)
    images = db.execute(
        "SELECT t.variant, count(*) FROM images i JOIN attempts a ON a.seq = i.attempt JOIN tasks t ON t.seq = i.task"
        f" WHERE i.state = 'saved' AND {sent} GROUP BY t.variant",
        months,
    ).fetchall()
    spent = db.execute(
        f"SELECT v.provider, v.model, coalesce(json_extract(v.axes, '$.target'), '') AS target, s.* FROM"
        f" (SELECT t.variant, count(*) AS attempts, {MONEY} FROM {ATTEMPTS} WHERE {sent} GROUP BY t.variant) s"
        " JOIN variants v ON v.id = s.variant ORDER BY v.id",
        months,
    ).fetchall()
    counted, rows = dict(tuple(row) for row in images), [dict(row) for row in spent]
    return [Bought(images=counted.get(row.pop("variant"), 0), **row) for row in rows]


def sent(db: Connection) -> Iterator[Row]:
    """Every attempt with its bounds and what it asked for, for whoever holds it against a bill."""
    sql = (
        "SELECT a.id, a.purchase, a.request_id, a.state, a.images, a.cost_low, a.cost_high, a.sent_at, a.ended_at,"
        f" v.provider, v.model, v.operation, v.params, v.axes FROM {ATTEMPTS}"
        " JOIN variants v ON v.id = t.variant ORDER BY a.seq"
    )
    return (dict(row) for row in db.execute(sql))
