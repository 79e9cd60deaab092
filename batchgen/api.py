"""The Python API: what the commands do, with objects instead of words, and without touching any signal."""

import asyncio
import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TypedDict, Unpack

import anyio

from batchgen import books, offer, place, readers, report
from batchgen.ending import Ended
from batchgen.errors import ManifestError, UsageError, alone
from batchgen.folder import Folder, beside, find
from batchgen.forecast import Plan
from batchgen.manifest import Setup, load, loads
from batchgen.offer import Offer, Wish
from batchgen.store import Directory, Store

Job = str | PathLike[str] | Mapping[str, object]
"""A manifest: its file, or what would stand in it."""
GLANCE = 0.2  # seconds
Rows = Sequence[str | Mapping[str, object]]


class Options(TypedDict, total=False):
    """`rows`: prompts, or mappings of variables; they take the place of standard input, a source `file: "-"`, or of
    `prompts` where a mapping has none. `budget`: USD for the whole job, ever. `sample`: only so many tasks, spread over
    all combinations. `engine`: `local`, `batch`, or `ray`. `sandbox`: rehearse. `runs`: the folder of run folders.
    `settings` go before the manifest, by dotted key. `trust_hosts` may be given keys.
    """

    rows: Rows | None
    budget: float | None
    sample: int | None
    engine: str | None
    sandbox: bool
    runs: str | PathLike[str] | None
    settings: Mapping[str, object]
    trust_hosts: Sequence[str]


@dataclass(frozen=True, slots=True)
class Image:
    """A saved image. `ids` are the user's names for its rows, `axes` what the job varies, `task` its task's key."""

    path: Path | str
    """A file's path; a URL where it lies in a bucket."""
    prompt: str
    ids: tuple[str, ...]
    axes: Mapping[str, object]
    provider: str
    model: str
    format: str
    width: int
    height: int
    bytes: int
    sha256: str
    task: str


@dataclass(frozen=True, slots=True)
class Ledger:
    """A run's books, to read: `Ledger("runs/animals")`, or by the manifest that made it. Safe while it works."""

    folder: Path

    def __init__(self, run: str | PathLike[str]) -> None:
        object.__setattr__(self, "folder", find(str(run), None).path)

    def report(self) -> dict[str, object]:
        """What `batchgen report --json` prints."""
        return report.build(Folder(self.folder).ledger)

    def images(self) -> Iterator[Image]:
        """Every saved image that is still wanted, in the order they were made."""
        folder = Folder(self.folder)
        store = place.images(folder)
        with books.reading(folder.ledger) as db:
            for row in books.wanted_images(db):
                yield _image(store, row)

    def attempts(self, state: str = "") -> Iterator[Mapping[str, object]]:
        """Every sending of every task, or those of one state, as the view v_attempts has them."""
        with books.reading(Folder(self.folder).ledger) as db:
            yield from books.attempts(db, state)


@dataclass(frozen=True, slots=True)
class Result:
    """How a run ended; the exit codes are the command's, and 0 is all done. `report` is as Ledger.report."""

    exit_code: int
    reason: str
    folder: Path
    report: Mapping[str, object]

    @property
    def ledger(self) -> Ledger:
        return Ledger(self.folder)

    @property
    def images(self) -> list[Image]:
        """Every saved image that is still wanted, of this run and those before it."""
        return list(self.ledger.images())


async def run(job: Job, **options: Unpack[Options]) -> Result:
    """Make what a manifest wants and its ledger lacks; the same call goes on after any interruption.

    `job` is a manifest's file, or a mapping with the same keys. Without a budget nothing that costs money is sent.
    Cancelling drains: what is paid for is finished first. Runs on asyncio. Raises BatchgenError where it cannot begin
    or go on: ManifestError with every problem, LockedError, StorageError; a provider that refuses all is a Result.
    """
    return await _run(job, options, [])


def run_sync(job: Job, **options: Unpack[Options]) -> Result:
    """`run` for a program without an event loop, and for a notebook, which has one: it works in a thread of its own.

    Ctrl-C drains; a second one leaves at once, and what was on its way is of unknown fate.
    """
    return _Thread(job, options).result()


