"""One attempt in, one Outcome out: the conversation with the provider, spooled, parsed, saved. No ledger, no retry."""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial

import anyio

from batchgen import disk, images, links
from batchgen.catalog import Provider
from batchgen.dialects.base import Dialect
from batchgen.disk import Unsynced
from batchgen.errors import (
    Blocked,
    Failed,
    Gone,
    Pending,
    ProviderError,
    Refused,
    Rejected,
    StorageError,
    Unknown,
    Unusable,
)
from batchgen.finisher import Finisher
from batchgen.pour import Sink
from batchgen.spool import Spool
from batchgen.store import Store
from batchgen.task import MISSING, Attempt, Image, ImageState, Task
from batchgen.wire import Answer, Conversation, Fetched, Inline, Outcome, Reply, Request

Send = Callable[[Request, Sink], Awaitable[Reply]]
REDIRECTS_MOST = 5
POLLED = Reply(200, {}, b"")
LOST = "x-lost"
SHORTER = 8  # letters of an attempt that tell it from others of its task
ROOM = 8 * 2**20  # bytes that an image may take: its answer, the image, its share of the ledger
STANDS = (
    "{} is there already, and the ledger does not know that it was paid for: batchgen verify RUN --adopt takes it in. "
    "Nothing was sent for it."
)
TOO_MANY, SHORT = 429, 1 << 14  # a status, and bytes that are read in no time


@dataclass(frozen=True, slots=True)
class Bench:
    """What an attempt is worked on with: the provider and its dialect, the spool, where images go, who finishes.

    `patience` is how many seconds at a time a provider is polled, `partials` whether the pictures that a stream shows
    on the way are kept. With `apart` an image goes beside another one that nobody knows, which an attempt of its task
    may have left that was lost.
    """

    provider: Provider
    dialect: Dialect
    spool: Spool
    images: Store
    finisher: Finisher
    patience: float = 600.0
    partials: bool = False
    apart: bool = False


def check_room(task: Task, bench: Bench, open_: int = 1) -> None:
    """StorageError where its images would find none. As many requests as are `open_` may each bring as much."""
    disk.check_room(bench.spool.folder, ROOM * task.variant.images * open_)
    bench.images.check_room(ROOM * task.variant.images * open_)


def check_place(task: Task, bench: Bench, open_: int = 1) -> None:
    """StorageError where its images would find no place, or where they are: paid for by what a ledger lost since.

    Where images may be put apart, an earlier try may have left some, of which nobody heard.
    """
    check_room(task, bench, open_)
    if bench.apart and task.tries:
        return
    if found := images.standing(bench.images, task.path, task.variant.images):
        raise StorageError(STANDS.format(found))


def headers(attempt: Attempt, provider: Provider) -> dict[str, str]:
    """What its requests are known by: its id, and its purchase's key where the provider honours one."""
    key = {"idempotency-key": attempt.purchase} if provider.idempotency else {}
    return {"x-client-request-id": attempt.id, **key}


def answered(came: Reply, send: Send) -> Send:
    """A way to send of which the first request is answered already."""
    answers = iter([came])

    async def sent(request: Request, sink: Sink) -> Reply:
        answer = next(answers, None)
        return await send(request, sink) if answer is None else answer

    return sent


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
    give_up: bool = False,
    accepted: Callable[[str], Awaitable[None]] = _unheard,
    sealed: Callable[[], None] = _nothing,
) -> Outcome:
    """Drive the dialect's conversation to its end, feeding it what the spool holds and asking only for the rest.

    `buy` allows the first request, the one that costs money; without it an attempt is only finished. With `give_up`
    an image that the provider has no more counts as broken, where others came. `accepted` is told the handle under
    which the provider holds what was bought, before anything is asked for by it. `sealed` is called when no connection
    is needed for a while: an answer is durable that is no refusal, or a poll is over. Raises a ProviderError where no
    image came of it: Pending where it is bought and asking again is free.
    """
    talk = bench.dialect.talk(attempt.task, bench.provider, attempt.handle)
    step: Request | Outcome = _begun(talk, attempt, bench)
    k, handle, until = int(bool(attempt.handle)), attempt.handle, anyio.current_time() + bench.patience
    while isinstance(step, Request):
        if step.handle:
            sealed()
            if step.handle != handle:
                handle = step.handle
                await accepted(handle)
            said = await _poll(step, talk, send, attempt, bench, until)
            save = partial(_saved_poll, said, attempt, bench, give_up)
            step = await bench.finisher.finish(attempt.id, 0, POLLED, save, sealed)
            continue
        k += 1
        fresh = (buy and k == 1) or not bench.spool.holds(attempt.id, k)
        if fresh and k == 1 and not buy:
            raise Unknown("cut off before a whole answer was on the disk", code="cut")
        reply = await _ask(step, attempt, bench, send, k, give_up) if fresh else None
        hear = partial(_hear, talk, attempt, bench, k, give_up)
        step = await bench.finisher.finish(attempt.id, k, reply, hear, sealed)
    return step


