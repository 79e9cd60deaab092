"""The spool: every whole reply of an attempt, raw, kept until the attempt is settled.

`spool/<attempt>.<k>` holds the k-th reply: its body as it came, a line with status, headers, size and checksum, and
that line's own length and checksum. What does not fit itself was cut off or damaged, and is no reply. It is one file
because making and unlinking files is what a disk is slowest at. What was decoded on the way in (base64, of which the
body keeps the places) lies in `spool/<attempt>.<k>.<i>`, which becomes the image by a second name.
"""

import hashlib
import json
import os
import re
import zlib
from collections import deque
from collections.abc import Container, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from batchgen import disk, redact
from batchgen.disk import Unsynced
from batchgen.errors import StorageError
from batchgen.wire import Blob, Reply

UNKEPT = {"set-cookie", "authorization"}
PIECE, OVERLAP = 1 << 20, 1 << 12  # bytes; the latter are more than any spelling of a key has
WHOLE = re.compile(r"\d+(\.\d+)?")  # endings of what was sealed
BLOB = re.compile(r"\w+\.\d+\.\d+(\.part)?")  # names of images to be
CHANGED = (
    "{path} is not what came, and has a second name: an image was changed before the run that bought it could finish. "
    "Put it back as it was, or give it up and remove {path}; then run the same command again."
)
TRAILER = 17  # a line end, eight digits of the head's length, eight of its checksum


class Spool:
    """The folder of all open attempts' replies. What blocks says so: call it in a thread."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._stale: deque[str] = deque()
        self._spare: deque[str] = deque()  # files of settled attempts, to be written over
        self._there: dict[str, set[str]] = {}  # the endings of each attempt's files that were put here, or found

    def path(self, attempt: str, k: int) -> Path:
        return Path(self._name(attempt, f"{k}"))

    def _name(self, attempt: str, ending: str) -> str:
        return f"{self.folder}/{attempt}.{ending}"

    def part(self, attempt: str, k: int) -> Path:
        """What that is called while it comes."""
        return self.folder / f"{attempt}.{k}.part"

    def sink(self, attempt: str, k: int, nth: int = 0) -> Path:
        """Where the body of the k-th reply (from 1) is to be streamed, or the nth blob of it, over whatever is there.

        A blob never goes over a file that was kept: that may be an image by now.
        """
        if nth:
            return self.folder / f"{attempt}.{k}.{nth}.part"
        path = self.part(attempt, k)
        with suppress(IndexError, OSError):
            os.rename(self._spare.popleft(), path)
        return path

    def seal(self, attempt: str, k: int, reply: Reply, unsynced: Unsynced) -> Reply:
        """Keep a reply, and return it as it is now; it is never asked for again. Blocks.

        It is durable once `unsynced` is synced.
        """
        path = self._name(attempt, f"{k}")
        self._there.setdefault(attempt, set()).add(f"{k}")
        with disk.storage("the spool"):
            blobs = (self._kept(attempt, f"{k}.{nth}", blob) for nth, blob in enumerate(reply.blobs, 1))
            reply = replace(reply, blobs=tuple(blobs))
            if isinstance(reply.body, bytes):
                self._write(path, reply.body + _head(reply, len(reply.body)))
                sealed = reply
            else:
                size = reply.length
                disk.append_synced(reply.body, _head(reply, size))
                os.rename(reply.body, path)
                sealed = replace(reply, body=Path(path), size=size)
            unsynced.named(path)
        return sealed

    def _kept(self, attempt: str, ending: str, blob: Blob) -> Blob:
        """A blob under the name that it keeps, which is durable together with the body's."""
        path = self._name(attempt, ending)
        self._there.setdefault(attempt, set()).add(ending)
        disk.sync_file(Path(blob.path))
        os.rename(blob.path, path)
        return replace(blob, path=path)

    def _write(self, path: str, data: bytes) -> None:
        """In a file that is needed no more, if there is one: a disk is slow at finding room for a new one."""
        try:
            spare = self._spare.popleft()
            disk.overwrite_synced(spare, data)
        except (IndexError, FileNotFoundError):
            _write_anew(path, data)
        else:
            os.rename(spare, path)

    def holds(self, attempt: str, k: int) -> bool:
        """Whether the k-th reply was sealed."""
        return self.path(attempt, k).exists()

    def load(self, attempt: str, k: int) -> Reply | None:
        """The k-th reply, if it came whole and is undamaged; StorageError where the disk does not say. Blocks."""
        path = self.path(attempt, k)
        self._there.setdefault(attempt, set()).add(f"{k}")
        try:
            with disk.storage("the spool"):
                return self._whole(path, attempt, k)
        except (ValueError, KeyError, TypeError, RecursionError):
            return None

    def _whole(self, path: Path, attempt: str, k: int) -> Reply | None:
        try:
            head = json.loads(_tail(path))
            size = int(head["size"])
            if path.stat().st_size - head["tail"] != size or _crc32(path, size) != head["crc32"]:
                return None
            blobs = tuple(self._found(attempt, f"{k}.{nth}", *told) for nth, told in enumerate(head["blobs"], 1))
            return Reply(int(head["status"]), dict(head["headers"]), path, size, blobs)
        except FileNotFoundError:
            return None  # else it may be there, and only cannot be read now

    def _found(self, attempt: str, ending: str, at: int, size: int, sha256: str) -> Blob:
        """ValueError where it is damaged; StorageError where it is an image by now, and a person changed that."""
        path = self._name(attempt, ending)
        self._there.setdefault(attempt, set()).add(ending)
        found = os.stat(path)
        if found.st_size != size or _sha256(path) != sha256:
            if found.st_nlink > 1:
                raise StorageError(CHANGED.format(path=path))
            raise ValueError("cut off or damaged")
        return Blob(at, size, sha256, path)

    def forget(self, attempt: str, k: int) -> None:
        """Drop the k-th reply, so that it is asked for again. Blocks."""
        there = self._there.get(attempt, set())
        gone = {ending for ending in there if ending.split(".")[0] == f"{k}"} | {f"{k}"}
        there -= gone
        with disk.storage("the spool"):
            for ending in sorted(gone):
                Path(self._name(attempt, ending)).unlink(missing_ok=True)

    def censor(self, attempt: str, secrets: Sequence[str]) -> None:
        """Take secrets out of an attempt's replies, which are kept for a person to look at. Blocks."""
        for path in self.folder.glob(f"{attempt}.*"):
            if any(redact.censor(piece, secrets) != piece for piece in _pieces(path)):
                with disk.storage("the spool"):
                    disk.write_whole(
                        path, redact.censor(path.read_bytes(), secrets), path.with_name(f"{path.name}.part")
                    )

    def discard(self, attempt: str) -> None:
        """A settled attempt's replies are needed no more; the next sweep removes them."""
        self._stale.append(attempt)

    def sweep(self, spares: int = 0) -> None:
        """Remove what was discarded, but for some `spares`. Blocks; what a crash leaves, the next start removes."""
        with suppress(IndexError):  # nothing more, or another thread was quicker
            while True:
                attempt = self._stale.popleft()
                for ending in sorted(self._there.pop(attempt, ())):
                    name = self._name(attempt, ending)
                    if "." in ending:  # an image by now: to write over it would be to write over that
                        with suppress(OSError):
                            os.unlink(name)
                    else:
                        self._spare.append(name)
        with suppress(IndexError):
            while len(self._spare) > spares:
                with suppress(OSError):
                    os.unlink(self._spare.pop())

    def purge(self, kept: Container[str]) -> None:
        """Remove all but these attempts' whole replies: whatever a crash left, in whatever order. Blocks."""
        with disk.storage("the spool"):
            for entry in list(self.folder.iterdir()):
                attempt, _, ending = entry.name.partition(".")
                if attempt in kept and WHOLE.fullmatch(ending):
                    self._there.setdefault(attempt, set()).add(ending)
                else:
                    entry.unlink(missing_ok=True)

    def attempts(self) -> set[str]:
        """The attempts that have anything here."""
        return {entry.name.partition(".")[0] for entry in self.folder.iterdir()}


