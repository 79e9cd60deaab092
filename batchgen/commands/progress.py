"""What a person sees while a run works: a bar on a terminal, a line a minute elsewhere, a summary at the end."""

import os
import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Never

import anyio
from tqdm import tqdm

from batchgen import report
from batchgen.commands.options import mute, tell
from batchgen.consent import usd as dollars
from batchgen.deadline import Deadline, clock
from batchgen.ending import Ended
from batchgen.job import Job
from batchgen.offer import Offer, Wish
from batchgen.task import TaskState
from batchgen.text import count, duration

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
        self._rate()
        if not sys.stderr.isatty():
            await self._lines()
        done, total = self._job.progress.over, self._job.progress.total
        form = "{percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} tasks{postfix}"
        self._bar = tqdm(total=total, initial=done, bar_format=form, dynamic_ncols=True, leave=False, file=sys.stderr)
        while self._bar:
            self._draw()
            await anyio.sleep(EVERY)

    async def _lines(self) -> None:
        while True:
            await anyio.sleep(EVERY_LINE)
            tell(self._line())

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
        parts = [f"{rate:.1f} images/s"] if rate or not progress.handed_over else []
        if progress.paused:
            parts.append("paused")
        elif rate and left:
            parts.append(outlook(progress.deadline, left, rate, time.time()))
        money = dollars(progress.spent)
        parts.append(f"{money} of about {dollars(self._projected())}" if left else money)
        several = len(progress.lanes) > 1
        waiting = [f"{each.lane}: {each}" if several else str(each) for each in progress.waits()]
        parts += [str(progress.handed_over)] if progress.handed_over else []
        parts += [str(progress.crew)] if progress.crew else []
        return [*parts, *waiting, *(["finishing what is paid for"] if progress.draining else [])]

    def _rate(self) -> float:
        """Tasks ended a second, over the last half minute."""
        now = time.monotonic()
        recent = [mark for mark in self._marks if now - mark[0] <= WINDOW][-500:]
        self._marks = recent or self._marks[-1:]  # a line a minute has only the one before it
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
        progress = self._job.progress
        way, most = progress.open, progress.purse.on_the_way if progress.purse else 0
        if self._bar is not None:
            with self._heard() as bar:
                bar.clear()
        if progress.handed_over:
            tell(f"{progress.handed_over}: the provider goes on with them, and the next run collects")
        if way or not progress.handed_over:
            tell(f"{way} on the way, finishing; Ctrl-C again leaves now, up to {dollars(most)} stays unconfirmed")

    def close(self) -> None:
        if self._bar is not None:
            with self._heard() as bar:
                bar.close()

    def summary(self, ended: Ended, offered: Offer) -> None:
        """How it ended, what there is, what it cost, and the next command."""
        told = report.totals(offered.wish.folder.ledger)
        some = offered.plan.survey.chosen
        of = f", of the {count(len(some), 'task')} that were asked for now" if some is not None else ""
        for line in [*report.summary(told), f"{ended.reason}{of}; exit {ended.exit_code}"]:
            tell(line)
        tell(f"Next: {next_command(ended, offered.wish, offered.plan.survey.left)}")


def outlook(deadline: Deadline | None, left: int, rate: float, now: float) -> str:
    """How long it will take at this rate, and when it ends; or what its deadline will leave."""
    ends = now + left / rate
    if deadline and deadline.until and deadline.moment is not None and deadline.moment < ends:
        rest = left - int(rate * max(0.0, deadline.moment - now))
        return f"stops at {deadline.until.text}, about {count(rest, 'task')} short"
    return f"{duration(left / rate)} left, ends about {clock(ends, now)}"


def next_command(ended: Ended, wish: Wish, left: int = 0) -> str:
    """What a person would most likely do now."""
    run = shlex.quote(os.path.relpath(wish.folder.path))
    match ended.exit_code:
        case 7:
            return wish.again
        case 4 if (until := wish.manifest.limits.until) and f"({until.text})" in ended.reason and not until.day:
            return f"{wish.again} goes on, until {until.text}"
        case 4:
            return f"raise the limit ({ended.cause.removeprefix('stopped by ')}), then {wish.again}"
        case 5:
            return f"mend that, then {wish.again}"
        case 3:
            worst = next(name for name in (TaskState.HELD, TaskState.FAILED, TaskState.REFUSED) if name in ended.cause)
            if worst is TaskState.REFUSED:  # the same prompt would be refused again
                table = f"batchgen report {run} --state refused --csv > refused.csv"
                return f"{table}, change the prompts in it, then batchgen redo {run} --from refused.csv"
            return f"batchgen retry {run} --{worst}"
        case _ if left:
            return f"batchgen report {run}; {wish.rest} makes the rest ({left:,})"
        case _:
            return f"batchgen report {run}"