class _Thread:
    """A run in a thread, with a loop of its own, that whoever waits for it can interrupt."""

    def __init__(self, job: Job, options: Options) -> None:
        self._shields: list[anyio.CancelScope] = []
        self._loop = asyncio.new_event_loop()
        self._run = self._loop.create_task(_run(job, options, self._shields))
        self._ended = threading.Event()  # joining a thread does not survive an interrupt
        threading.Thread(target=self._work, name="batchgen", daemon=True).start()

    def _work(self) -> None:
        try:
            self._loop.run_until_complete(asyncio.wait([self._run]))
            self._loop.close()
        finally:
            self._ended.set()

    def result(self) -> Result:
        for interrupt in (self._run.cancel, self._leave):
            try:
                self._wait()
                break
            except KeyboardInterrupt:
                self._loop.call_soon_threadsafe(interrupt)
        self._ended.wait()
        if self._run.cancelled():
            raise KeyboardInterrupt
        return self._run.result()

    def _wait(self) -> None:
        """Until it has ended; within asyncio.run, Ctrl-C cancels the caller's task first, and raises nothing."""
        caller = asyncio.current_task() if asyncio._get_running_loop() else None
        before = caller.cancelling() if caller else 0
        while not self._ended.wait(GLANCE):
            if caller and caller.cancelling() > before:
                raise KeyboardInterrupt

    def _leave(self) -> None:
        for shield in self._shields:
            shield.cancel()


def plan(job: Job, **options: Unpack[Options]) -> Plan:
    """What `run` would do, cost and take; writes nothing, sends nothing."""
    return offer.drawn_up(_wish(job, options))


async def _run(job: Job, options: Options, shields: list[anyio.CancelScope]) -> Result:
    """`shields` is given the scope whose cancelling leaves at once."""
    wish = _wish(job, options)
    with offer.offered(wish) as offered:
        offered.question(terminal=False)
        ended = await _drained(offered, shields)
    told = report.build(wish.folder.ledger)
    return Result(ended.exit_code, ended.reason, wish.folder.path.absolute(), told)


def _wish(job: Job, options: Options) -> Wish:
    if strange := sorted(options.keys() - Options.__annotations__.keys()):
        raise TypeError(f"{strange[0]} is no option: {', '.join(Options.__annotations__)}")
    sample = options.get("sample")
    if sample is not None and not (isinstance(sample, int) and sample > 0):
        raise UsageError(f"sample: {sample!r} is not a number of tasks")
    rows, budget, runs = options.get("rows"), options.get("budget"), options.get("runs")
    overrides = dict(options.get("settings", {})) | ({} if budget is None else {"limits.budget": budget})
    overrides |= {"engine": engine} if (engine := options.get("engine")) else {}
    stdin = None if rows is None else _feed(rows)
    rehearse, trusted = options.get("sandbox", False), frozenset(options.get("trust_hosts", ()))
    setup = Setup(overrides=overrides, trust_hosts=trusted, rehearse=rehearse, stdin=stdin)
    manifest = loads(*_text(job, rows), setup) if isinstance(job, Mapping) else load(Path(job), setup)
    if rows is not None and not any(source.feed is stdin for source in manifest.sources):
        raise UsageError('rows: the manifest has no source that reads them: prompts: [{file: "-", format: jsonl}]')
    folder = Folder((Path(runs) if runs else beside(manifest.file)) / manifest.name)
    return Wish(manifest, folder, sample=sample)


def _feed(rows: Rows) -> readers.Feed:
    if isinstance(rows, str):
        raise UsageError("rows: a list of prompts, not one text")
    try:
        return readers.given(rows)
    except (TypeError, ValueError) as error:
        raise UsageError(f"rows: each is a prompt, or a mapping of names and plain values: {error}") from None


def _text(job: Mapping[str, object], rows: Rows | None) -> tuple[str, Path]:
    """A mapping as the manifest that it stands for, which would lie in the current folder."""
    whole = {**({"prompts": [{"file": "-", "format": "jsonl"}]} if rows is not None else {}), **job}
    try:
        text = json.dumps(whole, indent=1, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ManifestError(f"the manifest holds what YAML cannot say: {error}") from None
    return text, Path(f"{job.get('name', 'job')}.yaml")


async def _drained(offered: Offer, shields: list[anyio.CancelScope]) -> Ended:
    """Run the job to its end, shielded; whoever cancels makes it drain, and waits for what is paid for."""
    ended: list[Ended] = []
    done = anyio.Event()

    async def work() -> None:
        try:
            with anyio.CancelScope(shield=True) as shield:
                shields.append(shield)
                ended.append(await offered.accept())
        finally:
            done.set()

    with alone():
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(work)
            try:
                await done.wait()
            finally:
                offered.job.drain()
    return ended[0] if ended else Ended(7, "told to leave at once")


def _image(store: Store, row: books.Row) -> Image:
    found, where = dict(row), store.where(str(row["path"]))
    return Image(
        path=Path(where) if isinstance(store, Directory) else where,
        prompt=str(found["prompt"]),
        ids=tuple(json.loads(str(found["ids"]))),
        axes=json.loads(str(found["axes"])),
        provider=str(found["provider"]),
        model=str(found["model"]),
        format=str(found["format"]),
        width=int(str(found["width"])),
        height=int(str(found["height"])),
        bytes=int(str(found["bytes"])),
        sha256=str(found["sha256"]),
        task=str(found["task"]),
    )
