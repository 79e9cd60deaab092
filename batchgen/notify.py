"""Tell a webhook and a command how a run goes. What goes wrong with that is logged, and is no trouble of the run."""

import asyncio
import logging
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import get_args

import anyio
import anyio.to_thread
import httpx

from batchgen import __version__, books, redact, sums
from batchgen.form import Event
from batchgen.lookout import Lookout
from batchgen.manifest import Manifest
from batchgen.notice import Notice
from batchgen.problems import cut
from batchgen.progress import Progress
from batchgen.tallies import Tallies
from batchgen.text import clean

EVERY = 2.0  # seconds between two looks
PATIENCE = 10.0  # seconds for one notice, whatever it is told to
SECOND = 1.0  # seconds before the second and last try
REASON_MOST = 300  # letters
HARMLESS = str.maketrans("<>@", "‹›＠")  # what a provider says may call nobody in a chat, and lead nobody anywhere
KINDS = {"text": "text/plain; charset=utf-8", "json": "application/json"}
log = logging.getLogger("batchgen")


class Untold(Exception):
    """It was not taken; the text tells no secret."""


@dataclass(slots=True)
class Herald:
    """Tells of one run, where its manifest wants that. `pretend`: it spends no real money."""

    manifest: Manifest
    ledger: Path
    pretend: bool
    environ: Mapping[str, str]
    progress: Progress
    _lookout: Lookout | None = None
    _due: dict[Event, str] = field(default_factory=dict)  # what is not told yet, in words

    async def watch(self) -> None:
        """Look after the run, until that is cancelled."""
        with unharmed():
            await self._watch()

    async def end(self, exit_code: int, reason: str) -> None:
        """Tell how it ended, together with what nobody was told before."""
        with unharmed():
            await self._end(exit_code, reason)

    async def _watch(self) -> None:
        if self.manifest.notify is None:
            return
        self._lookout = Lookout(self.progress, self.manifest.limits.timeout, time.monotonic())
        while True:
            await anyio.sleep(EVERY)
            self._look()
            await self._tell()
            self._due.clear()

    async def _end(self, exit_code: int, reason: str) -> None:
        if exit_code in (0, 3) and not self.progress.lanes:  # there was nothing to do, as the last run has told
            return
        self._look()
        known = any(lane.blocked for lane in self.progress.lanes)  # and was told, or is due
        self._due |= dict.fromkeys(endings(exit_code, reason, known), reason)
        await self._tell(exit_code, reason)

    def _look(self) -> None:
        self._due.update(self._lookout.look(time.monotonic()) if self._lookout else ())

    async def _tell(self, exit_code: int | None = None, reason: str = "") -> None:
        told = self.manifest.notify
        events = tuple(event for event in get_args(Event) if told and event in told.on and event in self._due)
        if not told or not events:
            return
        tallies = await self._tallies()
        reason = reason or "; ".join(self._due[event] for event in events)
        said = cut(redact.redact(clean(reason), self._secrets()), REASON_MOST).translate(HARMLESS)
        body = Notice(self.manifest.name, events, said, exit_code, tallies, self.pretend).body(told.format)
        async with anyio.create_task_group() as tasks:
            if told.url_env:
                url = self.environ.get(told.url_env, "").strip()
                tasks.start_soon(attempted, f"the webhook in {told.url_env}", partial(post, url, body, told.format))
            if told.command:
                call = partial(run, told.command, self.manifest.folder, self._environ(), body)
                tasks.start_soon(attempted, f"the command {told.command[0]}", call)

    async def _tallies(self) -> Tallies | None:
        """What the ledger holds; None where it cannot be read in time."""
        with suppress(Exception), anyio.move_on_after(PATIENCE):  # whatever it is, the run goes on
            return await anyio.to_thread.run_sync(_tallies, self.ledger, abandon_on_cancel=True)
        return None

    def _secrets(self) -> list[str]:
        return [*redact.secrets(self.environ), *(key for lane in self.progress.lanes for key in lane.secrets)]

    def _environ(self) -> dict[str, str]:
        """What a command sees: all but the providers' keys."""
        keys = {lane.api_key_env for each in self.manifest.providers.values() for lane in (each, *each.lanes)}
        return {name: value for name, value in self.environ.items() if name not in keys}


@contextmanager
def unharmed() -> Iterator[None]:
    """A mistake of ours in telling of a run is no end of the run."""
    try:
        yield
    except Exception as error:
        log.warning("notify: nobody is told any more: %s", type(error).__name__)


