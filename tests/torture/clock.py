"""A wall clock that jumps under a running program, by libfaketime; the monotonic clock goes on as it does."""

import os
from pathlib import Path

LIBRARIES = tuple(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))


def missing() -> str:
    return "" if LIBRARIES else "libfaketime: apt-get install faketime"


class Clock:
    """Runs as `offset` says, for every process with this `environ`; from now on, whatever it was before."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "clock.txt"
        self.environ = {
            "LD_PRELOAD": str(LIBRARIES[0]),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_DONT_RESET": "1",
        }
        self.jump("+0")

    def jump(self, offset: str) -> None:
        """`-2h`, `+10y`: how far the clock is from the true time."""
        part = self._file.with_suffix(".part")
        part.write_text(f"{offset}\n")
        os.rename(part, self._file)
