"""What the live view asks of a run and its ledger, in short looks: rows, one task, and what goes on now."""

import re
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Generic, TypeVar

from batchgen import album, books, exhibit, offer, page, place, report, thumbs
from batchgen.album import Choice, Picture, Strip
from batchgen.errors import BatchgenError
from batchgen.folder import Folder
from batchgen.manifest import Setup
from batchgen.progress import Throttle, Wait
from batchgen.report import Object, usd
from batchgen.shelf import Shelf
from batchgen.store import Store
from batchgen.worker import Worker

T = TypeVar("T")
NEWEST_MOST = 100
LEAST, AGAIN = 1.0, 20  # seconds, and times as long as it took, until something is found out anew
BUDGET = re.compile(r"budget .* → \$([\d,.]+)( as agreed)?")


class Fresh(Generic[T]):
    """What takes a while to find out, found out anew once it is old, however many ask."""

    def __init__(self, find: Callable[[], T]) -> None:
        self._find = find
        self._lock = threading.Lock()
        self._old = 0.0
        self._found: T

    def __call__(self) -> T:
        with self._lock:
            if (now := time.monotonic()) >= self._old:
                self._found = self._find()
                took = time.monotonic() - now
                self._old = now + took + max(LEAST, AGAIN * took)
            return self._found


@dataclass(slots=True)
class Glance:
    """Looks at one run."""

    folder: Folder
    head: Fresh[Object] = field(init=False)
    totals: Fresh[Object] = field(init=False)
    _images: Store | None = None
    _budgets: dict[object, int | None] = field(default_factory=dict)
    _drawing: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(thumbs.THREADS))

    def __post_init__(self) -> None:
        self.head = Fresh(self._head)
        self.totals = Fresh(partial(report.totals, self.folder.ledger))

    def _head(self) -> Object:
        told = exhibit.head(self.folder)
        with books.reading(self.folder.ledger) as db:
            rows, tasks = album.count(db, Choice())
        return {**told, "page": page.rows_a_page(rows, tasks)}

    def rows(self, choice: Choice, axes: Mapping[str, str], offset: int, most: int) -> Object:
        """A page of the rows that are chosen, also by values of axes, and how many there are."""
        with books.reading(self.folder.ledger) as db:
            choice = replace(choice, variants=exhibit.matching(Shelf(db).variants(), axes)) if axes else choice
            rows, tasks = album.count(db, choice)
            strips = album.strips(db, choice, album.marks(db, choice, offset, min(most, page.ROWS_MOST)))
            shown = {each.sha256 for strip in strips for frame in strip.frames for each in frame.pictures}
            twins = album.twins(db, shown)
        return {"rows": [exhibit.row(strip, twins) for strip in strips], "total": {"rows": rows, "tasks": tasks}}

    def task(self, seq: int) -> Object | None:
        """One task with its row and all its attempts."""
        with books.reading(self.folder.ledger) as db:
            mark = album.home(db, seq)
            if mark is None:
                return None
            (strip,) = album.strips(db, album.EVERYTHING, [mark])
            (frame,) = [each for each in strip.frames if each.seq == seq]
            twins = album.twins(db, {each.sha256 for each in frame.pictures})
            detail = album.closeups(db, [seq])[seq]
        own = Strip(strip.text, strip.names, strip.inputs, (frame,))
        return {"row": exhibit.row(own, twins), "detail": exhibit.closeup(detail)}

    def now(self, after: int, most: int) -> Object:
        """What the run does, and the images that landed since the one of that id."""
        worker = Worker.of(self.folder)
        with books.reading(self.folder.ledger) as db:
            new = album.newest(db, after, min(most, NEWEST_MOST))
        lanes = [*map(Throttle.read, worker.throttle)]
        return {
            "report": self.totals(),
            "working": worker.at_work,
            "state": worker.state,
            "paused": worker.standing.paused,
            "set": worker.standing.changes,
            "budget": self._budget(worker),
            "waits": [f"{each['lane']}: {Wait(**each)}" for each in worker.waits],
            "batches": [*worker.handed_over],
            "pace": [f"{lane.lane}: {lane}" for lane in lanes],
            "changes": sorted((at, f"{lane.lane}: {what}") for lane in lanes for at, what in lane.changes),
            "newest": [{**exhibit.image(each, {}), "task": each.task} for each in new],
        }

    def _budget(self, worker: Worker) -> float | None:
        """What may be spent, by the manifest that was used last or by what was set since; None: no limit."""
        for change in worker.standing.changes:
            if found := BUDGET.fullmatch(change):
                return float(found[1].replace(",", ""))
        run = worker.row["id"] if worker.row else 0
        if run not in self._budgets:
            self._budgets[run] = None
            with suppress(BatchgenError):  # the manifest may need what is not here any more
                self._budgets[run] = offer.used(self.folder, Setup(trust_hosts=None)).limits.budget
        budget = self._budgets[run]
        return None if budget is None else usd(budget)

    def picture(self, id: int) -> Picture | None:
        with books.reading(self.folder.ledger) as db:
            return album.picture(db, id)

    @property
    def images(self) -> Store:
        """Where they lie, found out when the first one is asked for: there may be no ledger before."""
        self._images = self._images or place.images(self.folder, patience=0.0)  # somebody waits
        return self._images

    def thumbnail(self, picture: Picture) -> bytes:
        with self._drawing:
            return thumbs.thumbnail(self.folder, self.images, picture)
