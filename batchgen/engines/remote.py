"""Attempts that are made elsewhere: the crew that makes them, and what is heard of them late."""

import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import anyio.to_thread

from batchgen import books, place
from batchgen.buyer import Buyer
from batchgen.crew import LOST, Crew
from batchgen.engines import ray
from batchgen.folder import Folder
from batchgen.lane import Lane
from batchgen.ledger import Ledger
from batchgen.manifest import Manifest
from batchgen.receipt import ENGINE, INPUTS, RECEIPTS, Terms
from batchgen.store import Directory, Store
from batchgen.task import AttemptState

PATIENCE = 30.0  # seconds for which a bucket is asked again
OPEN = (AttemptState.SENDING, AttemptState.ACCEPTED)


@asynccontextmanager
async def manned(
    folder: Folder, manifest: Manifest, ledger: Ledger, lanes: Sequence[Lane], address: str
) -> AsyncIterator[Crew | None]:
    """The nodes of the cluster at an address; without one, whatever those of an earlier run have left, if anything."""
    job = books.job(folder.ledger)
    if not (address or (job.store and await ledger.losses.any(ENGINE))):
        yield None
        return
    accounts = {lane.name: lane.account for lane in lanes}
    rest = manifest.partials, job.store, job.mark
    terms = [Terms(lane.name, lane.provider, lane.bench.patience, *rest) for lane in lanes]
    async with AsyncExitStack() as stack:
        nodes = await stack.enter_async_context(ray.joined(address, f"{job.name}-{job.mark}")) if address else None
        rooms = RECEIPTS, INPUTS
        store = await anyio.to_thread.run_sync(place.furnished, folder, rooms, PATIENCE)
        crew = Crew(store, terms, accounts, manifest.folder, nodes)
        await stack.enter_async_context(crew.at_work())
        yield crew


async def doubts(ledger: Ledger) -> bool:
    """Whether anything was given up of which there may be word by now."""
    return bool(await ledger.losses.given_up(LOST))


async def amend(crew: Crew, ledger: Ledger, buyers: Sequence[Buyer]) -> None:
    """Write down what came of attempts that were given up, and let go of receipts that nobody needs."""
    known: Mapping[str, Buyer] = {buyer.lane.name: buyer for buyer in buyers}
    for attempt in await ledger.losses.given_up(LOST):
        buyer, found = known.get(attempt.lane), await crew.found(attempt.id)
        if buyer and found and (found.outcome or found.trouble):
            await buyer.amend(attempt, found)
    there = await crew.receipts()
    states = await ledger.attempt_states(there)
    lost = {attempt.id for attempt in await ledger.losses.given_up(LOST)}
    for each, state in states.items():
        if state not in OPEN and each not in lost:
            crew.settled(each)


async def sweep(images: Store, ledger: Ledger) -> None:
    """Remove what was written in part by who was killed at it; a bucket has none of that."""
    if not isinstance(images, Directory):
        return
    names = await anyio.to_thread.run_sync(lambda: [name for name in images.names() if name.endswith(".part")])
    states = await ledger.attempt_states([_writer(name) for name in names])
    for name in names:
        if states.get(_writer(name), AttemptState.SENDING) not in OPEN:
            await anyio.to_thread.run_sync(images.remove, name)


def _writer(name: str) -> str:
    """The attempt whose image was to come of it."""
    return os.path.basename(name).lstrip(".").partition(".")[0]
