"""One attempt in, one Outcome out: the conversation with the provider, spooled, parsed, saved. No ledger, no retry."""

import ipaddress
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import anyio
import anyio.to_thread

from batchgen import images
from batchgen.catalog import Provider, loopback, origin
from batchgen.client import Sink
from batchgen.dialects.base import Dialect
from batchgen.errors import Pending, ProviderError, Rejected, Unknown, Unusable
from batchgen.spool import Spool
from batchgen.task import MISSING, Attempt, Image, ImageState
from batchgen.wire import Answer, Conversation, Fetched, Inline, Outcome, Reply, Request

Send = Callable[[Request, Sink], Awaitable[Reply]]


@dataclass(frozen=True, slots=True)
class Bench:
    """What an attempt is worked on with: the provider and its dialect, the spool, the images' folder, the threads."""

    provider: Provider
    dialect: Dialect
    spool: Spool
    images: Path
    threads: anyio.CapacityLimiter


def _nothing() -> None:
    pass


async def perform(
    attempt: Attempt, bench: Bench, send: Send, *, buy: bool, sealed: Callable[[], None] = _nothing
) -> Outcome:
    """Drive the dialect's conversation to its end, feeding it what the spool holds and asking only for the rest.

    `buy` allows the first request, the one that costs money; without it an attempt is only finished. `sealed` is
    called, in a thread, when an answer is durable that is no refusal: from then on it needs no connection. Raises a
    ProviderError where no image came of it: Pending where it is bought and asking again is free.
    """
    talk = bench.dialect.talk(attempt.task, bench.provider)
    step: Request | Outcome = next(talk)
    k = 0
    while isinstance(step, Request):
        k += 1
        fresh = (buy and k == 1) or not bench.spool.holds(attempt.id, k)
        if fresh and k == 1 and not buy:
            raise Unknown("cut off before a whole answer was on the disk", code="cut")
        reply = await _ask(step, attempt, bench, send, k) if fresh else None
        with anyio.CancelScope(shield=True):  # an answer that came is kept, whoever is told to leave
            step = await anyio.to_thread.run_sync(_hear, talk, reply, attempt, bench, k, sealed, limiter=bench.threads)
    return step


async def _ask(request: Request, attempt: Attempt, bench: Bench, send: Send, k: int) -> Reply:
    if k > 1 and not _may_fetch(request.url, bench.provider):
        raise Unusable(
            "the answer links to where nothing is fetched from: not https, or not public", code="link_refused"
        )
    try:
        return await send(request, partial(bench.spool.sink, attempt.id, k))
    except ProviderError as error:
        raise _free(error) if k > 1 else error from None


def _hear(
    talk: Conversation, reply: Reply | None, attempt: Attempt, bench: Bench, k: int, sealed: Callable[[], None]
) -> Request | Outcome:
    """Make a reply durable, then let the dialect read it, then save what it found: one hand-over to a thread."""
    bench.spool.sweep()
    reply = bench.spool.seal(attempt.id, k, reply) if reply else bench.spool.load(attempt.id, k)
    if reply is None:  # damaged in a crash, after it had come
        bench.spool.forget(attempt.id, k)
        lost = "the answer was damaged on the disk"
        raise Unknown(lost, code="damaged") if k == 1 else Pending(lost, code="damaged")
    if not 200 <= reply.status < 300:
        bench.spool.forget(attempt.id, k)
        fault = bench.dialect.fault(reply)
        raise _free(fault) if k > 1 else fault
    sealed()
    try:
        return talk.send(reply)
    except StopIteration as end:  # must not leave a thread as an exception
        return _save(end.value, reply, attempt, bench)


def _free(error: ProviderError) -> ProviderError:
    """What a failed request means that comes after the purchase: ask again, or never."""
    kind = Unusable if isinstance(error, Rejected | Unusable) else Pending
    told = f"bought, but not to be had: {error}"
    return kind(told, code=error.code, status=error.status, retry_after=error.retry_after, request_id=error.request_id)


def _may_fetch(url: str, provider: Provider) -> bool:
    try:
        host = urlsplit(url).hostname or ""
        if origin(url) == origin(provider.base_url):
            return True
        return url.startswith("https://") and not loopback(host) and _public(host)
    except ValueError:
        return False


def _public(host: str) -> bool:
    """Whether a host is a name, or an address that anybody can reach."""
    try:
        return ipaddress.ip_address(host).is_global
    except ValueError:
        return True


def _save(answer: Answer, reply: Reply, attempt: Attempt, bench: Bench) -> Outcome:
    saved = tuple(_saved(i, picture, answer, attempt, bench) for i, picture in enumerate(answer.pictures))
    return Outcome(saved, answer.usage, reply.status, reply.headers.get("x-request-id", ""))


def _saved(index: int, picture: Inline | Fetched | None, answer: Answer, attempt: Attempt, bench: Bench) -> Image:
    stem = attempt.task.path if len(answer.pictures) == 1 else f"{attempt.task.path}-{index}"
    if picture is None:
        return Image(index, ImageState.BROKEN, note=MISSING)
    try:
        return images.save(picture, bench.images, stem, index, attempt.id)
    except ValueError as error:
        return Image(index, ImageState.BROKEN, note=str(error))
