"""Which store the images of a run lie in: its own folder, unless its ledger names another."""

import stat
from collections.abc import Sequence
from pathlib import Path

from batchgen import books, disk, store
from batchgen.folder import Folder
from batchgen.store import Directory, Store

IMAGES = "images"
PATIENCE = 60.0  # seconds, of who reads many


def of(folder: Folder, patience: float = 0.0) -> Store:
    """All of a run's own place, of which the images are a part."""
    url = books.job(folder.ledger).store
    return store.opened(url, patience) if url else Directory(str(folder.path))


def images(folder: Folder, patience: float = PATIENCE) -> Store:
    """Where its images lie; a bucket that is not reached is asked again for `patience` seconds."""
    return of(folder, patience).below(IMAGES)


def claimed(folder: Folder, patience: float) -> Store:
    """The images' store of a run that begins, which was tried, and is this run's alone. Blocks."""
    job = books.job(folder.ledger)
    if job.store:
        found = store.opened(job.store)
        if not books.untouched(folder.ledger):
            store.check_marked(found, job.mark)
        if isinstance(found, Directory):
            _make_folder(found)
        store.claim(found, job.mark.encode())
    return images(folder, patience)


def furnished(folder: Folder, rooms: Sequence[str], patience: float) -> Store:
    """A run's own place, with room for other things than images. Blocks."""
    found = of(folder, patience)
    if isinstance(found, Directory):
        with disk.storage("output.store"):
            for room in rooms:
                disk.make_folder(Path(found.path, room))
                _shut(Path(found.path, room))
    return found


def _shut(room: Path) -> None:
    """Prompts are in there. A group that shares the folder makes things in it, too."""
    mode = stat.S_IMODE(room.stat().st_mode)
    others = 0o007 if mode & stat.S_ISGID else 0o077
    if mode & others:
        room.chmod(mode & ~others)


def _make_folder(found: Directory) -> None:
    """The run's, in one that is there: a disk that is not mounted must not be taken for an empty one."""
    with disk.storage("output.store"):
        unsynced = disk.Unsynced()
        unsynced.make_folder(found.below(IMAGES).path, str(Path(found.path).parent))
        unsynced.sync()
