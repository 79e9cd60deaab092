"""Tasks that are still being queued while the first of them are bought."""

from collections.abc import Awaitable, Callable

import anyio

from batchgen.wanted import Change


class Supply:
    """Whether more are coming, by `queue`, which says of each lot that it `came`. Nothing comes where there is none.

    `change` is how what is wanted differs from what the ledger held, as soon as that is known.
    """

    def __init__(self, queue: "Callable[[Supply], Awaitable[None]] | None" = None) -> None:
        self._queue = queue
        self._more = anyio.Event()
        self.open = queue is not None
        self.change: Change | None = None

    async def run(self) -> None:
        """Queue them all."""
        try:
            if self._queue:
                await self._queue(self)
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
