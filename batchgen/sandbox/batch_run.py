"""The life of a batch: validated, executed line by line at a pace, and told; taken up where it was after a restart."""

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import anyio
import anyio.lowlevel

from batchgen.sandbox import batch_sheets
from batchgen.sandbox.batch import Batch
from batchgen.sandbox.batch_check import Check, Checked, Line
from batchgen.sandbox.batch_faults import FAULTS, LATE, BatchFault
from batchgen.sandbox.batch_sheets import Sheets
from batchgen.sandbox.body import JSON
from batchgen.sandbox.order import Asked
from batchgen.sandbox.studio import Counter, Studio
from batchgen.sandbox.uploads import MONTH, Upload, name_of

_TICK = 0.02  # seconds after which a waiting batch looks whether it was cancelled
_UNMADE = {
    "expired": {
        "code": "batch_expired",
        "message": "This request could not be executed before the completion window expired.",
    },
    "cancelled": {
        "code": "batch_cancelled",
        "message": "This request could not be executed because the batch was cancelled.",
    },
}


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast a batch lives, in seconds and lines a second; `slow` is the share of lines that take `slow_seconds`."""

    rate: float = 100.0
    validating: float = 0.0
    finalizing: float = 0.0
    cancelling: float = 0.0
    window: float = 86_400.0
    slow: float = 0.0
    slow_seconds: float = 0.0
    seed: int = 0

    def chance(self, name: str) -> float:
        """From 0 to 1, the same for the same seed and name."""
        return int(hashlib.sha256(f"{self.seed} {name}".encode()).hexdigest()[:12], 16) / 16**12


@dataclass(frozen=True, slots=True)
class Life:
    """What every batch lives by; `keep` notes its new state, and `queued` counts the tokens that wait for a model."""

    studio: Studio
    pace: Pace
    counters: Mapping[str, Counter]  # by endpoint
    keep: Callable[[Batch], None]
    full: Callable[[Batch], str]  # why the queue takes no more of it; empty where it does

    async def __call__(self, batch: Batch) -> None:
        if batch.status == "validating":
            if end := await self._until(batch, batch.at + self.pace.validating):
                self._publish(batch, end)
            else:
                await self._validate(batch)
        if batch.status in ("in_progress", "cancelling"):
            await self._execute(batch)
        if batch.status == "finalizing":
            await anyio.sleep(max(0.0, batch.times["finalizing"] + self.pace.finalizing - time.time()))
            self._publish(batch, "completed")

    def turn(self, batch: Batch, status: str) -> None:
        batch.status = status
        batch.times[status] = time.time()
        self.keep(batch)

    async def checked(self, batch: Batch) -> Checked:
        check = Check(batch.endpoint, self.counters[batch.endpoint].family)
        return await anyio.to_thread.run_sync(check, self._path(batch, "input"))

    async def _validate(self, batch: Batch) -> None:
        if batch.status != "validating":  # cancelled by now
            return
        found = await self.checked(batch)
        batch.model, batch.tokens = found.model, found.tokens
        if FAULTS[batch.fault].invalid:
            found.wrong("server_error", "The batch could not be validated. Please try again.")
        if not found.errors and (problem := self.full(batch)):
            found.wrong("token_limit_exceeded", problem)
        if batch.status != "validating":
            return
        if found.errors:
            batch.errors = found.errors
            self._end(batch, "failed")
        else:
            batch.total = len(found.lines)
            self.turn(batch, "in_progress")

    async def _execute(self, batch: Batch) -> None:
        """Executes lines until the last, or until there is a reason to leave the others as they are."""
        lines = (await self.checked(batch)).lines if batch.total else []
        order = sorted(lines, key=lambda line: (self._slow(line), self.pace.chance(f"order {line.custom_id}")))
        with Sheets(self._path(batch, "output"), self._path(batch, "error")) as sheets:
            end = await self._work(batch, order, sheets)
            self._count(batch, sheets)
            written = sheets.written
            for line in order if end in _UNMADE else ():
                if line.custom_id not in written:
                    sheets.never(line.custom_id, _UNMADE[end])
        if end == "finalizing":
            self.turn(batch, "finalizing")
        else:
            self._publish(batch, end)

    async def _work(self, batch: Batch, order: Sequence[Line], sheets: Sheets) -> str:
        """What the batch becomes next."""
        if sheets.unmade:  # it had ended when the provider was killed
            return "cancelled" if batch.status == "cancelling" else "expired"
        fault, begun = FAULTS[batch.fault], time.time()
        done = sheets.written
        left = [(nth, line) for nth, line in enumerate(order) if line.custom_id not in done]
        with self._path(batch, "input").open("rb") as source:
            for position, (nth, line) in enumerate(left):
                due = begun + position / self.pace.rate
                if self._slow(line):
                    due = max(due, batch.times["in_progress"] + self.pace.slow_seconds)
                if end := await self._until(batch, due):
                    return end
                if fault.dies and nth >= len(order) // 2:
                    return "failed"
                source.seek(line.offset)
                await self._line(batch, fault, nth, line, source.read(line.length), sheets)
                self._count(batch, sheets)
        if batch.status == "cancelling":
            return await self._until(batch, float("inf"))
        return "finalizing"

    async def _until(self, batch: Batch, due: float) -> str:
        """Waits; what the batch becomes where it ends before."""
        await anyio.lowlevel.checkpoint()
        while True:
            now = time.time()
            if batch.status == "cancelling" and now >= batch.times["cancelling"] + self.pace.cancelling:
                return "cancelled"
            if batch.status != "cancelling" and now >= batch.ends:
                return "expired"
            if now >= due:
                return ""
            await anyio.sleep(min(_TICK, due - now))

    async def _line(self, batch: Batch, fault: BatchFault, nth: int, line: Line, raw: bytes, sheets: Sheets) -> None:
        body = json.dumps(json.loads(raw)["body"]).encode()
        headers = {"content-type": JSON, "x-client-request-id": line.custom_id}
        request_id = f"req_{uuid4().hex}"
        asked = Asked(line.number, time.perf_counter(), request_id, batch.endpoint, headers, body, batch=batch.id)
        answer = await self.counters[batch.endpoint].line(asked, *fault.made(nth))
        written = batch_sheets.line(line.custom_id, request_id, answer)
        if answer.status == 200:
            sheets.succeed(line.custom_id, fault.written(nth, written))
        else:
            sheets.fail(line.custom_id, written)

    def _count(self, batch: Batch, sheets: Sheets) -> None:
        batch.completed, batch.failed = len(sheets.good), len(sheets.bad)

    def _publish(self, batch: Batch, status: str) -> None:
        """Its files first: a restart in between finds them under the same names."""
        fault = FAULTS[batch.fault]
        kept = status != "failed" or fault.keeps
        for kind in ("output", "error"):
            path = self._path(batch, kind)
            wanted = kept and ((path.exists() and path.stat().st_size) or (kind == "error" and fault.empty_errors))
            name = name_of(batch.id, kind)
            if self.studio.uploads.get(name) or wanted:
                self._hand_over(batch, kind, name)
        batch.usage = _totals(self.studio.bill.of_batch(batch.id)) if fault.totals else None
        batch.hidden = LATE if fault.late else 0
        if status == "failed":
            message = "The batch failed while it was in progress."
            batch.errors = [{"code": "server_error", "line": None, "message": message, "param": None}]
        self._end(batch, status)

    def _end(self, batch: Batch, status: str) -> None:
        self.turn(batch, status)
        for kind in ("input", "output", "error"):
            self._path(batch, kind).unlink(missing_ok=True)

    def _hand_over(self, batch: Batch, kind: str, name: str) -> None:
        uploads, path = self.studio.uploads, self._path(batch, kind)
        if not uploads.get(name):
            size, now = path.stat().st_size, int(time.time())
            expires = now + (batch.output_seconds or MONTH)
            uploads.add(Upload(f"{batch.id}_{kind}.jsonl", "batch_output", size, expires, name, now), path)
        batch.files[kind] = name

    def _slow(self, line: Line) -> bool:
        return self.pace.chance(line.custom_id) < self.pace.slow

    def _path(self, batch: Batch, kind: str) -> Path:
        return self.studio.uploads.path(f"{batch.id}.{kind}")


def _totals(taken: Mapping[str, int]) -> Mapping[str, object]:
    return {
        "input_tokens": taken["input_tokens"],
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": taken["output_tokens"],
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": taken["total_tokens"],
    }
