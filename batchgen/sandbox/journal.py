"""What the provider must not forget when it restarts: JSON lines in a file beside the bill."""

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any


class Journal:
    """Records in the order in which they were added; without a path nothing is kept, and nothing was."""

    def __init__(self, path: Path | None = None, *, fsync: bool = False) -> None:
        self._path = path
        self._fsync = fsync
        self._fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600) if path else None

    def records(self) -> Iterator[dict[str, Any]]:
        """Those of the starts before. A last line that a kill has torn is cut off: its answer never left."""
        whole = 0
        for line in self._path.read_bytes().splitlines(keepends=True) if self._path else ():
            if line.endswith(b"\n"):
                whole += len(line)
                yield json.loads(line)
        if self._fd is not None:
            os.truncate(self._fd, whole)

    def add(self, record: Mapping[str, object]) -> None:
        if self._fd is None:
            return
        os.write(self._fd, json.dumps(record).encode() + b"\n")
        if self._fsync:
            os.fsync(self._fd)
