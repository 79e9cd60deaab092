"""What the provider must not forget when it restarts: JSON lines in a file beside the bill."""

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any


class Journal:
    """Records in the order in which they were added; without a path nothing is kept, and nothing was.

    There is no file before the first record.
    """

    def __init__(self, path: Path | None = None, *, fsync: bool = False) -> None:
        self._path = path
        self._fsync = fsync
        self._fd: int | None = None

    def records(self) -> Iterator[dict[str, Any]]:
        """Those of the starts before. A last line that a kill has torn is cut off: its answer never left."""
        if self._path is None or not self._path.exists():
            return
        whole = 0
        for line in self._path.read_bytes().splitlines(keepends=True):
            if line.endswith(b"\n"):
                whole += len(line)
                yield json.loads(line)
        os.truncate(self._path, whole)

    def add(self, record: Mapping[str, object]) -> None:
        if self._path is None:
            return
        if self._fd is None:
            self._fd = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.write(self._fd, json.dumps(record).encode() + b"\n")
        if self._fsync:
            os.fsync(self._fd)
