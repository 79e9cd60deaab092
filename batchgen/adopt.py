"""Files below images/ that no row owns: whose they are by their names, and taking them into the books.

An image can be there without its row where a ledger was put back from an older backup, or where an answer came and
was lost sight of. It was paid for; a run that does not know it would buy it again.
"""

import hashlib
import os
import re
import socket
import sqlite3
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from itertools import groupby

from batchgen import __version__, books, commit, costs, disk, images, place, records
from batchgen.costs import Money
from batchgen.folder import Folder
from batchgen.objects import Objects
from batchgen.spool import Spool
from batchgen.store import Store
from batchgen.task import MISSING, Image, ImageState, Variant

CODE = "adopted"
_KEYS = re.compile(r"(?=([a-z2-7]{16}))")  # wherever they begin: a path may hold the key anywhere
KEYS_MOST = 30_000  # that one query names
BYTES_MOST = 1 << 28

Price = Callable[[Variant], costs.Quote | None]


@dataclass(frozen=True, slots=True)
class Orphan:
    """A file without a row. `task` is whose image it is by its name, `index` which one; 0 and 0 where it is nobody's.

    `image` is what its row will say where it can be taken in; else `flaw` says why not. `expected`: a run will write
    its row, or is about to.
    """

    name: str
    task: int = 0
    key: str = ""
    index: int = 0
    image: Image | None = None
    flaw: str = ""
    expected: bool = False


@dataclass(frozen=True, slots=True)
class Adopted:
    """Images that were taken in, and what that adds to the books, at least and at most (nano-dollars).

    `unpriced` are attempts among them that cost what nobody knows.
    """

    names: tuple[str, ...] = ()
    low: int = 0
    high: int = 0
    unpriced: int = 0

    def __add__(self, other: "Adopted") -> "Adopted":
        unpriced = self.unpriced + other.unpriced
        return Adopted(self.names + other.names, self.low + other.low, self.high + other.high, unpriced)


def unowned(db: sqlite3.Connection, names: Iterable[str]) -> set[str]:
    """Those of the files that no row owns."""
    left = set(names)
    for (path,) in db.execute("SELECT path FROM images WHERE path <> ''"):
        left.discard(path)
    return left


def informed(store: Store, folder: Folder) -> Store:
    """The store, told which names bear what no row owns: nobody asks a bucket that before each purchase."""
    if not isinstance(store, Objects):
        return store
    with books.reading(folder.ledger) as db:
        return replace(store, strays=unowned(db, store.names()))


def orphans(
    db: sqlite3.Connection, folder: Folder, store: Store, names: Iterable[str], busy: bool = False
) -> Iterator[Orphan]:
    """What files are that no row owns; `busy`: a run is at work, and may be about to write their rows."""
    spool, taken, names = Spool(folder.spool), set[tuple[int, int]](), sorted(names)
    known = _known(db, {key for name in names for key in _KEYS.findall(name)})
    for name in names:
        found = _orphan(db, spool, name, busy, known)
        if found.task and not found.flaw and not found.expected:
            found = _looked_at(db, found, store, taken)
        yield found


def _looked_at(db: sqlite3.Connection, found: Orphan, store: Store, taken: set[tuple[int, int]]) -> Orphan:
    """With its image, or with what is wrong with it. Of two files for one image the first is taken."""
    if (found.task, found.index) in taken:
        return replace(found, flaw="another file bears that name, too")
    try:
        found = replace(found, image=_read(store, found.name, found.index))
    except OSError as error:
        return replace(found, flaw=error.strerror or str(error))
    except ValueError as error:
        return replace(found, flaw=str(error))
    assert found.image
    if flaw := _other(db, found.task, found.image):
        return replace(found, image=None, flaw=flaw)
    taken.add((found.task, found.index))
    return found


def _other(db: sqlite3.Connection, task: int, image: Image) -> str:
    """Why a picture is not what the task asked for, or nothing."""
    (asked,) = db.execute("SELECT variant FROM tasks WHERE seq = ?", (task,)).fetchone()
    size = str(_variant(db, asked).param("size", ""))
    return f"not of {size} pixels" if re.fullmatch(r"\d+x\d+", size) and size != f"{image.width}x{image.height}" else ""


def _known(db: sqlite3.Connection, keys: set[str]) -> dict[str, tuple[int, str, str]]:
    """The row, path and state of those tasks, by key: one reading for thousands, no index has keys alone."""
    left, found = sorted(keys), dict[str, tuple[int, str, str]]()
    while left:
        some, left = left[:KEYS_MOST], left[KEYS_MOST:]
        sql = f"SELECT key, seq, path, state FROM tasks WHERE key IN ({', '.join('?' * len(some))})"
        found.update((key, tuple(row)) for key, *row in db.execute(sql, some))
    return found


