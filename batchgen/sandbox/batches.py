"""All batches: created, listed, cancelled, and kept alive until they have ended."""

import asyncio
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from batchgen.sandbox import envelope, openai
from batchgen.sandbox.batch import Batch
from batchgen.sandbox.batch_run import Life, Pace
from batchgen.sandbox.journal import Journal
from batchgen.sandbox.order import Problem, Refused
from batchgen.sandbox.studio import Counter, Studio
from batchgen.sandbox.uploads import MONTH, Upload

_HOUR, _AN_HOUR = 3600, 2_000  # seconds, and how many may be created in them
_MOST_PAIRS, _LONGEST_KEY, _LONGEST_VALUE = 16, 64, 512
_FIELDS = ("input_file_id", "endpoint", "completion_window", "metadata", "output_expires_after")


@dataclass(frozen=True, slots=True)
class Queue:
    """How many input tokens may wait for a model, 0 for any number, and whether that is said at once."""

    tokens: int = 0
    at_create: bool = False


class Batches:
    """By id, in the order of their creation. The i-th to be created gets the i-th fault."""

    def __init__(
        self,
        studio: Studio,
        pace: Pace,
        queue: Queue,
        faults: Sequence[str] = (),
        journal: Journal | None = None,
    ) -> None:
        self._studio = studio
        self._pace = pace
        self._queue = queue
        self._faults = faults
        self._journal = journal or Journal()
        self._all = {record["id"]: Batch(**record) for record in self._journal.records()}
        self._tasks: set[asyncio.Task[None]] = set()
        operations = [each for each in openai.DIALECT.operations if each.name != "vary"]
        counters = {f"/v1/{each.path}": Counter(studio, openai.DIALECT, each) for each in operations}
        self._life = Life(studio, pace, counters, self._keep, self._full)

    def begin(self) -> None:
        """Takes up those that the last start left open; wants a running loop."""
        for batch in self._all.values():
            if batch.open:
                self._live(batch)

    def end(self) -> None:
        for task in self._tasks:
            task.cancel()
        self._studio.uploads.end()

    def get(self, name: str) -> Batch:
        """Raises Refused."""
        batch = self._all.get(name)
        if batch is None:
            raise Refused(Problem(404, f"No batch found with id '{name}'."))
        return batch

    def look(self, name: str) -> dict[str, object]:
        batch = self.get(name)
        told = batch.told()
        if not batch.open and batch.hidden:
            batch.hidden -= 1
            self._keep(batch)
        return told

    def all(self) -> Sequence[Batch]:
        """The newest first."""
        return list(reversed(self._all.values()))

    async def create(self, fields: Mapping[str, Any]) -> Batch:
        """Raises Refused."""
        _check(fields, self._life.counters)
        upload = self._input(fields["input_file_id"])
        self._hurry()
        now, kept = time.time(), fields.get("output_expires_after") or {}
        batch = Batch(
            input_file_id=upload.id,
            endpoint=fields["endpoint"],
            at=now,
            window=self._pace.window,
            metadata=fields.get("metadata"),
            output_seconds=kept.get("seconds", 0),
            fault=self._faults[len(self._all)] if len(self._all) < len(self._faults) else "ok",
        )
        uploads = self._studio.uploads
        os.link(uploads.path(upload.id), uploads.path(f"{batch.id}.input"))  # it stays although the file is deleted
        if self._queue.at_create:
            await self._admit(batch)
        self._keep(batch)
        self._live(batch)
        return batch

    def cancel(self, name: str) -> Batch:
        """Raises Refused."""
        batch = self.get(name)
        if batch.status in ("validating", "in_progress"):
            self._life.turn(batch, "cancelling")
        elif batch.status != "cancelling":
            raise Refused(Problem(409, f"Cannot cancel a batch with status '{batch.status}'."))
        return batch

    def _input(self, name: object) -> Upload:
        upload = self._studio.uploads.get(str(name))
        if upload is None:
            refuse(f"Invalid input_file_id: no such File object: {name}.", "input_file_id")
        if upload.purpose != "batch":
            refuse(f"Invalid purpose of the input file: '{upload.purpose}'. Expected 'batch'.", "input_file_id")
        return upload

    def _hurry(self) -> None:
        lately = sum(batch.at > time.time() - _HOUR for batch in self._all.values())
        if lately >= _AN_HOUR:
            message = f"Rate limit reached for batch creation: Limit {_AN_HOUR} per hour. Please try again later."
            raise Refused(Problem(429, message, "requests", code="rate_limit_exceeded"))

    async def _admit(self, batch: Batch) -> None:
        found = await self._life.checked(batch)
        batch.model, batch.tokens = found.model, found.tokens
        if not found.errors and (problem := self._full(batch)):
            self._studio.uploads.path(f"{batch.id}.input").unlink()
            raise Refused(Problem(400, problem, code="token_limit_exceeded"))

    def _full(self, batch: Batch) -> str:
        waiting = [each for each in self._all.values() if each.open and each.model == batch.model and each is not batch]
        if not self._queue.tokens or batch.tokens + sum(each.tokens for each in waiting) <= self._queue.tokens:
            return ""
        return (
            f"Enqueued token limit reached for {batch.model} in organization {envelope.ORGANIZATION}."
            f" Limit: {self._queue.tokens:,} enqueued tokens."
            " Please try again once some in_progress batches have been completed."
        )

    def _live(self, batch: Batch) -> None:
        task = asyncio.get_running_loop().create_task(self._life(batch))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _keep(self, batch: Batch) -> None:
        self._all[batch.id] = batch
        self._journal.add(batch.record())