def _begun(talk: Conversation, attempt: Attempt, bench: Bench) -> Request:
    """The first request; of what is held under a handle never the one that buys."""
    first = next(talk)
    if first.handle != attempt.handle:
        says = f"the provider holds it as {attempt.handle}, which the dialect {bench.provider.dialect} cannot ask for"
        raise Pending(says, code="other_dialect")
    return first


async def _poll(
    request: Request, talk: Conversation, send: Send, attempt: Attempt, bench: Bench, until: float
) -> Request | Answer:
    """Ask once, after a while, whether what is bought is there; its answer is not kept."""
    if anyio.current_time() + request.wait > until:
        raise Pending("bought, and the provider is still at it", code="pending")
    await anyio.sleep(request.wait)
    sink = partial(bench.spool.sink, attempt.id, 0)
    try:
        reply = await send(request, sink)
        if not 200 <= reply.status < 300:
            raise bench.dialect.fault(reply)
        return _said(talk, reply)
    except (Failed, Refused) as error:  # the provider's last word on what was bought
        if isinstance(error, Refused):
            error.billed = True  # it was at work on it
        raise error from None
    except Unusable as error:  # an odd answer to a question is not the end of what was bought
        raise Pending(f"bought, and its poll brought nothing: {error}", code=error.code) from None
    except ProviderError as error:
        raise _free(error) from None
    finally:
        bench.spool.part(attempt.id, 0).unlink(missing_ok=True)  # a large answer went there


async def _ask(request: Request, attempt: Attempt, bench: Bench, send: Send, k: int, give_up: bool) -> Reply:
    """Send the request that buys, or fetch an image from a link and from where that leads."""
    sink = partial(bench.spool.sink, attempt.id, k)
    if k == 1:
        reply = await send(request, sink)
        if reply.status == TOO_MANY and reply.length <= SHORT and "content-encoding" not in reply.headers:
            raise bench.dialect.fault(reply)  # nothing is in it, and the sooner the lane hears of it the fewer follow
        return reply
    try:
        for _ in range(REDIRECTS_MOST):
            links.check(request.url, bench.provider)
            reply = await send(request, sink)
            target = reply.headers.get("location", "") if 300 <= reply.status < 400 else ""
            if not target:
                return reply
            request = replace(request, url=links.joined(request.url, target))
    except ProviderError as error:
        free = _free(error)
        if give_up and isinstance(free, Gone):
            return _nothing_of(free)
        raise free from None
    raise Pending("bought, but its link leads in circles", code="redirects")


def _hear(
    talk: Conversation,
    attempt: Attempt,
    bench: Bench,
    k: int,
    give_up: bool,
    reply: Reply | None,
    unsynced: Unsynced,
) -> Request | Outcome:
    """Let the dialect read a reply that is durable, then save what it found."""
    if reply is None:  # damaged in a crash, after it had come
        bench.spool.forget(attempt.id, k)
        lost = "the answer was damaged on the disk"
        raise Unknown(lost, code="damaged") if k == 1 else Pending(lost, code="damaged")
    if not 200 <= reply.status < 300:
        said = bench.dialect.fault(reply)
        bench.spool.forget(attempt.id, k)
        fault = _free(said) if k > 1 else said
        if not (give_up and isinstance(fault, Gone)):
            raise fault
        reply = _nothing_of(fault)
    found = _said(talk, reply)
    return found if isinstance(found, Request) else _save(found, reply, attempt, bench, give_up, unsynced)