def _orphan(
    db: sqlite3.Connection, spool: Spool, name: str, busy: bool, known: dict[str, tuple[int, str, str]]
) -> Orphan:
    """Whose it is by its name alone."""
    if name.endswith(".part"):
        attempt = os.path.basename(name).lstrip(".").partition(".")[0]
        return Orphan(name, expected=fate(db, attempt) in ("sending", "accepted"))
    for key in sorted(set(_KEYS.findall(name)) & known.keys()):
        seq, path, state = known[key]
        if (busy and state == "doing") or _will_be_finished(db, spool, seq):
            return Orphan(name, seq, key, expected=True)
        index = _index(name, path)
        if index is not None:
            return Orphan(name, seq, key, index, flaw=_rival(db, seq, index, state))
    return Orphan(name)


def _index(name: str, path: str) -> int | None:
    """Which image of the task that writes to `path` bears this name; None where none does."""
    stem, _, extension = name.rpartition(".")
    number = stem.removeprefix(path)
    if not stem.startswith(path) or extension not in images.EXTENSIONS.values():
        return None
    if not number:
        return 0
    found = re.fullmatch(r"-(0|[1-9][0-9]?)", number)
    return int(found[1]) if found else None


def fate(db: sqlite3.Connection, attempt: str) -> str:
    """An attempt's state; nothing where the ledger has no such attempt."""
    row = db.execute("SELECT state FROM attempts WHERE id = ?", (attempt,)).fetchone()
    return str(row[0]) if row else ""


def _will_be_finished(db: sqlite3.Connection, spool: Spool, task: int) -> bool:
    """Whether the answer is held, here or by the provider: the next run takes it in, at its exact price."""
    rows = db.execute("SELECT id, state FROM attempts WHERE task = ? AND state IN ('sending', 'accepted')", (task,))
    return any(state == "accepted" or spool.holds(attempt, 1) for attempt, state in rows.fetchall())


def _rival(db: sqlite3.Connection, task: int, index: int, state: str) -> str:
    """Why a file that bears a task's name cannot be its image, or nothing."""
    (asked,) = db.execute("SELECT variant FROM tasks WHERE seq = ?", (task,)).fetchone()
    lacks = "SELECT 1 FROM images WHERE task = ? AND idx = ? AND state = 'broken'"
    if index >= _variant(db, asked).images or (state == "done" and not db.execute(lacks, (task, index)).fetchone()):
        return "the task asked for no such image"
    sql = "SELECT path FROM images WHERE task = ? AND idx = ? AND state = 'saved'"
    row = db.execute(sql, (task, index)).fetchone()
    return f"the ledger has {row[0]} for it" if row else ""


def _read(store: Store, name: str, index: int) -> Image:
    """A file's image as a row would have it; OSError or images.Broken where it is none."""
    data = store.read(name, BYTES_MOST + 1)
    if len(data) > BYTES_MOST:
        raise images.Broken("it is larger than any image")
    kind = images.inspect(data)
    if not name.endswith(f".{images.EXTENSIONS[kind.format]}"):
        raise images.Broken(f"it is a {kind.format} file by another name")
    digest, seen = hashlib.sha256(data).hexdigest(), (kind.format, kind.width, kind.height)
    return Image(index, ImageState.SAVED, name, digest, len(data), *seen)


def adoptable(folder: Folder) -> list[Orphan]:
    """The files that can be taken in. The caller holds the folder."""
    store = place.images(folder)
    with books.reading(folder.ledger) as db:
        return [each for each in orphans(db, folder, store, unowned(db, store.names())) if each.image]


async def take_in(folder: Folder, found: Sequence[Orphan], price: Price) -> Adopted:
    """Write rows for files without: one transaction a task, on the disk before the next. The caller holds the folder.

    A task whose request is of unknown fate was paid for with it; else there must have been one that the ledger has
    lost, and it is written down now. Nobody knows their usage: they cost what `price` says, and are estimates.
    """
    total, store = Adopted(), place.images(folder)
    async with commit.writer(folder.ledger) as group:
        run = await group.write(_run)
        for _, some in groupby(sorted(found, key=lambda each: (each.task, each.index)), lambda each: each.task):
            mine = list(some)
            with disk.storage("the images folder"):  # whoever put them back may not: no row may be safer than its file
                store.secure({each.name for each in mine})
            total += await group.write(partial(_take_in, run=run, store=store, found=mine, price=price))
    return total


def _run(db: sqlite3.Connection) -> int:
    """A run of its own, over as it begins: a later one must not take the ledger for a new one."""
    sql = (
        "INSERT INTO runs (started_at, ended_at, version, pid, host, exit_code, reason) VALUES (?, ?, ?, ?, ?, 0, ?)"
        " RETURNING id"
    )
    now = records.now()
    who = (__version__, os.getpid(), socket.gethostname())
    ((run,),) = db.execute(sql, (now, now, *who, "images without rows were taken in")).fetchall()
    return int(run)


