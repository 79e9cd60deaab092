"""What the provider has of batches and files, against the ledger's rows of them."""

from collections import Counter
from collections.abc import Iterator

from .books import PERHAPS_BILLED, Books, Row
from .checker import Checker
from .world import World

ENDED = ("completed", "failed", "expired", "cancelled")


def check(world: World, checker: Checker, books: Books) -> None:
    """After the last run."""
    told = world.server.get("__batches").json()
    for says in (*_once(told["batches"], books), *_over(told["batches"], books), *_whose(books)):
        checker.fail("batch", says)
    if "--batch-faults" not in world.setup.flags:
        for says in _doubted(books):
            checker.fail("doubt", says)
    for file in told["files"]:
        if file["purpose"] == "vision" and not file["deleted"]:
            checker.fail("left", f"a file to edit is still at the provider: {file['filename']}")


def _doubted(books: Books) -> Iterator[str]:
    """Whatever is killed, a batch can be asked for what it came to."""
    for attempt in books.attempts:
        if attempt["batch"] and attempt["state"] in PERHAPS_BILLED:
            yield f"attempt {attempt['id']} is {attempt['state']}: {attempt['code']} {attempt['error']}"


def _once(there: list[Row], books: Books) -> Iterator[str]:
    """A batch of ours was created at most once, and the ledger has its name."""
    marks = Counter((each["metadata"] or {}).get("batchgen", "") for each in there)
    yield from (f"{mark} was created {count} times" for mark, count in marks.items() if count > 1)
    ours = {(batch["id"], batch["handle"]) for batch in books.batches}
    for each in there:
        if ((each["metadata"] or {}).get("batchgen"), each["id"]) not in ours:
            yield f"no row knows the batch {each['id']}: {each['metadata']}, {each['status']}"


def _over(there: list[Row], books: Books) -> Iterator[str]:
    yield from (f"{each['id']} is still {each['status']}" for each in there if each["status"] not in ENDED)
    yield from (f"batch {each['id']} is {each['state']}" for each in books.batches if each["state"] != "over")


def _whose(books: Books) -> Iterator[str]:
    """What a line of a batch cost is borne by an attempt of that very batch."""
    handles = {batch["seq"]: batch["handle"] for batch in books.batches}
    for charge in books.charges:
        attempt = books.by_id.get(charge["client_request_id"])
        if attempt and charge.get("batch") != (handles[attempt["batch"]] if attempt["batch"] else None):
            yield f"attempt {attempt['id']} is not of the batch that it was charged with, {charge.get('batch')}"
