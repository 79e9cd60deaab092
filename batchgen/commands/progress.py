"""What a person sees while a run works: a bar on a terminal, a line a minute elsewhere, a summary at the end."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Never

import anyio
from tqdm import tqdm

from batchgen import report
from batchgen.commands.options import dollars, mute, tell
from batchgen.job import Ended, Job, Order
from batchgen.task import TaskState

EVERY, EVERY_LINE = 0.2, 60.0  # seconds
WINDOW = 30.0  # seconds over which the rate is taken


class Watch:
    """Draws a job's progress to stderr."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._bar: tqdm[Never] | None = None
        self._marks: list[tuple[float, int]] = []

    async def show(self) -> None:
        await self._job.started.wait()
        self._tell_change()
        if not sys.stderr.isatty():
            await self._lines()
        done, total = self._job.progress.over, self._job.progress.total
        form = "{percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} tasks{postfix}"
        self._bar = tqdm(total=total, initial=done, bar_format=form, dynamic_ncols=True, leave=False, file=sys.stderr)
        while self._bar:
            self._draw()
            await anyio.sleep(EVERY)

    def _tell_change(self) -> None:
        change = self._job.change
        if change:
            tell(f"+{change.new:,} new · {change.kept:,} kept · {change.dropped:,} dropped")

    async def _lines(self) -> None:
        while True:
            tell(self._line())
            await anyio.sleep(EVERY_LINE)

    def _draw(self) -> None:
        progress = self._job.progress
        with self._heard() as bar:
            bar.n, bar.total = progress.over, progress.total
            bar.set_postfix_str(" · ".join(self._parts()), refresh=True)

    @contextmanager
    def _heard(self) -> Iterator["tqdm[Never]"]:
        """The bar; where the terminal is gone, it is drawn no more, and the run goes on."""
        assert self._bar is not None
        try:
            yield self._bar
        except OSError:
            self._bar = None
            mute(sys.stderr.fileno())

    def _line(self) -> str:
        progress = self._job.progress
        return " · ".join([f"{progress.over:,}/{progress.total:,} tasks", *self._parts()])

    def _parts(self) -> list[str]:
        """images/s, time left, money, and what waits."""
        progress, rate = self._job.progress, self._rate()
        left = progress.total - progress.over
        parts = [f"{rate:.1f} images/s"]
        if rate and left:
            parts.append(f"{_time(left / rate)} left")
        money = dollars(progress.spent)
        parts.append(f"{money} of about {dollars(self._projected())}" if left else money)
        waiting = ", ".join(f"{count} wait: {why}" for why, count in progress.waiting().items())
        return [*parts, *([waiting] if waiting else []), *(["finishing what is paid for"] if progress.draining else [])]

    def _rate(self) -> float:
        """Tasks ended a second, over the last half minute."""
        now = time.monotonic()
        self._marks = [mark for mark in self._marks if now - mark[0] <= WINDOW][-500:]
        self._marks.append((now, self._job.progress.over))
        (_, before), passed = self._marks[0], now - self._marks[0][0]
        return (self._marks[-1][1] - before) / passed if passed > 0 else 0.0

    def _projected(self) -> float:
        """What was spent, and the same again for each task left; before the first, the estimate."""
        progress = self._job.progress
        if not progress.over:
            return progress.expected
        return progress.spent / progress.over * progress.total

    def draining(self) -> None:
        """Tell what the first signal did, and what a second would."""
        lane, purse = self._job.progress.lane, self._job.progress.purse
        way, most = (lane.open, purse.on_the_way) if lane and purse else (0, 0)
        if self._bar is not None:
            with self._heard() as bar:
                bar.clear()
        tell(f"{way} on the way, finishing; Ctrl-C again leaves now, up to {dollars(most)} stays unconfirmed")

    def close(self) -> None:
        if self._bar is not None:
            with self._heard() as bar:
                bar.close()

    def summary(self, ended: Ended, what: Order) -> None:
        """How it ended, what there is, what it cost, and the next command."""
        told = report.build(what.folder.ledger)
        for line in [*report.summary(told), f"{ended.reason}; exit {ended.exit_code}"]:
            tell(line)
        tell(f"Next: {next_command(ended, what)}")


def _time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def next_command(ended: Ended, what: Order) -> str:
    """What a person would most likely do now."""
    file = what.manifest.file
    match ended.exit_code:
        case 7:
            return f"batchgen run {file}"
        case 4:
            return f"raise the limit ({ended.reason.removeprefix('stopped by ')}), then batchgen run {file}"
        case 5:
            return f"mend that, then batchgen run {file}"
        case 3:
            worst = next(name for name in (TaskState.HELD, TaskState.FAILED, TaskState.REFUSED) if name in ended.reason)
            return f"batchgen retry {file} --{worst}"
        case _:
            return f"batchgen report {file}"