def _take_in(db: sqlite3.Connection, run: int, store: Store, found: Sequence[Orphan], price: Price) -> Adopted:
    task = found[0].task
    row = db.execute("SELECT seq FROM attempts WHERE task = ? AND state = 'paid'", (task,)).fetchone()
    attempt, added = (row[0], Adopted()) if row else _paid(db, run, task, _made_at(store, found[0].name), price)
    for each in found:
        assert each.image
        records.add_image(db, task, attempt, each.image)
    if not row:
        _note_missing(db, task, attempt)
    db.execute(
        "UPDATE tasks SET state = 'done',"  # who gave it up did so for want of what is there now
        " wanted = CASE wanted WHEN 'waived' THEN 'yes' WHEN 'forgone' THEN 'dropped' ELSE wanted END WHERE seq = ?",
        (task,),
    )
    return replace(added, names=tuple(each.name for each in found))


def _paid(db: sqlite3.Connection, run: int, task: int, made_at: str, price: Price) -> tuple[int, Adopted]:
    """The attempt that must have brought a task's images, and what it adds to the books."""
    sql = (
        "SELECT seq, cost_low, cost_high FROM attempts WHERE task = ? AND state IN ('unknown', 'sending')"
        " ORDER BY seq DESC LIMIT 1"
    )
    doubtful = db.execute(sql, (task,)).fetchone()
    attempt, *before = doubtful or (_lost(db, run, task, made_at), None, None)
    low, high = _cost(_money(db, task, price), before[1])
    said = f"its image was found at {records.now()}; before: " if doubtful else "its image was found without it"
    db.execute(
        "UPDATE attempts SET state = 'paid', cost_low = ?, cost_high = ?, estimated = 1, code = ?, error = ? || error,"
        " ended_at = coalesce(ended_at, ?) WHERE seq = ?",
        (low, high, CODE, said, records.now(), attempt),
    )
    added = Adopted(low=(low or 0) - (before[0] or 0), high=(high or 0) - (before[1] or 0), unpriced=high is None)
    return attempt, added


def _lost(db: sqlite3.Connection, run: int, task: int, made_at: str) -> int:
    """An attempt that the ledger has no more, as far as its image tells of it."""
    lane, asked = db.execute("SELECT pool, variant FROM tasks WHERE seq = ?", (task,)).fetchone()
    sql = (
        "INSERT INTO attempts (id, task, run, purchase, lane, engine, state, images, sent_at, ended_at)"
        " VALUES (?, ?, ?, ?, ?, '', 'paid', ?, ?, ?) RETURNING seq"
    )
    ids = uuid.uuid4().hex, task, run, uuid.uuid4().hex
    ((attempt,),) = db.execute(sql, (*ids, lane, _variant(db, asked).images, made_at, made_at)).fetchall()
    return int(attempt)


def _cost(money: Money | None, before: int | None) -> tuple[int | None, int | None]:
    """Up to what it costs now, or was thought to cost as it was sent; nobody knows by which price it was bought."""
    if money is None:
        return (None if before is None else 0), before
    return 0, max(money.high, before or 0)


def _money(db: sqlite3.Connection, task: int, price: Price) -> Money | None:
    sql = (
        "SELECT t.variant, length(CAST(p.text AS BLOB)), t.input_tokens FROM tasks t JOIN prompts p ON p.id = t.prompt"
        " WHERE t.seq = ?"
    )
    asked, size, tokens = db.execute(sql, (task,)).fetchone()
    quote = price(_variant(db, asked))
    return quote.of(size, 1, tokens) if quote else None


def _variant(db: sqlite3.Connection, found: int) -> Variant:
    sql = "SELECT provider, model, operation, params, axes FROM variants WHERE id = ?"
    return records.variant(db.execute(sql, (found,)).fetchone())


def _note_missing(db: sqlite3.Connection, task: int, attempt: int) -> None:
    """Of several images some may not have been found; they were asked for all the same."""
    (asked,) = db.execute("SELECT images FROM attempts WHERE seq = ?", (attempt,)).fetchone()
    there = {row[0] for row in db.execute("SELECT idx FROM images WHERE task = ? AND state = 'saved'", (task,))}
    for index in sorted(set(range(asked)) - there):
        records.add_image(db, task, attempt, Image(index, ImageState.BROKEN, note=MISSING))


def _made_at(store: Store, name: str) -> str:
    """When the file was written, which is about when it was bought; never later than now."""
    seconds = max(0.0, min(store.made_at(name), time.time()))
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
