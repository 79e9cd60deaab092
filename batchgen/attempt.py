"""One attempt in, one Outcome out: the conversation with the provider, spooled, parsed, saved. No ledger, no retry."""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from urllib.parse import urljoin

import anyio
import anyio.to_thread

from batchgen import images, links
from batchgen.catalog import Provider
from batchgen.client import Sink
from batchgen.dialects.base import Dialect
from batchgen.errors import Blocked, Gone, Pending, ProviderError, Refused, Rejected, Unknown, Unusable
from batchgen.spool import Spool
from batchgen.task import MISSING, Attempt, Image, ImageState
from batchgen.wire import Answer, Conversation, Fetched, Inline, Outcome, Reply, Request

Send = Callable[[Request, Sink], Awaitable[Reply]]
REDIRECTS_MOST = 5


@dataclass(frozen=True, slots=True)
class Bench:
    """What an attempt is worked on with: the provider and its dialect, the spool, the images' folder, the threads.

    `patience` is how many seconds at a time a provider is polled, `partials` whether the pictures that a stream shows
    on the way are kept.
    """

    provider: Provider
    dialect: Dialect
    spool: Spool
    images: Path
    threads: anyio.CapacityLimiter
    patience: float = 600.0
    partials: bool = False


def _nothing() -> None:
    pass


async def _unheard(handle: str) -> None:
    pass


async def perform(
    attempt: Attempt,
    bench: Bench,
    send: Send,
    *,
    buy: bool,
    accepted: Callable[[str], Awaitable[None]] = _unheard,
    sealed: Callable[[], None] = _nothing,
) -> Outcome:
    """Drive the dialect's conversation to its end, feeding it what the spool holds and asking only for the rest.

    `buy` allows the first request, the one that costs money; without it an attempt is only finished. `accepted` is told
    the handle under which the provider holds what was bought, before anything is asked for by it. `sealed` is called,
    perhaps in a thread, when an answer is durable that is no refusal: from then on it needs no connection. Raises a
    ProviderError where no image came of it: Pending where it is bought and asking again is free.
    """
    talk = bench.dialect.talk(attempt.task, bench.provider, attempt.handle)
    step: Request | Outcome = next(talk)
    k, handle, until = int(bool(attempt.handle)), attempt.handle, anyio.current_time() + bench.patience
    while isinstance(step, Request):
        if step.handle:
            if step.handle != handle:
                handle = step.handle
                await accepted(handle)
            step = await _poll(step, talk, send, bench.dialect.fault, until)
            sealed()
            continue
        k += 1
        fresh = (buy and k == 1) or not bench.spool.holds(attempt.id, k)
        if fresh and k == 1 and not buy:
            raise Unknown("cut off before a whole answer was on the disk", code="cut")
        reply = await _ask(step, attempt, bench, send, k) if fresh else None
        with anyio.CancelScope(shield=True):  # an answer that came is kept, whoever is told to leave
            step = await anyio.to_thread.run_sync(_hear, talk, reply, attempt, bench, k, sealed, limiter=bench.threads)
    return step


async def _poll(
    request: Request, talk: Conversation, send: Send, fault: Callable[[Reply], ProviderError], until: float
) -> Request:
    """Ask once, after a while, whether what is bought is there; its answer is not kept."""
    if anyio.current_time() + request.wait > until:
        raise Pending("bought, and the provider is still at it", code="pending")
    await anyio.sleep(request.wait)
    try:
        reply = await send(request, _no_sink)
        if not 200 <= reply.status < 300:
            raise fault(reply)
        return talk.send(reply)
    except (Unusable, Refused) as error:  # the provider's last word on what was bought
        raise error from None
    except ProviderError as error:
        raise _free(error) from None


def _no_sink() -> Path:
    raise Pending("the answer to a poll is too large", code="too_large")


async def _ask(request: Request, attempt: Attempt, bench: Bench, send: Send, k: int) -> Reply:
    """Send the request that buys, or fetch an image from a link and from where that leads."""
    sink = partial(bench.spool.sink, attempt.id, k)
    if k == 1:
        return await send(request, sink)
    try:
        for _ in range(REDIRECTS_MOST):
            links.check(request.url, bench.provider)
            reply = await send(request, sink)
            target = reply.headers.get("location", "") if 300 <= reply.status < 400 else ""
            if not target:
                return reply
            request = replace(request, url=urljoin(request.url, target))
    except ProviderError as error:
        raise _free(error) from None
    raise Pending("bought, but its link leads in circles", code="redirects")


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
    """What it means where a request fails that comes after the purchase: ask again, or there is nothing to ask for."""
    if isinstance(error, Pending):
        return error
    gone = isinstance(error, Rejected | Unusable | Refused) or (isinstance(error, Blocked) and error.status == 403)
    told = f"bought, but not to be had: {error}"
    return (Gone if gone else Pending)(
        told, code=error.code, status=error.status, retry_after=error.retry_after, request_id=error.request_id
    )


def _save(answer: Answer, reply: Reply, attempt: Attempt, bench: Bench) -> Outcome:
    found = [_saved(i, picture, answer, attempt, bench) for i, picture in enumerate(answer.pictures)]
    fetched = [i for i, picture in enumerate(answer.pictures) if isinstance(picture, Fetched)]
    broken = [k for k, i in enumerate(fetched, 2) if found[i].state is ImageState.BROKEN]
    for k in broken:
        bench.spool.forget(attempt.id, k)
    if broken:
        raise Gone(f"bought, but its link leads to no image: {found[fetched[broken[0] - 2]].note}", code="broken_link")
    kept = _partials(answer, attempt, bench) if bench.partials else []
    return Outcome((*found, *kept), answer.usage, reply.status, reply.headers.get("x-request-id", ""), answer.said)


def _saved(index: int, picture: Inline | Fetched | None, answer: Answer, attempt: Attempt, bench: Bench) -> Image:
    stem = attempt.task.path if len(answer.pictures) == 1 else f"{attempt.task.path}-{index}"
    if picture is None:
        return Image(index, ImageState.BROKEN, note=MISSING)
    try:
        saved = images.save(picture, bench.images, stem, index, attempt.id)
        return replace(saved, revised=picture.revised)
    except ValueError as error:
        return Image(index, ImageState.BROKEN, note=str(error))


def _partials(answer: Answer, attempt: Attempt, bench: Bench) -> list[Image]:
    """The pictures on the way that are whole; they cost extra, and are no loss otherwise."""
    saved = []
    for n, picture in enumerate(answer.partials):
        with suppress(ValueError):
            image = images.save(picture, bench.images, f"{attempt.task.path}.partial-{n}", n, attempt.id)
            saved.append(replace(image, state=ImageState.PARTIAL))
    return saved
