"""Tasks that are still being queued while the first of them are bought."""

from collections.abc import Awaitable, Callable

import anyio

from batchgen.wanted import Change


class Supply:
    """Whether more are coming, by a queue that says of each lot that it `came`. Nothing comes where there is none.

    `change` is how what is wanted differs from what the ledger held, as soon as that is known.
    """

    def __init__(self) -> None:
        self._queue: Callable[[], Awaitable[None]] | None = None
        self._more = anyio.Event()
        self.open = False
        self.begun = False
        self.cut = False  # nobody wants the rest written down now
        self.short = False  # and it is not
        self.change: Change | None = None

    def stop(self) -> None:
        """Leave the rest for another time, where any of it was begun."""
        self.cut = self.begun

    def expect(self, queue: Callable[[], Awaitable[None]]) -> None:
        """More will come by this."""
        self._queue, self.open = queue, True

    async def run(self) -> None:
        """Queue them all."""
        try:
            if self._queue:
                await self._queue()
        finally:
            self.open = False
            self.came()

    def came(self) -> None:
        self._more.set()
        self._more = anyio.Event()

    @property
    def more(self) -> anyio.Event:
        """Set as soon as the next lot is there, or it is clear that there is none."""
        return self._more
