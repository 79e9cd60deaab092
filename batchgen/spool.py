"""The spool: every whole reply of an attempt, raw, kept until the attempt is settled.

`spool/<attempt>/<k>.body` holds the bytes, `<k>.head` status, headers, size and checksum. The head is written last:
a reply without a head that fits its body was cut off, and is none.
"""

import json
import shutil
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from batchgen import disk
from batchgen.wire import Reply

UNKEPT = {"set-cookie", "authorization"}


@dataclass(frozen=True, slots=True)
class Spool:
    folder: Path

    def sink(self, attempt: str, k: int) -> Path:
        """Where the body of the k-th reply (from 1) is to be streamed."""
        with disk.storage("the spool"):
            (self.folder / attempt).mkdir(mode=0o700, exist_ok=True)
            (self.folder / attempt / f"{k}.head").unlink(missing_ok=True)
        return self.folder / attempt / f"{k}.body"

    def seal(self, attempt: str, k: int, reply: Reply) -> None:
        """Make a streamed reply durable; from here on it is never asked for again. Blocks: call it in a thread."""
        folder = self.folder / attempt
        body = folder / f"{k}.body"
        head = {
            "status": reply.status,
            "headers": {name: value for name, value in reply.headers.items() if name not in UNKEPT},
            **_fingerprint(body),
        }
        with disk.storage("the spool"):
            disk.sync_file(body)
            disk.write_synced(folder / f"{k}.head", json.dumps(head).encode())
            disk.sync_folder(folder)
            disk.sync_folder(self.folder)

    def holds(self, attempt: str, k: int) -> bool:
        return (self.folder / attempt / f"{k}.head").exists()

    def load(self, attempt: str, k: int) -> Reply | None:
        """The k-th reply, if it came whole and is undamaged."""
        body = self.folder / attempt / f"{k}.body"
        try:
            head = json.loads((self.folder / attempt / f"{k}.head").read_bytes())
            if _fingerprint(body) != {"size": head["size"], "crc32": head["crc32"]}:
                return None
            return Reply(int(head["status"]), dict(head["headers"]), body)
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def forget(self, attempt: str, k: int) -> None:
        """Drop the k-th reply, so that it is asked for again."""
        (self.folder / attempt / f"{k}.head").unlink(missing_ok=True)

    def clear(self, attempt: str) -> None:
        """Drop everything of a settled attempt."""
        shutil.rmtree(self.folder / attempt, ignore_errors=True)

    def attempts(self) -> Iterator[str]:
        """The attempts that have a folder here."""
        return (entry.name for entry in self.folder.iterdir() if entry.is_dir())


def _fingerprint(body: Path) -> dict[str, int]:
    size, crc = 0, 0
    with body.open("rb") as file:
        while chunk := file.read(1 << 20):
            size, crc = size + len(chunk), zlib.crc32(chunk, crc)
    return {"size": size, "crc32": crc}
