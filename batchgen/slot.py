"""An open request's place before a lane, and the client that goes with it."""

from collections.abc import Mapping
from typing import Protocol

from batchgen.client import Client
from batchgen.pace import Draw
from batchgen.pour import Sink
from batchgen.turn import ONE, Turn
from batchgen.wire import Reply, Request


class Lender(Protocol):
    """Who has clients."""

    async def lend(self, turn: Turn, buys: bool) -> Client: ...
    def take_back(self, client: Client) -> None: ...


class Slot:
    """One request's place and client, free again as soon as the answer is on the disk: reading it needs neither."""

    def __init__(self, lane: Lender, draw: Draw = ONE, task: str = "") -> None:
        self._lane = lane
        self.draw, self._task = draw, task
        self._client: Client | None = None
        self.ticket, self.probe = 0, False  # as in its turn

    async def take(self, buys: bool = False) -> Client:
        if self._client is None:
            turn = Turn(self.draw, self._task)
            self._client = await self._lane.lend(turn, buys)
            if buys:
                self.ticket, self.probe = turn.ticket, turn.probe
        return self._client

    async def send(self, request: Request, sink: Sink, headers: Mapping[str, str]) -> Reply:
        """Send a request, in a place taken anew where this one was left: what is bought is fetched, whoever drains."""
        client = await self.take()
        return await client.send(request, sink, headers)

    def leave(self) -> None:
        if self._client:
            self._lane.take_back(self._client)
            self._client = None