def _check(fields: Mapping[str, Any], endpoints: Mapping[str, object]) -> None:
    for name in fields:
        if name not in _FIELDS:
            refuse(f"Unknown parameter: '{name}'.", name, "unknown_parameter")
    for name in _FIELDS[:3]:
        if fields.get(name) is None:
            refuse(f"Missing required parameter: '{name}'.", name, "missing_required_parameter")
    if fields["endpoint"] not in endpoints:
        known = " and ".join(f"'{each}'" for each in endpoints)
        refuse(f"Invalid value: '{fields['endpoint']}'. Supported values are: {known}.", "endpoint")
    if fields["completion_window"] != "24h":
        refuse(f"Invalid value: '{fields['completion_window']}'. Value must be '24h'.", "completion_window")
    _check_metadata(fields.get("metadata") or {})
    check_expiry(fields.get("output_expires_after"), "output_expires_after")


def _check_metadata(pairs: object) -> None:
    if not isinstance(pairs, dict):
        refuse("Invalid type for 'metadata': expected an object.", "metadata", "invalid_type")
    if len(pairs) > _MOST_PAIRS:
        message = f"Invalid 'metadata': too many properties. Expected at most {_MOST_PAIRS}, but got {len(pairs)}."
        refuse(message, "metadata", "object_above_max_properties")
    for key, value in pairs.items():
        if len(key) > _LONGEST_KEY:
            message = f"Invalid 'metadata': the key '{key}' is longer than {_LONGEST_KEY} characters."
            refuse(message, "metadata", "invalid_value")
        if not isinstance(value, str):
            refuse(f"Invalid type for 'metadata.{key}': expected a string.", f"metadata.{key}", "invalid_type")
        if len(value) > _LONGEST_VALUE:
            message = f"Invalid 'metadata.{key}': string too long. Expected at most {_LONGEST_VALUE} characters."
            refuse(message, f"metadata.{key}", "string_above_max_length")


def check_expiry(given: object, name: str) -> None:
    """Of files: raises Refused."""
    if given is None:
        return
    if not isinstance(given, dict) or given.get("anchor") != "created_at":
        refuse(f"Invalid value for '{name}.anchor': the only one supported is 'created_at'.", f"{name}.anchor")
    seconds = given.get("seconds")
    if not isinstance(seconds, int) or not _HOUR <= seconds <= MONTH:
        refuse(f"Invalid '{name}.seconds': expected a value from {_HOUR} to {MONTH}.", f"{name}.seconds")


def refuse(message: str, param: str, code: str = "invalid_value") -> NoReturn:
    raise Refused(Problem(400, message, param=param, code=code))
