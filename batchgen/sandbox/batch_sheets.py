"""The two files that a batch fills while it is at work: appended to line by line, and read again after a restart."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from uuid import uuid4

from batchgen.sandbox.order import Answer

_HEAD = b'{"id": "batch_req_%b", "custom_id": '
_UNMADE = b'"response": null'
_ENOUGH = 100_000  # bytes of a line, in which its custom_id ends


class Sheets:
    """`good`, `bad` and `unmade` are the custom_ids of lines that succeeded, failed, or were never executed."""

    def __init__(self, output: Path, errors: Path) -> None:
        self.good: set[str] = set()
        self.bad: set[str] = set()
        self.unmade: set[str] = set()
        for path in (output, errors):
            if path.exists():
                self._recall(path, of_errors=path == errors)
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
        self._fds = os.open(output, flags, 0o600), os.open(errors, flags, 0o600)

    @property
    def written(self) -> set[str]:
        return self.good | self.bad | self.unmade

    def __enter__(self) -> "Sheets":
        return self

    def __exit__(self, kind: type[BaseException] | None, what: BaseException | None, at: TracebackType | None) -> None:
        for fd in self._fds:
            os.close(fd)

    def succeed(self, custom_id: str, line: bytes) -> None:
        self.good.add(custom_id)
        _write(self._fds[0], line)

    def fail(self, custom_id: str, line: bytes) -> None:
        self.bad.add(custom_id)
        _write(self._fds[1], line)

    def never(self, custom_id: str, error: Mapping[str, str]) -> None:
        """For a line that was not executed."""
        self.unmade.add(custom_id)
        _write(self._fds[1], _head(custom_id) + _UNMADE + b', "error": ' + json.dumps(error).encode() + b"}\n")

    def _recall(self, path: Path, *, of_errors: bool) -> None:
        whole, start = 0, len(_HEAD % bytes(32))
        with path.open("rb") as file:
            for line in file:
                if not line.endswith(b"\n"):  # torn by a kill
                    break
                whole += len(line)
                text = line[start : start + _ENOUGH].decode(errors="replace")
                name, end = json.JSONDecoder().raw_decode(text)
                bad = self.unmade if text[end + 2 :].startswith(_UNMADE.decode()) else self.bad
                (bad if of_errors else self.good).add(name)
        os.truncate(path, whole)


def line(custom_id: str, request_id: str, answer: Answer) -> bytes:
    """Megabytes of base64 are copied here and never encoded again."""
    about = json.dumps({"status_code": answer.status, "request_id": request_id}).encode()
    return b'%b"response": %b, "body": %b}, "error": null}\n' % (_head(custom_id), about[:-1], answer.body)


def _head(custom_id: str) -> bytes:
    return _HEAD % uuid4().hex.encode() + json.dumps(custom_id).encode() + b", "


def _write(fd: int, data: bytes) -> None:
    left = memoryview(data)
    while left:  # a disk may take a part of it
        left = left[os.write(fd, left) :]