def _write_anew(path: str, data: bytes) -> None:
    """Though it may be there: a line of a batch comes again where a crash came before it was settled."""
    try:
        disk.write_synced(path, data)
    except FileExistsError:
        os.unlink(path)
        disk.write_synced(path, data)


def _pieces(path: Path) -> Iterator[bytes]:
    """A file in pieces of which each begins with the end of the one before: it may be large."""
    with path.open("rb") as file:
        piece = file.read(PIECE)
        while piece:
            yield piece
            more = file.read(PIECE)
            piece = piece[-OVERLAP:] + more if more else b""


def _head(reply: Reply, size: int) -> bytes:
    headers = {name: value for name, value in reply.headers.items() if name not in UNKEPT}
    blobs = [(blob.at, blob.size, blob.sha256) for blob in reply.blobs]
    head = {
        "status": reply.status,
        "headers": headers,
        "size": size,
        "crc32": _crc32(reply.body, size),
        "blobs": blobs,
    }
    text = b"\n" + json.dumps(head).encode()
    return text + b"\n%08x%08x" % (len(text), zlib.crc32(text))


def _tail(path: Path) -> bytes:
    """A sealed file's head, with the length of all that stands behind the body; ValueError where it does not fit."""
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        file.seek(max(0, end - TRAILER))
        trailer = file.read()
        length, check = int(trailer[1:9], 16), int(trailer[9:], 16)
        file.seek(max(0, end - TRAILER - length))
        text = file.read(length)
    if len(text) != length or zlib.crc32(text) != check or trailer != b"\n%08x%08x" % (length, check):
        raise ValueError("cut off or damaged")
    return text[:-1] + b', "tail": %d}' % (length + TRAILER)


def _crc32(body: bytes | Path, size: int) -> int:
    if isinstance(body, bytes):
        return zlib.crc32(body)
    crc, left = 0, size
    with body.open("rb") as file:
        while left and (chunk := file.read(min(left, 1 << 20))):
            crc, left = zlib.crc32(chunk, crc), left - len(chunk)
    return crc


def _sha256(path: str) -> str:
    with open(path, "rb", buffering=0) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
