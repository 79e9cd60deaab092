"""The folder that an export goes to: made in its .part/, moved into place once all is there, over nothing else.

`export.json` is the export's own list: which files are its, and what they were made from. What is made already stands
in .part/export.json, so that an export that was cut off goes on from there.
"""

import fcntl
import hashlib
import json
import os
import shutil
import stat
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

from batchgen import disk
from batchgen.errors import LockedError, UsageError

SCHEMA_VERSION = 1
LIST, PART, CARD = "export.json", ".part", "README.md"
LOOKED_AT = 1 << 28  # bytes; whether larger files were changed by hand is not looked at
THREADS = 8  # that wait for the disk, which writes for several at once
Identity = Mapping[str, object]
"""What is exported, and by which rules: another export does not go into the same folder."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A file of an export. `rows` is a hash of what it was made from: the same rows make the same file."""

    bytes: int
    sha256: str
    images: int = 0
    rows: str = ""


Entries = dict[str, Entry]
"""By their names from the folder on."""


class Target:
    """`before` are the files of the last whole export, `staged` those made since; `entries` is what belongs here now.

    What is `owned` may be written over, what is `gone` is removed in the end, what is `left` of an export that was cut
    off is not moved into place. Images that lie here as they are stand in no list, but in the metadata beside them:
    whoever writes that adds to the former two, and takes from the last what belongs here.
    """

    wide = 2  # as of a store: how many files are placed at a time
    far = False  # whether what is there is not to be read again

    def __init__(self, path: Path, identity: Identity) -> None:
        self.path, self.part = path, path / PART
        self._identity, self._begun = identity, False
        self.entries: Entries = {}
        self.owned: set[str] = set()
        self.before, _ = self._listed(LIST)
        self.staged, self.gone = self._listed(f"{PART}/{LIST}")
        self.owned |= self.before.keys() | self.staged.keys()
        self.left = self._left()

    def _listed(self, name: str) -> tuple[Entries, set[str]]:
        """What a list holds: the files, and what was to be removed."""
        with suppress(FileNotFoundError):
            return parsed((self.path / name).read_bytes(), f"{self.path / name}", f"{self.path}", self._identity)
        return {}, set()

    def _left(self) -> set[str]:
        """What an export that was cut off left, beside what its list names."""
        return {name for name in files(self.part) if name not in self.staged and not name.startswith(LIST)}

    def _size(self, name: str) -> int | None:
        return size(f"{self.path}/{name}")

    def stands(self, name: str, rows: str) -> Entry | None:
        """A file that was made from these rows and is there, as the lists say; it belongs to this export, too."""
        for entry, places in ((self.staged.get(name), (f"{PART}/", "")), (self.before.get(name), ("",))):
            if entry and entry.rows == rows and any(self._size(f"{place}{name}") == entry.bytes for place in places):
                self.entries[name] = entry
                return entry
        return None

    def opened(self, name: str) -> BinaryIO:
        """A file that is in place; FileNotFoundError where there is none."""
        return (self.path / name).open("rb")

    def place(self, name: str, data: bytes) -> None:
        """Stage a file that stands in no list."""
        disk.write_new(self.stage(name), data, 0o644)

    def holds(self, name: str, bytes: int) -> str:
        """Where a file of this length lies: staged, else in place, else nowhere."""
        paths = (f"{place}/{name}" for place in (self.part, self.path))
        return next((path for path in paths if size(path) == bytes), "")

    def stage(self, name: str) -> str:
        """Where a file is to be made. What an earlier try left there is gone: it may be an image's other name."""
        if not self._begun or name in self.staged:
            self.staged.pop(name, None)
            self._keep()
        path = f"{self.part}/{name}"
        try:
            os.unlink(path)
        except FileNotFoundError:
            os.makedirs(os.path.dirname(path), exist_ok=True)
        return path

    def note(self, name: str, entry: Entry) -> None:
        """A staged file is whole, and on the disk."""
        self.entries[name] = self.staged[name] = entry
        self._keep()

    def write(self, name: str, data: bytes, images: int = 0, rows: str = "") -> None:
        """Stage a small file, unless it is there as it should be."""
        entry = Entry(len(data), hashlib.sha256(data).hexdigest(), images, rows)
        if self.stands(name, rows) != entry:
            disk.write_synced(self.stage(name), data, 0o644)
            self.note(name, entry)

    def finish(self) -> bool:
        """Move all that was made into place, and remove what belongs here no more; whether anything changed."""
        self.gone |= (self.before.keys() | self.staged.keys()) - self.entries.keys()
        if not self.part.is_dir() and not self.gone and self.before == self.entries:
            return False
        for name in (self.left | self.gone) - self.entries.keys():
            (self.part / name).unlink(missing_ok=True)
        made = sorted(name for name in files(self.part) if not name.startswith(LIST))
        self._check_mine(made)
        self._check_folders({*made, *self.gone})
        sync(self.part, [name for name in made if name not in self.staged])
        self._keep(moving=True)
        if CARD in self.staged and size(f"{self.part}/{CARD}") is not None:  # it must not tell of a mixture
            (self.path / CARD).unlink(missing_ok=True)
        _merge(self.part, self.path)
        self._remove()
        part = self.part / f"{LIST}.part"
        part.unlink(missing_ok=True)
        disk.write_whole(self.path / LIST, self._told(self.entries), part, 0o644)
        shutil.rmtree(self.part)
        disk.sync_folder(self.path)
        return True

    def _check_mine(self, made: list[str]) -> None:
        """UsageError where a file would go over one that is not this export's, or was changed since."""
        for name in made:
            if size(f"{self.path}/{name}") is None:
                continue
            if name not in self.owned:
                raise UsageError(f"{self.path / name} is there, and is no part of this export: move it away")
            before = self.before.get(name)
            if before and before.bytes < LOOKED_AT and _sha256(self.path / name) != before.sha256:
                raise UsageError(
                    f"{self.path / name} was changed since it was written: move it away, then export again"
                )

    def _check_folders(self, names: set[str]) -> None:
        """UsageError where a link leads out of the folder."""
        for folder in {parent for name in names for parent in Path(name).parents}:
            if (self.path / folder).is_symlink() and folder != Path():
                raise UsageError(f"{self.path / folder} is a link: give a folder without any, or move it away")

    def _remove(self) -> None:
        for name in sorted(self.gone):
            path = self.path / name
            path.unlink(missing_ok=True)
            with suppress(OSError):  # others are in it still
                while (path := path.parent) != self.path:
                    path.rmdir()

    def _keep(self, moving: bool = False) -> None:
        self._begun = True
        disk.make_folder(self.part)
        part = self.part / f"{LIST}.part"
        part.unlink(missing_ok=True)
        disk.write_whole(self.part / LIST, self._told(self.staged, moving=moving, gone=sorted(self.gone)), part, 0o644)

    def _told(self, entries: Entries, **more: object) -> bytes:
        listed = {name: asdict(entries[name]) for name in sorted(entries)}
        return (json.dumps({**self._identity, **more, "files": listed}, indent=1) + "\n").encode()


