"""`python -m tests.bench.stopwatch LOG ARGUMENTS…`: batchgen, with stop-watches at the client's and the ledger's door.

Writes as JSON when each attempt's answer was read to its last byte, when it was settled, on the disk, and how long each
of a run's writes waited for its commit; by the machine's monotonic clock, which other processes read as well.
"""

import json
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from batchgen import cli
from batchgen.client import Client
from batchgen.commit import GroupCommit
from batchgen.ledger import Ledger

doors: tuple[Any, ...] = (Client, GroupCommit, Ledger)
send, write, settle = Client.send, GroupCommit.write, Ledger.settle
waits: list[tuple[float, float]] = []  # from when on, and for how many seconds
read: dict[str, float] = {}  # by attempt
settled: dict[str, float] = {}


async def timed_send(self: Client, request: Any, sink: Any, headers: Mapping[str, str]) -> Any:
    reply = await send(self, request, sink, headers)
    read[headers["x-client-request-id"]] = time.monotonic()
    return reply


async def timed_write(self: GroupCommit, work: Callable[..., Any]) -> Any:
    begun = time.monotonic()
    try:
        return await write(self, work)
    finally:
        if getattr(work, "__qualname__", "").startswith("Ledger."):  # what is enqueued keeps nobody waiting but itself
            waits.append((begun, time.monotonic() - begun))


async def timed_settle(self: Ledger, attempt: Any, *arguments: Any) -> Any:
    relieved = await settle(self, attempt, *arguments)
    settled[attempt.id] = time.monotonic()
    return relieved


def main(log: str, *arguments: str) -> None:
    doors[0].send, doors[1].write, doors[2].settle = timed_send, timed_write, timed_settle
    try:
        cli.main(list(arguments))
    finally:
        Path(log).write_text(json.dumps({"read": read, "settled": settled, "waits": waits}))


if __name__ == "__main__":
    main(*sys.argv[1:])
