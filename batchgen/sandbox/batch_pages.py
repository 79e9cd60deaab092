"""OpenAI's Files and Batch API: its paths, and how each call is answered, or lost on request."""

import json
import re
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import anyio
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from batchgen.sandbox import batch_faults, delivery, envelope, openai, upload_form
from batchgen.sandbox.batches import Batches, check_expiry, refuse
from batchgen.sandbox.delivery import Wire
from batchgen.sandbox.dialect import respond
from batchgen.sandbox.order import Answer, Asked, Problem, Refused
from batchgen.sandbox.studio import arrived
from batchgen.sandbox.uploads import LARGEST, LARGEST_BATCH, MONTH, PURPOSES, Upload, Uploads

_READABLE = ("batch", "batch_output", "fine-tune", "fine-tune-results")
_OVERHEAD = 100_000  # bytes that a form has besides its file
_CHUNK = 2**20
_LONGEST_PAGE, _LONGEST_FILE_PAGE = 100, 10_000
_PROBLEMS = {
    "500": envelope.WORDS["500"],
    "503": envelope.WORDS["503-retry"],
    "billing": envelope.WORDS["billing"],
    "429": Problem(
        429,
        "Rate limit reached for requests. Please try again in 1s.",
        "requests",
        code="rate_limit_exceeded",
        headers={"retry-after": "1"},
    ),
}


@dataclass(frozen=True, slots=True)
class Contents:
    """A part of a file, to be read as it leaves."""

    path: Path
    start: int
    end: int
    whole: int
    partial: bool = True


@dataclass(frozen=True, slots=True)
class Desk:
    """Where files and batches are dealt with; without `ranges` a file is always sent whole."""

    uploads: Uploads
    batches: Batches
    calls: batch_faults.Calls
    ranges: bool = True

    def routes(self, prefix: str) -> Iterator[Route]:
        table: tuple[tuple[str, str, str, _Handler], ...] = (
            ("POST", "files", "upload", self._upload),
            ("GET", "files", "files", self._files),
            ("GET", "files/{id}", "file", self._file),
            ("DELETE", "files/{id}", "delete", self._delete),
            ("GET", "files/{id}/content", "content", self._content),
            ("POST", "batches", "create", self._create),
            ("GET", "batches", "batches", self._list),
            ("GET", "batches/{id}", "batch", self._batch),
            ("POST", "batches/{id}/cancel", "cancel", self._cancel),
        )
        for method, path, kind, handler in table:
            yield Route(f"{prefix}/v1/{path}", _Call(self, kind, handler), methods=[method])

    def all(self) -> dict[str, object]:
        """Every batch and file that ever was, for tests."""
        return {"batches": [each.told() for each in self.batches.all()], "files": list(self.uploads.all())}

    async def _upload(self, call: "_Asking") -> Answer:
        target = self.uploads.arriving()
        chunks = call.wire.arriving()
        try:
            form = await upload_form.read(
                call.asked.headers.get("content-type", ""), chunks, target, LARGEST + _OVERHEAD
            )
            return respond(self.uploads.add(_uploaded(form), target).told())
        except (ValueError, OverflowError, Refused) as problem:
            raise _unread(problem) from None
        finally:
            target.unlink(missing_ok=True)

    async def _files(self, call: "_Asking") -> Answer:
        query = call.asked.query
        found = [each for each in self.uploads.held() if query.get("purpose", each.purpose) == each.purpose]
        if query.get("order", "desc") == "desc":
            found.reverse()
        return _page([each.told() for each in found], query, _LONGEST_FILE_PAGE, _LONGEST_FILE_PAGE)

    async def _file(self, call: "_Asking") -> Answer:
        return respond(self._held(call.id).told())

    async def _delete(self, call: "_Asking") -> Answer:
        self.uploads.delete(self._held(call.id).id)
        return respond({"object": "file", "id": call.id, "deleted": True})

    async def _content(self, call: "_Asking") -> Contents:
        upload = self._held(call.id)
        if upload.purpose not in _READABLE:
            raise Refused(Problem(400, f"Not allowed to download files of purpose: {upload.purpose}"))
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", call.asked.headers.get("range", ""))
        path, whole = self.uploads.path(upload.id), upload.bytes
        if not wanted or not self.ranges or call.fault == "norange":
            return Contents(path, 0, whole, whole, partial=False)
        start, end = int(wanted[1]), min(whole, int(wanted[2]) + 1) if wanted[2] else whole
        if start >= whole:
            raise Refused(
                Problem(416, "Requested range not satisfiable.", headers={"content-range": f"bytes */{whole}"})
            )
        return Contents(path, start, end, whole)

    async def _create(self, call: "_Asking") -> Answer:
        if call.fault == "billing":
            raise Refused(_PROBLEMS["billing"])
        return respond((await self.batches.create(await call.fields())).told())

    async def _list(self, call: "_Asking") -> Answer:
        return _page([each.told() for each in self.batches.all()], call.asked.query, 20, _LONGEST_PAGE)

    async def _batch(self, call: "_Asking") -> Answer:
        return respond(self.batches.look(call.id))

    async def _cancel(self, call: "_Asking") -> Answer:
        return respond(self.batches.cancel(call.id).told())

    def _held(self, name: str) -> Upload:
        upload = self.uploads.get(name)
        if upload is None:
            raise Refused(Problem(404, f"No such File object: {name}", param="id"))
        return upload


