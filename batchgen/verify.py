"""Hold the ledger and the files against each other: what is missing, changed, belongs to nobody, or does not add up.

Nothing is held and nothing written, so that a run may be at work meanwhile. Files are listed before the ledger is
looked at: what a run made before has its row by then, or its task is still on its way.
"""

import errno
import fcntl
import hashlib
import os
import socket
import stat
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from batchgen import adopt, books, disk, images, place, troubles
from batchgen.adopt import Orphan
from batchgen.folder import Folder
from batchgen.spool import BLOB
from batchgen.store import Store
from batchgen.troubles import Kept

BLOCK = 1000  # files whose rows are read at a time
THREADS = 4
NEEDED = ("sending", "accepted", "unusable")  # whose answers stay in the spool
MEND = "put a backup of the ledger in its place, then batchgen verify --adopt"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it should be; `what` is a word for scripts."""

    what: str
    where: str
    says: str


def _nothing() -> None:
    pass


def findings(folder: Folder, tick: Callable[[], object] = _nothing) -> Iterator[Finding]:
    """Everything that is wrong, as it is found; reads every image file once, and ticks for each."""
    before, spooled = at_work(folder), list(disk.files(folder.spool))
    yield from _open_to_others(folder, spooled)
    store = place.images(folder)
    found = set(store.names())
    with books.reading(folder.ledger) as db:
        for sentence in troubles.every(db):
            yield Finding("ledger", folder.ledger.name, f"{sentence}; {MEND}")
        unfinished = list(troubles.unfinished(db))
        busy = before or at_work(folder)
    yield from (Finding("open", folder.ledger.name, sentence) for sentence in unfinished if not busy)
    yield from _images(folder, store, tick)
    with books.reading(folder.ledger) as db:
        strays = adopt.orphans(db, folder, store, adopt.unowned(db, found), busy)
        fates = {name: adopt.fate(db, name.partition(".")[0]) for name in spooled}
        yield from (_stray(each) for each in strays if not each.expected and store.size(each.name) is not None)
    yield from _spool(folder, fates, busy)


def working(last: books.Row, folder: Folder) -> bool:
    """Whether a run's process is there, as far as this machine can tell: it holds the folder as long as it lives."""
    return last["host"] != socket.gethostname() or at_work(folder)


def at_work(folder: Folder) -> bool:
    """Whether a run holds the folder. Nobody is kept waiting: the lock is tried and let go at once."""
    try:
        handle = os.open(folder.lock, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:  # never locked, or somebody else's: then there is no way to tell
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno == errno.EWOULDBLOCK
    finally:
        os.close(handle)
    return False


def _images(folder: Folder, store: Store, tick: Callable[[], object]) -> Iterator[Finding]:
    """Every file that the ledger answers for. No look at the ledger lasts: a run may be writing to it."""
    last = 0
    with ThreadPoolExecutor(max(THREADS, store.wide)) as pool:
        while True:
            with books.reading(folder.ledger) as db:
                rows = troubles.kept(db, last, BLOCK)
            if not rows:
                return
            last = rows[-1].id
            for found in pool.map(lambda row: _image(store, row), rows):
                tick()
                yield from [found] if found else []


def _image(store: Store, row: Kept) -> Finding | None:
    """What is wrong with one file, if anything."""
    try:
        data = store.read(row.path, row.bytes + 1)
    except OSError as error:
        return _not_there(row, error)
    if hashlib.sha256(data).hexdigest() != row.sha256:
        size = store.size(row.path)
        says = f"{size} bytes with another sha256 than the {row.bytes} that were saved: put a copy in its place"
        return Finding("changed", row.path, says)
    try:
        kind = images.inspect(data)
    except images.Broken as error:
        return Finding("broken", row.path, f"saved so, and no whole image: {error}")
    if (kind.format, kind.width, kind.height) != (row.format, row.width, row.height):
        is_, said = (f"{each.format} {each.width}x{each.height}" for each in (kind, row))
        return Finding("ledger", row.path, f"is {is_}, the ledger says {said}; {MEND}")
    return None


def _not_there(row: Kept, error: OSError) -> Finding:
    if error.errno == errno.ELOOP:
        return Finding("link", row.path, "saved once, now behind a link: put the file itself there")
    return Finding("missing", row.path, f"saved once, now: {error.strerror}: put a copy there")


def _stray(found: Orphan) -> Finding:
    if found.name.endswith(".part"):
        return Finding("leftover", found.name, "left by a write that was cut off, and needed by nobody: remove it")
    if found.image:
        says = f"by its name task {found.key}'s, and no row owns it: batchgen verify RUN --adopt takes it in"
    elif found.task and found.flaw:
        says = f"bears the name of task {found.key}, and no row owns it; {found.flaw}: move it elsewhere"
    else:
        says = "no row of the ledger owns this file, and no task is called so: move it elsewhere"
    return Finding("unknown", found.name, says)


def _there(path: Path) -> bool:
    """A run that is at work has moved on meanwhile."""
    return os.path.lexists(path)


def _spool(folder: Folder, fates: dict[str, str], busy: bool) -> Iterator[Finding]:
    """Answers that no attempt needs."""
    for name, fate in sorted(fates.items()):
        if fate in NEEDED or (fate and busy) or not _there(folder.spool / name):
            continue
        where = f"{folder.spool.name}/{name}"
        if fate:
            yield Finding(
                "leftover", where, f"the answer to a request that is settled ({fate}): batchgen run removes it"
            )
        else:
            says = (
                "a request that the ledger does not know: put back its -wal file or a newer backup, or move this away"
            )
            yield Finding("unknown", where, f"the answer to {says}")


def _open_to_others(folder: Folder, spooled: list[str]) -> Iterator[Finding]:
    """What holds prompts is for nobody else's eyes; images are as open as the folder that they lie in."""
    ledger = [folder.ledger.with_name(folder.ledger.name + ending) for ending in ("", "-wal", "-shm")]
    answers = [folder.spool / name for name in sorted(spooled) if not BLOB.fullmatch(name)]
    for path in (*ledger, folder.spool, *answers):
        with suppress(FileNotFoundError):  # a run that is at work removes them
            mode = stat.S_IMODE(os.lstat(path).st_mode)
            if mode & 0o077:
                where = str(path.relative_to(folder.path))
                yield Finding("mode", where, f"others may look at it ({mode:04o}): chmod go= {where}")