@contextmanager
def opened(path: Path, identity: Identity) -> Iterator[Target]:
    """Hold the folder, which is made if need be; UsageError where it holds anything but this export."""
    with disk.storage("the export"):
        if path.exists() and not path.is_dir():
            raise UsageError(f"--to {path}: is no folder")
        disk.make_folder(path.absolute())
        handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            _lock(handle, path)
            _check_free(path)
            yield Target(path, identity)
        finally:
            os.close(handle)


def _lock(handle: int, path: Path) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise LockedError(f"another export writes to {path}") from None
    except OSError:  # not every file system locks folders
        pass


def _check_free(path: Path) -> None:
    """UsageError where something else lies in the folder."""
    there, part = set(os.listdir(path)), path / PART
    try:
        moving = bool(json.loads((part / LIST).read_bytes())["moving"])
    except (OSError, ValueError, TypeError, KeyError):  # made, and nothing in it yet
        moving = False
        strange = PART in there and not (part.is_dir() and all(name.startswith(LIST) for name in os.listdir(part)))
    else:
        strange = False
    if strange or part.is_symlink() or not (moving or LIST in there or there <= {PART}):
        raise UsageError(f"--to {path}: something else lies there: give a folder that is new or empty")


def parsed(text: bytes, name: str, whole: str, identity: Identity) -> tuple[Entries, set[str]]:
    """What a list holds: the files, and what was to be removed. UsageError where it is another export's."""
    try:
        told: dict[str, Any] = json.loads(text)
        found = {name: Entry(**entry) for name, entry in told.pop("files").items()}, set(told.pop("gone", ()))
        if not all(map(inside, {*found[0], *found[1]})):
            raise ValueError
    except (ValueError, TypeError, KeyError, AttributeError):
        raise UsageError(f"{name} is no list of an export: give a folder that is new or empty") from None
    if other := next((name for name in identity if told.get(name) != identity[name]), ""):
        raise UsageError(
            f"{whole} holds another export: its {other} is"
            f" {told.get(other)!r}, and not {identity[other]!r}. Give another folder, or the same options"
        )
    return found


def inside(name: object) -> bool:
    """Whether it is a name that an export gives: a list that somebody has sent may name anything."""
    return isinstance(name, str) and name == os.path.normpath(name) and not name.startswith(("/", ".."))


def size(path: str) -> int | None:
    """A plain file's length, -1 of anything else; None where there is nothing."""
    try:
        found = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_size if stat.S_ISREG(found.st_mode) else -1


def files(folder: Path) -> Iterator[str]:
    """Everything below a folder, by its name from there."""
    for place, _, names in os.walk(folder):
        prefix = "" if place == str(folder) else f"{os.path.relpath(place, folder)}/"
        yield from (f"{prefix}{name}" for name in names)


def sync(folder: Path, names: list[str]) -> None:
    """Make files below a folder durable, and all names in it."""

    def some(start: int) -> None:
        for name in names[start::THREADS]:
            disk.sync_file(folder / name)

    with ThreadPoolExecutor(THREADS) as pool:
        for _ in pool.map(some, range(THREADS)):
            pass
    for place, _, _ in os.walk(folder):
        disk.sync_folder(place)


def _merge(part: Path, place: Path) -> None:
    """Move what is in one folder into the other: folders first, the names that tell of them last."""
    entries = sorted(os.scandir(part), key=lambda each: (not each.is_dir(), each.name == CARD, each.name))
    for entry in entries:
        target = place / entry.name
        if entry.name.startswith(LIST):
            continue
        if entry.is_dir() and target.is_dir():
            _merge(Path(entry.path), target)
        else:
            os.rename(entry.path, target)
    disk.sync_folder(place)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
