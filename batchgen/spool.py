"""The spool: every whole reply of an attempt, raw, kept until the attempt is settled.

`spool/<attempt>/<k>.body` holds the bytes, `<k>.head` status, headers, size and checksum. The head is written last:
a reply without a head that fits its body was cut off, and is none.
"""

import json
import os
import shutil
import zlib
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path

from batchgen import disk
from batchgen.wire import Reply

UNKEPT = {"set-cookie", "authorization"}


class Spool:
    """The folder of all open attempts' replies. What blocks says so: call it in a thread."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._stale: deque[str] = deque()

    def sink(self, attempt: str, k: int) -> Path:
        """Where the body of the k-th reply (from 1) is to be streamed. Blocks."""
        folder = self.folder / attempt
        with disk.storage("the spool"):
            try:
                folder.mkdir(mode=0o700)
            except FileExistsError:  # an earlier reply's, or what a crash left of this one
                (folder / f"{k}.head").unlink(missing_ok=True)
                (folder / f"{k}.body").unlink(missing_ok=True)
        return folder / f"{k}.body"

    def seal(self, attempt: str, k: int, reply: Reply) -> None:
        """Make a reply durable; from here on it is never asked for again. Blocks."""
        body = self.sink(attempt, k) if isinstance(reply.body, bytes) else reply.body
        headers = {name: value for name, value in reply.headers.items() if name not in UNKEPT}
        head = json.dumps({"status": reply.status, "headers": headers, **_fingerprint(reply.body)}).encode()
        with disk.storage("the spool"):
            if isinstance(reply.body, bytes):
                disk.write_synced(body, reply.body)
            else:
                disk.sync_file(body)
            disk.write_synced(body.with_suffix(".head"), b"%08x\n%s" % (zlib.crc32(head), head))
            disk.sync_folder(body.parent)
            disk.sync_folder(self.folder)

    def holds(self, attempt: str, k: int) -> bool:
        """Whether the k-th reply was sealed."""
        return (self.folder / attempt / f"{k}.head").exists()

    def load(self, attempt: str, k: int) -> Reply | None:
        """The k-th reply, if it came whole and is undamaged. Blocks."""
        body = self.folder / attempt / f"{k}.body"
        try:
            check, _, text = (self.folder / attempt / f"{k}.head").read_bytes().partition(b"\n")
            head = json.loads(text)
            if check != b"%08x" % zlib.crc32(text) or _fingerprint(body) != {n: head[n] for n in ("size", "crc32")}:
                return None
            return Reply(int(head["status"]), dict(head["headers"]), body)
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def forget(self, attempt: str, k: int) -> None:
        """Drop the k-th reply, so that it is asked for again. Blocks."""
        (self.folder / attempt / f"{k}.head").unlink(missing_ok=True)

    def censor(self, attempt: str, secrets: Iterable[str]) -> None:
        """Take secrets out of an attempt's bodies, which are kept for a person to look at. Blocks."""
        for body in (self.folder / attempt).glob("*.body"):
            said = told = body.read_bytes()
            for secret in secrets:
                told = told.replace(secret.encode(), b"[key]")
            if told != said:
                body.write_bytes(told)

    def discard(self, attempt: str) -> None:
        """A settled attempt's replies are needed no more; the next sweep removes them."""
        self._stale.append(attempt)

    def sweep(self) -> None:
        """Remove what was discarded. Blocks; what a crash leaves, the next start removes."""
        while self._stale:
            try:
                folder = self.folder / self._stale.popleft()
            except IndexError:  # another thread was quicker
                return
            _remove(folder)

    def attempts(self) -> Iterator[str]:
        """The attempts that have a folder here."""
        return (entry.name for entry in self.folder.iterdir() if entry.is_dir())


def _remove(folder: Path) -> None:
    """Most hold one reply: three calls instead of a walk."""
    try:
        os.unlink(folder / "1.body")
        os.unlink(folder / "1.head")
        os.rmdir(folder)
    except OSError:
        shutil.rmtree(folder, ignore_errors=True)


def _fingerprint(body: bytes | Path) -> dict[str, int]:
    if isinstance(body, bytes):
        return {"size": len(body), "crc32": zlib.crc32(body)}
    size, crc = 0, 0
    with body.open("rb") as file:
        while chunk := file.read(1 << 20):
            size, crc = size + len(chunk), zlib.crc32(chunk, crc)
    return {"size": size, "crc32": crc}
