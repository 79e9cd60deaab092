"""A run from open to close: lock, recover, enqueue, drive an engine, close. What the verbs share."""

import logging
import os
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import islice

import anyio
import filelock

from batchgen import books, catalog, costs, disk, ledger, plan, pretend
from batchgen.attempt import Bench
from batchgen.catalog import Provider
from batchgen.client import Access
from batchgen.dialects import DIALECTS
from batchgen.engines import local
from batchgen.errors import BatchgenError, Blocked, LockedError, StorageError, UsageError
from batchgen.folder import Folder
from batchgen.generate import Buyer
from batchgen.lane import Lane
from batchgen.ledger import Change, Ledger, Volume
from batchgen.limits import Cap
from batchgen.manifest import Manifest, Retry, Share
from batchgen.progress import Progress
from batchgen.purse import Purse
from batchgen.settle import Policy
from batchgen.spool import Spool
from batchgen.task import Attempt, AttemptState, Task, TaskState
from batchgen.text import clean

BLOCK = 500  # tasks that are enqueued in one transaction
THREADS = 4  # that parse, decode and write: more would only wait for the same disk
KEPT = (AttemptState.SENDING, AttemptState.ACCEPTED, AttemptState.UNUSABLE)  # whose replies stay in the spool
LOST = (
    "{folder} holds answers or images that its ledger knows nothing of: the ledger lacks what was written last. "
    "Put its -wal file back, or a whole backup, or give the job another name. Nothing was sent."
)
log = logging.getLogger("batchgen")


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be run: a manifest in a folder, with its tasks (`enqueue`) or only what is queued there already."""

    manifest: Manifest
    folder: Folder
    enqueue: bool
    reopen: Sequence[TaskState] = ()


@dataclass(frozen=True, slots=True)
class Ended:
    """How a run ended, in an exit code and in words."""

    exit_code: int
    reason: str


class Job:
    """One run of one folder. `drain` may be called at any time; `progress` may be read at any time."""

    def __init__(self, order: Order, environ: Mapping[str, str] = os.environ) -> None:
        self._order = order
        self._environ = environ
        self.progress = Progress()
        self.change: Change | None = None
        self.ended: Ended | None = None
        self.started = anyio.Event()

    def drain(self) -> None:
        """Send nothing new, finish what is paid for."""
        self.progress.draining = True
        if self.progress.lane:
            self.progress.lane.stop()

    async def run(self) -> Ended:
        """Work until nothing is left, a cap is reached, or a person is needed. Raises BatchgenError where it cannot."""
        manifest, folder = self._order.manifest, self._order.folder
        auth = authorization(manifest.provider, self._environ)
        check_prices(manifest)
        with locked(folder), logged(folder):
            open_folder(folder, manifest)
            async with AsyncExitStack() as stack:
                provider = await stack.enter_async_context(self._provider())
                books_ = await stack.enter_async_context(ledger.open_for_writing(folder.ledger))
                lane = await stack.enter_async_context(self._lane(provider, auth))
                return await self._noted(books_, lane)

    @asynccontextmanager
    async def _provider(self) -> AsyncIterator[Provider]:
        """The manifest's provider, with the sandbox running where it is the one."""
        provider = self._order.manifest.provider
        if provider.base_url != "sandbox":
            yield provider
            return
        flags = self._environ.get("BATCHGEN_SANDBOX", "")
        async with pretend.sandbox(self._order.folder.bill, flags) as url:
            yield replace(provider, base_url=url)

    def _lane(self, provider: Provider, auth: Mapping[str, str]) -> Lane:
        folder, limits = self._order.folder, self._order.manifest.limits
        bench = Bench(
            provider=provider,
            dialect=DIALECTS[provider.dialect],
            spool=Spool(folder.spool),
            images=folder.images,
            threads=anyio.CapacityLimiter(THREADS),
        )
        access = Access(provider.base_url, auth, limits.timeout, provider.keepalive)
        return Lane(provider, bench, access, limits.concurrency)

    async def _noted(self, books_: Ledger, lane: Lane) -> Ended:
        """Drive, and write down how it ended, however it ended."""
        ended = Ended(7, "told to leave at once")
        try:
            cap = await self._drive(books_, lane)
            self.ended = ended = conclude(await books_.states(), cap, lane.blocked)
        except BatchgenError as error:
            ended = Ended(error.exit_code, str(error))
            raise
        except Exception as error:
            ended = Ended(1, f"{type(error).__name__}: {error}")
            raise
        finally:
            log.info("ended with %d: %s", ended.exit_code, clean(ended.reason))
            with suppress(StorageError):  # it may be what ended us
                await books_.release_orphans()
                await books_.end(ended.exit_code, ended.reason)
        return ended

    async def _drive(self, books_: Ledger, lane: Lane) -> str:
        """Recover, enqueue, buy; returns the cap that was reached, or ""."""
        resumed = await self._recover(books_, lane.bench.spool)
        await self._enqueue(books_)
        purse = await self._purse(books_, lane.provider)
        self.progress.lane, self.progress.purse = lane, purse
        if self.progress.draining:
            lane.stop()
        retry = self._order.manifest.retry
        policy = Policy(retry.attempts, retry.on_unknown == "retry")
        buyer = Buyer(books_, lane, purse, policy, self.progress.settled, local.NAME)
        self.started.set()
        return await local.drive(buyer, resumed)

    async def _recover(self, books_: Ledger, spool: Spool) -> list[Attempt]:
        """Put back what was never sent, tidy the spool, and return the attempts that an earlier run left open."""
        spooled = list(spool.attempts())
        states = await books_.attempt_states(spooled)
        anything = spooled or any(self._order.folder.images.iterdir())
        if len(states) < len(spooled) or (books_.run == 1 and anything):
            raise StorageError(LOST.format(folder=self._order.folder.path))
        await books_.release_orphans()
        found = await books_.open_attempts()
        spool.purge({each for each in spooled if states[each] in KEPT})
        if found:
            log.info("%d attempts of an earlier run are open", len(found))
        return found

    async def _enqueue(self, books_: Ledger) -> None:
        """Hold what is wanted against what the ledger has. Only a whole pass over the manifest may drop anything."""
        if self._order.reopen:
            await books_.reopen(self._order.reopen)
        if not self._order.enqueue:
            return
        manifest = self._order.manifest
        await books_.keep_manifest(manifest.text)
        new = kept = 0
        for block in blocks(plan.tasks(manifest)):
            added, known = await books_.enqueue(block, manifest.provider.identity)
            new, kept = new + added, kept + known
        self.change = Change(new, kept, await books_.drop_unseen())
        log.info("%d new, %d kept, %d dropped", self.change.new, self.change.kept, self.change.dropped)

    async def _purse(self, books_: Ledger, provider: Provider) -> Purse:
        """The job's money as it stands, and the progress that is shown of it."""
        limits, retry = self._order.manifest.limits, self._order.manifest.retry
        spent, volumes = await books_.spent(), await books_.volumes()
        expected, dearest = estimate(provider, volumes)
        # 1 % of the estimate, at least one image, at most all that can be open at once
        default = min(max(expected // 100, dearest), limits.concurrency * dearest)
        self.progress.states = await books_.states()
        self.progress.states[TaskState.TODO] += self.progress.states.pop(TaskState.DOING)
        self.progress.states[TaskState.DOING] = 0
        self.progress.expected = expected
        return Purse(
            provider,
            budget=Cap(limits.budget, spent.high),
            images=Cap(limits.images, spent.images),
            allowance=Cap(allowance(retry, expected, default), spent.allowance),
        )


def authorization(provider: Provider, environ: Mapping[str, str]) -> dict[str, str]:
    """The headers that carry the key; UsageError where it is missing or cannot be one. Its value is never shown."""
    if provider.pretend:
        return {"authorization": "Bearer sandbox"}
    if not provider.api_key_env:
        return {}
    key = environ.get(provider.api_key_env, "").strip()
    if not key:
        raise UsageError(
            f"{provider.api_key_env} is not set: export it with your key for {provider.name or provider.host}"
        )
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise UsageError(
            f"{provider.api_key_env} holds characters that no key has (a space, a line end, a stray letter)"
        )
    extra = {name: environ[variable] for name, variable in provider.headers_env.items() if environ.get(variable)}
    return {"authorization": f"Bearer {key}", **extra}


def check_prices(manifest: Manifest) -> None:
    """Where no price is known, no budget holds: then the number of images must be limited."""
    if manifest.limits.images is not None:
        return
    for variant in plan.variants(manifest):
        model, tariff = catalog.model(variant.model), catalog.tariff(manifest.provider, variant.model)
        if costs.quote(tariff, model, variant) is None:
            raise UsageError(
                f"what {variant.model} costs at {manifest.provider.name or manifest.provider.host} is not known. "
                "Give the provider a price (provider: {…, price: {image: 0.04}}), or set limits.images."
            )


def estimate(provider: Provider, volumes: Iterable[Volume]) -> tuple[int, int]:
    """What the whole job is expected to cost, and what its dearest request may; nano-dollars, known prices only."""
    expected = dearest = 0
    for volume in volumes:
        model, tariff = catalog.model(volume.variant.model), catalog.tariff(provider, volume.variant.model)
        quote = costs.quote(tariff, model, volume.variant)
        if quote:
            expected += quote.of(volume.prompt_bytes, volume.tasks).expected
            dearest = max(dearest, quote.of(volume.longest).high)
    return expected, dearest


def allowance(retry: Retry, expected: int, default: int) -> int:
    """What may be sent again after an unknown, in nano-dollars: an amount, or a share of the estimate."""
    if isinstance(retry.allowance, Share):
        return int(retry.allowance.of_estimate * expected)
    return default if retry.allowance is None else retry.allowance


def conclude(states: Mapping[TaskState, int], cap: str, blocked: Blocked | None) -> Ended:
    """The exit code and its reason; where several are true, the most urgent."""
    bad = {name: states[name] for name in (TaskState.FAILED, TaskState.REFUSED, TaskState.HELD) if states[name]}
    if blocked:
        return Ended(5, f"blocked: {blocked}")
    if cap:
        return Ended(4, f"stopped by {cap}")
    if states[TaskState.TODO]:
        return Ended(7, "interrupted")
    if states[TaskState.DOING]:
        return Ended(7, f"{states[TaskState.DOING]} bought and still with the provider: run again to fetch them")
    if bad:
        return Ended(3, ", ".join(f"{count} {name}" for name, count in bad.items()))
    return Ended(0, "all done")


def blocks(tasks: Iterable[Task]) -> Iterator[list[Task]]:
    stream = iter(tasks)
    while block := list(islice(stream, BLOCK)):
        yield block


def open_folder(folder: Folder, manifest: Manifest) -> None:
    """Make what is missing, and keep the manifest beside what it made; another job's folder is refused."""
    with disk.storage("the run folder"):
        for path in (folder.images, folder.spool):
            disk.make_folder(path)
        folder.spool.chmod(0o700)
    file = os.path.relpath(manifest.file.resolve(), folder.path.resolve())  # a project may be moved as a whole
    if not folder.ledger.exists():
        ledger.create(folder.ledger, manifest.name, manifest.project, file)
    made_by = books.job(folder.ledger).manifest
    if file not in (made_by, folder.manifest.name):
        raise UsageError(
            f"{folder.path} was made by another manifest, {folder.path / made_by}. "
            "Give this one another name:, or use that one."
        )
    with disk.storage("the run folder"):
        disk.write_whole(folder.manifest, manifest.text.encode(), folder.path / ".manifest.part")


@contextmanager
def locked(folder: Folder) -> Iterator[None]:
    """Hold the folder; LockedError, naming the holder, where another run does. The kernel frees it when we die."""
    with disk.storage("the run folder"):
        disk.make_folder(folder.path)
    lock = filelock.FileLock(folder.lock)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise LockedError(f"another run holds {folder.path}{books.holder(folder.ledger)}") from None
    except OSError as error:
        raise StorageError(f"{folder.path} cannot be locked: {error.strerror}") from None
    try:
        yield
    finally:
        lock.release()


class Log(logging.FileHandler):
    """A log that a full disk ends in silence: the ledger says what matters."""

    def handleError(self, record: logging.LogRecord) -> None:
        pass


@contextmanager
def logged(folder: Folder) -> Iterator[None]:
    """Write run.log, one line an event."""
    try:
        os.close(os.open(folder.log, os.O_WRONLY | os.O_CREAT, 0o600))
        handler = Log(folder.log, encoding="utf-8")
    except OSError as error:
        raise StorageError(f"{folder.log}: {error.strerror}") from error
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False
    try:
        yield
    finally:
        log.removeHandler(handler)
        with suppress(OSError):
            handler.close()