def _saved_poll(
    said: Request | Answer, attempt: Attempt, bench: Bench, give_up: bool, reply: Reply | None, unsynced: Unsynced
) -> Request | Outcome:
    assert reply
    return said if isinstance(said, Request) else _save(said, reply, attempt, bench, give_up, unsynced)


def _said(talk: Conversation, reply: Reply) -> Request | Answer:
    """What the dialect makes of a reply: its next request, or its last word."""
    try:
        return talk.send(reply)
    except StopIteration as end:  # must leave neither a thread nor a coroutine as an exception
        answer: Answer = end.value
        return answer


def _nothing_of(error: ProviderError) -> Reply:
    """In place of an image that the provider has no more."""
    return Reply(200, {LOST: str(error)}, b"")


def _free(error: ProviderError) -> ProviderError:
    """What it means where a request fails that comes after the purchase: ask again, or there is nothing to ask for."""
    if isinstance(error, Pending):
        return error
    gone = isinstance(error, Rejected | Unusable | Refused) or (isinstance(error, Blocked) and error.status == 403)
    told = f"bought, but not to be had: {error}"
    return (Gone if gone else Pending)(
        told, code=error.code, status=error.status, retry_after=error.retry_after, request_id=error.request_id
    )


def _save(answer: Answer, reply: Reply, attempt: Attempt, bench: Bench, give_up: bool, unsynced: Unsynced) -> Outcome:
    """Put the images where they belong; nothing is put anywhere while a link may still bring one."""
    fetched = [picture for picture in answer.pictures if isinstance(picture, Fetched)]
    lost = {k: picture.reply.headers.get(LOST, "") for k, picture in enumerate(fetched, 2)}
    flaws = {k: flaw for k, picture in enumerate(fetched, 2) if (flaw := lost[k] or images.flaw(picture))}
    if flaws and not (give_up and len(flaws) < len(answer.pictures)):
        for k in flaws:
            bench.spool.forget(attempt.id, k)
        k, flaw = min(flaws.items())
        raise Gone(lost[k] or f"bought, but its link leads to no image: {flaw}", code="broken_link")
    found = [_saved(i, picture, answer, attempt, bench, unsynced) for i, picture in enumerate(answer.pictures)]
    if bench.partials and any(image.state is ImageState.SAVED for image in found):
        found += _partials(answer, attempt, bench, unsynced)
    return Outcome(tuple(found), answer.usage, reply.status, reply.request_id, answer.said)


def _saved(
    index: int, picture: Inline | Fetched | None, answer: Answer, attempt: Attempt, bench: Bench, unsynced: Unsynced
) -> Image:
    stem = attempt.task.path if len(answer.pictures) == 1 else f"{attempt.task.path}-{index}"
    if picture is None:
        return Image(index, ImageState.BROKEN, note=MISSING)
    try:
        saved = images.save(picture, bench.images, stem, index, attempt.id, unsynced)
    except ValueError as error:
        return Image(index, ImageState.BROKEN, note=str(error))
    except StorageError as error:
        if not (bench.apart and isinstance(error.__cause__, FileExistsError)):
            raise
        saved = images.save(picture, bench.images, f"{stem}.{attempt.id[:SHORTER]}", index, attempt.id, unsynced)
    return replace(saved, revised=picture.revised)


def _partials(answer: Answer, attempt: Attempt, bench: Bench, unsynced: Unsynced) -> list[Image]:
    """The pictures on the way that are whole; they cost extra, and are no loss otherwise."""
    saved = []
    for n, picture in enumerate(answer.partials):
        with suppress(ValueError):
            stem = f"{attempt.task.path}.{attempt.id[:SHORTER]}.partial-{n}"  # another attempt shows other pictures
            image = images.save(picture, bench.images, stem, n, attempt.id, unsynced)
            saved.append(replace(image, state=ImageState.PARTIAL))
    return saved
