"""A run folder, held by one run at a time: its lock, its log, what must lie in it before anything is bought."""

import importlib
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import filelock

from batchgen import books, disk, ledger
from batchgen.errors import LockedError, StorageError, UsageError
from batchgen.folder import Folder
from batchgen.manifest import Manifest
from batchgen.text import clean

log = logging.getLogger("batchgen")


def check_maker(folder: Folder, manifest: Manifest) -> None:
    """UsageError where the folder was made by another manifest of the same name, or its images lie elsewhere."""
    file, job = _from_folder(folder, manifest), books.job(folder.ledger)
    if file not in (job.manifest, folder.manifest.name):
        raise UsageError(
            f"{folder.path} was made by another manifest, {folder.path / job.manifest}. "
            "Give this one another name:, or use that one."
        )
    if job.output_store != manifest.store and not books.untouched(folder.ledger):
        says = f"output.store: {job.output_store}" if job.store else "no output.store"
        raise UsageError(
            f"the images of {folder.path} lie in {job.store or folder.images}, and a run's images stay in one place: "
            f"say {says}, or give the manifest another name:. Nothing was sent."
        )


def _from_folder(folder: Folder, manifest: Manifest) -> str:
    """Where the manifest lies, seen from the folder: a project may be moved as a whole."""
    return os.path.relpath(manifest.file.resolve(), folder.path.resolve())


def open_folder(folder: Folder, manifest: Manifest) -> None:
    """Make what is missing, and keep the manifest beside what it made; another job's folder is refused."""
    with disk.storage("the run folder"):
        for path in (folder.images, folder.spool):
            disk.make_folder(path)
        folder.spool.chmod(0o700)
    if not folder.ledger.exists():
        ledger.create(folder.ledger, manifest.name, manifest.project, _from_folder(folder, manifest))
    check_maker(folder, manifest)
    if books.job(folder.ledger).output_store != manifest.store:
        ledger.move(folder.ledger, manifest.store and f"{manifest.store}/{folder.path.name}")
    with disk.storage("the run folder"):
        disk.write_whole(folder.manifest, manifest.text.encode(), folder.path / ".manifest.part")


def workshop(folder: Folder) -> Path:
    """Where batches are made and collected; what a crash left there is made again. The caller holds the folder."""
    with disk.storage("the run folder"):
        disk.make_folder(folder.batches)
        folder.batches.chmod(0o700)
        for path in folder.batches.iterdir():
            path.unlink(missing_ok=True)
    return folder.batches


@contextmanager
def held(folder: Folder) -> Iterator[None]:
    """Hold the folder, and write its log."""
    with locked(folder), logged(folder):
        yield


@contextmanager
def locked(folder: Folder) -> Iterator[None]:
    """Hold the folder; LockedError, naming the holder, where another run does. The kernel frees it when we die."""
    with disk.storage("the run folder"):
        disk.make_folder(folder.path)
    lock = filelock.FileLock(folder.lock, mode=0o600)
    try:
        lock.acquire(timeout=0.3, poll_interval=0.05)  # who only looks whether it is held lets go at once
    except filelock.Timeout:
        raise LockedError(f"another run holds {folder.path}{books.holder(folder.ledger)}") from None
    except OSError as error:
        raise StorageError(f"{folder.path} cannot be locked: {error.strerror}") from None
    handle = os.open(folder.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _lock(handle, folder)
        yield
    finally:
        os.close(handle)
        lock.release()


def _lock(handle: int, folder: Folder) -> None:
    """Lock the folder itself, too: a file may be taken for a stale one, and removed."""
    with suppress(ImportError, OSError):  # not every file system locks folders
        fcntl = importlib.import_module("fcntl")
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LockedError(f"another run holds {folder.path}{books.holder(folder.ledger)}") from None


class Line(logging.Formatter):
    """An event is one line, whatever somebody else has said of it."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        record.message = clean(record.message)
        return super().formatMessage(record)


class Log(logging.FileHandler):
    """A log that a full disk ends in silence: the ledger says what matters."""

    def handleError(self, record: logging.LogRecord) -> None:
        pass


@contextmanager
def logged(folder: Folder) -> Iterator[None]:
    """Write run.log, one line an event."""
    try:
        os.close(os.open(folder.log, os.O_WRONLY | os.O_CREAT, 0o600))
        handler = Log(folder.log, encoding="utf-8")
    except OSError as error:
        raise StorageError(f"{folder.log}: {error.strerror}") from error
    handler.setFormatter(Line("%(asctime)s %(levelname)s %(message)s"))
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False
    try:
        yield
    finally:
        log.removeHandler(handler)
        with suppress(OSError):
            handler.close()
