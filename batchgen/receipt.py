"""What goes to another machine and comes back: an Order for one attempt, and the Receipt of what came of it.

A receipt lies in the store before anybody is told of it, so that it outlives who gave the order and who carried it out.
"""

import logging
import os
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass

from pydantic import TypeAdapter, ValidationError

from batchgen import disk, errors
from batchgen.catalog import Provider
from batchgen.disk import Unsynced
from batchgen.errors import Gone, Pending, ProviderError, Refused, StorageError, Unknown
from batchgen.store import Store
from batchgen.task import Attempt
from batchgen.wire import Outcome, Reply

ENGINE = "ray"  # as the ledger calls attempts that are made elsewhere
IMAGES, RECEIPTS, INPUTS = "images", "receipts", "inputs"  # rooms of a run's store
SOON = 15.0  # seconds within which an order is begun or never
BODY_MOST = 2_000  # bytes of a refusal that say which limit was met
log = logging.getLogger("batchgen")


@dataclass(frozen=True, slots=True)
class Terms:
    """What a lane's attempts are made by: its provider, seconds for an exchange, where images and receipts go, and
    what says there that it is that very place."""

    lane: str
    provider: Provider
    timeout: float
    partials: bool
    store: str
    mark: str


@dataclass(frozen=True, slots=True)
class Order:
    """One attempt to be made, once, and begun by `until` or never: by the clock of who carries it out."""

    attempt: Attempt
    terms: Terms
    until: float


@dataclass(frozen=True, slots=True)
class Trouble:
    """A ProviderError, as it travels."""

    kind: str
    says: str
    code: str = ""
    status: int = 0
    retry_after: float | None = None
    request_id: str = ""
    billed: bool = False

    @classmethod
    def of(cls, error: ProviderError) -> "Trouble":
        billed = isinstance(error, Refused) and error.billed
        told = error.code, error.status, error.retry_after, error.request_id
        return cls(type(error).__name__, str(error), *told, billed)

    def error(self) -> ProviderError:
        """What was raised there."""
        kind: type[ProviderError] = getattr(errors, self.kind, Unknown)  # another version's may have more
        found = kind(
            self.says, code=self.code, status=self.status, retry_after=self.retry_after, request_id=self.request_id
        )
        if isinstance(found, Refused):
            found.billed = self.billed
        return found


@dataclass(frozen=True, slots=True)
class Receipt:
    """What came of an attempt: an outcome, or a trouble; with neither, the provider holds it under the handle."""

    attempt: str
    outcome: Outcome | None = None
    trouble: Trouble | None = None
    handle: str = ""

    def result(self) -> Outcome:
        """The outcome; raises what was raised there. Pending where it is still to be had, by its handle."""
        if self.outcome:
            return self.outcome
        error = self.trouble.error() if self.trouble else Pending("bought, and the provider is at it", code="pending")
        if isinstance(error, Pending) and not self.handle:  # what leads to it was lost with who fetched it
            raise Gone(str(error), code=error.code, status=error.status, request_id=error.request_id)
        raise error


@dataclass(frozen=True, slots=True)
class Told:
    """What a driver hears: the receipt, and of the answer that it is about what tells how fast the provider may be
    asked; None where none came."""

    receipt: Receipt
    heard: Reply | None = None


_receipts = TypeAdapter(Receipt)


def put(store: Store, receipt: Receipt) -> None:
    """Keep it; the same one may be there. Blocks."""
    name = _name(receipt.attempt, final=bool(receipt.outcome or receipt.trouble))
    keep(store, name, _receipts.dump_json(receipt))


def keep(store: Store, name: str, data: bytes) -> None:
    """Put it there unless it is, durably. Blocks."""
    unsynced = Unsynced()
    with disk.storage("the store"):
        store.put(name, data, uuid.uuid4().hex, unsynced)
        unsynced.sync()


def find(store: Store, attempt: str) -> Receipt | None:
    """What is known of an attempt, at last or by its handle; None where nothing is. Blocks."""
    for final in (True, False):
        name = _name(attempt, final)
        try:
            with disk.storage("the store"):
                return _receipts.validate_json(store.read(name))
        except StorageError as error:
            if not isinstance(error.__cause__, FileNotFoundError):
                raise
        except ValidationError as error:
            log.warning("%s is no receipt, and is not looked at: %s", name, error.errors()[0]["msg"])
    return None


def forget(store: Store, attempts: Sequence[str]) -> None:
    """The ledger knows all of them. Blocks."""
    names = (_name(attempt, final) for attempt in attempts for final in (True, False))
    with disk.storage("the store"), ThreadPoolExecutor(store.wide) as pool:
        for _ in pool.map(store.remove, names):
            pass


def attempts(store: Store) -> list[str]:
    """Of which there is any. Blocks."""
    with disk.storage("the store"):
        return sorted({os.path.basename(name).partition(".")[0] for name in store.names()})


def _name(attempt: str, final: bool) -> str:
    return f"{attempt}.json" if final else f"{attempt}.handle.json"


def telling(reply: Reply) -> Reply:
    """Of an answer what says how fast the provider may be asked."""
    body = b""
    if reply.status == 429:
        with suppress(ValueError):  # one that cannot be read
            body = reply.start(BODY_MOST)
    kept = {name: value for name, value in reply.headers.items() if name.startswith("x-ratelimit-")}
    return Reply(reply.status, kept, body)