@dataclass(frozen=True, slots=True)
class _Asking:
    """One call on its way; `id` is of what its path names."""

    wire: Wire
    asked: Asked
    id: str
    fault: str

    async def fields(self) -> dict[str, Any]:
        """Of its JSON body; raises Refused."""
        try:
            fields = json.loads(await self.wire.read() or b"")
        except ValueError:
            fields = None
        if not isinstance(fields, dict):
            raise Refused(Problem(400, "We could not parse the JSON body of your request."))
        return fields


_Handler = Callable[[_Asking], Awaitable[Answer | Contents]]


@dataclass(frozen=True, slots=True)
class _Call:
    """An ASGI application for the calls of one kind."""

    desk: Desk
    kind: str
    handler: _Handler

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        wire, asked = Wire(scope, receive, send), arrived(scope)
        fault = self.desk.calls.next(self.kind)
        call = _Asking(wire, asked, scope["path_params"].get("id", ""), fault)
        if fault == "cut-before":
            await delivery.cut(wire, Answer(0, b""))
            return
        try:
            openai.DIALECT.lock.admit(asked)
            if fault in ("500", "429", "503"):
                raise Refused(_PROBLEMS[fault])
            answer = await self.handler(call)
        except Refused as no:
            async for _ in wire.arriving():  # or a client that still sends would see a cut connection
                pass
            answer = openai.DIALECT.refusal(no.problem, asked)
        headers = openai.DIALECT.headers(asked, None, time.perf_counter() - asked.at)
        if fault == "cut":
            await delivery.cut(wire, Answer(0, b""))
        elif isinstance(answer, Contents):
            await _send(wire, answer, headers, fault)
        else:
            deliver = delivery.truncate if fault == "truncate" else delivery.whole
            await deliver(wire, replace(answer, headers={**answer.headers, **headers}))


async def _send(wire: Wire, contents: Contents, headers: Mapping[str, str], fault: str) -> None:
    """Piece by piece, however long it is."""
    length = contents.end - contents.start
    said = {"content-type": "application/octet-stream", "content-length": str(length), "accept-ranges": "bytes"}
    if contents.partial:
        said["content-range"] = f"bytes {contents.start}-{contents.end - 1}/{contents.whole}"
    await wire.begin(206 if contents.partial else 200, {**headers, **said})
    left = length // 2 if fault == "truncate" else length
    async with await anyio.open_file(contents.path, "rb") as file:
        await file.seek(contents.start)
        while left:
            chunk = await file.read(min(_CHUNK, left))
            left -= len(chunk)
            await wire.write(bytes(len(chunk)) if fault == "garbage" else chunk)
    if fault == "truncate":
        wire.close()
        await wire.gone()
    else:
        await wire.write(b"", last=True)


def _uploaded(form: upload_form.Form) -> Upload:
    """Raises Refused."""
    purpose = form.fields.get("purpose", "")
    if not purpose:
        refuse("Missing required parameter: 'purpose'.", "purpose", "missing_required_parameter")
    if purpose not in PURPOSES:
        known = ", ".join(f"'{each}'" for each in PURPOSES)
        refuse(f"Invalid value: '{purpose}'. Supported values are: {known}.", "purpose")
    if not form.filename:
        refuse("Missing required parameter: 'file'.", "file", "missing_required_parameter")
    if form.bytes > (LARGEST_BATCH if purpose == "batch" else LARGEST):
        refuse(f"The file is too large for purpose '{purpose}': it has {form.bytes} bytes.", "file")
    if purpose == "batch" and not form.filename.endswith(".jsonl"):
        refuse("Invalid file format for Batch API. Must be .jsonl", "file")
    now = int(time.time())
    seconds = _expiry(form.fields) or (MONTH if purpose == "batch" else 0)
    return Upload(form.filename, purpose, form.bytes, now + seconds if seconds else None, created_at=now)


def _expiry(fields: Mapping[str, str]) -> int:
    """Seconds; 0 where none was given."""
    anchor, seconds = (fields.get(f"expires_after[{name}]") for name in ("anchor", "seconds"))
    if anchor is None and seconds is None:
        return 0
    whole = int(seconds) if seconds and seconds.isdecimal() else None
    check_expiry({"anchor": anchor, "seconds": whole}, "expires_after")
    return whole or 0


def _unread(problem: Exception) -> Refused:
    if isinstance(problem, Refused):
        return problem
    if isinstance(problem, OverflowError):
        return Refused(Problem(413, f"Maximum content size limit ({LARGEST}) exceeded."))
    return Refused(Problem(400, f"We could not parse the form of your request: {problem}."))


def _page(items: Sequence[Mapping[str, object]], query: Mapping[str, str], usual: int, most: int) -> Answer:
    said = query.get("limit", str(usual))
    if not said.isdecimal() or not 1 <= int(said) <= most:
        refuse(f"Invalid 'limit': expected a value from 1 to {most}, but got {said} instead.", "limit")
    names = [each["id"] for each in items]
    after = query.get("after")
    if after is not None and after not in names:
        refuse(f"Invalid 'after': no object with id '{after}'.", "after")
    start = names.index(after) + 1 if after is not None else 0
    page = items[start : start + int(said)]
    ends = {"first_id": page[0]["id"], "last_id": page[-1]["id"]} if page else {"first_id": None, "last_id": None}
    return respond({"object": "list", "data": page, **ends, "has_more": start + len(page) < len(items)})
