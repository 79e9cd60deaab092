"""What can be asked of a lane's Batch API, each as a call.

What it is safe to ask for twice is asked for until it is answered. To create a batch is not: it is asked for once, and
where no answer came the provider's own list says whether there is one.
"""

import hashlib
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import TypeVar

from batchgen import batch as api
from batchgen.batch import Batch, Look
from batchgen.errors import ProviderError, Transient, Unknown, Unusable
from batchgen.lane import Lane
from batchgen.limits import backoff
from batchgen.text import clean
from batchgen.wire import Reply, Request, Upload

TRIES_MOST = 20  # of one question in a row: a quarter of an hour
DELETE_MOST = 4  # the same for what nobody needs to wait for
PAGES_MOST = 100
CONFLICT = 409  # a status that stays what it is
LOOKS = (0, 1, 3, 9, 27)  # intervals of polling until a batch that is not listed was never created
T = TypeVar("T")
log = logging.getLogger("batchgen")


class Counter:
    """Calls raise Stopped where the lane is left, Blocked where a person must act, and other ProviderErrors as said."""

    def __init__(self, lane: Lane, folder: Path) -> None:
        assert lane.provider.batch
        self.rules = lane.provider.batch
        self.payer = _payer(lane)
        self._lane = lane
        self._folder = folder

    async def upload(self, file: Upload, purpose: str) -> str:
        """Hand over a file; its id. Rejected where it is not as it was."""
        return await self._asked(api.upload(file, purpose), api.file_id)

    async def create(self, batch: Batch, where: str) -> Look:
        """Buy its lines, which go to that endpoint. Unknown where nobody knows whether that was done.

        So it is after every 5xx: that the provider failed at something does not say at what.
        """
        try:
            reply = await self._send(api.create(batch, where))
        except (Transient, Unusable) as error:
            if isinstance(error, Transient) and error.status < 500:
                raise
            raise Unknown(str(error), code=error.code, status=error.status) from None
        try:
            return api.look(reply)
        except ValueError as error:
            raise Unknown(f"the answer to its creation cannot be read: {error}", code="not_json") from None

    async def find(self, batch: Batch) -> Look | None:
        """The batch by our id, where its creation was not answered; None where there surely is none.

        A list may be late, so that it is read a few times.
        """
        for wait in LOOKS:
            await self.rest(batch, wait * self.rules.poll, "looking for a batch that was perhaps created")
            if found := [look async for look in self._batches() if look.mark == batch.id]:
                return found[-1]
        return None

    async def _batches(self) -> AsyncIterator[Look]:
        after = ""
        for _ in range(PAGES_MOST):
            looks, more = await self._asked(api.listing("batches", after), api.looks)
            for each in looks:
                yield each
            if not (more and looks):
                return
            after = looks[-1].handle

    async def others(self, batch: Batch) -> list[Look]:
        """What was created beside it after all, under the same id."""
        return [look async for look in self._batches() if look.mark == batch.id and look.handle != batch.handle]

    async def files(self, begin: str) -> Sequence[tuple[str, str]]:
        """The names and ids of the files there whose names begin so; one that was uploaded twice is there twice."""
        found: list[tuple[str, str]] = []
        after = ""
        for _ in range(PAGES_MOST):
            page, after = await self._asked(api.listing("files", after), api.files)
            found += [(name, id_) for name, id_ in page if name.startswith(begin)]
            if not after:
                break
        return found

    async def see(self, batch: Batch) -> Look:
        """How far it is."""
        return await self._asked(api.see(batch), api.look)

    async def cancel(self, handle: str) -> None:
        """End it; what is made is kept, and paid for. One that is over is so already."""
        try:
            await self._asked(api.cancel(handle), api.look)
        except ProviderError as error:
            log.info("%s: %s", handle, error)

    async def delete(self, file: str) -> bool:
        """Whether a file is there no more."""
        try:
            await self._asked(api.delete(file), lambda reply: reply.status, most=DELETE_MOST)
        except ProviderError as error:
            return error.status == 404
        return True

    async def fetch(self, file: str, at: int, size: int, most: int) -> Reply:
        """So many bytes of a file from there on: 206; all of it, 200, from a host that does not part it; or 416."""
        return await self._asked(api.content(file, most), lambda reply: reply, f"bytes={at}-{at + size - 1}")

    async def rest(self, batch: Batch, seconds: float, why: str = "") -> None:
        """Wait; Stopped as soon as the lane is left. `why` is shown to those who watch."""
        await self._lane.pause(batch.id, seconds, why, buys=False)

    async def _asked(self, request: Request, read: Callable[[Reply], T], span: str = "", most: int = 0) -> T:
        """What came of a question that may be repeated, up to `most` times. Transient or Unknown where it never was."""
        tries = 0
        while True:
            tries += 1
            try:
                return read(await self._send(request, span))
            except ValueError as error:
                trouble: ProviderError = Unknown(f"its answer cannot be read: {error}", code="not_json")
            except (Transient, Unknown, Unusable) as error:
                trouble = error
            if tries == (most or TRIES_MOST) or trouble.status == CONFLICT:
                raise trouble
            log.info("%s %s: %s", request.method, request.url, trouble)
            wait = backoff(tries, trouble.retry_after, self._lane.chance)
            why = f"{request.method} {request.url.partition('/')[0]}: {trouble.code}"
            await self._lane.pause(f"{request.handle} {request.method}", wait, why, buys=False)

    async def _send(self, request: Request, span: str = "") -> Reply:
        """One exchange; a ProviderError for any answer but a good one."""
        lane = self._lane
        async with lane.slot(False) as slot:
            reply = await slot.send(request, self._place(request), {"range": span} if span else {})
        if 200 <= reply.status < 300 or (span and reply.status == 416):
            return reply
        error = lane.bench.dialect.fault(reply)
        error.args = (clean(lane.redact(str(error))),)
        raise error

    def _place(self, request: Request) -> Callable[[int], Path]:
        """Where a large answer goes."""
        return lambda nth: self._folder / f"{request.handle}.answer{nth}.part"


def _payer(lane: Lane) -> str:
    """The provider, at whatever address it is reached, and the account, as a hash that tells neither."""
    told = "\n".join([lane.name, *sorted(lane.secrets)])
    return hashlib.sha256(told.encode()).hexdigest()[:16]
