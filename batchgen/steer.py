"""Steer a run at work: stop it in time, see whether the machine slept, and turn what a person asks to be turned."""

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import anyio
import anyio.to_thread

from batchgen import control, disk
from batchgen.consent import usd
from batchgen.control import Answer, Asked, Standing
from batchgen.deadline import Clocks, Deadline, Until
from batchgen.desk import Desk
from batchgen.errors import ManifestError
from batchgen.folder import Folder
from batchgen.lane import FILES, Lane
from batchgen.purse import Purse
from batchgen.terms import PACES, rate

EVERY = 0.5  # seconds between two looks
ANSWERS_MOST = 20  # that are kept for those who ask
log = logging.getLogger("batchgen")


@dataclass(slots=True)
class Helm:
    """What can be turned of the run of that name; `cap` is the limit that ended it, if it was this one's."""

    name: str
    folder: Folder
    lanes: Sequence[Lane]
    purse: Purse
    deadline: Deadline
    desks: Sequence[Desk] = ()
    cap: str = ""
    _clocks: Clocks = field(init=False)
    _first: dict[str, str] = field(init=False)
    _answers: dict[str, Answer] = field(default_factory=dict)
    _trouble: str = ""

    def __post_init__(self) -> None:
        self._clocks = Clocks(time.time(), time.monotonic())
        self._first = self._shown()

    async def steer(self) -> None:
        """Look after the run, until that is cancelled."""
        try:
            while True:
                await anyio.sleep(EVERY)
                await self.look(time.time(), time.monotonic())
                await self._obey()
        finally:
            self._slept(time.time(), time.monotonic())  # that may be why it ends, before the next look
            control.clear(self.folder)

    async def look(self, wall: float, steady: float) -> None:
        """Stop what would not be over in time; where the machine slept, trust no connection that it left open."""
        if self._slept(wall, steady):
            for lane in self.lanes:
                await lane.refresh()
        for lane in self.lanes:
            if not lane.stopped and self.deadline.due(lane.name, wall):
                log.info("%s: nothing more is begun at %s", self.deadline.name, lane.name)
                self.cap = self.deadline.name
                lane.drain() if self._handed_over(lane) else lane.stop()

    def _handed_over(self, lane: Lane) -> bool:
        """Whether it has batches, with which its provider goes on: the next run collects them."""
        return any(desk.seen for desk in self.desks if desk.buyer.lane is lane)

    def _slept(self, wall: float, steady: float) -> bool:
        ahead = self._clocks.jumped(wall, steady)
        if ahead:
            log.warning("the clock went ahead by %.0f s: did the machine sleep? Idle connections are closed", ahead)
        return bool(ahead)

    async def _obey(self) -> None:
        """Take up what is asked for. Whatever is wrong with that is no reason to stop."""
        try:
            asked = await anyio.to_thread.run_sync(control.take, self.folder)
            if asked is None:
                return
            if asked.run != self.name:
                raise ValueError("it was meant for another run")
            self._answer(asked)
        except (ManifestError, ValueError, OSError) as error:
            self._complain(f"control.json is ignored: {error}")
            return
        try:
            await anyio.to_thread.run_sync(control.answer, self.folder, self._standing())
        except OSError as error:
            self._complain(f"what was set holds, and nobody can be told: {error}")

    def _complain(self, says: str) -> None:
        """Once, and not twice a second."""
        if says != self._trouble:
            log.warning(says)
        self._trouble = says

    def _answer(self, asked: Asked) -> None:
        answer = self._turned(control.settings(asked.texts))
        log.info("set: %s", answer.says)
        kept = {**self._answers, **dict.fromkeys(asked.ids, answer)}
        self._answers = dict(islice(kept.items(), max(0, len(kept) - ANSWERS_MOST), None))

    def _turned(self, settings: Mapping[str, object]) -> Answer:
        if all(lane.stopped for lane in self.lanes) and not any(desk.seen for desk in self.desks):
            return Answer(False, "the run is ending: nothing was changed")
        before = self._shown()
        for key, value in settings.items():
            DIALS[key].turn(self, value)
        changes = "; ".join(self._differences(before, settings))
        return Answer(True, changes or "all is so already: nothing was changed")

    def _standing(self) -> Standing:
        changes = tuple(self._differences(self._first, [key for key in DIALS if key != "paused"]))
        return Standing(self.name, any(lane.paused for lane in self.lanes), changes, self._answers)

    def _differences(self, before: Mapping[str, str], keys: "Sequence[str] | Mapping[str, object]") -> Iterator[str]:
        now = self._shown()
        yield from (f"{key} {before[key]} → {now[key]}" for key in keys if before[key] != now[key])

    def _shown(self) -> dict[str, str]:
        return {key: dial.shown(self) for key, dial in DIALS.items()}

    def widen(self, most: int) -> None:
        """So many requests at a time in each lane, as far as files may be open."""
        lanes = len(self.lanes)
        width = max(1, disk.open_files(FILES * most * lanes) // (FILES * lanes))
        if width < most:
            log.warning("only %d requests at a time: raise ulimit -n", width)
        for lane in self.lanes:
            lane.resize(width)

    def recap(self, budget: int | None = None, images: int | None = None) -> None:
        """Other caps; who waits for its turn looks again whether it fits."""
        self.purse.recap(budget, images)
        for lane in self.lanes:
            lane.recheck()

    def slow(self, kind: str, rates: Mapping[str, int]) -> None:
        """So many a minute in the lanes, or at the providers, that are named."""
        for lane in self.lanes:
            if per_minute := rate(rates, lane.provider):
                lane.give(kind, per_minute)

    def paced(self, kind: str) -> str:
        """The limits of that kind, of each lane that has one."""
        given = {lane.name: lane.pace.given[kind] for lane in self.lanes if kind in lane.pace.given}
        each = [f"{limit:,.0f}" if len(self.lanes) == 1 else f"{name} {limit:,.0f}" for name, limit in given.items()]
        return ", ".join(each) or "none"

    def move(self, until: Until) -> None:
        self.deadline.move(until, time.time())

    def recall(self, cancelled: bool) -> None:
        """Let the providers end the batches that they have, and hand over no more."""
        for desk in self.desks if cancelled else ():
            desk.end()

    def pause(self, paused: bool) -> None:
        for lane in self.lanes:
            lane.hold(paused)


def _budget(purse: Purse) -> str:
    if purse.budget.limit is None:
        return "none"
    return usd(purse.budget.limit) + (" as agreed" if purse.agreed else "")


@dataclass(frozen=True, slots=True)
class Dial:
    """How one of the settings is told, and how it is changed."""

    shown: Callable[[Helm], str]
    turn: Callable[[Helm, Any], None]


def _rates(kind: str) -> Dial:
    return Dial(lambda helm: helm.paced(kind), lambda helm, rates: helm.slow(kind, rates))


DIALS: Mapping[str, Dial] = {
    "concurrency": Dial(lambda helm: str(max(lane.width for lane in helm.lanes)), Helm.widen),
    **{name: _rates(kind) for kind, name in PACES.items()},
    "budget": Dial(
        lambda helm: _budget(helm.purse),
        lambda helm, budget: helm.recap(budget=budget),
    ),
    "images": Dial(
        lambda helm: "none" if helm.purse.images.limit is None else f"{helm.purse.images.limit:,}",
        lambda helm, images: helm.recap(images=images),
    ),
    "until": Dial(lambda helm: helm.deadline.until.text if helm.deadline.until else "none", Helm.move),
    "cancelled": Dial(lambda helm: "yes" if any(desk.ending for desk in helm.desks) else "no", Helm.recall),
    "paused": Dial(lambda helm: "yes" if any(lane.paused for lane in helm.lanes) else "no", Helm.pause),
}
"""What control.KEYS names."""
