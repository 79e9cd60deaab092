"""What machine this is, and how much of it others took while something was measured."""

import os
import platform
import resource
import time
from pathlib import Path

STAT = Path("/proc/stat")
IDLE = (3, 4)  # of the first line's times: idle, and waiting for a disk


def name() -> str:
    return f"{platform.platform()}, Python {platform.python_version()}, {os.cpu_count()} cores"


class Bystander:
    """Watches the processors from its making on. What is measured on a machine that others use is not worth much."""

    def __init__(self) -> None:
        self._begun = time.monotonic()
        self._busy, self._ours = _busy(), _ours()

    def __str__(self) -> str:
        """The load, and the part of the processors' time that neither this process nor its children took."""
        load = f"load {os.getloadavg()[0]:.1f}"
        seconds = (time.monotonic() - self._begun) * (os.cpu_count() or 1)
        others = max(0.0, _busy() - self._busy - (_ours() - self._ours)) / seconds
        return f"{load}, {others:.0%} of the processors taken by others" if STAT.exists() else load


def _busy() -> float:
    """Seconds that all processors have worked since the machine began; also for other machines upon this one."""
    if not STAT.exists():
        return 0.0
    times = [int(each) for each in STAT.read_text().splitlines()[0].split()[1:9]]
    return sum(each for n, each in enumerate(times) if n not in IDLE) / os.sysconf("SC_CLK_TCK")


def _ours() -> float:
    """Seconds of this process, and of those of its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)
