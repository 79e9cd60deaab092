"""An export to a bucket: what is made is staged there, one file at a time, and given its name in the end.

Images that lie there as they are get their names at once: what is called so never changes. Nothing but the file that is
being made lies on the disk here.
"""

import hashlib
import os
import re
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from batchgen import disk
from batchgen.disk import Unsynced
from batchgen.errors import UsageError
from batchgen.objects import Listed, Objects
from batchgen.target import CARD, LIST, PART, Entries, Entry, Identity, Target, parsed

OURS = re.compile(r"[^/]+/([a-z2-7]/[a-z2-7]{16}(-\d+)?|inputs/[0-9a-f]{64})\.(png|jpg|webp|gif)")
"""Images that lie there as they are, below a split: those of an export in a folder of this one are further down."""
STRANGE = "--to {}: something else lies there: give a prefix that is new or empty"
ANOTHER = "{} is there, and is no part of this export, or was changed since: move it away, then export again"


class Far(Target):
    """`path` is a folder on this disk for the file that is being made. Two exports at once are not kept apart."""

    far = True

    def __init__(self, path: Path, identity: Identity, bucket: Objects) -> None:
        self._bucket, self._lock, self.wide = bucket, threading.Lock(), bucket.wide
        self._there = {each.name: each for each in bucket.listed()}
        super().__init__(path, identity)
        self._resumed = frozenset(self.staged)
        if self._there and not {LIST, f"{PART}/{LIST}"} & self._there.keys():
            raise UsageError(STRANGE.format(bucket.url))

    def _listed(self, name: str) -> tuple[Entries, set[str]]:
        if name not in self._there:
            return {}, set()
        return parsed(self._bucket.read(name), self._bucket.where(name), self._bucket.url, self._identity)

    def _left(self) -> set[str]:
        begun = f"{PART}/{LIST}" in self._there
        return {name for name in self._there if OURS.fullmatch(name)} if begun else set()

    def _size(self, name: str) -> int | None:
        found = self._there.get(name)
        return found.bytes if found else None

    def holds(self, name: str, bytes: int) -> str:
        return self._bucket.where(name) if self._size(name) == bytes else ""

    def opened(self, name: str) -> BinaryIO:
        if name not in self._there:
            raise FileNotFoundError(name)
        file = tempfile.TemporaryFile(dir=self.path)  # noqa: SIM115 - who asked for it closes it
        self._bucket.fetch(name, file)
        file.seek(0)
        return file

    def place(self, name: str, data: bytes) -> None:
        """Put an image there under its own name, unless it is."""
        with self._lock:
            if not self._begun:
                self._keep()
        found = self._there.get(name)
        if found and (found.bytes, found.tag) == (len(data), hashlib.md5(data, usedforsecurity=False).hexdigest()):
            return
        try:
            self._bucket.put(name, data, "", Unsynced())
        except FileExistsError:
            raise UsageError(ANOTHER.format(self._bucket.where(name))) from None

    def note(self, name: str, entry: Entry) -> None:
        path = self.part / name
        self._bucket.replace(f"{PART}/{name}", path)
        self._there[f"{PART}/{name}"] = Listed(f"{PART}/{name}", entry.bytes, "")
        path.unlink()
        super().note(name, entry)

    def finish(self) -> bool:
        """Give all that was made its name, the list last, and remove what belongs here no more."""
        self.gone |= ((self.before.keys() | self.staged.keys()) - self.entries.keys()) | self.left
        staged = {name.removeprefix(f"{PART}/") for name in self._there if name.startswith(f"{PART}/")} - {LIST}
        if not self._begun and not staged and not self.gone and self.before == self.entries:
            return False
        made = sorted(staged & self.entries.keys(), key=lambda name: (name == CARD, name))
        self._check_mine(made)
        self._keep(moving=True)
        if CARD in made and CARD in self._there:  # it must not tell of a mixture
            self._bucket.remove(CARD)
        for name in made:
            self._bucket.move(f"{PART}/{name}", name)
        for name in sorted(self.gone - self.entries.keys()):
            self._bucket.remove(name)
        self._bucket.replace(LIST, self._told(self.entries))
        for name in sorted(staged - self.entries.keys()):
            self._bucket.remove(f"{PART}/{name}")
        self._bucket.remove(f"{PART}/{LIST}")
        return True

    def _check_mine(self, made: list[str]) -> None:
        """UsageError where an object would go over one that is not this export's, or was changed since."""
        for name in made:
            ours = {each.bytes for each in (self.before.get(name), self.staged.get(name)) if each}
            there = self._size(name)
            if there is not None and there not in ours and name not in self._resumed:  # one cut off may have moved it
                raise UsageError(ANOTHER.format(self._bucket.where(name)))

    def _keep(self, moving: bool = False) -> None:
        begins, self._begun = not self._begun, True
        os.makedirs(self.part, exist_ok=True)
        told = self._told(self.staged, moving=moving, gone=sorted(self.gone))
        if begins and not self._there:  # another run's export may begin there at the same moment
            self._begin(told)
        else:
            self._bucket.replace(f"{PART}/{LIST}", told)

    def _begin(self, told: bytes) -> None:
        try:
            self._bucket.put(f"{PART}/{LIST}", told, "", Unsynced())
        except FileExistsError:
            raise UsageError(STRANGE.format(self._bucket.url)) from None


@contextmanager
def opened(bucket: Objects, identity: Identity) -> Iterator[Far]:
    """The place in the bucket; UsageError where it holds anything but this export."""
    with disk.storage("the export"), tempfile.TemporaryDirectory(prefix="batchgen-export-") as folder:
        yield Far(Path(folder), identity, bucket)