def endings(exit_code: int, reason: str, known: bool) -> Iterator[Event]:
    """What the end of a run is, beside that; `known`: that a provider blocks."""
    yield "end"
    if exit_code == 4:
        yield "until" if "limits.until" in reason else "budget"
    if exit_code == 5 and not known:
        yield "blocked"


def lacks(manifest: Manifest, environ: Mapping[str, str]) -> Iterator[str]:
    """Why nobody would hear of the run."""
    told = manifest.notify
    if told and told.url_env:
        url = environ.get(told.url_env, "").strip()
        if not url.lower().startswith(("https://", "http://")):
            yield f"notify: {told.url_env} {'holds no URL such as https://host/…' if url else 'is not set'}"
    if told and told.command and not _found(told.command[0], manifest.folder, environ):
        yield f"notify: there is no command {told.command[0]}; paths begin in {manifest.folder.absolute()}"


def _found(word: str, folder: Path, environ: Mapping[str, str]) -> bool:
    """Whether there is that command; a path begins in the manifest's folder."""
    return shutil.which(str(folder.absolute() / word) if "/" in word else word, path=environ.get("PATH")) is not None


def _tallies(ledger: Path) -> Tallies:
    with books.reading_together(ledger) as dbs:
        return sums.tallies(dbs, by_variant=False)


async def attempted(who: str, tell: Callable[[], Awaitable[None]]) -> None:
    """Tell them, in bounded time; what goes wrong is logged. An error's own words are not: they may hold the URL."""
    try:
        with anyio.fail_after(PATIENCE):
            await tell()
    except Untold as error:
        says = str(error)
    except TimeoutError:
        says = f"not within {PATIENCE:g} s"
    except Exception as error:  # whatever it is, the run goes on
        says = (error.strerror if isinstance(error, OSError) else "") or type(error).__name__
    else:
        return
    log.warning("notify: %s was not told: %s", who, says)


async def post(url: str, body: bytes, form: str) -> None:
    """Send it to a webhook, a second time where it may have been out of reach; Untold where it is not taken."""
    if not url:
        raise Untold("it is not set")
    for last in (False, True):
        try:
            status = await _posted(url, body, KINDS[form])
        except httpx.TransportError:
            if last:
                raise
        else:
            if status < 300:
                return
            if last or status < 500:
                raise Untold(f"it answered {status}" + (", and nobody is followed" if status < 400 else ""))
        await anyio.sleep(SECOND)


async def _posted(url: str, body: bytes, kind: str) -> int:
    """The status of the answer, asked for in a thread that nobody waits for: what resolves a name may hang for long."""
    done, found, loop = anyio.Event(), list[int | Exception](), asyncio.get_running_loop()

    def ask() -> None:
        try:
            found.append(_status(url, body, kind))
        except Exception as error:
            found.append(error)
        with suppress(RuntimeError):  # the run is over
            loop.call_soon_threadsafe(done.set)

    threading.Thread(target=ask, daemon=True).start()
    await done.wait()
    if isinstance(found[0], Exception):
        raise found[0]
    return found[0]


def _status(url: str, body: bytes, kind: str) -> int:
    """Of the answer; what else it says is not read."""
    headers = {"content-type": kind, "user-agent": f"batchgen/{__version__}"}
    with (
        httpx.Client(timeout=PATIENCE, follow_redirects=False) as client,
        client.stream("POST", url, content=body, headers=headers) as answer,
    ):
        return answer.status_code


async def run(words: tuple[str, ...], folder: Path, environ: Mapping[str, str], body: bytes) -> None:
    """Run a command, with what is told as its input; killed with all its group where it is not over in time."""
    source, quiet = _filled(body), subprocess.DEVNULL
    try:
        process = await anyio.open_process(
            words, stdin=source, stdout=quiet, stderr=quiet, cwd=folder, env=environ, start_new_session=True
        )
    finally:
        os.close(source)
    try:
        if code := await process.wait():
            raise Untold(f"it ended with {code}")
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            with anyio.CancelScope(shield=True), anyio.move_on_after(SECOND):
                await process.wait()


def _filled(body: bytes) -> int:
    """A pipe that holds all of it: a notice is short, and so nobody waits for a command that does not read."""
    source, sink = os.pipe()
    try:
        os.set_blocking(sink, False)
        os.write(sink, body)
    except OSError:
        os.close(source)
        raise
    finally:
        os.close(sink)
    return source
